package main

import (
	"bytes"
	"context"
	"image"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap/cookie"
	"github.com/rserpool/coredns-rserpool/asap/pu"
	"github.com/rserpool/coredns-rserpool/docs/examples/internal/exampletest"
)

func TestMain(m *testing.M) {
	if exampletest.Is() {
		main()
		return
	}
	os.Exit(m.Run())
}

// scope is a registrar, and what is common to the processes of a pool.
type scope struct {
	t testing.TB
	exampletest.Server
	keys string
}

func newScope(t testing.TB) *scope {
	t.Helper()
	s := &scope{t: t, Server: exampletest.CoreDNS(t), keys: filepath.Join(t.TempDir(), "keys")}
	if err := os.WriteFile(s.keys, []byte(cookie.GenerateKey().Secret()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

// element starts an element, and returns when it is registered.
func (s *scope) element(args ...string) *exampletest.Process {
	s.t.Helper()
	p := exampletest.Self(s.t, append([]string{"element", "-registrar", s.Registrar, "-local", "127.0.0.1", "-keys", s.keys}, args...)...)
	p.Await("registered as")
	return p
}

func (s *scope) user() *pu.User {
	s.t.Helper()
	u, err := pu.Open(pu.Config{Registrars: []string{s.Registrar}, Local: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = u.Close() })
	return u
}

// alone is the picture as one program calculates it.
func alone(p picture) *image.Gray16 {
	d := drawing{picture: p, img: image.NewGray16(image.Rect(0, 0, p.width, p.height))}
	for _, j := range p.jobs() {
		for y := range j.Rows {
			d.set(j, y, j.row(y))
		}
	}
	return d.img
}

// Two of four elements are killed in the middle of their jobs. The picture is the same as
// without, and no more rows are calculated twice than lie between two cookies.
func TestKilledElements(t *testing.T) {
	s := newScope(t)
	var elements []*exampletest.Process
	for range 4 {
		elements = append(elements, s.element("-pace", "5ms", "-capacity", "2"))
	}
	var killed int
	d := drawing{
		picture: picture{width: 300, height: 200, tileRows: 50, limit: 500},
		user:    s.user(), pool: "render", parallel: 4,
	}
	var mu sync.Mutex
	d.progress = func(rows int) {
		mu.Lock()
		defer mu.Unlock()
		if rows == 50 || rows == 100 {
			elements[killed].Kill()
			killed++
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := d.draw(ctx); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(d.img.Pix, alone(d.picture).Pix) {
		t.Error("the picture differs from the one that one program calculates")
	}
	failovers, again := d.failovers.Load(), d.again.Load()
	t.Logf("%d elements killed, %d failovers, %d of %d rows calculated again", killed, failovers, again, d.height)
	if failovers == 0 {
		t.Error("no job has moved")
	}
	if again > failovers*cookieRows {
		t.Errorf("%d rows are calculated again in %d failovers, want at most %d for each", again, failovers, cookieRows)
	}
}
