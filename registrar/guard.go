package registrar

import (
	"fmt"
	"time"

	"github.com/rserpool/coredns-rserpool/registrar/internal/ledger"
)

// guard is the registrar's own: if many elements are silent at the same time, the cause is
// rather its own network, and no element becomes a suspect.
//
// An association, or a probe, is a line to one or more elements. Lines are counted rather than
// elements: a process that hangs is one observation, however many elements it has. A line is
// missing from the first try that is not answered until it is heard or judged. When an element
// of the line is to be judged, the others tell which side fails. Those that were heard since
// the element was asked speak for the registrar's side, those that are missing against it. If
// more than half are missing, the guard begins: the element is spared. If there is too little
// news of others, some are asked first: see wonder.
//
// One host with many lines must not be able to begin the guard by its silence. So the sites of
// the lines are counted as well: the guard begins only if the sites with a missing line are at
// least as many as those that were heard.
//
// An element from which this registrar has never heard is not counted: see hearFirst.
//
// With fewer than minLines lines there is no guard. The guards of the pools remain, so that
// none is emptied.
//
// The guard ends
//
//   - when half of all lines are heard again, or lines of most sites, if they are many;
//   - when none is silent any more: each has answered, or there was evidence;
//   - after guardPatience, when a quarter of the lines is heard all along. Then the
//     registrar's side works at least for a part, and the true state of the others has been
//     hidden long enough. The pools' guards still keep answers from elements that are few:
//     see PoolRule.Guard;
//   - after GuardLife in any case.
//
// An element that is still silent then is asked once more, and judged.
type guard struct {
	on           bool
	blind        bool   // it has begun for silence, and not for elements of the stored state
	side         string // of this registrar that is taken for the cause
	since, ended time.Time
	timer        timer // for guardPatience, then GuardLife

	epoch time.Time
	tick  tick // now
	began tick
	// lines are those with members, by state; heard are those of them that were heard since
	// the guard began, and are not silent.
	lines lineCounts
	heard int
	// words are the lines by the tick in which they were heard last.
	words  words
	sites  sites
	spares int // elements that are spared
	asks   bucket
	cursor *ledger.Cursor[note] // the next one to be asked by wonder
}

const (
	// minLines is how many lines the guard needs at least.
	minLines = 10
	// sample is how many lines are enough to tell whether most are silent.
	sample = 32
	// maxWonder bounds the keep-alives a second that wonder sends, as KeepAliveRate does, and
	// wonderLook how many elements it looks at.
	maxWonder  = 256
	wonderLook = 2048
	// guardPatience is how long the guard is on at least, if the registrar hears some lines
	// but not most.
	guardPatience = time.Minute
)

// tick numbers parts of KeepAliveTimeout from the registrar's start. Number 0 is never.
type tick int64

const (
	ticksPerTimeout = 16
	tickWindow      = maxUnsent * ticksPerTimeout
)

// line is what leads to own elements: an association or a probe.
type line struct {
	members  int // elements that are no suspects, and were heard before
	state    lineState
	untimely bool  // the certificate at its end is not valid at this time
	site     *site // nil without members
	heard    tick  // when a message has come last
	asked    tick  // when a keep-alive was sent last
}

type lineState uint8

const (
	// lineFine: nothing is missing.
	lineFine lineState = iota
	// lineMissing: a keep-alive is unanswered, or the association has ended in silence.
	lineMissing
	// lineSpared: so it is still after the time for that, and the guard is on.
	lineSpared
	lineStates
)

// lineCounts are numbers of lines by their states.
type lineCounts [lineStates]int

func (c *lineCounts) all() (n int) {
	for _, k := range c {
		n += k
	}
	return n
}

// words are how many were heard last in each tick of the window.
type words [tickWindow]int

// since returns how many of them were heard after a tick.
func (w *words) since(t, now tick) (n int) {
	for t = max(t, now-tickWindow) + 1; t <= now; t++ {
		n += w[t%tickWindow]
	}
	return n
}

// line returns the element's line; nil if it has none yet.
func (e *element) line() *line {
	switch {
	case e.assoc != nil:
		return &e.assoc.line
	case e.probe != nil:
		return &e.probe.line
	}
	return nil
}

// tickNow returns the present tick. It forgets what was heard before the window.
func (r *Registrar) tickNow() tick {
	g := &r.guard
	if g.tick == 0 {
		g.epoch, g.tick = r.now, tickWindow
	}
	now := tickWindow + tick(r.now.Sub(g.epoch)*ticksPerTimeout/r.cfg.Timers.KeepAliveTimeout)
	if now-g.tick >= tickWindow {
		clear(g.words[:])
		clear(g.sites.words[:])
	} else {
		for t := g.tick + 1; t <= now; t++ {
			g.words[t%tickWindow], g.sites.words[t%tickWindow] = 0, 0
		}
	}
	g.tick = now
	return now
}

// tickOf returns the tick of an earlier time, whenever it is asked for the same one.
func (r *Registrar) tickOf(at time.Time) tick {
	r.tickNow()
	if at.Before(r.guard.epoch) {
		return 0
	}
	return tickWindow + tick(at.Sub(r.guard.epoch)*ticksPerTimeout/r.cfg.Timers.KeepAliveTimeout)
}

// count adds a line to what is counted, or takes it out. It is done for each change of a
// line, before and after.
func (g *guard) count(l *line, n int) {
	if l.members == 0 {
		return
	}
	g.lines[l.state] += n
	if g.tick-l.heard < tickWindow {
		g.words[l.heard%tickWindow] += n
	}
	if l.state == lineFine && l.heard > g.began {
		g.heard += n
	}
	g.countAtSite(l, n)
}

// joinLine counts an element with its line, unless it is a suspect or mute.
func (r *Registrar) joinLine(e *element) {
	r.listSilent(e)
	r.lineHas(e, 1)
}

// leaveLine takes it out.
func (r *Registrar) leaveLine(e *element) { r.lineHas(e, -1) }

func (r *Registrar) lineHas(e *element, n int) {
	l := e.line()
	if l == nil || e.isSuspect() || e.mute {
		return
	}
	r.tickNow()
	r.guard.count(l, -1)
	if l.members == 0 {
		l.site = r.guard.siteOf(e)
	}
	l.members += n
	if l.members == 0 {
		r.guard.leaveSite(l.site)
		l.state, l.site = lineFine, nil
	}
	r.guard.count(l, 1)
}

// hearFirst counts an element with its line from its first word on. Before that, its silence says
// nothing about this registrar's network: the element may never have been there, or acknowledge
// keep-alives of its home only, as those of the reference implementation do.
func (r *Registrar) hearFirst(e *element) {
	if e.mute {
		e.mute = false
		r.lineHas(e, 1)
	}
}

// setLine sets the state of a line.
func (r *Registrar) setLine(l *line, s lineState) {
	if l.state != s && l.members > 0 {
		r.tickNow()
		r.guard.count(l, -1)
		l.state = s
		r.guard.count(l, 1)
	}
}

// lineHeard: a message has come from a line.
func (r *Registrar) lineHeard(l *line) {
	now := r.tickNow()
	if l.heard == now && l.state == lineFine {
		return
	}
	r.guard.count(l, -1)
	l.heard, l.state = now, lineFine
	r.guard.count(l, 1)
}

// missedBy: an element has not acknowledged the first try of a keep-alive, or all of them.
func (r *Registrar) missedBy(e *element) {
	if l := e.line(); l.state == lineFine && l.heard <= r.tickOf(e.asked) {
		r.setLine(l, lineMissing)
	}
}

// judgement is what the silence of an element says.
type judgement uint8

const (
	judgedSilent judgement = iota // it is its own
	judgedBlind                   // this registrar's side is the cause
	judgedOpen                    // too little is known of others
)

// verdict judges the silence of an element since it was asked, or called.
func (r *Registrar) verdict(e *element) judgement {
	since := e.asked
	if e.probe != nil {
		since = e.probe.began
	}
	switch {
	case r.cfg.Rules.of(e.Handle()).Guard.Off:
		return judgedSilent
	case e.silence != nil && since.Before(r.guard.ended):
		return judgedBlind // it is asked once more; see spare
	}
	return r.judge(e.line(), since)
}

// judge judges the silence of a line since a time. It begins the guard.
func (r *Registrar) judge(l *line, since time.Time) judgement {
	g := &r.guard
	heard, lines := r.news(since)
	missing := g.lines[lineMissing]
	switch {
	case l.heard > r.tickOf(since): // it was heard since
		return judgedSilent
	case g.on:
		return judgedBlind
	case lines < minLines:
		return judgedSilent
	case heard+missing < min(lines, sample):
		return judgedOpen
	case missing <= heard || g.sites.missing < g.sites.words.since(r.tickOf(since), g.tick):
		return judgedSilent
	}
	r.beginGuard()
	g.blind, g.side = true, "network"
	text := ""
	if l.untimely {
		g.side = "clock"
		text = ", by which it is " + r.now.UTC().Format("2006-01-02 15:04:05 UTC") + " and certificates of elements have ended or are not yet valid"
	}
	r.stats.Guards++
	r.logf(true, "%d of %d associations with pool elements are silent: the cause is likely to be this registrar's own %s%s, so no element becomes a suspect, except in pools with guard off, until half of them are heard again", missing, lines, g.side, text)
	return judgedBlind
}

// news returns how many lines were heard since a time, and how many there are beside those
// that are spared.
func (r *Registrar) news(since time.Time) (heard, lines int) {
	g := &r.guard
	now := r.tickNow()
	return g.words.since(r.tickOf(since), now), g.lines[lineFine] + g.lines[lineMissing]
}

// wonder asks elements of other lines, of which there is no news since a time, if there is
// too little to judge a line that is missing. They would have been asked soon anyway.
func (r *Registrar) wonder(l *line, since time.Time) {
	g := &r.guard
	heard, lines := r.news(since)
	if g.on || lines < minLines || l.heard > r.tickOf(since) {
		return
	}
	want := min(lines, sample) - heard - g.lines[lineMissing]
	for range wonderLook {
		if want <= 0 {
			return
		}
		if e := r.nextToAsk(); e != nil && e.isQuiet(r.tickOf(since)) {
			if !g.asks.allow(r.now, r.wonderRate()) {
				return
			}
			r.ask(e, false)
			want--
		}
	}
}

// wonderRate is how many keep-alives wonder sends in a second. A whole sample may be asked at once,
// however low KeepAliveRate is: with less, nothing tells that this registrar's network fails.
func (r *Registrar) wonderRate() int {
	return max(sample/2, min(maxWonder, r.cfg.Timers.KeepAliveRate))
}

// nextToAsk returns the next own element, one after the other in turns; nil at the end of a
// turn.
func (r *Registrar) nextToAsk() *element {
	g := &r.guard
	if g.cursor == nil {
		g.cursor = r.ledger.Open(r.roster)
	}
	if x := g.cursor.Next(); x != nil {
		return x.Note.own
	}
	r.ledger.Close(g.cursor)
	g.cursor = nil
	return nil
}

// isQuiet reports whether nothing was heard of the element's line since a time, and nothing
// was asked.
func (e *element) isQuiet(since tick) bool {
	return e.assoc != nil && !e.mute && !e.waiting && e.silence == nil && e.assoc.line.state == lineFine &&
		e.assoc.line.heard <= since && e.assoc.line.asked <= since
}

// beginGuard begins the guard.
func (r *Registrar) beginGuard() {
	g := &r.guard
	g.on, g.since, g.began = true, r.now, r.tickNow()
	g.heard, g.sites.heard, g.blind = 0, 0, false
	r.timers.Arm(&g.timer, g, r.now.Add(min(guardPatience, r.cfg.Timers.GuardLife)))
}

// spareLine notes that a line is silent and the guard is on.
func (r *Registrar) spareLine(l *line) { r.setLine(l, lineSpared) }

// watchGuard ends the guard when it is not needed any more. It is called after each event.
func (r *Registrar) watchGuard() {
	g := &r.guard
	all := g.lines.all()
	switch {
	case !g.on:
	case g.lines[lineMissing]+g.lines[lineSpared] == 0:
		r.endGuard("none is silent any more")
	case 2*g.heard >= all:
		r.endGuard("half of the associations are heard again")
	case g.sites.mostHeard():
		r.endGuard("elements at most of the hosts are heard again")
	}
}

// Due ends the guard for its length.
func (g *guard) Due(r *Registrar, _ *timer) {
	all := g.lines.all()
	last := g.since.Add(r.cfg.Timers.GuardLife)
	switch {
	case !g.on:
	case !last.After(r.now):
		r.endGuard("it has lasted for GUARD-LIFE")
	case 4*g.heard >= all:
		r.endGuard("a quarter of the associations is heard all along")
	default:
		at := r.now.Add(guardPatience)
		if at.After(last) {
			at = last
		}
		r.timers.Arm(&g.timer, g, at)
	}
}

func (r *Registrar) endGuard(why string) {
	g := &r.guard
	g.on, g.ended = false, r.now
	r.timers.Stop(&g.timer)
	r.rallyAll(g.since)
	r.rallySpared()
	if !g.blind {
		r.logf(false, "the check of the stored elements has ended after %v: %s%s",
			r.now.Sub(g.since).Round(time.Millisecond), why, g.restText())
		return
	}
	r.logf(true, "this registrar's %s is no longer taken for the cause of silence after %v: %s%s",
		g.side, r.now.Sub(g.since).Round(time.Millisecond), why, g.restText())
}

// restText says how many elements are silent at the end of the guard, if there are any.
func (g *guard) restText() string {
	if g.spares == 0 {
		return ""
	}
	return fmt.Sprintf("; %s are still silent, and are asked once more", elementsText(g.spares))
}
