package rserpool

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Registrar is where a registrar serves ASAP or ENRP: a host name, or addresses.
type Registrar struct {
	// Host is a host name, looked up anew in each hunt for a registrar. Each of
	// its addresses then counts as a registrar.
	Host string
	// Addrs are its addresses; empty for a name that has not been looked up.
	Addrs []netip.Addr
	// Port is the port at all addresses; 0 stands for the protocol's: 3863 for
	// ASAP (RFC 5352, Section 8.2), 9901 for ENRP (RFC 5353, Section 7.2).
	Port uint16
	// EncapPort is the UDP port for SCTP in UDP; 0 stands for 9899 (RFC 6951,
	// Section 5.1).
	EncapPort uint16
	// TCP says to reach the registrar by TCP, whatever else is set. A registrar
	// may announce such a transport. Pool elements cannot use it.
	TCP bool
}

// encapPort is the UDP port of SCTP in UDP (RFC 6951, Section 5.1).
const encapPort = 9899

// ParseRegistrar reads ADDRESS[:PORT][/UDPPORT] or NAME[:PORT][/UDPPORT]. IPv6
// addresses with a port stand in brackets. Several addresses of one registrar are
// separated by commas; the port of the first holds for those without one. "/tcp" in
// place of a UDP port says to use TCP. A name is not looked up.
func ParseRegistrar(s string) (Registrar, error) {
	var r Registrar
	if strings.Contains(s, "://") {
		return r, fmt.Errorf("registrar %q is a URL: give the address or the name alone, such as 192.0.2.1 or registrar.example.org:3863", s)
	}
	addrs, encap, ok := strings.Cut(s, "/")
	switch {
	case ok && encap == "tcp":
		r.TCP = true
	case ok && strings.Contains(encap, ","):
		return Registrar{}, fmt.Errorf("registrar %q: a comma separates addresses of one registrar, and its UDP port stands once, at the end, such as 192.0.2.1,192.0.2.2/9899; give several registrars one by one", s)
	case ok:
		n, err := strconv.ParseUint(encap, 10, 16)
		if err != nil || n == 0 {
			return Registrar{}, fmt.Errorf("registrar %q: the part after / must be the UDP port for SCTP in UDP, 1 to 65535", s)
		}
		r.EncapPort = uint16(n)
	}
	if host, number, hasPort := strings.Cut(addrs, ":"); isHostName(host) && !strings.Contains(number, ":") {
		r.Host = host
		if hasPort {
			n, err := strconv.ParseUint(number, 10, 16)
			if err != nil || n == 0 {
				return Registrar{}, fmt.Errorf("registrar %q: %q is not a port, 1 to 65535", s, number)
			}
			r.Port = uint16(n)
		}
		return r, nil
	}
	var err error
	r.Addrs, r.Port, err = parseAddrs(addrs, false)
	switch {
	case errors.Is(err, errPorts):
		return Registrar{}, fmt.Errorf("registrar %q: all addresses of one registrar have the same port; give several registrars one by one", s)
	case err != nil && strings.Contains(addrs, ","):
		return Registrar{}, fmt.Errorf("registrar %q: a comma separates addresses of one registrar, such as 192.0.2.1,192.0.2.2, and no names; give several registrars one by one", s)
	case err != nil:
		return Registrar{}, fmt.Errorf("registrar %q is not ADDRESS, ADDRESS:PORT, NAME or NAME:PORT, such as 192.0.2.1, 192.0.2.1:3863, [2001:db8::1]:3863 or registrar.example.org", s)
	}
	for _, a := range r.Addrs {
		if a.IsUnspecified() || a.IsMulticast() {
			return Registrar{}, fmt.Errorf("registrar %q: %v is not an address of a host; give the registrar's own address", s, a)
		}
	}
	return r, nil
}

// MustParseRegistrar is [ParseRegistrar] for constants in programs and tests; it
// panics on an error.
func MustParseRegistrar(s string) Registrar { return must(ParseRegistrar(s)) }

// isHostName tells host names from mistyped addresses. Underscores are in the
// names of container networks.
func isHostName(s string) bool {
	last := s[strings.LastIndexByte(strings.TrimSuffix(s, "."), '.')+1:]
	letters := false
	for _, c := range s {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z':
			letters = true
		case c >= '0' && c <= '9', c == '-', c == '_', c == '.':
		default:
			return false
		}
	}
	return letters && strings.Trim(last, "0123456789.") != ""
}

// String returns what [ParseRegistrar] reads: the addresses if they are known, else
// the name.
func (r Registrar) String() string {
	var parts []string
	for _, a := range r.Addrs {
		if r.Port == 0 {
			parts = append(parts, a.String())
		} else {
			parts = append(parts, netip.AddrPortFrom(a, r.Port).String())
		}
	}
	switch {
	case len(r.Addrs) > 0:
	case r.Port == 0:
		parts = []string{r.Host}
	default:
		parts = []string{r.Host + ":" + strconv.Itoa(int(r.Port))}
	}
	s := strings.Join(parts, ",")
	switch {
	case r.TCP:
		s += "/tcp"
	case r.EncapPort != 0 && r.EncapPort != encapPort:
		s += fmt.Sprintf("/%d", r.EncapPort)
	}
	return s
}

// MarshalText returns what String returns.
func (r Registrar) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads what [ParseRegistrar] reads, and the zero value from no text.
func (r *Registrar) UnmarshalText(text []byte) (err error) {
	if len(text) == 0 {
		*r = Registrar{}
		return nil
	}
	*r, err = ParseRegistrar(string(text))
	return err
}

// Equal reports whether r and o are the same, but for the name that addresses come
// from.
func (r Registrar) Equal(o Registrar) bool {
	if len(r.Addrs) == 0 && len(o.Addrs) == 0 && r.Host != o.Host {
		return false
	}
	return slices.Equal(r.Addrs, o.Addrs) && r.Port == o.Port && r.EncapPort == o.EncapPort && r.TCP == o.TCP
}

// Clone returns a registrar that shares no memory with r.
func (r Registrar) Clone() Registrar {
	r.Addrs = slices.Clone(r.Addrs)
	return r
}

// AddrPorts are the addresses with the port.
func (r Registrar) AddrPorts() []netip.AddrPort {
	all := make([]netip.AddrPort, len(r.Addrs))
	for i, a := range r.Addrs {
		all[i] = netip.AddrPortFrom(a, r.Port)
	}
	return all
}
