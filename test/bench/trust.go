package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/identity"
	"github.com/rserpool/coredns-rserpool/internal/member"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/secure"
	"github.com/rserpool/coredns-rserpool/internal/trust"
	"github.com/rserpool/coredns-rserpool/internal/trust/authority"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// trustedScope has the certificates of registrars, and the TLS of hosts of elements.
type trustedScope struct {
	dir     string
	ca      authority.Pair
	host    string // the identity of hosts
	secured *secure.Config
}

// newTrustedScope makes an authority and the certificate of hosts.
func newTrustedScope() (*trustedScope, error) {
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return nil, err
	}
	s := &trustedScope{dir: dir}
	if err := s.begin(); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *trustedScope) begin() (err error) {
	if s.ca, err = authority.New("example.org", time.Now(), 24*time.Hour); err != nil {
		return err
	}
	if s.host, err = identity.Pool("example.org", "bench", "host"); err != nil {
		return err
	}
	files, err := s.issue("host", s.host)
	if err != nil {
		return err
	}
	m, err := member.Open(files, member.Config{
		Judge: func(string) error { return nil }, Log: func(bool, string) {}, Protocols: []string{"asap"},
	})
	if err == nil {
		s.secured = m.TLS()
	}
	return err
}

func (s *trustedScope) close() { _ = os.RemoveAll(s.dir) }

// issue writes a certificate of an identity.
func (s *trustedScope) issue(file, id string) (f rserpool.TLSFiles, err error) {
	a, err := authority.Read(s.ca)
	if err != nil {
		return f, err
	}
	pair, err := a.Issue(id, nil, time.Now(), time.Now().Add(24*time.Hour))
	if err != nil {
		return f, err
	}
	f = rserpool.TLSFiles{
		Cert: filepath.Join(s.dir, file+"-"+trust.CertName), Key: filepath.Join(s.dir, file+"-"+trust.KeyName), CA: filepath.Join(s.dir, trust.CAName),
	}
	return f, errors.Join(os.WriteFile(f.Cert, pair.Cert, 0o600), os.WriteFile(f.Key, pair.Key, 0o600), os.WriteFile(f.CA, s.ca.Cert, 0o600))
}

// options are those of a registrar with this name. Hosts may register in all pools.
func (s *trustedScope) options(name string) (string, error) {
	id, err := identity.Registrar("example.org", name)
	if err != nil {
		return "", err
	}
	f, err := s.issue(name, id)
	return fmt.Sprintf("tls %q %q %q\nallow * %s", f.Cert, f.Key, f.CA, s.host), err
}

// trust compares a trusted scope with a plain one: answers of DNS, which nothing may change,
// and the download of the handlespace.
func (b *bench) trust() error {
	s, err := newTrustedScope()
	if err != nil {
		return err
	}
	defer s.close()
	return errors.Join(b.trustedAnswers(s), b.trustedDownload(s))
}

// trustedAnswers compares the cost of a query. Two plain servers show by how much servers differ that are
// alike.
func (b *bench) trustedAnswers(s *trustedScope) error {
	var all lineup
	for i := range b.trustHeats {
		f, err := b.trustedHeat(s, i)
		if err != nil {
			return err
		}
		all.join(f)
	}
	const unit = "DNS, CPU s per million queries: "
	for _, q := range []string{"A", "SRV"} {
		b.table.compare(unit+q+", in a trusted scope, beside a plain one", all.of("trusted "+q), all.of("plain "+q), 1.02)
		b.table.compare(unit+q+", in another plain one, beside it", all.of("other "+q), all.of("plain "+q), 0)
	}
	b.table.lost(all)
	return nil
}

// trustedHeat is a heat with new processes. Each is the first one to start in one heat of three.
func (b *bench) trustedHeat(s *trustedScope, heat int) (lineup, error) {
	options, err := s.options("ns1")
	if err != nil {
		return nil, err
	}
	var c cleanup
	defer c.run()
	kinds := []string{"plain ", "trusted ", "other "}
	servers := map[string]*process{}
	for i := range kinds {
		kind := kinds[(i+heat)%len(kinds)]
		if kind == "trusted " {
			servers[kind] = c.process(b.startRegistrar(options))
		} else {
			servers[kind] = c.process(b.startRegistrar(""))
		}
	}
	if c.err != nil {
		return nil, c.err
	}
	servers["trusted "].tls = s.secured
	for _, p := range servers {
		c.registered(p)
	}
	var f lineup
	for _, kind := range kinds {
		c.contestant(&f, kind+"A", servers[kind], oneAddress)
	}
	for _, kind := range kinds {
		c.contestant(&f, kind+"SRV", servers[kind], threeServices)
	}
	if c.err != nil {
		return nil, c.err
	}
	return f, f.heat(b.rounds, b.queries)
}

// trustedDownload compares the time and the processor time for a peer's handlespace.
func (b *bench) trustedDownload(s *trustedScope) error {
	var c cleanup
	defer c.run()
	plain := &sharing{b: b, at: [2]netip.Addr{netip.AddrFrom4([4]byte{127, 99, 0, 1}), netip.AddrFrom4([4]byte{127, 99, 0, 2})}}
	trusted := &sharing{b: b, at: [2]netip.Addr{netip.AddrFrom4([4]byte{127, 99, 0, 3}), netip.AddrFrom4([4]byte{127, 99, 0, 4})}, tls: s.secured}
	for i, name := range []string{"ns1", "ns2"} {
		var err error
		if trusted.options[i], err = s.options(name); err != nil {
			return err
		}
	}
	for _, x := range []*sharing{plain, trusted} {
		if err := x.begin(&c); err != nil {
			return err
		}
	}
	for range b.downloads {
		for _, x := range []*sharing{plain, trusted} {
			if err := x.download(); err != nil {
				return err
			}
		}
	}
	what := fmt.Sprintf("download of the handlespace, %d elements, in a trusted scope, ", b.sharedElements)
	b.table.add(row{
		name: what + "us an element, beside a plain one", ours: number(median(trusted.took)), neighbour: number(median(plain.took)),
		ratio: medianRatio(trusted.took, plain.took), most: 1.4, target: "<= 1.40 x",
	})
	b.table.add(row{
		name: "the same, CPU of both registrars", ours: number(median(trusted.cpu)), neighbour: number(median(plain.cpu)),
		ratio: medianRatio(trusted.cpu, plain.cpu),
	})
	return nil
}

// sharing is a registrar with a handlespace, which others download one after the other.
type sharing struct {
	b       *bench
	at      [2]netip.Addr
	options [2]string
	tls     *secure.Config
	home    *process
	// took and cpu are the microseconds for an element, download by download; cpu is that of
	// both processes.
	took, cpu []float64
}

// begin starts the registrar and fills its handlespace.
func (x *sharing) begin(c *cleanup) error {
	x.home = c.process(x.b.startSharer(x.at[0], x.options[0]))
	if c.err != nil {
		return c.err
	}
	h := c.host(newHostAt(sharerDest(x.at[0], x.home), x.tls))
	if c.err != nil {
		return x.home.explain(c.err)
	}
	each := max(x.b.sharedElements/1000, 1)
	return h.fill(x.b.sharedElements/each, each)
}

// download starts a registrar, which serves when it has the handlespace, and ends it.
func (x *sharing) download() error {
	before, begin := x.home.cpu(), time.Now()
	other, err := x.b.startSharer(x.at[1], x.options[1]+"\nserver_id 2", x.at[0])
	if err != nil {
		return err
	}
	defer other.close()
	if err := other.ready(string(poolName(0)) + ".pool.example.org."); err != nil {
		return other.explain(err)
	}
	n := float64(x.b.sharedElements)
	x.took = append(x.took, float64(time.Since(begin).Microseconds())/n)
	x.cpu = append(x.cpu, float64((other.cpu()+x.home.cpu()-before).Microseconds())/n)
	note("a download has taken %.1f s", time.Since(begin).Seconds())
	return nil
}

// sharerDest is where a registrar of startSharer serves ASAP.
func sharerDest(at netip.Addr, p *process) sctp.Dest {
	return sctp.Dest{Addrs: []netip.AddrPort{netip.AddrPortFrom(at, p.asap)}, Kind: sctp.UDP, EncapPort: encapPort}
}
