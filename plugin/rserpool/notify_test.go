package rserpool

import (
	"fmt"
	stdlog "log"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	clog "github.com/coredns/coredns/plugin/pkg/log"
	"github.com/miekg/dns"

	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	rsp "github.com/rserpool/coredns-rserpool/rserpool"
)

// notified starts notifications, with time that is real to the handler, and returns the
// times of those of the first zone.
func notified(t *testing.T, f *fakeRegistrar, failure string) (h *Handler, times func() []time.Duration) {
	h = newTestHandler(t, "rserpool pool.example.org example.net", f)
	h.now = time.Now
	begin := time.Now()
	var all []time.Duration
	end := h.notifySecondaries(func(zone string) error {
		if zone == zoneZ {
			all = append(all, time.Since(begin))
		}
		if failure == "" {
			return nil
		}
		return fmt.Errorf("%s, %v", failure, time.Since(begin))
	})
	t.Cleanup(end)
	return h, func() []time.Duration {
		synctest.Wait()
		defer func() { all = nil }()
		return all
	}
}

// TestNotify: there is one notification at the start, and then one after each change, none
// without a change, and not more than one a second.
func TestNotify(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		put(t, f.space, "web", element(7, 80, "192.0.2.7"))
		_, times := notified(t, f, "")
		time.Sleep(time.Hour)
		// The first serial number may be that of a process before, so that the next one is notified.
		if got := times(); len(got) != 1 || got[0] > notifyPause+2*notifyPoll {
			t.Errorf("without a change, there were notifications at %v, want one within %v", got, notifyPause+2*notifyPoll)
		}
		put(t, f.space, "web", element(1, 80, "192.0.2.1"))
		time.Sleep(time.Hour)
		if got := times(); len(got) != 1 || got[0] > 2*time.Hour+time.Second/2 {
			t.Errorf("after a change, there were notifications at %v, want one within half a second", got)
		}
		for id := range rsp.PEID(1000) {
			put(t, f.space, "web", element(id, 81, "192.0.2.1"))
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(2 * time.Second)
		got := times()
		if len(got) < 9 || len(got) > 12 {
			t.Errorf("%d notifications in 10 s of changes, want one a second", len(got))
		}
		for i := range got[1:] {
			if pause := got[i+1] - got[i]; pause < time.Second {
				t.Errorf("%v from one notification to the next", pause)
			}
		}
	})
}

// TestNotifyAfterSlowTransfer: transfers take at most a tenth of the time.
func TestNotifyAfterSlowTransfer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		h, times := notified(t, f, "")
		change := func(seconds int) []time.Duration {
			for i := range 10 * seconds {
				put(t, f.space, "web", element(rsp.PEID(i%7), uint16(1+i), "192.0.2.1"))
				time.Sleep(100 * time.Millisecond)
			}
			return times()
		}
		change(5)
		for took, want := range map[time.Duration]int{5 * time.Second: 6, time.Second: 30, time.Hour: 1} {
			h.transfers.duration.Store(int64(took))
			if got := change(300); len(got) < want-1 || len(got) > want+1 {
				t.Errorf("with transfers of %v: %d notifications in 5 minutes, want %d", took, len(got), want)
			}
		}
	})
}

// TestNotifyWithSlowClient: a secondary that reads slowly does not delay the notifications of others.
func TestNotifyWithSlowClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		for id := range rsp.PEID(5000) {
			put(t, f.space, "web", element(id, 80, "192.0.2.1"))
		}
		h, times := notified(t, f, "")
		out, err := h.Transfer(zoneZ, 0)
		if err != nil {
			t.Fatal(err)
		}
		batches := 0
		for range out {
			batches++
			time.Sleep(transferPatience / 2)
		}
		if batches < 10 {
			t.Fatalf("the transfer has %d batches, want more", batches)
		}
		times()
		put(t, f.space, "web", element(1, 81, "192.0.2.1"))
		time.Sleep(2 * time.Second)
		if got := times(); len(got) != 1 {
			t.Errorf("%d notifications within 2 s of a change, want 1", len(got))
		}
	})
}

// TestNotifyReady: before the registrar knows its handlespace, nobody is to transfer it.
func TestNotifyReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.notReady.Store(true)
		_, times := notified(t, f, "")
		time.Sleep(time.Minute)
		if got := times(); len(got) > 0 {
			t.Errorf("there were notifications at %v, before the registrar was ready", got)
		}
		f.notReady.Store(false)
		time.Sleep(time.Minute)
		if got := times(); len(got) != 1 {
			t.Errorf("there were notifications at %v when the registrar was ready, want one", got)
		}
	})
}

// TestNotifySettle: a registrar that starts without elements waits for them, so that secondaries
// keep what they have of a registrar that is restarted.
func TestNotifySettle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		_, times := notified(t, f, "")
		time.Sleep(time.Second)
		put(t, f.space, "web", element(1, 80, "192.0.2.1"))
		time.Sleep(5 * time.Second)
		put(t, f.space, "web", element(2, 80, "192.0.2.2"))
		time.Sleep(time.Minute)
		if got := times(); len(got) != 1 || got[0] < notifySettle || got[0] > notifySettle+time.Second {
			t.Errorf("notifications at %v after the start, want one after %v", got, notifySettle)
		}
	})
}

// TestNotifyLog: a secondary that does not answer is logged once.
func TestNotifyLog(t *testing.T) {
	var log strings.Builder
	stdlog.SetOutput(&log)
	defer clog.Discard()
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		put(t, f.space, "web", element(7, 80, "192.0.2.7"))
		_, times := notified(t, f, "no answer of 192.0.2.60\nno answer of 192.0.2.61")
		for id := range rsp.PEID(5) {
			put(t, f.space, "web", element(id, 80, "192.0.2.1"))
			time.Sleep(5 * time.Second)
		}
		if got := times(); len(got) < 5 {
			t.Errorf("%d notifications, want to have more of them", len(got))
		}
	})
	const once = "This line is not repeated until a notification has succeeded, or until a reload"
	if got := log.String(); strings.Count(got, "no answer of 192.0.2.60; no answer of 192.0.2.61, ") != 2 || strings.Count(got, once) != 2 {
		t.Errorf("got the log %q, want one line for each of two zones", got)
	}
}

// TestNotifyRefused: of a secondary that refuses notifications, and of no other, the log says what
// the reason may be.
func TestNotifyRefused(t *testing.T) {
	for rcode, want := range map[int]int{dns.RcodeRefused: 1, dns.RcodeNotAuth: 0} {
		var log strings.Builder
		stdlog.SetOutput(&log)
		defer clog.Discard()
		f := newFake()
		n := notifier{Handler: newTestHandler(t, "rserpool pool.example.org", f), failing: make(map[string]bool)}
		n.notify = func(string) error { // as transfer.sendNotify words it
			return fmt.Errorf("notify for zone %q was not accepted by %q: rcode was %q", zoneZ, "192.0.2.60:53", dns.RcodeToString[rcode])
		}
		n.send(zoneZ)
		if got := log.String(); strings.Count(got, "'source ADDRESS' in transfer") != want || !strings.Contains(got, "60 seconds of the SOA record, or later") {
			t.Errorf("%s: got the log %q, want %d hints at the source address", dns.RcodeToString[rcode], got, want)
		}
	}
}

// TestNotifyReload: with a reload, the zone has a new serial number, because it may have new
// options. Neither a reload nor one that fails leaves anything behind.
func TestNotifyReload(t *testing.T) {
	refuseUpgrade() // it stays
	goroutines, files := resources(t)
	taken, free := takenPort(t)
	p := freePorts(t)
	text := func(ttl int) string {
		return fmt.Sprintf("pool.example.org:0 {\n transfer {\n to 127.0.0.1:1\n}\n rserpool {\n%sttl %d\n}\n}\n", p.options(), ttl)
	}
	s := startServer(t, text(1))
	serial := func() uint32 { return s.query(zoneZ, dns.TypeSOA).Answer[0].(*dns.SOA).Serial }
	for ttl := range 2 {
		before := serial()
		if err := s.reload(text(ttl) + fmt.Sprintf("example.net:%d {\n bind 127.0.0.1\n whoami\n}\n", taken)); err == nil {
			t.Fatal("reload succeeded, want the taken port to fail it")
		}
		if err := s.reload(text(ttl)); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the serial grows after a reload", func() bool { return serial() > before })
	}
	free()
	s.stop()
	noLeak(t, goroutines, files)
}

// TestNotifyFailedReload: the zone gets its new serial number when the former instance has ended:
// until then it may give that number to a zone with the former options. A reload that fails
// changes nothing.
func TestNotifyFailedReload(t *testing.T) {
	refuseUpgrade() // it stays
	taken, _ := takenPort(t)
	f, set := newFakes()
	former := process
	process = set
	t.Cleanup(func() { process = former })
	const text = "pool.example.org:0 {\n transfer {\n to 127.0.0.1:1\n}\n rserpool\n}\n"
	s := startServer(t, text)
	var space *handlespace.Space
	for _, r := range f { // the only one
		space = r.space
	}
	before := space.Changes()
	if err := s.reload(text + fmt.Sprintf("example.net:%d {\n bind 127.0.0.1\n whoami\n}\n", taken)); err == nil {
		t.Fatal("reload succeeded, want the taken port to fail it")
	}
	if got := space.Changes(); got != before {
		t.Errorf("a failed reload counts as %d changes", got-before)
	}
	if err := s.reload(text); err != nil {
		t.Fatal(err)
	}
	if got := space.Changes(); got != before+1 {
		t.Errorf("a reload counts as %d changes, want 1", got-before)
	}
}
