package member

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/sctp/secure"
	"github.com/rserpool/coredns-rserpool/internal/trust/trusttest"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

const (
	ns1  = "spiffe://example.org/rserpool/registrar/ns1"
	web1 = "spiffe://example.org/rserpool/pool/web/h1"
)

// lines collects the lines of a Member.
type lines struct {
	mu   sync.Mutex
	list []string
}

func (l *lines) add(_ bool, text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, text)
}

func (l *lines) count(text string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.list {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

// TestWatch: files that change are read within a minute, and the peers are judged again.
// Files that cannot be read are warned of once, and change nothing.
func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := trusttest.New(t, "example.org", time.Now())
		dir, log := t.TempDir(), new(lines)
		files := rserpool.TLSFiles(ca.Issue(t, dir, ns1, time.Now(), time.Now().Add(24*time.Hour)))
		m, err := Open(files, Config{Log: log.add})
		if err != nil {
			t.Fatal(err)
		}
		stop, rechecks := make(chan struct{}), 0
		var ended sync.WaitGroup
		ended.Go(func() { m.Watch(stop, func() { rechecks++ }) })
		pass := func(d time.Duration) {
			time.Sleep(d)
			synctest.Wait()
		}
		pass(10 * time.Minute)
		if rechecks != 0 || len(log.list) > 0 {
			t.Errorf("nothing has changed: %d rechecks, lines %q", rechecks, log.list)
		}
		end := time.Now().Add(48 * time.Hour).Truncate(time.Second)
		ca.Issue(t, dir, ns1, time.Now(), end)
		pass(lookEvery)
		if rechecks != 1 || !m.End().Equal(end) {
			t.Errorf("new certificate: %d rechecks, and it ends at %v; want 1, %v", rechecks, m.End(), end)
		}
		if err := os.Remove(files.Key); err != nil {
			t.Fatal(err)
		}
		pass(10 * lookEvery)
		if rechecks != 1 || log.count("the former certificates stay in use") != 1 || !m.End().Equal(end) {
			t.Errorf("no key: %d rechecks, lines %q", rechecks, log.list)
		}
		m.LookSoon()
		synctest.Wait()
		if n := log.count("the former certificates stay in use"); n != 2 {
			t.Errorf("the mistake is told %d times after somebody has asked, want 2", n)
		}
		ca.Issue(t, dir, ns1, time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour))
		pass(10 * lookEvery)
		if n := log.count("and our clock says"); n != 1 {
			t.Errorf("a certificate that has ended is told %d times, want once: the time is no other mistake", n)
		}
		ca.Issue(t, dir, ns1, time.Now(), end.Add(time.Hour))
		m.LookSoon()
		m.LookSoon()
		synctest.Wait()
		if rechecks != 2 || !m.End().Equal(end.Add(time.Hour)) {
			t.Errorf("a look at once: %d rechecks, and the certificate ends at %v; want 2, %v", rechecks, m.End(), end.Add(time.Hour))
		}
		close(stop)
		ended.Wait()
	})
}

// TestMistakeOnce: the same mistake in the files is told once, whether a handshake or the look of each
// minute finds it first.
func TestMistakeOnce(t *testing.T) {
	for _, handshake := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			ca := trusttest.New(t, "example.org", time.Now())
			log := new(lines)
			files := rserpool.TLSFiles(ca.Issue(t, t.TempDir(), ns1, time.Now(), time.Now().Add(24*time.Hour)))
			m, err := Open(files, Config{Log: log.add})
			if err != nil {
				t.Fatal(err)
			}
			stop := make(chan struct{})
			var ended sync.WaitGroup
			ended.Go(func() { m.Watch(stop, func() {}) })
			if err := os.Remove(files.Key); err != nil {
				t.Fatal(err)
			}
			for range 3 {
				if handshake {
					time.Sleep(2 * time.Second)
					m.TLS().Client()
				}
				handshake = true
				time.Sleep(lookEvery)
				synctest.Wait()
			}
			if n := log.count("the former certificates stay in use"); n != 1 {
				t.Errorf("the mistake is told %d times, want once: %q", n, log.list)
			}
			close(stop)
			ended.Wait()
		})
	}
}

// TestIdentify: Judge is asked, and refused peers are counted.
func TestIdentify(t *testing.T) {
	ca := trusttest.New(t, "example.org", time.Now())
	open := func(name string, judge func(string) error) *Member {
		m, err := Open(rserpool.TLSFiles(ca.Issue(t, t.TempDir(), name, time.Now(), time.Now().Add(time.Hour))), Config{
			Judge: judge, Log: func(_ bool, text string) { t.Log(text) }, Protocols: []string{"asap"},
		})
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	refusal := errors.New("may do nothing")
	server := open(ns1, func(name string) error {
		if name == web1 {
			return refusal
		}
		return nil
	})
	for name, want := range map[string]error{web1: refusal, ns1: nil} {
		name1, err := identified(t, open(name, nil).TLS(), server.TLS())
		if !errors.Is(err, want) || err == nil && name1 != name {
			t.Errorf("%s is identified as %q with error %v, want error %v", name, name1, err, want)
		}
	}
	if got := server.Refused(); got != 1 {
		t.Errorf("%d peers refused, want 1", got)
	}
}

// identified is how a server identifies a client.
func identified(t *testing.T, client, server *secure.Config) (name string, err error) {
	t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	c, s := tls.Client(a, client.Client()), tls.Server(b, server.Server(netip.Addr{}))
	var ended sync.WaitGroup
	ended.Go(func() { _ = c.Handshake() })
	defer ended.Wait()
	if err := s.Handshake(); err != nil {
		t.Fatal(err)
	}
	name, _, err = server.Identify(s.ConnectionState())
	return name, err
}

// TestExplain: the error of a refused certificate says which one it is.
func TestExplain(t *testing.T) {
	ca := trusttest.New(t, "example.org", time.Now())
	m, err := Open(rserpool.TLSFiles(ca.Issue(t, t.TempDir(), web1, time.Now(), time.Now().Add(time.Hour))), Config{})
	if err != nil {
		t.Fatal(err)
	}
	other, ours := errors.New("peer no longer answers"), fmt.Errorf("at the peer: %w", secure.ErrOurs)
	if got := m.Explain(other); got.Error() != other.Error() {
		t.Errorf("got %v for %v", got, other)
	}
	if got, want := m.Explain(ours), `peer refuses our certificate (ours is `+web1+`, signed by "CN=RSerPool CA of example.org")`; !errors.Is(got, ours) || !strings.HasSuffix(got.Error(), want) {
		t.Errorf("got error %v, want one that ends in %s", got, want)
	}
}
