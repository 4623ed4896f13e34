package registrar

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

func announced(t *testing.T, from string, id uint32) Announced {
	return Announced{From: netip.MustParseAddrPort(from), Data: encode(t, &asap.ServerAnnounce{Server: rserpool.ServerID(id)})}
}

// RFC 5352, Sections 2.2.10 and 3.6.
func TestAnnounce(t *testing.T) {
	w := newWorld(t)
	w.pass(time.Minute)
	w.want() // not before it serves
	w.handle(Serving{Addrs: peers("10.0.0.1:3863", "[2001:db8::1]:3863"), TCP: true, Announce: true})
	acts := w.handle(Tick{})
	w.want("announce")
	got := hex.EncodeToString(acts[0].(Announce).Data)
	want := "0a000058" + "10000001" +
		"00040024" + "0f170000" + "00010008" + "0a000001" + "00020014" + "20010db8000000000000000000000001" +
		"00050010" + "0f170000" + "00010008" + "0a000001" +
		"0005001c" + "0f170000" + "00020014" + "20010db8000000000000000000000001"
	if got != want {
		t.Errorf("announce:\n got %s\nwant %s", got, want)
	}
	w.pass(10 * time.Second)
	if len(w.trace) != 10 { // alone: every T6
		t.Errorf("announces in 10 s, alone: got %d, want 10", len(w.trace))
	}
	for range 10 { // with two others: every 3 T6
		w.handle(announced(t, "10.0.0.2:3863", 2))
		w.handle(announced(t, "10.0.0.3:3863", 3))
		w.pass(time.Second)
	}
	w.skip("announce")
	for range 30 {
		w.handle(announced(t, "10.0.0.2:3863", 2))
		w.handle(announced(t, "10.0.0.3:3863", 3))
		w.pass(time.Second)
	}
	if len(w.trace) != 10 {
		t.Errorf("announces in 30 s, one of three: got %d, want 10", len(w.trace))
	}
	w.pass(20 * time.Second) // they are gone
	w.skip("announce")
	w.pass(10 * time.Second)
	if len(w.trace) != 10 {
		t.Errorf("announces in 10 s, alone again: got %d, want 10", len(w.trace))
	}
	if s := w.r.Stats(); s.ServersHeard != 0 || s.AnnouncesReceived.ASAP != 80 {
		t.Errorf("stats: %+v", s)
	}
}

// TestForgedAnnounces: however many registrars are heard, this one announces itself
// again before the listeners drop it.
func TestForgedAnnounces(t *testing.T) {
	w := newWorld(t)
	w.handle(Serving{Addrs: peers("10.0.0.1:3863"), Announce: true})
	w.handle(Tick{})
	for id := range uint32(256) {
		w.handle(announced(t, "10.0.0.9:3863", 0x500+id))
	}
	w.pass(10 * time.Second)
	w.skip("announce")
	w.pass(60 * time.Second)
	if got, want := len(w.trace), 60/5; got <= want {
		t.Errorf("%d announces in 60 s, want more than one in T7-ENRPoutdate (5 s)", got)
	}
}

func TestAnnouncesHeard(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Limits.Servers = 3 })
	w.logs = true
	w.handle(Serving{Addrs: peers("10.0.0.1:3863"), Announce: true})
	for id := uint32(1); id < 1000; id++ {
		w.handle(announced(t, "10.0.0.9:3863", id))
	}
	if got := w.r.Stats().ServersHeard; got != 3 {
		t.Errorf("registrars heard: got %d, want 3", got)
	}
	w.skip("log")
	acts := w.handle(Tick{})
	w.want("announce")
	w.handle(Announced{From: netip.MustParseAddrPort("192.0.2.1:999"), Data: acts[0].(Announce).Data}) // our own
	w.want()
	w.handle(announced(t, "10.0.0.2:3863", testServer))
	w.want("log another registrar, at 10.0.0.2:3863, has this registrar's server identifier 10000001: change server_id on one of the two")
	for _, bad := range []string{"", "0a000004", "0b00000c000d000578000000"} {
		b, _ := hex.DecodeString(bad)
		w.handle(Announced{From: netip.MustParseAddrPort("10.0.0.2:1"), Data: b})
	}
	w.want() // never answered
	if s := w.r.Stats(); s.AnnouncesMalformed.ASAP != 3 || s.AnnouncesDuplicate.ASAP != 1 {
		t.Errorf("stats: %+v", s)
	}
}

// An announce fits into one datagram however many addresses there are.
func TestAnnounceManyAddresses(t *testing.T) {
	w := newWorld(t)
	var addrs []string
	for i := range 100 {
		addrs = append(addrs, fmt.Sprintf("[2001:db8::%x]:3863", i+1))
	}
	w.handle(Serving{Addrs: peers(addrs...), TCP: true, Announce: true})
	acts := w.handle(Tick{})
	if got := len(acts[0].(Announce).Data); got > 1200 || !strings.HasPrefix(w.trace[0], "announce") {
		t.Errorf("announce takes %d bytes, want at most 1200", got)
	}
}
