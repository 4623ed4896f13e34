package enrp

import (
	"net/netip"

	"github.com/google/go-cmp/cmp"
)

// compareAddrs lets go-cmp compare addresses.
var compareAddrs = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
