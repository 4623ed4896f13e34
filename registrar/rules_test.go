package registrar

import (
	"strings"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// rule gives some pools a rule.
func rule(rule PoolRule, pools ...string) PoolRules {
	return func(h rserpool.PoolHandle) PoolRule {
		for _, p := range pools {
			if string(h) == p {
				return rule
			}
		}
		return PoolRule{}
	}
}

func policy1(p rserpool.PolicyType) func(*rserpool.PoolElement) {
	return func(e *rserpool.PoolElement) { e.Policy = rserpool.Policy{Type: p, Weight: 1} }
}

// count counts the lines with a text since the last want or skip.
func (w *world) count(text string) (n int) {
	for _, line := range w.trace {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

// TestRuleRefuses: the operator's rule counts, not the first element of a pool.
func TestRuleRefuses(t *testing.T) {
	w := newWorld(t, func(c *Config) {
		c.Rules = rule(PoolRule{Policy: rserpool.WeightedRoundRobin, Transport: rserpool.UDP}, "p")
	})
	w.logs = true
	w.up(1, rserpool.ViaKernel, "10.0.0.1")
	w.recv(1, reg("p", 1, "10.0.0.1"))
	if got := w.count(`refused: policy differs from the pool's: the element has RoundRobin, the pool has WeightedRoundRobin: start the element with policy WeightedRoundRobin (rsp: --policy WeightedRoundRobin), or give it another pool; the operator's rule for this pool demands that`); got != 1 {
		t.Errorf("got %d lines about the refused policy, want 1", got)
	}
	w.logs, w.trace = false, nil
	w.recv(1, reg("p", 1, "10.0.0.1"))
	w.want("1 < registration rejected p:1 cause 5(0008000c0000000200000000)")
	w.recv(1, reg("p", 1, "10.0.0.1", policy1(rserpool.WeightedRoundRobin), func(e *rserpool.PoolElement) { e.UserTransport.Type = rserpool.TCP }))
	w.want("1 < registration rejected p:1 cause 7(00060010000000000001000800000000)")
	w.recv(1, reg("p", 1, "10.0.0.1", policy1(rserpool.WeightedRoundRobin)))
	w.recv(1, reg("q", 1, "10.0.0.1"))
	w.want("1 < registration granted p:1", "1 < registration granted q:1")
	w.recv(1, reg("p", 1, "10.0.0.1")) // the pool's only element may not change it either
	w.want("1 < registration rejected p:1 cause 5(0008000c0000000200000000)")
	w.wantElements("p:1", "q:1")
	if s := w.r.Stats(); s.Rejections[rserpool.CauseInconsistentPolicy] != 3 || s.Rejections[rserpool.CauseInconsistentTransportType] != 1 {
		t.Errorf("got rejections %v", s.Rejections)
	}
}

// TestRuleOfPeers: what peers have is known, sent on and taken over, but not served where
// the rule excludes it.
func TestRuleOfPeers(t *testing.T) {
	w := newPeerWorld(t)
	w.handle(Rules{Of: rule(PoolRule{Policy: rserpool.WeightedRoundRobin}, "a")})
	w.meet(2, greater)
	w.meet(3, third)
	fitting := peerElement(2, greater)
	fitting.Policy = rserpool.Policy{Type: rserpool.WeightedRoundRobin, Weight: 1}
	w.tell(2, update(greater, enrp.AddPE, "a", peerElement(1, greater)))
	w.wantHomes()
	w.tell(2, update(greater, enrp.AddPE, "a", fitting))
	w.wantHomes("a:2@20000002")
	var sum enrp.Checksum
	sum.Add("a", 1)
	sum.Add("a", 2)
	w.tell(2, &enrp.Presence{Sender: greater, HasChecksum: true, Checksum: sum.Value()})
	w.want() // no audit
	w.tell(3, &enrp.HandleTableRequest{Sender: third})
	w.want("3 < handle_table_response to 30000003 a:1@20000002 a:2@20000002")
	w.tell(2, update(greater, enrp.AddPE, "a", peerElement(2, greater)))
	w.wantHomes()
	if s := w.r.Stats(); s.Misfits != 2 || s.Foreign != 2 || s.PoolsEmptied != 1 {
		t.Errorf("got %d set aside, %d foreign, %d pools emptied; want 2, 2, 1", s.Misfits, s.Foreign, s.PoolsEmptied)
	}
}

// TestRulesChange: elements that new rules exclude stay registered, and are not served until
// the rules admit them or they register again as the rules demand.
func TestRulesChange(t *testing.T) {
	w := newPeerWorld(t)
	w.meet(2, greater)
	w.up(1, rserpool.ViaKernel, "10.0.1.9")
	for id := range uint32(3) {
		w.recv(1, reg("a", id+1, "10.0.1.9"))
		w.recv(1, reg("b", id+1, "10.0.1.9"))
	}
	w.tell(2, update(greater, enrp.AddPE, "a", peerElement(9, greater)))
	w.skip("registration granted", "handle_update ADD_PE")
	w.recv(1, &asap.HandleResolution{Handle: "a", Subscribe: true})
	w.trace = nil

	w.logs = true
	w.handle(Rules{Of: rule(PoolRule{Policy: rserpool.WeightedRoundRobin}, "a", "c")})
	if aside, lost := w.count(`the new rule of pool "a" sets elements aside that are registered, 4 in all, so that they are in no answer: policy differs from the pool's: the element has RoundRobin, the pool has WeightedRoundRobin`),
		w.count(`pool "a" has no element in answers: all 4 are set aside: clients do not find it until one of them fits the rules of its pool, or another one registers`); len(w.trace) != 2 || aside != 1 || lost != 1 {
		t.Errorf("got %q, want one line about the elements and one about the pool", w.trace)
	}
	w.logs, w.trace = false, nil
	w.wantHomes("b:1@10000001", "b:2@10000001", "b:3@10000001")
	w.recv(1, resolve("a"))
	w.want("1 < resolution a cause 9")
	w.recv(1, reg("a", 1, "10.0.1.9"))
	w.want("1 < registration rejected a:1 cause 5(0008000c0000000200000000)")
	if s := w.r.Stats(); s.Misfits != 4 || s.Own != 6 || s.PoolsEmptied != 1 {
		t.Errorf("got %d set aside, %d own, %d pools emptied; want 4, 6, 1", s.Misfits, s.Own, s.PoolsEmptied)
	}

	w.recv(1, reg("a", 2, "10.0.1.9", policy1(rserpool.WeightedRoundRobin)))
	w.skip("registration granted", "handle_update ADD_PE")
	w.wantHomes("a:2@10000001", "b:1@10000001", "b:2@10000001", "b:3@10000001")

	// The rule is taken back: the pool keeps its kind, because it has an element.
	w.handle(Rules{})
	w.wantHomes("a:2@10000001", "b:1@10000001", "b:2@10000001", "b:3@10000001")
	w.recv(1, dereg("a", 2))
	w.wantHomes("a:1@10000001", "a:3@10000001", "a:9@20000002", "b:1@10000001", "b:2@10000001", "b:3@10000001")
	w.trace = nil

	w.handle(Rules{Of: rule(PoolRule{Transport: rserpool.TCP}, "b")})
	w.wantHomes("a:1@10000001", "a:3@10000001", "a:9@20000002")
	w.logs = true
	w.handle(Rules{Of: rule(PoolRule{Transport: rserpool.UDP}, "b")})
	w.want(`log the new rule of pool "b" admits elements that were set aside, 3 in all`)
	w.wantHomes("a:1@10000001", "a:3@10000001", "a:9@20000002", "b:1@10000001", "b:2@10000001", "b:3@10000001")
	w.handle(Rules{Of: rule(PoolRule{Transport: rserpool.UDP}, "b")})
	w.want()
}

// TestRulesChangeReason: the log has the reason that counts, also for elements that another rule
// has set aside before.
func TestRulesChangeReason(t *testing.T) {
	w := newWorld(t)
	w.up(1, rserpool.ViaKernel, "10.0.1.9")
	for id := range uint32(2) {
		w.recv(1, reg("a", id+1, "10.0.1.9"))
	}
	w.logs = true
	for _, c := range []struct {
		rule PoolRule
		line string // "" if nothing is to be logged
	}{
		{PoolRule{Policy: rserpool.LeastUsed}, `the new rule of pool "a" sets elements aside that are registered, 2 in all, so that they are in no answer: policy differs from the pool's: the element has RoundRobin, the pool has LeastUsed: start the element with policy LeastUsed (rsp: --policy LeastUsed), or give it another pool; the operator's rule for this pool demands that ("policy LeastUsed" in a pool line)`},
		{PoolRule{Policy: rserpool.LeastUsed, KeepAliveInterval: time.Second}, ""},
		{PoolRule{Transport: rserpool.TCP}, `the new rule of pool "a" keeps elements set aside, 2 in all, so that they are in no answer: user transport differs from the pool's: the element has udp, the pool has tcp: start the element with user transport tcp (rsp: --serve tcp:PORT), or give it another pool; the operator's rule for this pool demands that ("transport tcp" in a pool line)`},
		{PoolRule{Policy: rserpool.Random}, `"policy Random" in a pool line`},
		{PoolRule{Policy: rserpool.RoundRobin}, `the new rule of pool "a" admits elements that were set aside, 2 in all`},
	} {
		w.trace = nil
		w.handle(Rules{Of: rule(c.rule, "a")})
		if n := w.count("the new rule"); c.line == "" && n > 0 || c.line != "" && (n != 1 || w.count(c.line) != 1) {
			t.Errorf("%+v: got %q, want %q", c.rule, w.trace, c.line)
		}
	}
}

// TestRulesSupervise: elements that are set aside are supervised like all others.
func TestRulesSupervise(t *testing.T) {
	w := newWorld(t)
	w.up(1, rserpool.ViaKernel, "10.0.1.9")
	w.recv(1, reg("a", 1, "10.0.1.9"))
	w.handle(Rules{Of: rule(PoolRule{Policy: rserpool.WeightedRoundRobin}, "a")})
	w.trace = nil
	w.until(10 * time.Second)
	w.want("1 < keep-alive a:1 from 10000001")
	w.pass(10 * time.Second)
	if s := w.r.Stats(); s.Own != 1 || s.Suspects != 1 || s.Suspected[SilentNoAck] != 1 || s.PoolsEmptied != 1 {
		t.Errorf("got %+v, want one suspect that has not acknowledged", s)
	}
	w.skip("keep-alive")
}

// TestRuleKeepAlive: a pool can have its own interval, which counts at once when it gets
// shorter.
func TestRuleKeepAlive(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Rules = rule(PoolRule{KeepAliveInterval: time.Second}, "a") })
	w.up(1, rserpool.ViaKernel, "10.0.1.9")
	w.recv(1, reg("a", 1, "10.0.1.9"))
	w.recv(1, reg("b", 1, "10.0.1.9"))
	w.trace = nil
	sent := func(d time.Duration) (sent map[string]int) {
		sent = make(map[string]int)
		for end := w.now.Add(d); w.now.Before(end); {
			w.pass(50 * time.Millisecond)
			for _, line := range w.trace {
				pool, ok := strings.CutPrefix(line, "1 < keep-alive ")
				if !ok {
					t.Fatalf("got %q", line)
				}
				sent[pool[:1]]++
				w.trace = nil
				w.recv(1, ack(pool[:1], 1))
			}
		}
		return sent
	}
	if got := sent(100 * time.Second); got["a"] < 80 || got["a"] > 120 || got["b"] < 14 || got["b"] > 27 {
		t.Errorf("got keep-alives %v in 100 s, want about 100 in pool a and 20 in pool b", got)
	}
	w.handle(Rules{Of: rule(PoolRule{KeepAliveInterval: time.Hour}, "a", "b")})
	sent(10 * time.Second) // those that were due already
	if got := sent(25 * time.Minute); len(got) != 0 {
		t.Errorf("got keep-alives %v in 25 min, want none yet", got)
	}
	w.handle(Rules{Of: rule(PoolRule{KeepAliveInterval: time.Second}, "a")})
	if got := sent(8 * time.Second); got["a"] < 4 || got["b"] < 1 {
		t.Errorf("got keep-alives %v in 8 s after the interval is short again", got)
	}
}

// TestRuleKeepAliveAll: a shorter interval counts at once for elements that are no members, too: a
// suspect, and one for whose home this registrar stands in.
func TestRuleKeepAliveAll(t *testing.T) {
	hour, second := rule(PoolRule{KeepAliveInterval: time.Hour}, "a"), rule(PoolRule{KeepAliveInterval: time.Second}, "a")
	t.Run("suspect", func(t *testing.T) {
		w := newWorld(t, func(c *Config) { c.Rules = hour })
		w.up(1, rserpool.ViaKernel, "10.0.1.9")
		w.recv(1, reg("a", 1, "10.0.1.9"))
		w.recv(1, unreachable("a", 1))
		w.pass(5 * time.Second)
		w.wantSuspects("a:1")
		w.trace = nil
		w.handle(Rules{Of: second})
		w.until(maxSilentPause * 11 / 10)
		w.want("1 < keep-alive a:1 from 10000001")
		if d := w.r.intervals.count; len(d) != 1 || d[0].interval != time.Second {
			t.Errorf("intervals %v are counted, want that of a second", d)
		}
	})
	t.Run("unconfirmed", func(t *testing.T) {
		w := newPeerWorld(t)
		w.handle(Rules{Of: hour})
		w.standsInFor(peerElement(1, greater))
		w.up(7, rserpool.ViaKernel, "10.0.1.1:40000")
		w.recv(7, ack("a", 1))
		w.wantStandsIn(false)
		w.trace = nil
		w.handle(Rules{Of: second})
		w.until(2 * time.Second)
		w.want("7 < keep-alive a:1 from 10000001")
	})
}
