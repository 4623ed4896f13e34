package endpoint

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/netaddr"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
)

// Registrar is where one registrar takes ASAP.
type Registrar struct {
	// Addrs are its addresses with the port of ASAP, the same for all.
	Addrs []netip.AddrPort
	// EncapPort is its UDP port for SCTP in UDP; 0 stands for 9899.
	EncapPort uint16
	// TCP says to reach it by TCP, whatever the endpoint uses otherwise. A
	// registrar may announce such a transport; pool elements skip it.
	TCP bool
}

// String gives what ParseRegistrar reads, and "(tcp)" behind it for TCP.
func (r Registrar) String() string {
	parts := make([]string, len(r.Addrs))
	for i, a := range r.Addrs {
		parts[i] = a.String()
	}
	s := strings.Join(parts, ",")
	if r.EncapPort != 0 && r.EncapPort != sctp.EncapPort {
		s += fmt.Sprintf("/%d", r.EncapPort)
	}
	if r.TCP {
		s += " (tcp)"
	}
	return s
}

func (r Registrar) equal(o Registrar) bool {
	return slices.Equal(r.Addrs, o.Addrs) && r.EncapPort == o.EncapPort && r.TCP == o.TCP
}

// ParseRegistrar reads ADDRESS[:PORT][/UDPPORT], with default ports of 3863
// (RFC 5352, Section 8.2) and 9899 (RFC 6951, Section 5.1). IPv6 addresses with
// a port stand in brackets. Several addresses of one registrar are separated by
// commas; the port of the first holds for those without one.
func ParseRegistrar(s string) (Registrar, error) { return ParseRegistrarAt(s, asap.Port) }

// ParseRegistrarAt is ParseRegistrar with another default port.
func ParseRegistrarAt(s string, port uint16) (Registrar, error) {
	var r Registrar
	addrs, encap, ok := strings.Cut(s, "/")
	if ok {
		n, err := strconv.ParseUint(encap, 10, 16)
		if err != nil || n == 0 {
			return Registrar{}, fmt.Errorf("registrar %q: after the / stands its UDP port for SCTP in UDP, 1 to 65535", s)
		}
		r.EncapPort = uint16(n)
	}
	for part := range strings.SplitSeq(addrs, ",") {
		a, err := parseAddrPort(part, port)
		if err != nil {
			return Registrar{}, err
		}
		if len(r.Addrs) == 0 {
			port = a.Port()
		}
		if a.Port() != port {
			return Registrar{}, fmt.Errorf("registrar %q: all addresses of one registrar have the same port; give several registrars one by one", s)
		}
		r.Addrs = append(r.Addrs, a)
	}
	return r, nil
}

func parseAddrPort(s string, port uint16) (netip.AddrPort, error) {
	a, err := netaddr.ParseAddrPort(s, port)
	if err != nil || a.Port() == 0 {
		return netip.AddrPort{}, fmt.Errorf("registrar %q is not ADDRESS or ADDRESS:PORT, such as 192.0.2.1, 192.0.2.1:%d or [2001:db8::1]:%[2]d", s, asap.Port)
	}
	return a, nil
}

// Attempt is what became of trying one registrar.
type Attempt struct {
	Registrar Registrar
	// Since is when the attempt began.
	Since time.Time
	// Err is why it failed, nil while it has not.
	Err error
}

// UnreachableError says that no registrar could be reached, and what became
// of each that was tried.
type UnreachableError struct {
	// Attempts has the registrars tried, in their order. It is empty where
	// none is known.
	Attempts []Attempt
	// Cause is why the hunt was ended, such as a context's error; nil if all
	// attempts had failed by themselves.
	Cause error
}

// Error lists the registrars with the reason for each.
func (e *UnreachableError) Error() string {
	if len(e.Attempts) == 0 {
		return "no registrar is known: none is configured, and none has announced itself"
	}
	parts := make([]string, len(e.Attempts))
	for i, a := range e.Attempts {
		why := "no answer"
		if a.Err != nil {
			why = a.Err.Error()
		}
		parts[i] = a.Registrar.String() + ": " + why
	}
	return "no registrar could be reached: " + strings.Join(parts, "; ")
}

// Unwrap gives Cause and the errors of the attempts.
func (e *UnreachableError) Unwrap() []error {
	var errs []error
	if e.Cause != nil {
		errs = append(errs, e.Cause)
	}
	for _, a := range e.Attempts {
		if a.Err != nil {
			errs = append(errs, a.Err)
		}
	}
	return errs
}
