package sim

import (
	"testing"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/session"
)

// fromElement is a mutation of the control messages of one type that elements send.
func fromElement(t asap.MessageType, change func(l *link, m session.Message) []session.Message) mutation {
	return mutation{network: func(from *linkEnd, m session.Message) []session.Message {
		if from == from.l.element && m.PPID == asap.PPID && asap.MessageType(m.Data[0]) == t {
			return change(from.l, m)
		}
		return []session.Message{m}
	}}
}

// fromUser is a mutation of the messages of users: change gets the type of a control
// message, or 0 and the request.
func fromUser(change func(l *link, t asap.MessageType, r request, m session.Message) []session.Message) mutation {
	return mutation{network: func(from *linkEnd, m session.Message) []session.Message {
		if from != from.l.user {
			return []session.Message{m}
		}
		if m.PPID == asap.PPID {
			return change(from.l, asap.MessageType(m.Data[0]), request{}, m)
		}
		r, _ := parseRequest(m.Data)
		return change(from.l, 0, r, m)
	}}
}

// again is a mutation of requests that an association before has carried.
func again(change func(m session.Message) []session.Message) mutation {
	type sent struct{ most, before uint64 } // in all; by other associations
	of := make(map[*sess]*sent)
	last := make(map[*sess]*link)
	return fromUser(func(l *link, t asap.MessageType, r request, m session.Message) []session.Message {
		s := of[l.tag]
		if s == nil {
			s = &sent{}
			of[l.tag] = s
		}
		if last[l.tag] != l {
			last[l.tag], s.before = l, s.most
		}
		if t != 0 || r.n == 0 {
			return []session.Message{m}
		}
		s.most = max(s.most, r.n)
		if r.n <= s.before {
			return change(m)
		}
		return []session.Message{m}
	})
}

// without drops actions of a type.
func withoutActions(t session.ActionType) mutation {
	return mutation{action: func(_ *sess, a session.Action) []session.Action {
		if a.Type == t {
			return nil
		}
		return []session.Action{a}
	}}
}

// late holds a message back until the next one of its association.
func late(is func(t asap.MessageType, r request) bool) mutation {
	held := make(map[*link]session.Message)
	return fromUser(func(l *link, t asap.MessageType, r request, m session.Message) []session.Message {
		if is(t, r) && held[l].Data == nil {
			held[l] = m
			return nil
		}
		list := []session.Message{m}
		if h := held[l]; h.Data != nil {
			delete(held, l)
			list = append(list, h)
		}
		return list
	})
}

// TestSessionMutations: what is broken on purpose is found. What is only more than it should
// be, and has no effect, must have none.
func TestSessionMutations(t *testing.T) {
	one := func(m session.Message) []session.Message { return []session.Message{m} }
	for _, tt := range []struct {
		name   string
		mutate func() mutation
		heals  bool
	}{
		{"cookies dropped", func() mutation {
			return fromElement(asap.TypeCookie, func(*link, session.Message) []session.Message { return nil })
		}, false},
		{"one cookie in twenty dropped", func() mutation {
			return fromElement(asap.TypeCookie, func(l *link, m session.Message) []session.Message {
				if l.w.net.chance(20) {
					return nil
				}
				return one(m)
			})
		}, false},
		{"the first cookie kept", func() mutation {
			first := make(map[*sess]session.Message)
			return fromElement(asap.TypeCookie, func(l *link, m session.Message) []session.Message {
				if first[l.tag].Data == nil {
					first[l.tag] = m
				}
				return one(first[l.tag])
			})
		}, false},
		// An answer says that its request is in a cookie, which comes after the next one.
		{"cookies after the answers", func() mutation {
			type cookie struct {
				m    session.Message
				wait int
			}
			held := make(map[*link]*cookie)
			return mutation{network: func(from *linkEnd, m session.Message) []session.Message {
				h := held[from.l]
				switch {
				case from != from.l.element:
				case h != nil && h.wait > 0:
					h.wait--
				case h != nil:
					delete(held, from.l)
					return []session.Message{m, h.m}
				case m.PPID == asap.PPID && asap.MessageType(m.Data[0]) == asap.TypeCookie:
					held[from.l] = &cookie{m, 1}
					return nil
				}
				return one(m)
			}}
		}, false},
		{"cookies of another session", func() mutation {
			var last session.Message
			return fromElement(asap.TypeCookie, func(_ *link, m session.Message) []session.Message {
				other := m
				if last.Data != nil {
					other = last
				}
				last = m
				return one(other)
			})
		}, false},
		{"echo dropped", func() mutation {
			return fromUser(func(_ *link, t asap.MessageType, _ request, m session.Message) []session.Message {
				if t == asap.TypeCookieEcho {
					return nil
				}
				return one(m)
			})
		}, false},
		{"echo after the data", func() mutation {
			return late(func(t asap.MessageType, _ request) bool { return t == asap.TypeCookieEcho })
		}, false},
		{"last will ignored", func() mutation {
			return mutation{unseen: asap.TypeBusinessCard}
		}, false},
		{"last will reversed", func() mutation {
			return mutation{reversed: true}
		}, false},
		{"unacknowledged messages dropped", func() mutation {
			return again(func(session.Message) []session.Message { return nil })
		}, false},
		{"messages resent twice", func() mutation {
			return again(func(m session.Message) []session.Message { return []session.Message{m, m} })
		}, false},
		{"messages overtaken", func() mutation {
			return late(func(t asap.MessageType, r request) bool { return t == 0 && r.n%32 == 31 })
		}, false},
		{"messages sent twice", func() mutation {
			return fromUser(func(_ *link, t asap.MessageType, r request, m session.Message) []session.Message {
				if t == 0 && r.n%32 == 31 {
					return []session.Message{m, m}
				}
				return one(m)
			})
		}, false},
		{"messages of a former association taken", func() mutation {
			return mutation{ref: func(s *sess, ref session.Ref, ev *linkEvent) session.Ref {
				if ev.kind == linkReceived && s.cur != 0 {
					return s.cur
				}
				return ref
			}}
		}, false},
		{"the end of a former association taken", func() mutation {
			return mutation{ref: func(s *sess, ref session.Ref, ev *linkEvent) session.Ref {
				if ev.kind == linkDown && s.cur != 0 {
					return s.cur
				}
				return ref
			}}
		}, false},
		{"timeouts ignored", func() mutation { return mutation{noTick: true} }, false},
		{"failed delivery ignored", func() mutation {
			return mutation{ref: func(_ *sess, ref session.Ref, ev *linkEvent) session.Ref {
				if ev.kind == linkSendFailed {
					return 0
				}
				return ref
			}}
		}, false},
		{"reports dropped", func() mutation { return withoutActions(session.Report) }, false},
		{"reports doubled", func() mutation {
			return mutation{action: func(_ *sess, a session.Action) []session.Action {
				if a.Type == session.Report {
					return []session.Action{a, a}
				}
				return []session.Action{a}
			}}
		}, false},
		{"pauses ignored", func() mutation { return withoutActions(session.Pause) }, false},
		{"never resumed", func() mutation { return withoutActions(session.Resume) }, false},
		{"the application is not asked", func() mutation { return withoutActions(session.Ask) }, false},
		{"the echo again with each request", func() mutation {
			echo := make(map[*link]session.Message)
			return fromUser(func(l *link, t asap.MessageType, _ request, m session.Message) []session.Message {
				if t == asap.TypeCookieEcho {
					echo[l] = m
				}
				if e := echo[l]; e.Data != nil {
					return []session.Message{m, e}
				}
				return one(m)
			})
		}, true},
		{"cookies twice", func() mutation {
			return fromElement(asap.TypeCookie, func(_ *link, m session.Message) []session.Message { return []session.Message{m, m} })
		}, true},
		{"cards twice", func() mutation {
			return fromElement(asap.TypeBusinessCard, func(_ *link, m session.Message) []session.Message { return []session.Message{m, m} })
		}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			seeds := uint64(100) // ends with the first that finds it
			if tt.heals {
				seeds = 10
			}
			for seed := range seeds {
				w := newSessions(sessionsOf(seed))
				w.mut = tt.mutate()
				switch err := w.run(); {
				case err != nil && tt.heals:
					t.Fatal(err)
				case err != nil:
					t.Logf("found in seed %d: %.200v", seed, err)
					return
				}
			}
			if !tt.heals {
				t.Errorf("not found in %d seeds", seeds)
			}
		})
	}
}
