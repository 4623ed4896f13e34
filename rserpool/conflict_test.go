package rserpool

import "testing"

// TestConflict: a refusal names the element's value and the pool's, and says what
// to do.
func TestConflict(t *testing.T) {
	element := PoolKind{Random, TCP, DataOnly}
	policy, own := []byte{0, 8, 0, 8, 0, 0, 0, byte(RoundRobin)}, []byte{0, 8, 0, 8, 0, 0, 0, byte(Random)}
	for _, c := range []struct {
		name    string
		cause   Cause
		element PoolKind
		want    string
	}{
		{"policy", Cause{CauseInconsistentPolicy, policy}, element,
			"policy differs from the pool's: the element has Random, the pool has RoundRobin: start the element with policy RoundRobin (rsp: --policy RoundRobin), or give it another pool"},
		{"policy, not named", Cause{Code: CauseInconsistentPolicy}, element,
			"policy differs from the pool's: the element has Random: start the element with the pool's policy, or give it another pool"},
		{"policy, the element's is named", Cause{CauseInconsistentPolicy, own}, element,
			"policy differs from the pool's: the element has Random: start the element with the pool's policy, or give it another pool"},
		{"policy, cut", Cause{CauseInconsistentPolicy, policy[:7]}, element,
			"policy differs from the pool's: the element has Random: start the element with the pool's policy, or give it another pool"},
		{"transport", Cause{CauseInconsistentTransportType, []byte{0, byte(SCTP), 0, 4}}, element,
			"user transport differs from the pool's: the element has tcp, the pool has sctp: start the element with user transport sctp (rsp: --serve sctp:PORT), or give it another pool"},
		{"control", Cause{Code: CauseInconsistentDataControl}, PoolKind{Random, SCTP, DataOnly},
			"transport use (data, control) differs from the pool's: the element has data only, the pool has data plus control: start the element with a control channel, as rsp serve does, or give it another pool"},
		{"no control", Cause{Code: CauseInconsistentDataControl}, PoolKind{Random, SCTP, DataPlusControl},
			"transport use (data, control) differs from the pool's: the element has data plus control, the pool has data only: start the element with no control channel, as rsp register does, or give it another pool"},
		{"another cause", Cause{Code: CauseLackOfResources}, element, "lack of resources"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.cause.Conflict(c.element); got != c.want {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}
