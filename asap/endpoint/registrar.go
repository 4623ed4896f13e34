package endpoint

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/netaddr"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
)

// Registrar is where one registrar takes ASAP: a host name, or addresses.
type Registrar struct {
	// Host is a host name, looked up anew in each hunt. Each of its addresses
	// then counts as a registrar, which has the name as well.
	Host string
	// Port is the port of ASAP at Host.
	Port uint16
	// Addrs are its addresses with the port of ASAP, the same for all; empty
	// for a name that has not been looked up.
	Addrs []netip.AddrPort
	// EncapPort is its UDP port for SCTP in UDP; 0 stands for 9899.
	EncapPort uint16
	// TCP says to reach it by TCP, whatever the endpoint uses otherwise. A
	// registrar may announce such a transport; pool elements skip it.
	TCP bool
}

// String gives what ParseRegistrar reads: the addresses if they are known, else
// the name. For TCP, "(tcp)" stands behind it.
func (r Registrar) String() string {
	parts := make([]string, len(r.Addrs))
	for i, a := range r.Addrs {
		parts[i] = a.String()
	}
	if r.named() {
		parts = []string{net.JoinHostPort(r.Host, strconv.Itoa(int(r.Port)))}
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

// named reports whether the registrar's name has to be looked up.
func (r Registrar) named() bool { return r.Host != "" && len(r.Addrs) == 0 }

// describe gives the address and the name that it comes from.
func (r Registrar) describe() string {
	if r.Host == "" || r.named() {
		return r.String()
	}
	return r.Host + " (" + r.String() + ")"
}

// sameName reports whether r and o are the same name, looked up or not.
func (r Registrar) sameName(o Registrar) bool {
	return r.Host != "" && r.Host == o.Host && r.Port == o.Port && r.EncapPort == o.EncapPort
}

func (r Registrar) equal(o Registrar) bool {
	if len(r.Addrs) == 0 && len(o.Addrs) == 0 && r.Host != o.Host {
		return false
	}
	return slices.Equal(r.Addrs, o.Addrs) && r.EncapPort == o.EncapPort && r.TCP == o.TCP
}

// maxHostAddrs bounds how many of a name's addresses are used.
const maxHostAddrs = 16

// at gives one registrar for each address of a name.
func (r Registrar) at(addrs []netip.Addr) []Registrar {
	var all []Registrar
	for _, a := range addrs[:min(len(addrs), maxHostAddrs)] {
		one := r
		one.Addrs = []netip.AddrPort{netip.AddrPortFrom(a.Unmap(), r.Port)}
		if !slices.ContainsFunc(all, one.equal) {
			all = append(all, one)
		}
	}
	return all
}

// ParseRegistrar reads ADDRESS[:PORT][/UDPPORT] or NAME[:PORT][/UDPPORT], with
// default ports of 3863 (RFC 5352, Section 8.2) and 9899 (RFC 6951, Section
// 5.1). IPv6 addresses with a port stand in brackets. Several addresses of one
// registrar are separated by commas; the port of the first holds for those
// without one. A name is not looked up.
func ParseRegistrar(s string) (Registrar, error) { return ParseRegistrarAt(s, asap.Port) }

// ParseRegistrarAt is ParseRegistrar with another default port.
func ParseRegistrarAt(s string, port uint16) (Registrar, error) {
	var r Registrar
	addrs, encap, ok := strings.Cut(s, "/")
	if ok {
		n, err := strconv.ParseUint(encap, 10, 16)
		if err != nil || n == 0 {
			return Registrar{}, fmt.Errorf("registrar %q: the part after / must be the UDP port for SCTP in UDP, 1 to 65535", s)
		}
		r.EncapPort = uint16(n)
	}
	if host, number, hasPort := strings.Cut(addrs, ":"); isHostName(host) && !strings.Contains(number, ":") {
		r.Host, r.Port = host, port
		if hasPort {
			n, err := strconv.ParseUint(number, 10, 16)
			if err != nil || n == 0 {
				return Registrar{}, fmt.Errorf("registrar %q: %q is not a port, 1 to 65535", s, number)
			}
			r.Port = uint16(n)
		}
		return r, nil
	}
	for part := range strings.SplitSeq(addrs, ",") {
		a, err := netaddr.ParseAddrPort(part, port)
		if err != nil || a.Port() == 0 {
			return Registrar{}, fmt.Errorf("registrar %q is not ADDRESS, ADDRESS:PORT, NAME or NAME:PORT, such as 192.0.2.1, 192.0.2.1:%d, [2001:db8::1]:%[2]d or registrar.example.org", part, asap.Port)
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
		parts[i] = a.Registrar.describe() + ": " + why
	}
	what := "no registrar could be reached: "
	if slices.ContainsFunc(e.Attempts, Attempt.refused) {
		what = "no registrar accepts the registration: "
	}
	return what + strings.Join(parts, "; ")
}

// AllRefused reports whether each of the registrars was reached, and has refused.
func (e *UnreachableError) AllRefused() bool {
	return len(e.Attempts) > 0 && !slices.ContainsFunc(e.Attempts, func(a Attempt) bool { return !a.refused() })
}

// refused reports whether the registrar was reached and has refused. Then Err has
// a method Refused that says so.
func (a Attempt) refused() bool {
	var r interface{ Refused() bool }
	return errors.As(a.Err, &r) && r.Refused()
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
