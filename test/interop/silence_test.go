package interop

import (
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/test/here"
	"github.com/rserpool/coredns-rserpool/test/looks"
)

// look begins to look at a pool at a registrar of ours.
func (l *lab) look(server, pool string) *looks.Looks {
	l.t.Helper()
	conn, err := net.Dial("udp", net.JoinHostPort(server, "53"))
	if err != nil {
		l.t.Fatal(err)
	}
	return looks.Start(l.t, conn, pool+".pool.example.org.")
}

// silent are elements of RSPLIB that a test suspends.
type silent struct {
	*proc
	id uint32
	at time.Time // of the last signal
}

func (e *silent) signal(s syscall.Signal) {
	e.at = time.Now()
	e.kill(s)
}

// silents starts n elements of RSPLIB in pool web.
func (n *node) silents(registrar string, count int) (list []*silent) {
	n.l.t.Helper()
	for i := range count {
		id := uint32(0x0b000001 + i)
		list = append(list, &silent{proc: n.rspserverAt(registrar, "web", fmt.Sprintf("%#08x", id), "-echo"), id: id})
	}
	return list
}

// silence is how long an element of RSPLIB that hangs may be named with the timers'
// defaults: it is judged after KEEP-ALIVE-TIMEOUT, because its acknowledgements travel in
// order.
const silence = 2200*time.Millisecond + 3*time.Second

// suspended has each of the elements suspended, and run on when it is out of the answers.
func suspended(t *testing.T, w *looks.Looks, elements []*silent) {
	t.Helper()
	var out, back []time.Duration
	for _, e := range elements {
		time.Sleep(97 * time.Millisecond)
		e.signal(syscall.SIGSTOP)
	}
	for _, e := range elements {
		out = append(out, w.Out(e.id, e.at))
	}
	for _, e := range elements {
		e.signal(syscall.SIGCONT)
		back = append(back, w.In(e.id, e.at))
	}
	t.Logf("out %s after SIGSTOP", looks.Spread(out))
	t.Logf("back %s after SIGCONT", looks.Spread(back))
	if worst, most := out[len(out)-1], silence+here.Paced(t, 500*time.Millisecond); worst > most {
		t.Errorf("a suspended element is named for %v, want %v at most", worst, most)
	}
	if worst, most := back[len(back)-1], here.Paced(t, time.Second); worst > most {
		t.Errorf("an element is back %v after SIGCONT, want %v at most", worst, most)
	}
}

// TestReferenceSilence: elements of RSPLIB are suspended, some and then all. Those are out
// of the answers while others run, and back when they run on. If all are silent, the
// answers are what they were.
func TestReferenceSilence(t *testing.T) {
	l := newLab(t)
	r, pe := l.node("r1", registrarIP+"/24"), l.node("pe1", "10.99.0.11/24")
	r.coredns(registrarIP, corefile("answers 32"))
	const n = 6
	elements := pe.silents(registrarIP, n)
	w := l.look(registrarIP, "web")
	w.All(n)
	start := time.Now()
	suspended(t, w, elements[:2])
	w.All(n)
	time.Sleep(3 * time.Second) // all are asked: their round-trip times are known again
	stopped := time.Now()
	for _, e := range elements {
		e.signal(syscall.SIGSTOP)
	}
	time.Sleep(14 * time.Second)
	woken := time.Now()
	for _, e := range elements {
		e.signal(syscall.SIGCONT)
	}
	complete := func(l looks.Look) bool { return len(l.IDs) == n }
	w.Until("all elements", woken, looks.Patience, complete)
	time.Sleep(time.Second)
	settled := w.Settled(woken, complete)
	part := 0
	// In the lab, round trips can take so long that seven of them are more than the time-out.
	for _, l := range w.Between(stopped.Add(silence+l.paced(4500*time.Millisecond)), woken) {
		if !complete(l) {
			part++
		}
	}
	t.Logf("all suspended for %v: %d answers without some of them after they were judged; all are named at all times from %v after SIGCONT on",
		woken.Sub(stopped).Round(time.Millisecond), part, settled.Round(time.Millisecond))
	if most := l.paced(time.Second); part > 0 || settled > most {
		t.Errorf("want all elements in these answers, and all back within %v", most)
	}
	w.NeverEmpty(start)
}

// TestReferenceRestart: our registrar, which is alone, is killed and started again. The
// elements of RSPLIB are in all answers, and are supervised again.
func TestReferenceRestart(t *testing.T) {
	l := newLab(t)
	r, pe := l.node("r1", registrarIP+"/24"), l.node("pe1", "10.99.0.11/24")
	dir := l.dir + "/state"
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	text := corefile("answers 32", "state "+dir)
	server := r.coredns(registrarIP, text)
	const n = 4
	elements := pe.silents(registrarIP, n)
	w := l.look(registrarIP, "web")
	w.All(n)
	time.Sleep(2 * time.Second) // the state is written once a second
	for range often(2, 1) {
		start := time.Now()
		server.kill(syscall.SIGKILL)
		server.wait()
		server = r.coredns(registrarIP, text)
		first := w.Until("an answer", start, looks.Patience, func(l looks.Look) bool { return !l.Lost })
		up := first.Sent
		time.Sleep(5 * time.Second)
		w.NeverEmpty(start, func(sent time.Time) bool { return sent.Before(up) })
		short := 0
		for _, l := range w.Between(up, time.Now()) {
			if len(l.IDs) != n {
				short++
			}
		}
		t.Logf("without an answer for %v; %d answers after that without some of the elements", up.Sub(start).Round(time.Millisecond), short)
		if short > 0 {
			t.Error("want all elements in all answers")
		}
	}
	suspended(t, w, elements[:1])
}

// TestReferencePeerSilence: all elements of a pool are silent, and one registrar of the
// scope is RSPLIB's. The pool is empty there, as no RFC has words for an element that is
// remembered, and is there again when the elements are.
func TestReferencePeerSilence(t *testing.T) {
	s := newScope(t, "10000001", "*20000002")
	ours, theirs := s.members[0], s.members[1]
	s.startAll()
	const n = 3
	elements := ours.pe.silents(ours.ip, n)
	w := s.look(ours.ip, "web")
	w.All(n)
	has := func(want int) func() error {
		return func() error {
			got, err := theirs.resolve("web", 100)
			if err == nil && len(got) != want {
				err = fmt.Errorf("%d elements", len(got))
			}
			return err
		}
	}
	eventually(t, "RSPLIB's registrar has all", has(n))
	start := time.Now()
	for _, e := range elements {
		e.signal(syscall.SIGSTOP)
	}
	took := eventually(t, "the pool is empty at RSPLIB's registrar", has(0))
	// Audits and checksums agree meanwhile: nothing comes back or goes by them.
	time.Sleep(5 * time.Second)
	if err := has(0)(); err != nil {
		t.Error(err)
	}
	for _, e := range elements {
		e.signal(syscall.SIGCONT)
	}
	back := eventually(t, "RSPLIB's registrar has all again", has(n))
	w.NeverEmpty(start)
	w.All(n)
	t.Logf("the pool is empty at RSPLIB's registrar after %v, and there again %v after SIGCONT", took.Round(time.Millisecond), back.Round(time.Millisecond))
}

// TestReferenceLoss: 5 % of the packets are lost in each direction between our registrar and
// elements of RSPLIB. Their acknowledgements travel in order, so that a lost packet delays
// those behind it, for a second or more: such an element may be a suspect for a moment. None
// is removed, and no answer is empty.
func TestReferenceLoss(t *testing.T) {
	if !*long {
		t.Skip("with -long only: it measures for ten minutes")
	}
	const n, d = 20, 10 * time.Minute
	l := newLab(t)
	r, pe := l.node("r1", registrarIP+"/24"), l.node("pe1", "10.99.0.11/24")
	server := r.coredns(registrarIP, corefile("answers 32"))
	pe.silents(registrarIP, n)
	w := l.look(registrarIP, "web")
	w.All(n)
	const loss = " root netem loss 5%"
	l.sh("tc qdisc add dev " + pe.ports[0] + loss)
	l.sh("tc -n " + pe.name + " qdisc add dev eth0" + loss)
	start := time.Now()
	time.Sleep(d) // the measurement
	missing, answers := 0, w.Between(start, time.Now())
	for _, look := range answers {
		missing += n - len(look.IDs)
	}
	w.NeverEmpty(start)
	suspects, removed := strings.Count(server.out.String(), "is a suspect"), strings.Count(server.out.String(), "is removed")
	t.Logf("%d elements for %v: %d times a suspect, %d removed; an element is named in %.4f %% of %d answers",
		n, time.Since(start).Round(time.Second), suspects, removed, 100-100*float64(missing)/float64(n*max(1, len(answers))), len(answers))
	if removed > 0 {
		t.Error("living elements are removed")
	}
}
