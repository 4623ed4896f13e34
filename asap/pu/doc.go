// Package pu is a pool user's side of ASAP (RFC 5352): it finds a registrar, resolves pool
// handles, follows the changes of a pool, selects pool elements, reports those that cannot be
// reached, and has sessions with elements that survive the failure of one.
//
//	u, err := pu.Open(pu.Config{Registrars: []string{"192.0.2.53"}})
//	...
//	defer u.Close()
//	s, err := u.Dial(ctx, "web")
//	...
//	defer s.Close()
//	err = s.Send(ctx, []byte("hello"))
//	m, err := s.Receive(ctx)
//
// A [User] keeps its association with the registrar, so that the next request need not wait
// for one, and moves to another registrar when that one fails. What registrars say of pools
// is in a [Cache].
//
// A [Session] is a conversation with one element at a time, over SCTP (RFC 5352, Sections
// 3.8, 3.9 and 6.5). When the element fails, the session goes on with another one, which gets
// the state of the conversation in a cookie that the former element has handed out.
//
// A [Stream] is the same for pools of TCP elements, without cookies: [User.DialStream], and
// [User.DialContext] for code that dials by itself, such as http.Transport.
//
// The protocols are in deterministic cores without clock, goroutine, lock and socket; User and
// Session drive them.
package pu
