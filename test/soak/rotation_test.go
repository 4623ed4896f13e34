package soak

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/rserpool/coredns-rserpool/internal/identity"
	"github.com/rserpool/coredns-rserpool/internal/trust"
	"github.com/rserpool/coredns-rserpool/internal/trust/trusttest"
)

// rotation is a trusted scope whose certificates change while elements are registered.
type rotation struct {
	*server
	dir      string // of all members' directories
	elements int
	denied   []string
	more     string // options
}

// member is the directory of an element, by its number, or of the registrar, whose is "ns1".
func (r *rotation) member(name string) string { return filepath.Join(r.dir, name) }

// newRotation is a scope of one authority: the registrar and each element have a certificate.
func newRotation(t *testing.T, p ports, elements int, ca *trusttest.CA) *rotation {
	t.Helper()
	r := &rotation{server: &server{t: t, ports: p}, dir: t.TempDir(), elements: elements}
	r.issue(ca, "ns1", ca.PEM(), time.Hour)
	r.each(func(m string) { r.issue(ca, m, ca.PEM(), time.Hour) })
	return r
}

// issue gives an element or the registrar a certificate, and the authorities to trust.
func (r *rotation) issue(ca *trusttest.CA, member string, roots []byte, life time.Duration) {
	r.t.Helper()
	name, err := identity.Pool("example.org", "web", member)
	if member == "ns1" {
		name, err = identity.Registrar("example.org", member)
	}
	if err == nil {
		err = os.MkdirAll(r.member(member), 0o700)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	now := time.Now()
	ca.Issue(r.t, r.member(member), name, now, now.Add(life))
	r.trusts(member, roots)
}

// trusts changes the authorities that a member accepts.
func (r *rotation) trusts(member string, roots []byte) {
	r.t.Helper()
	trusttest.Write(r.t, filepath.Join(r.member(member), trust.CAName), roots)
}

// each calls f for each element.
func (r *rotation) each(f func(member string)) {
	for i := range r.elements {
		f(strconv.Itoa(i))
	}
}

// tls is the option with the registrar's files.
func (r *rotation) tls() string {
	d := r.member("ns1")
	return fmt.Sprintf("tls %s/%s %s/%s %s/%s", d, trust.CertName, d, trust.KeyName, d, trust.CAName)
}

func (r *rotation) text() string {
	text := r.tls() + "\n" + r.more
	for _, name := range r.denied {
		text += "\ndeny " + name
	}
	return r.corefile(text, "errors")
}

// reloaded reloads the Corefile with one more identity that is denied. The registrar then
// reads its files again at once, and not within a minute.
func (r *rotation) reloaded(deny string) {
	r.t.Helper()
	r.denied = append(r.denied, deny)
	if !r.reload(r.text()) {
		r.t.Fatal("the reload fails")
	}
}

// nobody is an identity that no element has.
func nobody(n int) string {
	return fmt.Sprintf("spiffe://example.org/rserpool/pool/none/%d", n)
}

// settle waits until so many elements are in the answers, each with an association, and
// returns how many associations have come in all.
func (r *rotation) settle(what string, elements int) int {
	r.t.Helper()
	eventuallyWithin(r.t, 4*patience, what, func() error {
		e, err := r.metrics("coredns_rserpool_elements")
		if err != nil {
			return err
		}
		a, err := r.metrics("coredns_rserpool_associations_open")
		if err == nil && (int(e) != elements || int(a) != elements) {
			err = fmt.Errorf("%v elements, %v associations, want %d", e, a, elements)
		}
		return err
	})
	return int(r.metric("coredns_rserpool_associations_total"))
}

// undisturbed checks that all have the associations that they had.
func (r *rotation) undisturbed(what string, elements, associations int) {
	r.t.Helper()
	if got := r.settle(what, elements); got != associations {
		r.t.Errorf("%s: %d associations have come in all, want %d as before", what, got, associations)
	}
}

// renewed waits until associations have come with which there are want in all, and each element
// has one.
func (r *rotation) renewed(what string, elements, want int) {
	r.t.Helper()
	eventuallyWithin(r.t, 4*patience, what, func() error {
		n, err := r.metrics("coredns_rserpool_associations_total")
		if err == nil && int(n) < want {
			err = fmt.Errorf("%v associations have come in all, want %d", n, want)
		}
		return err
	})
	r.undisturbed(what, elements, want)
}

// TestRotation changes the registrar's certificate, then the authority, and then denies an
// identity, while elements are registered and asked for. Elements with new certificates renew
// their associations, and stay registered. Then only those associations end whose certificates
// are not accepted any more.
func TestRotation(t *testing.T) {
	outside(t)
	elements, late, look := 50, 5, "2s"
	if *long {
		elements, late, look = 1000, 50, "15s" // 65 handshakes a second
	}
	const pool = "web"
	p := freePorts(t, "127.0.0.1")
	old, next := trusttest.New(t, "example.org", time.Now()), trusttest.New(t, "example.org", time.Now())
	r := newRotation(t, p, elements, old)
	r.server = startServer(t, p, r.text())
	x := startThrong(t, p, pool, elements, throngTLSEnv+"="+r.dir, throngLookEnv+"="+look)
	x.all(4 * patience)
	r.undisturbed("registration", elements, elements)
	a := ask(t, p.dnsAddr(), 200, 4, func(int64) question {
		// A slow machine may lose a question, but no answer may be wrong.
		late := func(time.Time) bool { return true }
		return question{name: pool + "." + zone, qtype: dns.TypeA, excuse: late, check: func(m *dns.Msg, _ time.Time) error {
			if m.Rcode != dns.RcodeSuccess || len(m.Answer) == 0 {
				return fmt.Errorf("no address:\n%v", m)
			}
			return nil
		}}
	})

	// The registrar's own certificate: nothing happens to anybody.
	r.renew(old, 2*time.Hour)
	r.undisturbed("the registrar's new certificate", elements, elements)

	// All trust both authorities, then all but the late ones get new certificates, and renew
	// their associations by themselves.
	both := append(append([]byte(nil), old.PEM()...), next.PEM()...)
	r.trusts("ns1", both)
	r.each(func(m string) { r.trusts(m, both) })
	r.reloaded(nobody(len(r.denied)))
	r.issue(next, "ns1", both, time.Hour)
	r.each(func(m string) {
		if i, _ := strconv.Atoi(m); i >= late {
			r.issue(next, m, both, time.Hour)
		}
	})
	r.reloaded(nobody(len(r.denied)))
	associations := elements + elements - late
	r.renewed("certificates of a new authority", elements, associations)
	news := x.all(4 * patience)
	if news.Lost != 0 || news.Resumed != 0 || news.Vain != 0 {
		t.Errorf("after the renewals: %+v; want no element to have lost its home", news)
	}
	if n := r.metric("coredns_rserpool_registrations_total"); int(n) != elements {
		t.Errorf("%v registrations of new elements, want %d", n, elements)
	}

	// Without the old authority the associations of its certificates end, and no other.
	r.trusts("ns1", next.PEM())
	r.reloaded(nobody(len(r.denied)))
	r.undisturbed("end of the old authority", elements-late, associations)
	for i := range elements {
		is, err := r.present(pool, uint32(i+1))
		if err != nil {
			t.Fatal(err)
		}
		if is != (i >= late) {
			t.Errorf("element %d of %d, of which the first %d have certificates of the old authority: in the answers: %v", i, elements, late, is)
		}
	}

	// One is denied.
	name, err := identity.Pool("example.org", pool, strconv.Itoa(elements-1))
	if err != nil {
		t.Fatal(err)
	}
	r.reloaded(name)
	r.undisturbed("one is denied", elements-late-1, associations)
	if is, err := r.present(pool, uint32(elements)); is || err != nil {
		t.Errorf("the one that is denied is in the answers: %v, %v", is, err)
	}
	a.judge(t)
}
