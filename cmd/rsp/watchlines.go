package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// timeLayout is the time of a change: RFC 3339 with milliseconds.
const timeLayout = "2006-01-02T15:04:05.000Z07:00"

// writeLine writes a change as a line for people.
func (c *change) writeLine(w io.Writer) error {
	_, err := fmt.Fprintf(w, "%s pool %+q: %s\n", c.at.Format(timeLayout), string(c.pool), printable(c.words()))
	return err
}

// words describes a change, without its time and pool.
func (c *change) words() string {
	switch c.kind {
	case changeRegistrar:
		return fmt.Sprintf("registrar %s answers, %s", c.registrar, updates(c.subscribed))
	case changeRestored:
		return fmt.Sprintf("registrar %s answers again", c.registrar)
	case changePolicy:
		return fmt.Sprintf("policy %v", c.policy.Type)
	case changePresent, changeJoined:
		return fmt.Sprintf("%v %s: %s", c.element.ID, c.kind, describe(c.element, c.policy))
	case changeLeft:
		return fmt.Sprintf("%v left", c.element.ID)
	case changeChanged:
		return fmt.Sprintf("%v changed: %s", c.element.ID, c.difference())
	case changeUnknown, changeEmpty, changeError:
		return c.err.Error()
	}
	return string(c.kind)
}

// updates says how changes are learnt.
func updates(subscribed bool) string {
	if subscribed {
		return "and sends updates"
	}
	return "but sends no updates: asked every 2s"
}

// describe describes an element in one line.
func describe(e *rserpool.PoolElement, pool rserpool.Policy) string {
	s := transport(&e.UserTransport) + " " + strings.Join(addresses(&e.UserTransport), ",")
	if v := values(e.Policy, pool); v != "-" {
		s += " " + v
	}
	return fmt.Sprintf("%s, home %v", s, e.Home)
}

// difference describes what has changed of an element, with the former values.
func (c *change) difference() string {
	var list []string
	for _, f := range c.fields {
		list = append(list, fmt.Sprintf("%s %s -> %s", f, field(c.was, f, c.policy), field(c.element, f, c.policy)))
	}
	return strings.Join(list, ", ")
}

// field returns a field of an element by the name that [differences] gives it.
func field(e *rserpool.PoolElement, name string, pool rserpool.Policy) string {
	switch name {
	case "transport":
		return transport(&e.UserTransport)
	case "addresses":
		return strings.Join(addresses(&e.UserTransport), ",")
	case "values":
		return values(e.Policy, pool)
	case "home":
		return e.Home.String()
	default:
		return life(e)
	}
}

// printable replaces control characters: what a registrar sends must not control the
// terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
}

// jsonChange is the output of watch --json.
type jsonChange struct {
	Time string `json:"time"`
	jsonHandle
	Change     changeKind   `json:"change"`
	Registrar  string       `json:"registrar,omitempty"`
	Subscribed *bool        `json:"subscribed,omitempty"`
	Policy     string       `json:"policy,omitempty"`
	Element    *jsonElement `json:"element,omitempty"`
	Was        *jsonElement `json:"was,omitempty"`
	Fields     []string     `json:"fields,omitempty"`
	Error      string       `json:"error,omitempty"`
}

// writeJSON writes a change for programs.
func (c *change) writeJSON(w io.Writer) error {
	j := jsonChange{Time: c.at.Format(timeLayout), jsonHandle: newJSONHandle(c.pool), Change: c.kind, Fields: c.fields}
	switch c.kind {
	case changeRegistrar:
		j.Registrar, j.Subscribed, j.Policy = c.registrar, &c.subscribed, c.policy.Type.String()
	case changeRestored:
		j.Registrar = c.registrar
	case changePolicy:
		j.Policy = c.policy.Type.String()
	case changeUnknown, changeEmpty, changeError:
		j.Error = c.err.Error()
	case changePresent, changeJoined, changeLeft, changeChanged:
		e := newJSONElement(c.element)
		j.Element = &e
		if c.was != nil {
			was := newJSONElement(c.was)
			j.Was = &was
		}
	}
	return json.NewEncoder(w).Encode(j)
}
