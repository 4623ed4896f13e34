package hunt

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// maxAttempts is how many associations a hunt may have at the same time (RFC
// 5352, Section 3.6, SH1).
const maxAttempts = 3

// Config configures a Hunt. Zero durations stand for the defaults.
type Config struct {
	// Registrars are the configured ones, with their ports, preferred ones first.
	Registrars []rserpool.Registrar
	// TCP says that registrars announced with TCP can be used.
	TCP bool
	// ServerHunt is T5-Serverhunt; default 10 s.
	ServerHunt time.Duration
	// RetranMax is RETRAN-MAX, the most that waiting may grow to; default 60 s.
	RetranMax time.Duration
	// Outdate is T7-ENRPoutdate, how long an announce holds; default 5 s.
	Outdate time.Duration
	// headStart is the time between the attempts with two registrars; the first
	// registrar that answers is used. Default 300 ms.
	headStart time.Duration
	// retry is the pause after the first round in which every registrar
	// failed at once. It doubles up to RetranMax. Default 500 ms.
	retry time.Duration
	// Rand varies the pauses, so that endpoints do not come in step.
	Rand *rand.Rand
}

func (c *Config) fillDefaults() {
	fill := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	fill(&c.ServerHunt, 10*time.Second)
	fill(&c.RetranMax, 60*time.Second)
	fill(&c.Outdate, 5*time.Second)
	fill(&c.headStart, 300*time.Millisecond)
	fill(&c.retry, 500*time.Millisecond)
}

// Hunt is the server hunt of RFC 5352, Section 3.6 (SH1 to SH6): it tries the
// known registrars, at most three at a time, until an association comes up.
//
// The registrars are tried in their order, each with a short head start, and
// the next one at once when one fails. Where T5-Serverhunt expires, the
// attempts end, and the round begins anew; see lone for the only registrar, and share.go for
// more than three. Where
// all have failed, the round begins anew after a pause that grows. One that has
// failed at once is tried again after such a pause, too, while others do not answer:
// see again.go.
type Hunt struct {
	cfg     Config
	known   known
	on      bool
	avoid   rserpool.Registrar   // tried last: it has just failed
	prefer  rserpool.Registrar   // tried first
	queue   []rserpool.Registrar // not yet tried in this round
	trying  []attempt
	report  []rserpool.Attempt // of this round, or the last one
	rounds  int
	counted bool // this round is among them already
	ref     uint64
	headEnd time.Time     // the next in the queue may be tried as well
	set     time.Time     // the beginning of the present share
	t5End   time.Time     // of the share; zero: not running
	end     time.Time     // of T5-Serverhunt since the round began
	cut     bool          // attempts of this round have ended at T5-Serverhunt or a share
	t5      time.Duration // T5-Serverhunt's present value
	resume  time.Time     // the end of a pause; zero: none
	pause   time.Duration
	again   again
	first   rserpool.Registrar // of those that are announced, to try in the next round
	hurry   hurry
	idle    int // associations in a row that came up and were of no use
	news    int // counts what has become known of registrars
	out     []Action
}

type attempt struct {
	ref    uint64
	assoc  sctp.AssocID
	to     rserpool.Registrar
	report int // index
	lookup bool
	set    time.Time // Hunt.set when it began
}

// New makes a Hunt that has not begun.
func New(cfg Config) *Hunt {
	cfg.fillDefaults()
	return &Hunt{cfg: cfg, known: known{configured: cfg.Registrars}, t5: cfg.ServerHunt}
}

// Hunting reports whether a hunt is on.
func (h *Hunt) Hunting() bool { return h.on }

// Rounds counts the rounds since Begin in which no registrar was reached.
func (h *Hunt) Rounds() int { return h.rounds }

// Report is the result for each registrar tried in this round, or in the last one while
// the hunt pauses. It shares no memory with the hunt.
func (h *Hunt) Report() []rserpool.Attempt {
	list := slices.Clone(h.report)
	for i := range list {
		list[i].Registrar = list[i].Registrar.Clone()
	}
	return list
}

// Alternatives reports whether a registrar other than r is known, or another address of its name.
func (h *Hunt) Alternatives(now time.Time, r rserpool.Registrar) bool {
	return slices.ContainsFunc(h.Known(now), alternativeTo(r))
}

// OtherHosts is Alternatives without the other address of r's host: a name with one address of IPv4
// and one of IPv6 is taken for that of one host.
func (h *Hunt) OtherHosts(now time.Time, r rserpool.Registrar) bool {
	all := h.Known(now)
	var v4, v6 int
	for _, o := range all {
		switch {
		case named(o) || !sameName(o, r):
		case o.Addrs[0].Is4():
			v4++
		default:
			v6++
		}
	}
	if v4 == 1 && v6 == 1 {
		all = slices.DeleteFunc(all, sameAs(r))
	}
	return slices.ContainsFunc(all, alternativeTo(r))
}

// Begin starts hunting. The registrar that has just failed, if any, is tried last; why
// goes to the report. Begin changes nothing while a hunt is on.
func (h *Hunt) Begin(now time.Time, failed rserpool.Registrar, why error) {
	if h.on {
		return
	}
	h.on, h.avoid, h.prefer, h.rounds, h.counted = true, failed, rserpool.Registrar{}, 0, false
	if h.idle > 0 && h.idle >= len(h.Known(now)) {
		// All of them accept associations and do not serve: pause.
		h.report = []rserpool.Attempt{{Registrar: failed, Since: now, Err: why}}
		h.exhausted(now, true)
		return
	}
	h.round(now)
}

// Settled says that the registrar that was found serves, so that a later hunt begins
// without a pause.
func (h *Hunt) Settled() { h.idle, h.pause = 0, 0 }

// Stop ends the hunt and its attempts.
func (h *Hunt) Stop() {
	h.on = false
	h.abandon(nil)
	h.t5End, h.resume, h.queue, h.again, h.cut = time.Time{}, time.Time{}, nil, again{}, false
}

// Take gives the actions gathered since the last call.
func (h *Hunt) Take() []Action {
	out := h.out
	h.out = nil
	return out
}

// candidates are the registrars to try, in their order.
func (h *Hunt) candidates(now time.Time) []rserpool.Registrar {
	all := h.turn(h.known.list(now))
	if !h.cfg.TCP {
		all = slices.DeleteFunc(all, func(r rserpool.Registrar) bool { return r.TCP })
	}
	if i := slices.IndexFunc(all, h.avoid.Equal); i >= 0 {
		// Those after the failed one come first, as in a ring.
		all = slices.Concat(all[i+1:], all[:i+1])
	} else if i := slices.IndexFunc(all, sameAs(h.avoid)); i >= 0 {
		// Its other addresses come first: see Found.
		all = slices.Concat(all[i:], all[:i])
	}
	return h.preferred(all)
}

// round begins a round (SH1, SH2).
func (h *Hunt) round(now time.Time) {
	h.resume, h.again, h.counted, h.cut = time.Time{}, again{}, false, false
	h.queue, h.report = h.candidates(now), nil
	h.end = now.Add(h.t5)
	h.t5End = h.end
	h.tryNext(now)
}

// tryNext connects to the next registrar of the queue, if one may be tried.
func (h *Hunt) tryNext(now time.Time) {
	n := h.next()
	if n < 0 {
		return
	}
	to := h.queue[n]
	h.queue = slices.Delete(h.queue, n, n+1)
	first := len(h.trying) == 0
	if first {
		h.set = now
	}
	h.ref++
	h.trying = append(h.trying, attempt{ref: h.ref, to: to, report: h.entry(now, to), lookup: named(to), set: h.set})
	if first {
		h.t5End = now.Add(h.share())
	}
	h.headEnd = now.Add(h.cfg.headStart)
	if named(to) {
		h.out = append(h.out, Lookup{Ref: h.ref, Of: to})
		return
	}
	h.out = append(h.out, Connect{Ref: h.ref, To: to})
}

// abandon closes all attempts. At T5-Serverhunt, silent gives what goes to the report.
func (h *Hunt) abandon(silent func(attempt) error) {
	for len(h.trying) > 0 {
		h.giveUp(0, silent)
	}
}

// giveUp closes an attempt.
func (h *Hunt) giveUp(i int, silent func(attempt) error) {
	a := h.trying[i]
	h.trying = slices.Delete(h.trying, i, i+1)
	if a.assoc != 0 {
		h.out = append(h.out, Close{Assoc: a.assoc, Abort: true})
	}
	if silent != nil {
		h.report[a.report].Err = a.failure(silent(a))
	}
}

// failure says of which step of an attempt why is the failure.
func (a *attempt) failure(why error) error {
	if a.lookup {
		return fmt.Errorf("cannot look up its name: %w", why)
	}
	return why
}

var errConnect = errors.New("no association could be started")

// Connecting handles the result of a Connect: the name of the association, or 0 if there
// is none, with the reason in err.
func (h *Hunt) Connecting(now time.Time, ref uint64, assoc sctp.AssocID, err error) {
	i := slices.IndexFunc(h.trying, func(a attempt) bool { return a.ref == ref })
	switch {
	case i < 0 && assoc != 0: // given up meanwhile
		h.out = append(h.out, Close{Assoc: assoc, Abort: true})
	case i >= 0 && assoc == 0:
		h.failed(now, i, cmp.Or(err, errConnect))
	case i >= 0:
		h.trying[i].assoc = assoc
	}
}

// Up handles a new association. If it is one of the hunt, the hunt is over (SH3, SH6) and
// all other attempts end.
func (h *Hunt) Up(assoc sctp.AssocID) (rserpool.Registrar, bool) {
	i := slices.IndexFunc(h.trying, func(a attempt) bool { return a.assoc == assoc })
	if i < 0 || assoc == 0 {
		return rserpool.Registrar{}, false
	}
	to := h.trying[i].to
	h.trying = slices.Delete(h.trying, i, i+1)
	h.Stop()
	h.t5 = h.cfg.ServerHunt
	h.idle++
	return to, true
}

// Down handles the end of an association. It reports whether that was one of the hunt;
// then the next registrar is tried (SH4).
func (h *Hunt) Down(now time.Time, assoc sctp.AssocID, err error) bool {
	i := slices.IndexFunc(h.trying, func(a attempt) bool { return a.assoc == assoc })
	if i < 0 || assoc == 0 {
		return false
	}
	if err == nil {
		err = errors.New("no association came up")
	}
	h.failed(now, i, err)
	return true
}

func (h *Hunt) failed(now time.Time, i int, err error) {
	h.report[h.trying[i].report].Err = err
	h.trying = slices.Delete(h.trying, i, i+1)
	h.tryNext(now)
	if len(h.trying) == 0 && len(h.report) > 0 {
		h.exhausted(now, true)
		return
	}
	h.planAgain(now)
}

// count counts the present round as one without success, once.
func (h *Hunt) count() {
	if !h.counted {
		h.counted = true
		h.rounds++
	}
}

// exhausted ends a round without success. T5-Serverhunt doubles if it has ended attempts.
func (h *Hunt) exhausted(now time.Time, wait bool) {
	h.count()
	h.t5End, h.again = time.Time{}, again{}
	if h.cut {
		h.cut = false
		h.longerT5()
	}
	if !wait {
		h.resume = now
		return
	}
	h.pause = h.longer(now, h.pause)
	h.resume = now.Add(h.vary(h.pause))
}

// Pause is the rest of the pause before the next round, 0 if there is none.
func (h *Hunt) Pause(now time.Time) time.Duration {
	if h.resume.IsZero() {
		return 0
	}
	return h.resume.Sub(now)
}

// hurry bounds the pauses for a while.
type hurry struct {
	until time.Time
	most  time.Duration
}

// Hurry keeps the pauses short for a while, because a registrar that was in use is expected
// back soon. most is the longest pause.
func (h *Hunt) Hurry(now time.Time, most, while time.Duration) {
	h.hurry = hurry{now.Add(while), most}
}

// longer returns the pause that follows a pause: it is twice as long, up to a limit.
func (h *Hunt) longer(now time.Time, pause time.Duration) time.Duration {
	most := h.cfg.RetranMax
	if now.Before(h.hurry.until) {
		most = min(most, h.hurry.most)
	}
	return min(max(2*pause, h.cfg.retry), most)
}

// vary varies a pause by 25 %, and the first one by 50 %: the endpoints of a registrar that
// has died lose it in the same moment.
func (h *Hunt) vary(p time.Duration) time.Duration {
	by := 0.25
	if p <= h.cfg.retry {
		by = 0.5
	}
	if h.cfg.Rand != nil {
		p = time.Duration(float64(p) * (1 - by + 2*by*h.cfg.Rand.Float64()))
	}
	return p
}

// Tick does what is due.
func (h *Hunt) Tick(now time.Time) {
	if !h.on {
		return
	}
	if !h.resume.IsZero() && !now.Before(h.resume) {
		h.round(now)
		return
	}
	if !h.t5End.IsZero() && !now.Before(h.t5End) { // SH5
		h.expire(now)
		return
	}
	h.tryAgain(now)
	if !now.Before(h.headEnd) {
		h.tryNext(now)
	}
}

// lone reports whether an association is being opened with the only registrar that is known.
// Then SH5 gains nothing: it would end an attempt, which has its own limit, for the same one
// from the beginning. A registrar that has just started may need more time for thousands of
// them. The round counts as one without success all the same.
func (h *Hunt) lone() bool {
	return len(h.trying) == 1 && h.trying[0].assoc != 0 && len(h.queue) == 0 && len(h.report) == 1
}

// NextDeadline is when Tick has something to do.
func (h *Hunt) NextDeadline() (time.Time, bool) {
	if !h.on {
		return time.Time{}, false
	}
	if !h.resume.IsZero() {
		return h.resume, true
	}
	d := h.t5End
	if h.next() >= 0 && h.headEnd.Before(d) {
		d = h.headEnd
	}
	if at := h.again.at; !at.IsZero() && at.Before(d) {
		d = at
	}
	return d, true
}

// Announced handles a datagram of the announce group. A new registrar joins the hunt that
// is on. A datagram that is not an announce is an error, only for debugging: anyone can
// send to the group.
func (h *Hunt) Announced(now time.Time, from netip.AddrPort, data []byte) error {
	m, _, err := asap.Parse(data)
	if err != nil {
		return err
	}
	a, ok := m.(*asap.ServerAnnounce)
	if !ok {
		return fmt.Errorf("message of type %#x in the announce group", uint8(m.Type()))
	}
	if h.known.announce(now, h.cfg.Outdate, from, a) {
		h.news++
		if h.on {
			h.join(now)
		}
	}
	return nil
}

// join adds new registrars to the present round.
func (h *Hunt) join(now time.Time) {
	if !h.resume.IsZero() {
		h.round(now)
		return
	}
	for _, r := range h.candidates(now) {
		same := func(o rserpool.Registrar) bool { return o.Equal(r) || named(r) && sameName(o, r) }
		tried := slices.ContainsFunc(h.report, func(a rserpool.Attempt) bool { return same(a.Registrar) })
		if !tried && !slices.ContainsFunc(h.queue, same) && len(h.report)+len(h.queue) < len(h.cfg.Registrars)+maxHostAddrs+maxAnnounced {
			h.queue = append(h.queue, r)
		}
	}
	if len(h.trying) == 0 {
		h.tryNext(now)
	}
}
