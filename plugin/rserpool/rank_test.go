package rserpool

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	rsp "github.com/rserpool/coredns-rserpool/rserpool"
)

// services asks for the SRV records of a pool and returns them as "element:
// priority weight", in the answer's order.
func services(t *testing.T, h *Handler, pool string) []string {
	t.Helper()
	var got []string
	for _, rr := range ask(t, h, pool+"."+zoneZ, dns.TypeSRV).Answer {
		s := rr.(*dns.SRV)
		got = append(got, fmt.Sprintf("%s: %d %d", strings.TrimLeft(s.Target[3:11], "0"), s.Priority, s.Weight))
	}
	return got
}

func TestSRVByPolicy(t *testing.T) {
	const full = 0xffffffff
	type policies []rsp.Policy
	tests := []struct {
		name     string
		policies policies // of elements 1, 2, ...
		want     []string // nil entries of a random order are sorted
		random   bool
	}{
		{"RoundRobin", policies{{Type: rsp.RoundRobin}, {Type: rsp.RoundRobin}}, []string{"1: 0 1", "2: 0 1"}, false},
		{"Random", policies{{Type: rsp.Random}, {Type: rsp.Random}}, []string{"1: 0 1", "2: 0 1"}, true},
		{"WeightedRoundRobin", policies{{Type: rsp.WeightedRoundRobin, Weight: 3}, {Type: rsp.WeightedRoundRobin, Weight: 1}, {Type: rsp.WeightedRoundRobin}}, []string{"1: 0 65535", "2: 0 21845"}, false},
		{"WeightedRandom", policies{{Type: rsp.WeightedRandom, Weight: 65535}, {Type: rsp.WeightedRandom, Weight: 1}, {Type: rsp.WeightedRandom}}, []string{"1: 0 65535", "2: 0 1"}, true},
		{"WeightedRandom, large weights", policies{{Type: rsp.WeightedRandom, Weight: full}, {Type: rsp.WeightedRandom, Weight: full / 3}, {Type: rsp.WeightedRandom, Weight: 1}}, []string{"1: 0 65535", "2: 0 21845", "3: 0 1"}, true},
		{"WeightedRandomDPF", policies{{Type: rsp.WeightedRandomDPF, Weight: 100, DPF: full / 100, Distance: 50}, {Type: rsp.WeightedRandomDPF, Weight: 100}}, []string{"1: 0 32768", "2: 0 65535"}, true},
		{"Priority", policies{{Type: rsp.Priority, Priority: 5}, {Type: rsp.Priority, Priority: 9}, {Type: rsp.Priority, Priority: 5}}, []string{"2: 0 1", "1: 1 1", "3: 1 1"}, false},
		{"LeastUsed", policies{{Type: rsp.LeastUsed, Load: full / 2}, {Type: rsp.LeastUsed}, {Type: rsp.LeastUsed, Load: full}}, []string{"2: 0 65535", "1: 0 32768", "3: 0 1"}, false},
		{"LeastUsed, ties", policies{{Type: rsp.LeastUsed, Load: 7}, {Type: rsp.LeastUsed, Load: 7}}, []string{"1: 0 65535", "2: 0 65535"}, false},
		{"LeastUsed, saturated", policies{{Type: rsp.LeastUsed, Load: full}, {Type: rsp.LeastUsed, Load: full}}, []string{"1: 0 1", "2: 0 1"}, false},
		{"LeastUsedDPF", policies{{Type: rsp.LeastUsedDPF, DPF: full / 4, Distance: 2}, {Type: rsp.LeastUsedDPF, DPF: full / 4, Distance: 1}}, []string{"2: 0 65535", "1: 0 43690"}, false},
		{"LeastUsedDegradation", policies{{Type: rsp.LeastUsedDegradation, Load: full / 2, LoadDegradation: 1}, {Type: rsp.LeastUsedDegradation, Load: full / 4, LoadDegradation: 5}}, []string{"2: 0 65535", "1: 0 43690"}, false},
		{"PriorityLeastUsed", policies{{Type: rsp.PriorityLeastUsed, Load: full / 2, LoadDegradation: full / 4}, {Type: rsp.PriorityLeastUsed, Load: full / 2}}, []string{"2: 0 65535", "1: 0 32768"}, false},
		{"RandomizedLeastUsed", policies{{Type: rsp.RandomizedLeastUsed, Load: 0}, {Type: rsp.RandomizedLeastUsed, Load: full / 2}, {Type: rsp.RandomizedLeastUsed, Load: full}}, []string{"1: 0 65535", "2: 0 32768"}, true},
		{"RandomizedLeastUsed, saturated", policies{{Type: rsp.RandomizedLeastUsed, Load: full}, {Type: rsp.RandomizedLeastUsed, Load: full}}, []string{"1: 0 1", "2: 0 1"}, true},
		{"PriorityLeastUsedDegradation", policies{{Type: rsp.PriorityLeastUsedDegradation, Load: full / 2}, {Type: rsp.PriorityLeastUsedDegradation}}, []string{"2: 0 65535", "1: 0 32768"}, false},
		{"unknown", policies{{Type: 0xb0009999, Extra: "abcd"}, {Type: 0xb0009999, Extra: "efgh"}}, []string{"1: 0 1", "2: 0 1"}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFake()
			for i, p := range tt.policies {
				put(t, f.space, "web", element(rsp.PEID(i+1), 80, "192.0.2.1", policy(p)))
			}
			h := newTestHandler(t, "rserpool pool.example.org", f)
			got := services(t, h, "web")
			if tt.random {
				got = sorted(got)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("element: priority weight (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSRVByRank(t *testing.T) {
	f := newFake()
	for id := rsp.PEID(1); id <= 4; id++ {
		put(t, f.space, "web", element(id, 80, "192.0.2.1", policy(rsp.Policy{Type: rsp.Priority, Priority: 7})))
	}
	h := newTestHandler(t, "rserpool pool.example.org {\n srv rank\n}", f)
	// Equal priorities take turns: the first selected goes to the end.
	for i, want := range [][]string{{"1: 0 0", "2: 1 0", "3: 2 0", "4: 3 0"}, {"2: 0 0", "3: 1 0", "4: 2 0", "1: 3 0"}} {
		if diff := cmp.Diff(want, services(t, h, "web")); diff != "" {
			t.Errorf("query %d, element: priority weight (-want +got):\n%s", i, diff)
		}
	}
}

// TestSRVOfCountedLoads: what selections have added to all loads does not count, however
// much it is.
func TestSRVOfCountedLoads(t *testing.T) {
	const full = 0xffffffff
	f := newFake()
	for id := rsp.PEID(1); id <= 2; id++ {
		put(t, f.space, "web", element(id, 80, "192.0.2.1", policy(rsp.Policy{Type: rsp.LeastUsedDegradation, Load: full / 4, LoadDegradation: full / 8})))
	}
	h := newTestHandler(t, "rserpool pool.example.org", f)
	for i := range 101 {
		want := []string{"1: 0 65535", "2: 0 65535"}
		if i%2 == 1 { // one selection more of one of them
			want = []string{"1: 0 54613", "2: 0 65535"}
		}
		if diff := cmp.Diff(want, sorted(services(t, h, "web"))); diff != "" {
			t.Fatalf("query %d, element: priority weight (-want +got):\n%s", i, diff)
		}
	}
}

// TestSRVFirst: the first record is what the policy picks, in both modes.
func TestSRVFirst(t *testing.T) {
	for _, mode := range []string{"policy", "rank"} {
		t.Run(mode, func(t *testing.T) {
			f := newFake()
			put(t, f.space, "web",
				element(1, 80, "192.0.2.1", policy(rsp.Policy{Type: rsp.WeightedRandom, Weight: 1})),
				element(2, 80, "192.0.2.2", policy(rsp.Policy{Type: rsp.WeightedRandom, Weight: 3})))
			h := newTestHandler(t, "rserpool pool.example.org {\n srv "+mode+"\n}", f)
			const n = 4000
			first := 0
			for range n {
				if strings.HasPrefix(services(t, h, "web")[0], "2:") {
					first++
				}
			}
			// Mean 3000, standard deviation 27.
			if first < 2860 || first > 3140 {
				t.Errorf("element with weight 3 of 4 is first %d times in %d, want about %d", first, n, n*3/4)
			}
		})
	}
}
