package hunt

import (
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// ErrNoAddr says that a host name has no address.
var ErrNoAddr = errors.New("the name has no address")

// Found handles the result of a Lookup. The addresses are tried in place of the name; a
// failed lookup counts as a registrar that does not answer.
func (h *Hunt) Found(now time.Time, ref uint64, addrs []netip.Addr, err error) {
	i := slices.IndexFunc(h.trying, func(a attempt) bool { return a.lookup && a.ref == ref })
	if i < 0 {
		return // given up meanwhile
	}
	a := h.trying[i]
	if err == nil && len(addrs) == 0 {
		err = ErrNoAddr
	}
	if err != nil {
		h.failed(now, i, a.failure(err))
		return
	}
	list := At(a.to, addrs)
	if h.known.looked(a.to, list) {
		h.news++
	}
	h.trying = slices.Delete(h.trying, i, i+1)
	h.unreport(a.report)
	h.replace(list)
	if end := now.Add(h.share()); len(h.trying) > 0 && end.Before(h.t5End) {
		h.t5End = end // there are more registrars than before
	}
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

// replace puts the addresses of a name at the front of the queue, without those that were
// tried; the one that has just failed comes last.
func (h *Hunt) replace(list []rserpool.Registrar) {
	list = slices.DeleteFunc(slices.Clone(list), func(r rserpool.Registrar) bool {
		return slices.ContainsFunc(h.report, func(a rserpool.Attempt) bool { return a.Registrar.Equal(r) })
	})
	rest := slices.DeleteFunc(slices.Clone(h.queue), func(r rserpool.Registrar) bool { return slices.ContainsFunc(list, r.Equal) })
	var last []rserpool.Registrar
	if i := slices.IndexFunc(list, h.avoid.Equal); i >= 0 {
		last = list[i : i+1]
		list = slices.Concat(list[i+1:], list[:i])
	}
	if i := slices.IndexFunc(list, h.prefer.Equal); i > 0 {
		list = slices.Concat(list[i:], list[:i])
	}
	h.queue = slices.Concat(list, rest, last)
}

// preferred puts the preferred registrar in front, if there is one.
func (h *Hunt) preferred(all []rserpool.Registrar) []rserpool.Registrar {
	if len(h.prefer.Addrs) == 0 {
		return all
	}
	i := slices.IndexFunc(all, h.prefer.Equal)
	if i < 0 {
		i = slices.IndexFunc(all, sameAs(h.prefer))
	}
	if i < 0 {
		return append([]rserpool.Registrar{h.prefer}, all...)
	}
	return slices.Concat(all[i:], all[:i])
}

// BeginAt starts hunting with a registrar that is tried first, known or not. A hunt that
// is on begins anew.
func (h *Hunt) BeginAt(now time.Time, first rserpool.Registrar) {
	h.Stop()
	h.on, h.avoid, h.prefer, h.rounds = true, rserpool.Registrar{}, first, 0
	h.round(now)
}

// returnTime is how long ReturnTo waits for the registrar alone.
const returnTime = 3 * time.Second

// ReturnTo is BeginAt with a registrar that lives and expects this side back: others are tried
// only when it has failed, or has not answered for returnTime.
func (h *Hunt) ReturnTo(now time.Time, to rserpool.Registrar) {
	h.BeginAt(now, to)
	h.headEnd = now.Add(returnTime)
}

// Retry begins the next round without the rest of the pause: something has
// changed, such as the machine's network.
func (h *Hunt) Retry(now time.Time) {
	h.pause = 0
	if h.on && !h.resume.IsZero() {
		h.round(now)
	}
}

// Restart repeats the present attempts, because they come from addresses that are no
// longer used. Lookups continue.
func (h *Hunt) Restart(now time.Time) {
	if !h.on {
		return
	}
	var again []rserpool.Registrar
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
	h.report = slices.DeleteFunc(h.report, func(r rserpool.Attempt) bool { return slices.ContainsFunc(again, r.Registrar.Equal) })
	for i := range keep {
		keep[i].report = slices.IndexFunc(h.report, func(r rserpool.Attempt) bool { return r.Registrar.Equal(keep[i].to) })
	}
	h.trying = keep
	h.queue = slices.Concat(again, h.queue)
	if !h.resume.IsZero() || len(h.queue) == 0 && len(h.trying) == 0 {
		h.Retry(now)
		return
	}
	h.tryNext(now)
}

// Known returns the known registrars, the configured ones first. A name is replaced by
// its addresses once they have been looked up.
func (h *Hunt) Known(now time.Time) []rserpool.Registrar { return h.expand(h.known.list(now)) }

// Configured is Known without the registrars that announce themselves.
func (h *Hunt) Configured() []rserpool.Registrar { return h.expand(h.known.configured) }

func (h *Hunt) expand(list []rserpool.Registrar) []rserpool.Registrar {
	var all []rserpool.Registrar
	for _, r := range list {
		switch found := h.known.found[r.String()]; {
		case r.TCP && !h.cfg.TCP:
		case named(r) && len(found) > 0:
			all = append(all, found...)
		default:
			all = append(all, r)
		}
	}
	return all
}

// News counts the changes of what Known returns, except for announces that expire.
func (h *Hunt) News() int { return h.news }

// looked notes the addresses of a name, and reports whether they are new.
func (k *known) looked(name rserpool.Registrar, list []rserpool.Registrar) bool {
	if k.found == nil {
		k.found = make(map[string][]rserpool.Registrar)
	}
	old := k.found[name.String()]
	k.found[name.String()] = list
	return !slices.EqualFunc(old, list, rserpool.Registrar.Equal)
}
