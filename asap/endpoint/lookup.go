package endpoint

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

var errNoAddr = errors.New("the name has no address")

// Found tells the result of a Lookup. The addresses are tried in the place of
// the name; a lookup that failed is a registrar that does not answer.
func (h *Hunt) Found(now time.Time, ref uint64, addrs []netip.Addr, err error) {
	i := slices.IndexFunc(h.trying, func(a attempt) bool { return a.lookup && a.ref == ref })
	if i < 0 {
		return // given up meanwhile
	}
	a := h.trying[i]
	if err == nil && len(addrs) == 0 {
		err = errNoAddr
	}
	if err != nil {
		h.failed(now, i, fmt.Errorf("cannot look up its name: %w", err))
		return
	}
	list := a.to.at(addrs)
	if h.known.looked(a.to, list) {
		h.news++
	}
	h.trying = slices.Delete(h.trying, i, i+1)
	h.unreport(a.report)
	h.replace(list)
	h.tryNext(now)
	if len(h.trying) == 0 && len(h.report) > 0 {
		h.exhausted(now, true)
	}
}

// unreport removes an entry of the report.
func (h *Hunt) unreport(i int) {
	h.report = slices.Delete(h.report, i, i+1)
	for j := range h.trying {
		if h.trying[j].report > i {
			h.trying[j].report--
		}
	}
}

// replace puts the addresses of a name at the front of the queue, but for the
// one that has just failed, which comes last, and those that were tried.
func (h *Hunt) replace(list []Registrar) {
	list = slices.DeleteFunc(slices.Clone(list), func(r Registrar) bool {
		return slices.ContainsFunc(h.report, func(a Attempt) bool { return a.Registrar.equal(r) })
	})
	rest := slices.DeleteFunc(slices.Clone(h.queue), func(r Registrar) bool { return slices.ContainsFunc(list, r.equal) })
	var last []Registrar
	if i := slices.IndexFunc(list, h.avoid.equal); i >= 0 {
		last = list[i : i+1]
		list = slices.Concat(list[i+1:], list[:i])
	}
	if i := slices.IndexFunc(list, h.prefer.equal); i > 0 {
		list = slices.Concat(list[i:], list[:i])
	}
	h.queue = slices.Concat(list, rest, last)
}

// preferred puts the preferred registrar in front, if there is one.
func (h *Hunt) preferred(all []Registrar) []Registrar {
	if len(h.prefer.Addrs) == 0 {
		return all
	}
	i := slices.IndexFunc(all, h.prefer.equal)
	if i < 0 {
		i = slices.IndexFunc(all, h.prefer.sameName)
	}
	if i < 0 {
		return append([]Registrar{h.prefer}, all...)
	}
	return slices.Concat(all[i:], all[:i])
}

// BeginAt starts hunting, with a registrar that is tried first, if known
// otherwise or not. A hunt that is on begins anew.
func (h *Hunt) BeginAt(now time.Time, first Registrar) {
	h.Stop()
	h.on, h.avoid, h.prefer, h.rounds = true, Registrar{}, first, 0
	h.round(now)
}

// Retry begins the next round without the rest of the pause: something has
// changed, such as the machine's network.
func (h *Hunt) Retry(now time.Time) {
	h.pause = 0
	if h.on && !h.resume.IsZero() {
		h.round(now)
	}
}

// Restart begins the attempts under way anew: those so far came from addresses
// that are not to be used any more. Lookups go on.
func (h *Hunt) Restart(now time.Time) {
	if !h.on {
		return
	}
	var again []Registrar
	keep := h.trying[:0:0]
	for _, a := range h.trying {
		if a.lookup {
			keep = append(keep, a)
			continue
		}
		again = append(again, a.to)
		if a.assoc != 0 {
			h.out = append(h.out, Close{Assoc: a.assoc, Abort: true})
		}
		h.out = slices.DeleteFunc(h.out, func(o Action) bool {
			c, ok := o.(Connect)
			return ok && c.Ref == a.ref
		})
	}
	h.report = slices.DeleteFunc(h.report, func(r Attempt) bool { return slices.ContainsFunc(again, r.Registrar.equal) })
	for i := range keep {
		keep[i].report = slices.IndexFunc(h.report, func(r Attempt) bool { return r.Registrar.equal(keep[i].to) })
	}
	h.trying = keep
	h.queue = slices.Concat(again, h.queue)
	if !h.resume.IsZero() || len(h.queue) == 0 && len(h.trying) == 0 {
		h.Retry(now)
		return
	}
	h.tryNext(now)
}

// Known gives the registrars that are known, the configured ones first. Names
// stand for their addresses where these have been looked up.
func (h *Hunt) Known(now time.Time) []Registrar { return h.expand(h.known.list(now)) }

// Configured is Known without the registrars that announce themselves.
func (h *Hunt) Configured() []Registrar { return h.expand(h.known.configured) }

func (h *Hunt) expand(list []Registrar) []Registrar {
	var all []Registrar
	for _, r := range list {
		switch found := h.known.found[r.String()]; {
		case r.TCP && !h.cfg.TCP:
		case r.named() && len(found) > 0:
			all = append(all, found...)
		default:
			all = append(all, r)
		}
	}
	return all
}

// News counts the changes of what Known gives, but for what is outdated.
func (h *Hunt) News() int { return h.news }

// looked notes the addresses of a name, and reports whether they are new.
func (k *known) looked(name Registrar, list []Registrar) bool {
	if k.found == nil {
		k.found = make(map[string][]Registrar)
	}
	old := k.found[name.String()]
	k.found[name.String()] = list
	return !slices.EqualFunc(old, list, Registrar.equal)
}
