package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// style is how a line of the table looks: an SGR sequence of the terminal, or none.
type style string

const (
	plain  style = ""
	bold   style = "1"
	green  style = "1;32"
	red    style = "1;31"
	yellow style = "1;33"
	dimmed style = "2"
)

// tableLine is a line of the table, clipped when it is drawn.
type tableLine struct {
	text  string
	style style
}

// column is a column of the table.
type column struct {
	title string
	cell  func(p *watchedPool, e *watchedElement, now time.Time) string
}

// columns are the columns in their order. The first two say what has changed without
// colours.
var columns = []column{
	{"", func(_ *watchedPool, e *watchedElement, now time.Time) string { return e.mark(now) }},
	{"ID", func(_ *watchedPool, e *watchedElement, _ time.Time) string { return e.ID.String() }},
	{"HOME", func(_ *watchedPool, e *watchedElement, _ time.Time) string { return e.Home.String() }},
	{"TRANSPORT", func(_ *watchedPool, e *watchedElement, _ time.Time) string { return transport(&e.UserTransport) }},
	{"ADDRESSES", func(_ *watchedPool, e *watchedElement, _ time.Time) string {
		return strings.Join(addresses(&e.UserTransport), ",")
	}},
	{"VALUES", func(p *watchedPool, e *watchedElement, _ time.Time) string { return values(e.Policy, p.policy) }},
	{"SINCE", func(p *watchedPool, e *watchedElement, now time.Time) string {
		if e.since.IsZero() {
			return "-"
		}
		return clock(e.since, now)
	}},
	{"LAST CHANGE", func(_ *watchedPool, e *watchedElement, now time.Time) string { return e.lastChange(now) }},
}

// dropped are the columns that a narrow terminal does not show, the first one first.
var dropped = []string{"HOME", "LAST CHANGE", "SINCE", "TRANSPORT"}

// fresh reports whether a change is highlighted.
func (e *watchedElement) fresh(now time.Time) bool {
	return e.last == changeLeft || !e.at.IsZero() && now.Sub(e.at) < freshTime
}

func (e *watchedElement) mark(now time.Time) string {
	if !e.fresh(now) {
		return " "
	}
	switch e.last {
	case changeJoined:
		return "+"
	case changeLeft:
		return "-"
	default:
		return "*"
	}
}

func (e *watchedElement) style(now time.Time) style {
	if !e.fresh(now) {
		return plain
	}
	switch e.last {
	case changeJoined:
		return green
	case changeLeft:
		return red
	default:
		return yellow
	}
}

func (e *watchedElement) lastChange(now time.Time) string {
	if e.at.IsZero() {
		return "-"
	}
	s := string(e.last)
	if e.last == changeChanged {
		s = e.what
	}
	return clock(e.at, now) + " " + s
}

// clock gives a time of this day, or the date and the time.
func clock(at, now time.Time) string {
	if now.Sub(at) < 24*time.Hour {
		return at.Format(time.TimeOnly)
	}
	return at.Format(time.DateTime)
}

// maxRecent is how many of the last changes the table shows below the pools.
const maxRecent = 200

// board is what rsp watch shows in a terminal.
type board struct {
	pools  []*watchedPool
	recent []change // the last one last
	tls    bool     // rsp speaks TLS
}

// note takes changes for the list below the pools.
func (b *board) note(list []change) {
	b.recent = append(b.recent, list...)
	b.recent = slices.Delete(b.recent, 0, max(0, len(b.recent)-maxRecent))
}

// fades is when the next highlight ends or the next row disappears; zero: never.
func (b *board) fades(now time.Time) time.Time {
	var next time.Time
	take := func(t time.Time) {
		if t.After(now) && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	for _, p := range b.pools {
		for i := range p.elements {
			e := &p.elements[i]
			switch {
			case e.at.IsZero():
			case e.last == changeLeft:
				take(e.at.Add(leftTime))
			default:
				take(e.at.Add(freshTime))
			}
		}
	}
	return next
}

// lines draws the board for a terminal of a size.
func (b *board) lines(now time.Time, width, height int) []tableLine {
	var all []tableLine
	for _, p := range b.pools {
		p.forget(now)
		if len(all) > 0 {
			all = append(all, tableLine{})
		}
		all = append(all, p.head(now), p.news(now))
		all = append(all, b.advice(p, width)...)
		all = append(all, p.table(now, width)...)
	}
	if len(all) > height {
		cut := len(all) - (height - 1)
		all = append(all[:max(0, height-1)], tableLine{fmt.Sprintf("... %s more: enlarge the terminal", count(cut, "line")), dimmed})
	} else if room := height - len(all) - 2; room > 0 && len(b.recent) > 0 {
		all = append(all, tableLine{}, tableLine{"Changes", bold})
		for i := len(b.recent) - 1; i >= 0 && len(b.recent)-1-i < room; i-- {
			all = append(all, b.recentLine(&b.recent[i], now))
		}
	}
	for i := range all {
		all[i].text = clip(printable(all[i].text), width)
	}
	return all[:min(len(all), max(height, 0))]
}

func (b *board) recentLine(c *change, now time.Time) tableLine {
	text := clock(c.at, now) + " "
	if len(b.pools) > 1 {
		text += fmt.Sprintf("%+q ", string(c.pool))
	}
	s := plain
	switch c.kind {
	case changeLeft, changeError, changeUnknown, changeEmpty:
		s = red
	case changeJoined:
		s = green
	case changeChanged, changePolicy, changeRegistrar, changeRestored:
		s = yellow
	case changePresent:
	}
	if now.Sub(c.at) >= freshTime {
		s = plain
	}
	return tableLine{text + c.words(), s}
}

// head is the line above a pool's table.
func (p *watchedPool) head(now time.Time) tableLine {
	s := fmt.Sprintf("pool %+q, ", string(p.handle))
	if p.policy.Type != 0 {
		s += fmt.Sprintf("policy %v, ", p.policy.Type)
	}
	return tableLine{fmt.Sprintf("%s%s, watched since %s", s, count(p.size(), "element"), clock(p.started, now)), bold}
}

// news is the line that says where a pool's table comes from.
func (p *watchedPool) news(now time.Time) tableLine {
	switch {
	case p.err != nil && !gone(p.err) && p.answered:
		return tableLine{fmt.Sprintf("since %s no answer, the table may be old: %v", clock(p.errAt, now), p.err), red}
	case p.err != nil:
		return tableLine{fmt.Sprintf("since %s: %v", clock(p.errAt, now), p.err), red}
	case !p.answered:
		return tableLine{"looking for a registrar", dimmed}
	}
	return tableLine{fmt.Sprintf("registrar %s %s", p.registrar, strings.TrimPrefix(updates(p.subscribed), "and ")), plain}
}

// advice says what to try if no registrar answers, in lines that fit.
func (b *board) advice(p *watchedPool, width int) (lines []tableLine) {
	if p.err == nil {
		return nil
	}
	for word := range strings.FieldsSeq(hint(p.err, b.tls)) {
		if last := len(lines) - 1; last >= 0 && utf8.RuneCountInString(lines[last].text)+1+utf8.RuneCountInString(word) <= width {
			lines[last].text += " " + word
		} else {
			lines = append(lines, tableLine{word, plain})
		}
	}
	return lines
}

// table draws a pool's elements.
func (p *watchedPool) table(now time.Time, width int) []tableLine {
	if len(p.elements) == 0 {
		return nil
	}
	texts := make([][]string, len(columns)) // of each column, the title first
	for c := range columns {
		texts[c] = append(texts[c], columns[c].title)
		for i := range p.elements {
			texts[c] = append(texts[c], columns[c].cell(p, &p.elements[i], now))
		}
	}
	shown := fit(texts, width)
	lines := []tableLine{{row(texts, shown, 0), bold}}
	for i := range p.elements {
		lines = append(lines, tableLine{row(texts, shown, i+1), p.elements[i].style(now)})
	}
	return lines
}

// fit gives the columns that fit into a width, with the width of each.
func fit(texts [][]string, width int) map[int]int {
	shown := make(map[int]int)
	total := 0
	for c := range texts {
		for _, s := range texts[c] {
			shown[c] = max(shown[c], utf8.RuneCountInString(s))
		}
		total += shown[c] + len(columnGap)
	}
	for _, title := range dropped {
		if total-len(columnGap) <= width {
			break
		}
		c := slices.IndexFunc(columns, func(c column) bool { return c.title == title })
		total -= shown[c] + len(columnGap)
		delete(shown, c)
	}
	return shown
}

// columnGap is the space between two columns.
const columnGap = "  "

func row(texts [][]string, shown map[int]int, i int) string {
	var cells []string
	for c := range texts {
		if w, ok := shown[c]; ok {
			cells = append(cells, fmt.Sprintf("%-*s", w, texts[c][i]))
		}
	}
	return strings.TrimRight(strings.Join(cells, columnGap), " ")
}

// clip cuts a line to a width.
func clip(s string, width int) string {
	if utf8.RuneCountInString(s) <= width {
		return s
	}
	r := []rune(s)
	return string(r[:max(0, width-1)]) + "~"
}

// newWatchedPools makes the pools of a board.
func newWatchedPools(handles []string, now time.Time) []*watchedPool {
	pools := make([]*watchedPool, len(handles))
	for i, h := range handles {
		pools[i] = &watchedPool{handle: rserpool.PoolHandle(h), started: now}
	}
	return pools
}
