// Package member gives the transport the credentials of a member of a trusted scope, and
// keeps them up to date: it looks at the files each minute, and has the peers judged again
// if they have changed.
package member

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/sctp/secure"
	"github.com/rserpool/coredns-rserpool/internal/trust"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// lookEvery is the default of Config.Look.
const lookEvery = time.Minute

// Config is what a Member needs beside its files.
type Config struct {
	// Judge says why a peer with this identity is refused; "" is a peer without a
	// certificate. Any goroutine may call it.
	Judge func(identity string) error
	// Log gets lines for an operator. Any goroutine may call it.
	Log func(warn bool, text string)
	// Protocols are offered by ALPN.
	Protocols []string
	// Look is the time between two looks at the files, and the time over which associations
	// are renewed after a change of the certificate; default a minute.
	Look time.Duration
	// Records is secure.Config.Records.
	Records uint64
}

// Member is a member of a trusted scope. [Open] makes one; any goroutine may use it.
type Member struct {
	cfg     Config
	creds   atomic.Pointer[trust.Credentials]
	refused atomic.Uint64
	again   chan struct{} // has a value if Watch is to look now
}

// Check refuses combinations of files that have no meaning. It reads none of them.
func Check(files rserpool.TLSFiles) error { return trust.Files(files).Check() }

// Open reads the files.
func Open(files rserpool.TLSFiles, cfg Config) (*Member, error) {
	if cfg.Look <= 0 {
		cfg.Look = lookEvery
	}
	m := &Member{cfg: cfg, again: make(chan struct{}, 1)}
	return m, m.Replace(files)
}

// Replace reads other files in place of the present ones. After an error those stay. The
// caller has the peers judged again.
func (m *Member) Replace(files rserpool.TLSFiles) error {
	c, err := trust.Open(trust.Files(files), time.Now, func(text string) { m.cfg.Log(true, text) })
	if err == nil {
		m.creds.Store(c)
	}
	return err
}

// TLS is the configuration of the transport.
func (m *Member) TLS() *secure.Config {
	return &secure.Config{
		Client: func() *tls.Config {
			c := bare(m.creds.Load().Client())
			c.NextProtos = m.cfg.Protocols
			return c
		},
		Server:   func(host netip.Addr) *tls.Config { return bare(m.creds.Load().Server(host)) },
		Identify: m.identify,
		Spread:   m.cfg.Look,
		Refused:  func(own []byte, by netip.Addr) { m.creds.Load().Refused(own, by) },
		Records:  m.cfg.Records,
	}
}

// bare leaves the verification to Identify: otherwise each chain would be verified twice.
func bare(c *tls.Config) *tls.Config {
	c.VerifyConnection = nil
	return c
}

func (m *Member) identify(cs tls.ConnectionState) (name string, until time.Time, err error) {
	if name, until, err = m.creds.Load().Identify(cs); err == nil {
		err = m.cfg.Judge(name)
	}
	if err != nil {
		m.refused.Add(1)
	}
	return name, until, err
}

// Untimely reports whether an association has ended because the peer's certificate is not valid at
// this time, and for no other reason. Then one of the two clocks may be wrong.
func Untimely(err error) bool {
	return errors.Is(err, secure.ErrTheirs) && (errors.Is(err, secure.ErrEnded) || errors.Is(err, trust.ErrUntimely))
}

// Explain adds to the peer's refusal of this side's certificate which one that is.
func (m *Member) Explain(err error) error {
	if !errors.Is(err, secure.ErrOurs) {
		return err
	}
	if ours := m.creds.Load().Describe(); ours != "" {
		return fmt.Errorf("%w (ours is %s)", err, ours)
	}
	return err
}

// Refused is how many peers were refused by their certificates.
func (m *Member) Refused() uint64 { return m.refused.Load() }

// Name is this side's identity, "" without a certificate.
func (m *Member) Name() string { return m.creds.Load().Name() }

// Valid reports whether peers accept this side's certificate at this time, by this side's clock.
func (m *Member) Valid() bool { return m.creds.Load().Valid() }

// End is when this side's certificate ends, zero if it does not.
func (m *Member) End() time.Time { return m.creds.Load().NotAfter() }

// LookSoon has Watch look at the files now. It does not wait.
func (m *Member) LookSoon() {
	select {
	case m.again <- struct{}{}:
	default: // the look that is due is enough
	}
}

// Watch looks at the files until stop is closed, and calls recheck when they have changed.
func (m *Member) Watch(stop <-chan struct{}, recheck func()) {
	ticker := time.NewTicker(m.cfg.Look)
	defer ticker.Stop()
	for {
		reload := (*trust.Credentials).Reload
		select {
		case <-ticker.C:
		case <-m.again:
			reload = (*trust.Credentials).ReloadAsked
		case <-stop:
			return
		}
		if changed, _ := reload(m.creds.Load()); changed { // it has warned of an error
			m.cfg.Log(false, "the certificates were read again")
			recheck()
		}
	}
}
