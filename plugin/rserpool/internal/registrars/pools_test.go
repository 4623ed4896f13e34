package registrars

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	core "github.com/rserpool/coredns-rserpool/registrar"
	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// withPools has a registrar with these pool lines, the first of which its rules show as a
// policy.
func withPools(addr string, lines ...string) Options {
	o := at(addr)
	o.Pools.Lines = lines
	if len(lines) > 0 {
		o.Pools.Rules = func(rserpool.PoolHandle) core.PoolRule {
			return core.PoolRule{Policy: rserpool.PolicyType(len(lines[0]))}
		}
	}
	return o
}

// ruleOf is the length of the line that the latest rules are from; 0 for none, -1 if the
// registrar has got no rules since its start.
func ruleOf(r *fakeRegistrar) int {
	if len(r.rules) == 0 {
		return -1
	}
	if last := r.rules[len(r.rules)-1]; last != nil {
		return int(last("web").Policy)
	}
	return 0
}

// TestDisagree: blocks of one registrar have the same pool lines.
func TestDisagree(t *testing.T) {
	const a, b = "pool web policy Random", "pool * transport tcp"
	tests := []struct {
		name          string
		first, second Options
		want          string
	}{
		{"none", at(addr1), at(addr1), ""},
		{"the same", withPools(addr1, a, b), withPools(addr1, a, b), ""},
		{"another registrar", withPools(addr1, a), withPools(addr2, b), ""},
		{"one more", withPools(addr1, a), withPools(addr1, a, b), "Testfile:1 - another block of the same registrar says otherwise about its pools (here: " + b + ");"},
		{"one less", withPools(addr1, a, b), withPools(addr1, a), "(here: no " + b + ")"},
		{"order", withPools(addr1, a, b), withPools(addr1, b, a), "in another order"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, rs := newFakes()
			inst := rs.NewInstance()
			if err := inst.Add(aBlock(tt.first)); err != nil {
				t.Fatal(err)
			}
			err := inst.Add(aBlock(tt.second))
			if got := fmt.Sprint(err); (err != nil) != (tt.want != "") || !strings.Contains(got, tt.want) {
				t.Errorf("got error %v, want %q", err, tt.want)
			}
		})
	}
}

// TestReloadRules: a reload changes the rules of the running registrar, once, when the former instance
// has ended. A reload that fails changes nothing. A registrar that a reload starts has its rules from
// the start.
func TestReloadRules(t *testing.T) {
	f, rs := newFakes()
	inst := startInstance(t, rs, withPools(addr1, "1"), withPools(addr1, "1"))
	r := f.only(t, addr1)
	if ruleOf(r) != -1 {
		t.Error("the registrar gets rules after it was started with them")
	}
	for i, lines := range [][]string{{"1"}, {"22"}, {"22"}, nil, {"333"}} {
		inst.Restart()
		next := startInstance(t, rs, withPools(addr1, lines...), withPools(addr1, lines...))
		inst.Shutdown()
		inst = next
		if want, got := []int{-1, 2, 2, 0, 3}[i], ruleOf(r); got != want {
			t.Errorf("reload %d: got the rule of a line of length %d, want %d", i, got, want)
		}
	}
	if len(r.rules) != 3 {
		t.Errorf("got rules %d times, want 3", len(r.rules))
	}

	inst.Restart()
	startInstance(t, rs, withPools(addr1, "4444"), withPools(addr2, "4444"))
	other := f.only(t, addr2)
	if other.startRules == nil || other.startRules("web").Policy != 4 || len(other.rules) != 0 {
		t.Error("a registrar that the reload has started was not started with its rules")
	}
	inst.RestartFailed(never)
	if len(r.rules) != 3 {
		t.Errorf("a reload that has failed has changed the rules to those of a line of length %d", ruleOf(r))
	}

	inst.Restart()
	next := startInstance(t, rs, withPools(addr1, "55555"))
	if got := ruleOf(r); got != 3 {
		t.Errorf("before the former instance has ended: got the rule of a line of length %d, want 3", got)
	}
	inst.RestartFailed(func(l *Lease) bool { return next.Holds(l) }) // it serves; only a callback of the old one failed
	if got := ruleOf(r); got != 5 {
		t.Errorf("after a reload that went on: got the rule of a line of length %d, want 5", got)
	}
	f.only(t, addr1)
}

// TestPoolMetrics: the metrics by pool are those of the pools that there are now, and of
// declared ones, and no more than 1000.
func TestPoolMetrics(t *testing.T) {
	f, rs := newFakes()
	f.next = func(r *fakeRegistrar) { r.space = handlespace.New(rand.New(rand.NewPCG(1, 2))) }
	o := withPools(addr1, "pool * metrics")
	o.Pools.Declared = []rserpool.PoolHandle{"web", "zzz"}
	o.Pools.Listed = func(h rserpool.PoolHandle) string {
		if h == "hidden" {
			return ""
		}
		return "name of " + string(h)
	}
	inst := startInstance(t, rs, o, o) // two blocks, one registrar
	space := f.only(t, addr1).space
	put := func(h string, id rserpool.PEID) {
		t.Helper()
		e := &handlespace.Element{PoolElement: rserpool.PoolElement{ID: id, Policy: rserpool.Policy{Type: rserpool.RoundRobin}, UserTransport: rserpool.Transport{Type: rserpool.TCP, Port: 1}}}
		if _, err := space.Put(rserpool.PoolHandle(h), e); err != nil {
			t.Fatal(err)
		}
	}
	gather := func() (values map[string]string, series int) {
		t.Helper()
		reg := prometheus.NewPedanticRegistry()
		reg.MustRegister(Collector{Set: rs})
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		values = make(map[string]string)
		for _, family := range families {
			name := strings.TrimPrefix(family.GetName(), "coredns_rserpool_")
			for _, m := range family.GetMetric() {
				if v := m.GetGauge().GetValue() + m.GetCounter().GetValue(); strings.HasPrefix(name, "pool_") {
					values[m.GetLabel()[0].GetValue()] += fmt.Sprintf("%s %v;", name, v)
					series++
				} else if name == "pools_unlisted" {
					values["unlisted"] = fmt.Sprint(v)
				}
			}
		}
		return values, series
	}
	want := func(what string, want map[string]string) {
		t.Helper()
		if got, _ := gather(); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: got\n%v\nwant\n%v", what, got, want)
		}
	}
	const zero = "pool_elements 0;pool_selections_total 0;"
	put("hidden", 1)
	want("declared", map[string]string{"name of web": zero, "name of zzz": zero, "unlisted": "0"})
	put("WEB", 1)
	put("a", 1)
	put("a", 2)
	space.Pool("a").Select(nil, 2, 0)
	want("present", map[string]string{"name of WEB": "pool_elements 1;pool_selections_total 0;", "name of a": "pool_elements 2;pool_selections_total 1;", "name of zzz": zero, "unlisted": "0"})
	space.Remove("a", 1)
	space.Remove("a", 2)
	space.Remove("WEB", 1)
	want("gone", map[string]string{"name of web": zero, "name of zzz": zero, "unlisted": "0"})

	for i := range 1500 {
		put(fmt.Sprintf("many%04d", i), 1)
	}
	got, series := gather()
	if got["unlisted"] != "502" || series != 2000 || got["name of zzz"] == "" || got["name of many0997"] == "" || got["name of many0998"] != "" {
		t.Errorf("1500 pools and two declared ones: got %d series, %s pools left out, of the declared one %q, of the last two %q, %q",
			series, got["unlisted"], got["name of zzz"], got["name of many0997"], got["name of many0998"])
	}
	inst.Restart()
	startInstance(t, rs, at(addr1))
	inst.Shutdown()
	want("no longer", map[string]string{})
}
