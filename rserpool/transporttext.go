package rserpool

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/rserpool/coredns-rserpool/internal/netaddr"
)

// ParseTransport reads PROTOCOL:PORT or PROTOCOL:ADDRESS:PORT, such as tcp:8080,
// udp:192.0.2.1:53 or sctp:[2001:db8::1]:5001. SCTP may have several addresses
// with commas between them (the port of the first is that of all), and +control
// behind all else; DCCP has /SERVICECODE behind the port. An opaque transport is
// opaque:HEXDIGITS.
func ParseTransport(s string) (Transport, error) { return parseTransport(s, false) }

// parseTransport is ParseTransport. With free, port 0 is one, too: it stands for any.
func parseTransport(s string, free bool) (Transport, error) {
	name, rest, _ := strings.Cut(s, ":")
	t := Transport{Type: transportNamed(name)}
	var err error
	switch {
	case t.Type == 0:
		return Transport{}, unfitTransport(s)
	case t.Type == Opaque:
		if t.Opaque, err = hex.DecodeString(rest); err != nil {
			return Transport{}, fmt.Errorf("transport %q: %w", s, err)
		}
		return t, nil
	}
	if t.Type == SCTP {
		var control bool
		if rest, control = strings.CutSuffix(rest, "+control"); control {
			t.Use = DataPlusControl
		}
	}
	rest, code, hasCode := strings.Cut(rest, "/")
	if hasCode {
		n, err := strconv.ParseUint(code, 0, 32)
		if err != nil || t.Type != DCCP {
			return Transport{}, fmt.Errorf("%q: a service code, a number behind the /, is only for dccp", s)
		}
		t.ServiceCode = uint32(n)
	}
	if n, err := strconv.ParseUint(rest, 10, 16); err == nil && (n != 0 || free) {
		t.Port = uint16(n)
		return t, nil
	}
	t.Addrs, t.Port, err = parseAddrs(rest, free)
	if first, _, _ := strings.Cut(rest, ","); err != nil || t.Port == 0 && !(free && strings.HasSuffix(first, ":0")) {
		return Transport{}, unfitTransport(s)
	}
	if len(t.Addrs) > 1 && t.Type != SCTP {
		return Transport{}, fmt.Errorf("transport %q: only sctp may have several addresses", s)
	}
	return t, nil
}

func unfitTransport(s string) error {
	return fmt.Errorf("%q is not PROTOCOL:PORT or PROTOCOL:ADDRESS:PORT with a protocol of sctp, tcp, udp, udplite or dccp, such as tcp:8080 or tcp:192.0.2.1:8080", s)
}

// parseAddrs reads ADDRESS[:PORT] with commas between several. The port of the
// first is that of all; 0 if there is none. Only with free may it be given as 0.
func parseAddrs(s string, free bool) (addrs []netip.Addr, port uint16, err error) {
	for part := range strings.SplitSeq(s, ",") {
		// Another default tells a port that is not there from one that is 0.
		a, err := netaddr.ParseAddrPort(part, port)
		other, _ := netaddr.ParseAddrPort(part, port+1)
		given := a == other
		switch {
		case err != nil:
			return nil, 0, err
		case given && a.Port() == 0 && !free:
			return nil, 0, fmt.Errorf("%q: a port is one of 1 to 65535", part)
		case len(addrs) > 0 && a.Port() != port:
			return nil, 0, errPorts
		}
		addrs, port = append(addrs, a.Addr()), a.Port()
	}
	return addrs, port, nil
}

var errPorts = errors.New("all addresses must have the same port")

// MustParseTransport is [ParseTransport] for constants in programs and tests; it
// panics on an error.
func MustParseTransport(s string) Transport { return must(ParseTransport(s)) }

// MarshalText returns the form that [ParseTransport] reads, and nothing for the
// zero value. A port that is not set is 0, which only UnmarshalText reads.
func (t Transport) MarshalText() ([]byte, error) {
	switch {
	case t.Type == 0:
		return nil, nil
	case !t.Type.Known() || t.Use > DataPlusControl:
		return nil, fmt.Errorf("%v has no form as text", t)
	case t.Type == Opaque:
		return []byte("opaque:" + hex.EncodeToString(t.Opaque)), nil
	}
	b := append([]byte(t.Type.String()), ':')
	for i, a := range t.Addrs {
		if i > 0 {
			b = append(b, ',')
		}
		b = netip.AddrPortFrom(a, t.Port).AppendTo(b)
	}
	if len(t.Addrs) == 0 {
		b = strconv.AppendUint(b, uint64(t.Port), 10)
	}
	if t.ServiceCode != 0 {
		b = fmt.Appendf(b, "/%d", t.ServiceCode)
	}
	if t.Use == DataPlusControl {
		b = append(b, "+control"...)
	}
	return b, nil
}

// UnmarshalText reads what [ParseTransport] reads, the zero value from no text, and port 0: a
// configuration may leave the choice of the port to the program.
func (t *Transport) UnmarshalText(text []byte) (err error) {
	if len(text) == 0 {
		*t = Transport{}
		return nil
	}
	*t, err = parseTransport(string(text), true)
	return err
}
