package wire

import (
	"net/netip"
	"testing"
)

// FuzzInit parses INITs, and what it made of them again.
func FuzzInit(f *testing.F) {
	p := InitParams{Tag: 1, RWND: 2000, Out: 1, In: 1, TSN: 7, Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")}}
	f.Add(p.Body())
	p.Cookie = []byte("cookie")
	f.Add(p.Body())
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParseInit(b)
		if err != nil {
			return
		}
		p.Unreported = nil
		q, err := ParseInit(p.Body())
		if err != nil || q.Tag != p.Tag || q.RWND != p.RWND || q.TSN != p.TSN || len(q.Addrs) != len(p.Addrs) || string(q.Cookie) != string(p.Cookie) {
			t.Fatalf("Got %+v (%v) of %+v", q, err, p)
		}
	})
}

// FuzzCookie opens cookies that are not ours, and those that are.
func FuzzCookie(f *testing.F) {
	key := []byte("key")
	const now = 1_700_000_000
	f.Add([]byte{}, uint32(1), uint16(2), true)
	f.Fuzz(func(t *testing.T, b []byte, tag uint32, port uint16, is4 bool) {
		if _, err := OpenCookie(b, key, now); err == nil {
			t.Fatal("a forged cookie is taken")
		}
		c := Cookie{Made: now, Tag: tag, TSN: ^tag, TieTag: tag + 1, TiePeer: tag + 2, Local: port, PeerPort: ^port,
			From: netip.MustParseAddrPort("10.1.2.3:4"), To: netip.MustParseAddr("fd00::1"),
			Peer: InitParams{Tag: tag | 1, RWND: 5000, Out: 3, In: 4, TSN: 5, Addrs: []netip.Addr{netip.MustParseAddr("fd00::2")}}}
		if is4 {
			c.To = netip.Addr{}
			c.Peer.Addrs = append(c.Peer.Addrs, netip.MustParseAddr("10.1.2.4"))
		}
		got, err := OpenCookie(c.Seal(key), key, now)
		if err != nil || got.From != c.From || got.To != c.To || got.Tag != c.Tag || got.TSN != c.TSN || got.TieTag != c.TieTag ||
			got.TiePeer != c.TiePeer || got.Local != c.Local || got.PeerPort != c.PeerPort || got.Peer.RWND != 5000 || len(got.Peer.Addrs) != len(c.Peer.Addrs) {
			t.Fatalf("Got %+v (%v), want %+v", got, err, c)
		}
	})
}
