// Package cookie seals the state cookies of pool elements.
//
// An element hands the state of a session to its user as a cookie. If the element fails,
// the user sends the cookie unread to the next element of the pool, which continues from
// it (RFC 5352, Section 3.8). The user keeps the cookie, so it could read or change it,
// or make up its own. A [Sealer] encrypts and authenticates cookies with a key that all
// elements of the pool share:
//
//	sealer, err := cookie.New(cookie.Config{Pool: "jobs", Keys: keys})
//	...
//	l, err := pe.Listen(pe.ListenConfig{Cookies: sealer, ...})
//
// [Sealer.Open] refuses a cookie that was forged or changed ([ErrForged]), that another
// pool or an unknown key sealed ([ErrForeign]), that has expired ([ErrExpired]), or that
// is too short to be one ([ErrTruncated]).
//
// # Keys
//
// A [Key] is made by [GenerateKey] and written into a file that [ParseKeys] reads, one
// key a line. To change the key of a running pool: add the new key as the second one at
// every element, then make it the first one everywhere, then remove the old one when
// [Config.Life] has passed. [Sealer.SetKeys] does so in a running program. A key may be
// used for several pools: each pool seals with keys that are derived from it.
//
// # What a cookie does not prove
//
// A cookie says that an element of the pool has sealed this state within the last
// Config.Life. It does not say that it is the latest one: a user can keep an older
// cookie and echo it, which takes the session back to an older state, or echo one cookie
// in several sessions. An element that remembers nothing of the session cannot see this.
// Where it matters, keep the number of the latest state somewhere that all elements can
// ask, and refuse older ones in [Config.Check]; or let the state hold nothing that a
// user gains by going back. A short Config.Life limits how far back a user can go.
//
// # Format
//
// All numbers are in network byte order. The size is that of the state and [Overhead].
//
//	octets  content
//	1       version, 1
//	4       key identifier
//	24      nonce, random
//	8       when it was sealed, milliseconds since 1970   (encrypted from here)
//	8       when it expires, likewise
//	n       state
//	16      tag
//
// The cipher is XChaCha20-Poly1305. Its additional data are the version, the key
// identifier and the identity. Key and key identifier come from HKDF-SHA256 (RFC 5869)
// of the shared key; the info is "rserpool cookie 1 key " or "rserpool cookie 1 id ",
// followed by the pool handle.
package cookie
