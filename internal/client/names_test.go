package client

import (
	"errors"
	"net"
	"testing"
)

// TestLookupError: the text names the DNS server and the reason, and no port that
// the user has not given.
func TestLookupError(t *testing.T) {
	for _, c := range []struct {
		err  net.DNSError
		want string
	}{
		{net.DNSError{Err: "dial udp 192.0.2.53:53: connect: network is unreachable", Name: "no.such.invalid", Server: "192.0.2.53:53"},
			"DNS server 192.0.2.53: network is unreachable"},
		{net.DNSError{Err: "read udp 192.0.2.2:4242->192.0.2.53:5353: i/o timeout", Name: "no.such.invalid", Server: "192.0.2.53:5353"},
			"DNS server 192.0.2.53:5353: no answer"},
		{net.DNSError{Err: "no such host", Name: "no.such.invalid", Server: "[2001:db8::53]:53"}, "DNS server 2001:db8::53: no such host"},
		{net.DNSError{Err: "no such host", Name: "no.such.invalid"}, "no such host"},
	} {
		err := error(&lookupError{&c.err})
		if got := err.Error(); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
		if dns := new(net.DNSError); !errors.As(err, &dns) {
			t.Errorf("%v is no *net.DNSError", err)
		}
	}
}
