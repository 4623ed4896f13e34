package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rserpool/coredns-rserpool/asap/pu"
	"github.com/rserpool/coredns-rserpool/rserpool"
	"github.com/rserpool/coredns-rserpool/test/here"
)

// unknownPool is what a pool user tells of a pool that does not exist.
func unknownPool() error {
	return &pu.RefusedError{Pool: "web", Registrar: "r1", Causes: []rserpool.Cause{{Code: rserpool.CauseUnknownPoolHandle}}}
}

// watchAnswer is an answer of a registrar with elements that have an identifier and a load.
func watchAnswer(registrar string, elements ...[2]uint32) *pu.Resolution {
	r := &pu.Resolution{Pool: "web", Policy: rserpool.Policy{Type: rserpool.LeastUsed}, Registrar: registrar, Subscribed: true}
	for _, e := range elements {
		r.Elements = append(r.Elements, rserpool.PoolElement{
			ID: rserpool.PEID(e[0]), Home: 0x1001, Life: 90000,
			Policy:        rserpool.Policy{Type: rserpool.LeastUsed, Load: rserpool.FromFraction(float64(e[1]) / 100)},
			UserTransport: rserpool.Transport{Type: rserpool.TCP, Port: 80, Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}},
		})
	}
	return r
}

// TestWatchedPool: what a pool user tells becomes changes.
func TestWatchedPool(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	p := newWatchedPools([]string{"web"}, start)[0]
	polled := watchAnswer("r2", [2]uint32{1, 30})
	polled.Subscribed = false
	moved := watchAnswer("r2", [2]uint32{1, 30})
	moved.Elements[0].Home, moved.Elements[0].UserTransport.Port, moved.Elements[0].Life = 7, 81, -1
	moved.Elements[0].UserTransport.Addrs = []netip.Addr{netip.MustParseAddr("2001:db8::1")}
	moved.Subscribed = false
	random := watchAnswer("r2", [2]uint32{1, 30})
	random.Policy.Type, random.Elements[0].Policy, random.Subscribed = rserpool.Random, rserpool.Policy{Type: rserpool.Random}, false
	for i, step := range []struct {
		res  *pu.Resolution
		err  error
		want []string
	}{
		{nil, errors.New("no registrar"), []string{"no registrar"}},
		{nil, errors.New("no registrar"), nil},
		{watchAnswer("r1", [2]uint32{2, 0}, [2]uint32{1, 30}), nil, []string{
			"registrar r1 answers, and sends updates", "policy LeastUsed",
			"00000002 present: tcp:80 192.0.2.1 load 0.0%, home 00001001", "00000001 present: tcp:80 192.0.2.1 load 30.0%, home 00001001"}},
		{watchAnswer("r1", [2]uint32{1, 30}, [2]uint32{2, 0}), nil, nil},
		{watchAnswer("r1", [2]uint32{1, 30}, [2]uint32{2, 50}, [2]uint32{3, 0}), nil, []string{
			"00000002 changed: values load 0.0% -> load 50.0%", "00000003 joined: tcp:80 192.0.2.1 load 0.0%, home 00001001"}},
		{watchAnswer("r1", [2]uint32{1, 30}), nil, []string{"00000002 left", "00000003 left"}},
		{watchAnswer("r1", [2]uint32{1, 30}, [2]uint32{3, 0}), nil, []string{"00000003 joined: tcp:80 192.0.2.1 load 0.0%, home 00001001"}},
		{nil, errors.New("lost"), []string{"lost"}},
		{watchAnswer("r1", [2]uint32{1, 30}, [2]uint32{3, 0}), nil, []string{"registrar r1 answers again"}},
		{polled, nil, []string{"registrar r2 answers, but sends no updates: asked every 2s", "00000003 left"}},
		{moved, nil, []string{"00000001 changed: transport tcp:80 -> tcp:81, addresses 192.0.2.1 -> 2001:db8::1, home 00001001 -> 00000007, life 90000 -> infinite"}},
		{random, nil, []string{"policy Random", "00000001 changed: transport tcp:81 -> tcp:80, addresses 2001:db8::1 -> 192.0.2.1, values LeastUsed load 30.0% -> -, home 00000007 -> 00001001, life infinite -> 90000"}},
		{nil, unknownPool(), []string{"00000001 left", `registrar r1 knows no pool "web"`}},
		{nil, unknownPool(), nil},
		{nil, &pu.NoElementsError{Pool: "web", Registrar: "r1"}, []string{`registrar r1 knows pool "web", but no element in it`}},
		{watchAnswer("r1", [2]uint32{1, 30}), nil, []string{"registrar r1 answers, and sends updates", "policy LeastUsed", "00000001 joined: tcp:80 192.0.2.1 load 30.0%, home 00001001"}},
	} {
		now := start.Add(time.Duration(i) * time.Second)
		var got []string
		for _, c := range p.update(now, step.res, step.err) {
			if !c.at.Equal(now) || c.pool != "web" {
				t.Errorf("step %d: change of %q at %v", i, c.pool, c.at)
			}
			got = append(got, c.words())
		}
		if diff := cmp.Diff(step.want, got); diff != "" {
			t.Errorf("step %d (-want +got):\n%s", i, diff)
		}
	}
	if n := p.size(); n != 1 {
		t.Errorf("size %d, want 1", n)
	}
	p.forget(start.Add(time.Hour))
	if n := len(p.elements); n != 1 {
		t.Errorf("%d rows after all others have been forgotten, want 1", n)
	}
}

// TestWatchAdvice: what to try if no registrar answers is said once in lines, and in the table as
// long as that is so.
func TestWatchAdvice(t *testing.T) {
	none := &rserpool.UnreachableError{Attempts: []rserpool.Attempt{{Registrar: rserpool.MustParseRegistrar("192.0.2.1:3864"), Err: io.EOF}}}
	for _, tt := range []struct {
		tls  bool
		want string
	}{
		{false, "is a registrar running there? Port 3864 is for TLS: its Corefile needs tls, and rsp needs --tls"},
		{true, hint(none, true)},
	} {
		start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
		b := &board{pools: newWatchedPools([]string{"web"}, start), tls: tt.tls}
		var log strings.Builder
		w := &watcher{board: b, log: &logger{w: &log, level: normal}}
		for _, err := range []error{nil, pu.ErrUnknownPool, none, none} {
			w.advise(err)
		}
		if want := "rsp: " + tt.want + "\n"; log.String() != want {
			t.Errorf("log %q, want %q", &log, want)
		}
		p := b.pools[0]
		p.update(start, nil, none)
		var text []string
		for _, l := range b.advice(p, 40) {
			if text = append(text, l.text); len(l.text) > 40 {
				t.Errorf("%q is wider than 40", l.text)
			}
		}
		if got := strings.Join(text, " "); got != tt.want || !strings.Contains(drawn(b, start, 40, 20), text[0]) {
			t.Errorf("advice %q, want %q in the table:\n%s", got, tt.want, drawn(b, start, 40, 20))
		}
		p.update(start, watchAnswer("r1", [2]uint32{1, 30}), nil)
		if got := b.advice(p, 40); got != nil {
			t.Errorf("advice %v after an answer", got)
		}
	}
}

// drawn draws a board, with the style of each line in front of it.
func drawn(b *board, now time.Time, width, height int) string {
	var s strings.Builder
	for _, l := range b.lines(now, width, height) {
		fmt.Fprintf(&s, "%-4s|%s\n", l.style, l.text)
	}
	return s.String()
}

// TestWatchTable: the table in a wide, a narrow and a low terminal.
func TestWatchTable(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	b := &board{pools: newWatchedPools([]string{"db\x1b", "web"}, start)}
	db, web := b.pools[0], b.pools[1]
	b.note(db.update(start, nil, errors.New("no answer\x1b[2J")))
	b.note(web.update(start, watchAnswer("r1", [2]uint32{1, 30}, [2]uint32{2, 0}, [2]uint32{4, 1}), nil))
	later := start.Add(10 * time.Second)
	b.note(web.update(later, watchAnswer("r1", [2]uint32{1, 31}, [2]uint32{3, 0}, [2]uint32{4, 1}), nil))
	want := `1   |pool "db\x1b", 0 elements, watched since 03:04:05
1;31|since 03:04:05: no answer?[2J
    |
1   |pool "web", policy LeastUsed, 3 elements, watched since 03:04:05
    |registrar r1 sends updates
1   |   ID        HOME      TRANSPORT  ADDRESSES  VALUES      SINCE     LAST CHANGE
1;33|*  00000001  00001001  tcp:80     192.0.2.1  load 31.0%  -         03:04:15 values
1;31|-  00000002  00001001  tcp:80     192.0.2.1  load 0.0%   -         03:04:15 left
1;32|+  00000003  00001001  tcp:80     192.0.2.1  load 0.0%   03:04:15  03:04:15 joined
    |   00000004  00001001  tcp:80     192.0.2.1  load 1.0%   -         -
    |
1   |Changes
1;31|03:04:15 "web" 00000002 left
1;32|03:04:15 "web" 00000003 joined: tcp:80 192.0.2.1 load 0.0%, home 00001001
`
	if diff := cmp.Diff(want, drawn(b, later, 100, 14)); diff != "" {
		t.Errorf("wide (-want +got):\n%s", diff)
	}
	if next := b.fades(later); !next.Equal(later.Add(freshTime)) {
		t.Errorf("redrawn at %v, want when the first highlight ends", next)
	}
	// The highlights have ended, but the element that has left is still there.
	want = `1   |pool "db\x1b", 0 elements, watched sinc~
1;31|since 03:04:05: no answer?[2J
    |
1   |pool "web", policy LeastUsed, 3 element~
    |registrar r1 sends updates
1   |   ID        ADDRESSES  VALUES
    |   00000001  192.0.2.1  load 31.0%
1;31|-  00000002  192.0.2.1  load 0.0%
2   |... 2 lines more: enlarge the terminal
`
	if diff := cmp.Diff(want, drawn(b, later.Add(freshTime), 40, 9)); diff != "" {
		t.Errorf("narrow and low (-want +got):\n%s", diff)
	}
	if s := drawn(b, later.Add(leftTime), 100, 40); strings.Contains(s, "-  00000002") {
		t.Errorf("after %v the element that has left is still shown:\n%s", leftTime, s)
	}
	if next := b.fades(later.Add(leftTime)); !next.IsZero() {
		t.Errorf("redrawn at %v without a reason", next)
	}
	for width := range 5 { // must not panic
		for height := range 5 {
			b.lines(later, width, height)
		}
	}
}

// TestWatchManyChanges: the list of changes is bounded.
func TestWatchManyChanges(t *testing.T) {
	b := &board{pools: newWatchedPools([]string{"web"}, time.Now())}
	for i := range uint32(10 * maxRecent) {
		b.note(b.pools[0].update(time.Now(), watchAnswer("r1", [2]uint32{1, i % 100}), nil))
	}
	if len(b.recent) != maxRecent {
		t.Errorf("%d changes are kept, want %d", len(b.recent), maxRecent)
	}
}

// changesOf reads the output of watch --json.
func changesOf(t *testing.T, out string) []jsonChange {
	t.Helper()
	var list []jsonChange
	for line := range strings.Lines(out) {
		var c jsonChange
		if err := json.Unmarshal([]byte(line), &c); err != nil {
			continue // a line that is not complete yet
		}
		if _, err := time.Parse(time.RFC3339, c.Time); err != nil {
			t.Errorf("time in %s: %v", line, err)
		}
		list = append(list, c)
	}
	return list
}

// TestWatchJSON: joins, changes, leaves, and another registrar, for programs.
func TestWatchJSON(t *testing.T) {
	slow(t)
	t.Parallel()
	r1, r2 := newRegistry(t), newRegistry(t)
	w := startRSP(t, "watch", "--json", "--via", "udp", "--registrar", r1.at, "--registrar", r2.at, "web", "other", "web")
	saw := func(what string, f func(c jsonChange) bool) {
		t.Helper()
		eventually(t, what, func() bool { return slices.ContainsFunc(changesOf(t, w.String()), f) })
	}
	saw("web is unknown", func(c jsonChange) bool {
		return c.Pool == "web" && c.Change == changeUnknown && strings.Contains(c.Error, "knows no pool")
	})
	saw("other is unknown", func(c jsonChange) bool { return c.Pool == "other" && c.Change == changeUnknown })
	p := startRSP(t, "register", "--pool", "web", "--serve", "tcp:8080", "--via", "udp", "--registrar", r1.at, "--registrar", r2.at, "--id", "1", "--policy", "LU:25%")
	saw("the registrar", func(c jsonChange) bool {
		return c.Pool == "web" && c.Change == changeRegistrar && strings.HasPrefix(r1.at, c.Registrar) && c.Subscribed != nil && *c.Subscribed && c.Policy == "LeastUsed"
	})
	saw("the element", func(c jsonChange) bool {
		return c.Pool == "web" && c.Change == changeJoined && c.Element != nil && c.Element.ID == "00000001" && *c.Element.Load == 0.25
	})
	q := startRSP(t, "register", "--pool", "other", "--serve", "tcp:8080", "--via", "udp", "--registrar", r1.at, "--registrar", r2.at, "--id", "2")
	saw("the other pool's element", func(c jsonChange) bool { return c.Pool == "other" && c.Change == changeJoined })
	q.signal(syscall.SIGTERM)
	q.wait()
	saw("the other pool's element leaves", func(c jsonChange) bool {
		return c.Pool == "other" && c.Change == changeLeft && c.Element.ID == "00000002"
	})
	r1.close()
	saw("the other registrar", func(c jsonChange) bool {
		return c.Pool == "web" && c.Change == changeRegistrar && strings.HasPrefix(r2.at, c.Registrar)
	})
	saw("the element's other home", func(c jsonChange) bool {
		return c.Element != nil && c.Element.ID == "00000001" && c.Element.Home == r2.ID().String()
	})
	p.signal(syscall.SIGTERM)
	p.wait()
	w.signal(syscall.SIGTERM)
	if status := w.wait(); status != exitOK {
		t.Errorf("status %d", status)
	}
}

// TestWatchLines: without a terminal, rsp prints a line for each change, and ends at once
// at a signal, even if no registrar answers.
func TestWatchLines(t *testing.T) {
	t.Parallel()
	at := fmt.Sprintf("127.0.0.1:3863/%d", here.FreePort(t))
	w := startRSP(t, "watch", "--via", "udp", "--timeout", "1s", "--registrar", at, "web")
	w.says(`pool "web": no registrar could be reached: ` + at)
	start := time.Now()
	w.signal(syscall.SIGTERM)
	if status := w.wait(); status != exitOK {
		t.Errorf("status %d", status)
	}
	if d := time.Since(start); d > 4*time.Second { // the race detector waits 1 s at the end
		t.Errorf("rsp took %v to end", d)
	}
	if s := w.String(); strings.Contains(s, "\x1b") {
		t.Errorf("escapes without a terminal: %q", s)
	}
}
