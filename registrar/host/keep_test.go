package host

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
	"github.com/rserpool/coredns-rserpool/internal/state"
	"github.com/rserpool/coredns-rserpool/registrar"
	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// stateHost is a host in a network in memory that keeps its state.
func stateHost(t *testing.T, nw *sctptest.Network, dir string) (*Host, *log) {
	t.Helper()
	l := new(log)
	h, err := Open(Config{
		ASAP:    []netip.AddrPort{netip.MustParseAddrPort(hostAddr)},
		network: func() (network, error) { return memory{nw}, nil },
		Logger:  l.logger(),
		State:   dir,
	})
	if err != nil {
		t.Fatal(err)
	}
	return h, l
}

// copyState copies a state that may be written just now, as a machine that fails leaves it.
func copyState(t *testing.T, from string) (to string) {
	t.Helper()
	to = t.TempDir()
	b, err := os.ReadFile(filepath.Join(from, "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(to, "state.db"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	return to
}

// TestWarmStart: a registrar that is killed leaves its elements to the next one, which has
// them from the first moment, with the same identifier, and has the zone's serial go on.
func TestWarmStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw, dir := sctptest.NewNetwork(), filepath.Join(t.TempDir(), "state")
		h, _ := stateHost(t, nw, dir)
		pe := newElement(t, nw, h)
		time.Sleep(3 * time.Second)
		serial := h.Space().Serial(time.Now())
		time.Sleep(11 * time.Second)
		left := copyState(t, dir)
		id := h.ID()
		closeNow(t, h)
		synctest.Wait()

		h, l := stateHost(t, nw, left)
		if h.Space().Pool("p") == nil || !h.Answers() || h.ID() != id {
			t.Errorf("after Open: pool %v, answers %v, identifier %v, want %v; log:\n%s", h.Space().Pool("p"), h.Answers(), h.ID(), id, l)
		}
		if next := h.Space().Serial(time.Now()); int32(next-serial) <= 0 {
			t.Errorf("serial %d after %d", next, serial)
		}
		last[*asap.EndpointKeepAlive](pe)
		time.Sleep(time.Second)
		if s := h.Stats(); s.Own != 1 || s.Unconfirmed != 0 || s.Restored != 1 {
			t.Errorf("own %d, unconfirmed %d, restored %d", s.Own, s.Unconfirmed, s.Restored)
		}
		time.Sleep(time.Second / 2) // a write is due in the same instant
		if s := h.Stats().State; s.Writes == 0 || s.Pending > 0 || s.Behind != 0 || s.Bytes == 0 || s.Written == 0 {
			t.Errorf("state: %+v", s)
		}
		if got, want := l.String(), "started with 1 pool element of the stored state"; !strings.HasPrefix(got, want) {
			t.Errorf("log: %s", got)
		}
		_ = pe.Close()
		time.Sleep(20 * time.Second)
		if err := h.Close(); err != nil {
			t.Error(err)
		}

		h, _ = stateHost(t, nw, left) // the end of the element is not forgotten, either
		if h.Space().Pool("p") != nil {
			t.Error("a removed element is back after a restart")
		}
		closeNow(t, h)
	})
}

// TestNewState: the log says that a state directory is new.
func TestNewState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "state")
		for i, want := range []bool{true, false} {
			h, l := stateHost(t, sctptest.NewNetwork(), dir)
			closeNow(t, h)
			if got := strings.Contains(l.String(), "state directory "+dir+" is new: there is no stored state"); got != want {
				t.Errorf("start %d: the directory is new: %v, want %v", i+1, got, want)
			}
		}
	})
}

// TestStateInUse: two registrars need two directories.
func TestStateInUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw, dir := sctptest.NewNetwork(), t.TempDir()
		h, _ := stateHost(t, nw, dir)
		_, err := Open(Config{State: dir, network: func() (network, error) { return memory{nw}, nil }})
		if !errors.Is(err, state.ErrInUse) || !strings.HasPrefix(err.Error(), "state: ") || !strings.Contains(err.Error(), "another registrar of this process uses "+dir+": give each registrar a directory of its own") {
			t.Errorf("got %v", err)
		}
		closeNow(t, h)
		h, _ = stateHost(t, nw, dir) // it is free now
		closeNow(t, h)
	})
}

// TestStateAfterFailedOpen: a registrar that cannot be opened lets go of its state.
func TestStateAfterFailedOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		bad := Config{State: dir, network: func() (network, error) { return nil, errors.New("odd") }}
		for range 2 {
			if _, err := Open(bad); err == nil || !strings.Contains(err.Error(), "odd") {
				t.Fatalf("got %v", err)
			}
		}
	})
}

// TestStateClockSetBack: the serial does not go back if the clock is set back before a restart.
// The former process may have had serials after its last stamp.
func TestStateClockSetBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, later := t.TempDir(), time.Now().Add(time.Hour)
		s, err := state.Open(state.Config{Dir: dir, Stamp: func(time.Time) map[string][]byte {
			return map[string][]byte{
				stampAlive:  binary.BigEndian.AppendUint64(nil, uint64(later.UnixMilli())),
				stampSerial: binary.BigEndian.AppendUint64(nil, uint64(later.Unix())),
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		s.Start()
		if err := s.Close(time.Second); err != nil {
			t.Fatal(err)
		}
		h, _ := stateHost(t, sctptest.NewNetwork(), dir)
		defer closeNow(t, h)
		if last, got := uint32(later.Unix())+10, h.Space().Serial(time.Now()); int32(got-last) <= 0 {
			t.Errorf("serial %d, and the former process may have had %d", got, last)
		}
	})
}

// TestStateFirstSerial: the first stamp has a serial of this process. So it does not go back if the
// process is killed before the next stamp, and the clock is set back before the restart.
func TestStateFirstSerial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw, dir := sctptest.NewNetwork(), filepath.Join(t.TempDir(), "state")
		h, _ := stateHost(t, nw, dir)
		time.Sleep(3 * time.Second)
		serial := h.Space().Serial(time.Now())
		left := copyState(t, dir)
		closeNow(t, h)
		s, err := state.Open(state.Config{Dir: left})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close(time.Second)
		if got := int64(binary.BigEndian.Uint64(s.Stamp(stampSerial))); got <= 0 || got+serialLag < int64(serial) {
			t.Errorf("serial %d is stored, and %d was told", got, serial)
		}
	})
}

// TestStateLost: a store that has lost changes gets all elements again.
func TestStateLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw, dir := sctptest.NewNetwork(), filepath.Join(t.TempDir(), "state")
		h, _ := stateHost(t, nw, dir)
		newElement(t, nw, h)
		pe := newPeer(t, memory{nw}, "10.0.0.2:5000")
		pe.connect(h.LocalAddrs()[0], sctp.Kernel)
		const n = 2500 // more than one event KeepAll gives
		for i := range n {
			pe.send(pe.assoc, registration(fmt.Sprint("q", i%7), uint32(i+1), "10.0.0.2"))
			if i%100 == 0 {
				last[*asap.RegistrationResponse](pe)
			}
		}
		time.Sleep(3 * time.Second)
		h.keeper.lost.Store(true) // as the store has it after a disk that was full for long
		h.keeper.wake()
		time.Sleep(3 * time.Second)
		left := copyState(t, dir)
		closeNow(t, h)
		h, _ = stateHost(t, nw, left)
		if _, got := h.Space().Len(); got != n+1 {
			t.Errorf("%d elements after a restart, want %d", got, n+1)
		}
		closeNow(t, h)
	})
}

// TestStateLongHandle: an element whose pool handle is too long for the state is not kept, and does not
// stop the others from being kept.
func TestStateLongHandle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw, dir := sctptest.NewNetwork(), filepath.Join(t.TempDir(), "state")
		h, _ := stateHost(t, nw, dir)
		pe := newPeer(t, memory{nw}, "10.0.0.2:5000")
		pe.connect(h.LocalAddrs()[0], sctp.Kernel)
		for i, handle := range []string{strings.Repeat("q", 40000), "q"} {
			pe.send(pe.assoc, registration(handle, uint32(i+1), "10.0.0.2"))
			if m := last[*asap.RegistrationResponse](pe); m.Reject {
				t.Fatalf("refused: %v", m)
			}
		}
		time.Sleep(20 * time.Second)
		if s := h.Stats().State; s.Behind != 0 || s.Failures != 0 || s.Pending != 0 {
			t.Errorf("%+v", s)
		}
		left := copyState(t, dir)
		closeNow(t, h)
		h, _ = stateHost(t, nw, left)
		if _, got := h.Space().Len(); got != 1 {
			t.Errorf("%d elements after a restart, want 1", got)
		}
		closeNow(t, h)
	})
}

// TestStatePending: while the state cannot be written at all, each element is a change that is
// not stored.
func TestStatePending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw, dir := sctptest.NewNetwork(), t.TempDir()
		path := filepath.Join(dir, "state.db")
		if err := os.Mkdir(path, 0o700); err != nil { // nobody can write to it, not even root
			t.Fatal(err)
		}
		h, _ := stateHost(t, nw, dir)
		defer closeNow(t, h)
		pending := func(want uint64) {
			t.Helper()
			if s := h.Stats().State; s.Pending != want {
				t.Errorf("%d changes are pending, want %d: %+v", s.Pending, want, s)
			}
		}
		pending(1) // the server identifier
		newElement(t, nw, h)
		pe := newPeer(t, memory{nw}, "10.0.0.2:5000")
		pe.connect(h.LocalAddrs()[0], sctp.Kernel)
		pe.send(pe.assoc, registration("q", 2, "10.0.0.2"))
		time.Sleep(20 * time.Second)
		pending(2)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Second)
		pending(0)
	})
}

// TestKept: what is read is what was written.
func TestKept(t *testing.T) {
	at := time.UnixMilli(1.7e12)
	pe := &handlespace.Element{PoolElement: rserpool.PoolElement{
		ID: 7, Home: 8, Life: 600, EncapPort: 9899, UserEncapPort: 1, Identity: "dns:web.example",
		UserTransport: rserpool.Transport{Type: rserpool.SCTP, Port: 80, Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("2001:db8::1")}},
		ASAPTransport: rserpool.Transport{Type: rserpool.SCTP, Port: 81, Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.1")}},
		Policy:        rserpool.Policy{Type: rserpool.WeightedRoundRobin, Weight: 5},
		Unknown:       []rserpool.Parameter{{Type: 0xffff, Value: []byte{1, 2, 3, 4}}},
	}}
	endless := *pe
	endless.Life = -1
	d := newDecoder() // of all: what is decoded later must not change what was decoded before
	var all, read []registrar.Kept
	for _, want := range []registrar.Kept{
		{Handle: "p", PE: pe, OwnASAP: true, Via: rserpool.ViaUDP, EncapPort: 4, Host: []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:5"), netip.MustParseAddrPort("[fe80::1%eth0]:6")}},
		{Handle: "\x00\xff", PE: pe, Suspect: at.Add(time.Second)},
		{Handle: "p", PE: &endless, Via: rserpool.ViaKernel},
	} {
		b, err := (*kept)(&want).Append([]byte("before"))
		if err != nil {
			t.Fatal(err)
		}
		var got, other registrar.Kept
		if !d.parse(&got, []byte(keyOf(want.Handle, want.PE.ID)), b[6:]) {
			t.Fatal("cannot be read")
		}
		all, read = append(all, want), append(read, got)
		for i := range b[6:] { // no prefix of it is an element
			if d.parse(&other, []byte(keyOf(want.Handle, want.PE.ID)), b[6:6+i]) {
				t.Fatalf("the first %d bytes of %d are read", i, len(b)-6)
			}
		}
		if d.parse(&other, []byte(keyOf(want.Handle, 8)), b[6:]) {
			t.Error("it is read under another identifier")
		}
	}
	if diff := cmp.Diff(all, read, cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestKeptDamaged: no bytes make the reader panic.
func TestKeptDamaged(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var k registrar.Kept
	d := newDecoder()
	for range 20_000 {
		b := make([]byte, r.IntN(60))
		for i := range b {
			b[i] = byte(r.IntN(math.MaxUint8 + 1))
		}
		_ = d.parse(&k, b[:min(len(b), 5)], b)
		_ = parsePlaces(b)
	}
}

func TestPlaces(t *testing.T) {
	want := [][]netip.AddrPort{{netip.MustParseAddrPort("10.0.0.1:5")}, {netip.MustParseAddrPort("10.0.0.2:5"), netip.MustParseAddrPort("[::1]:6")}}
	b := appendPlaces(nil, want)
	if got := parsePlaces(b); !cmp.Equal(want, got, cmpopts.EquateComparable(netip.AddrPort{})) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := parsePlaces(b[:len(b)-1]); len(got) != 1 {
		t.Errorf("got %v of a text that is cut", got)
	}
	if !bytes.Equal(appendPlaces(nil, nil), nil) {
		t.Error("no places are something")
	}
}
