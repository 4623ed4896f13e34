package session

import (
	"testing"

	"github.com/rserpool/coredns-rserpool/asap"
)

// FuzzControl gives a session messages of its control channel, and then fails over: nothing
// grows beyond its bound, and the next element gets the latest cookie unchanged.
func FuzzControl(f *testing.F) {
	for _, m := range []asap.Message{
		&asap.Cookie{Cookie: []byte("cookie")}, &asap.CookieEcho{Cookie: []byte("cookie")},
		&asap.BusinessCard{Handle: "web", Elements: elements(2, 3, 4)},
		&asap.EndpointKeepAlive{Handle: "web", ID: 1},
	} {
		data, err := m.Append(nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, data)
	}
	f.Add([]byte{0x0b, 0, 0, 9, 1}, []byte{0x7f, 0, 0, 4})
	f.Fuzz(func(t *testing.T, one, two []byte) {
		d := connected(t, UserConfig{})
		d.full = true
		for range 3 {
			for _, data := range [][]byte{one, two} {
				d.u.Received(d.now, d.conn, Message{Data: data, PPID: asap.PPID})
				d.collect()
			}
		}
		if d.u.replies.n > maxReplies || len(d.u.will) > maxCardElements || d.u.in.n > 0 {
			t.Errorf("%d replies, %d elements, %d messages", d.u.replies.n, len(d.u.will), d.u.in.n)
		}
		d.full = false
		d.collect()
		cookie := d.u.Cookie()
		d.down("lost")
		for range maxCardElements {
			if d.u.assoc != 0 {
				break
			}
			d.selected(99)
		}
		d.log = nil
		d.up()
		if cookie != nil && (len(d.log) < 2 || d.log[1] != "0s send ECHO "+string(cookie)) {
			t.Errorf("log %q, want the cookie %q first", d.log, cookie)
		}
	})
}
