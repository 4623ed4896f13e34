package cookie

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/rserpool"
	"github.com/rserpool/coredns-rserpool/test/here"
)

// clock is a clock that tests set.
type clock struct{ time.Time }

func (c *clock) now() time.Time { return c.Time }

func newClock() *clock { return &clock{time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)} }

// testKey is key number n.
func testKey(n byte) Key {
	k := Key{set: true}
	for i := range k.secret {
		k.secret[i] = n + byte(i)
	}
	return k
}

func newSealer(t testing.TB, c *clock, pool rserpool.PoolHandle, keys ...Key) *Sealer {
	t.Helper()
	s, err := New(Config{Pool: pool, Keys: keys, Life: time.Minute, Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func seal(t testing.TB, s *Sealer, identity, state string) []byte {
	t.Helper()
	b, err := s.Seal(identity, []byte(state))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestSealOpen(t *testing.T) {
	c := newClock()
	s := newSealer(t, c, "jobs", testKey(1))
	for _, identity := range []string{"", "CN=user"} {
		for _, state := range []string{"", "x", strings.Repeat("state ", 1000), strings.Repeat("s", MaxState)} {
			b := seal(t, s, identity, state)
			if len(b) != len(state)+Overhead {
				t.Errorf("cookie of %d octets has %d, want %d more", len(state), len(b), Overhead)
			}
			if len(state) > 3 && bytes.Contains(b, []byte(state[:4])) {
				t.Error("the state can be read in the cookie")
			}
			got, err := s.Open(identity, b)
			if err != nil || string(got) != state {
				t.Errorf("Open gives %.20q, %v, want the state", got, err)
			}
			if bytes.Equal(b, seal(t, s, identity, state)) {
				t.Error("two cookies of one state are the same")
			}
		}
	}
	if Overhead != 61 {
		t.Errorf("the overhead is %d octets, docs say 61", Overhead)
	}
	if _, err := s.Seal("", make([]byte, MaxState+1)); !errors.Is(err, ErrTooLong) {
		t.Errorf("Seal of a long state gives %v, want ErrTooLong", err)
	}
}

func TestRefused(t *testing.T) {
	c := newClock()
	s := newSealer(t, c, "jobs", testKey(1))
	good := seal(t, s, "user", "state")
	changed := func(i int) []byte {
		b := bytes.Clone(good)
		b[(len(b)+i)%len(b)] ^= 1
		return b
	}
	tests := []struct {
		name   string
		cookie []byte
		want   error
	}{
		{"nothing", nil, ErrTruncated},
		{"short", good[:Overhead-1], ErrTruncated},
		{"cut", good[:len(good)-1], ErrForged},
		{"with one octet more", append(bytes.Clone(good), 0), ErrForged},
		{"other version", changed(0), ErrForeign},
		{"other key identifier", changed(1), ErrForeign},
		{"other nonce", changed(headLen), ErrForged},
		{"other expiry", changed(openLen + 15), ErrForged},
		{"other state", changed(-17), ErrForged},
		{"other tag", changed(-1), ErrForged},
		{"too long", append(bytes.Clone(good), make([]byte, MaxState)...), ErrForeign},
		{"of another pool with the same key", seal(t, newSealer(t, c, "jobs2", testKey(1)), "user", "state"), ErrForeign},
		{"of another key", seal(t, newSealer(t, c, "jobs", testKey(2)), "user", "state"), ErrForeign},
		{"of another identity", seal(t, s, "user2", "state"), ErrForged},
		{"of no identity", seal(t, s, "", "state"), ErrForged},
		{"raw", []byte("the cookie of an element that does not seal, and long enough for one"), ErrForeign},
	}
	for _, tt := range tests {
		if got, err := s.Open("user", tt.cookie); !errors.Is(err, tt.want) || got != nil {
			t.Errorf("%s: Open gives %q, %v, want %v", tt.name, got, err, tt.want)
		}
	}
	c.Time = c.Add(time.Minute - time.Millisecond)
	if _, err := s.Open("user", good); err != nil {
		t.Errorf("Open just before the expiry gives %v", err)
	}
	c.Time = c.Add(time.Millisecond)
	if _, err := s.Open("user", good); !errors.Is(err, ErrExpired) {
		t.Errorf("Open at the expiry gives %v, want ErrExpired", err)
	}
}

// TestRotation: the keys of a pool change one element after the other, and no cookie is
// refused meanwhile.
func TestRotation(t *testing.T) {
	c := newClock()
	k1, k2 := testKey(1), testKey(101)
	pool := []*Sealer{newSealer(t, c, "jobs", k1), newSealer(t, c, "jobs", k1)}
	exchange := func() {
		t.Helper()
		for _, from := range pool {
			b := seal(t, from, "", "state")
			for i, to := range pool {
				if _, err := to.Open("", b); err != nil {
					t.Errorf("element %d refuses a cookie: %v", i, err)
				}
			}
		}
	}
	old := seal(t, pool[0], "", "state")
	for _, keys := range [][]Key{{k1, k2}, {k2, k1}} {
		for _, s := range pool {
			if err := s.SetKeys(keys...); err != nil {
				t.Fatal(err)
			}
			exchange()
		}
	}
	if _, err := pool[0].Open("", old); err != nil {
		t.Errorf("a cookie of the old key is refused: %v", err)
	}
	for _, s := range pool {
		if err := s.SetKeys(k2); err != nil {
			t.Fatal(err)
		}
		exchange()
	}
	if _, err := pool[0].Open("", old); !errors.Is(err, ErrForeign) {
		t.Errorf("a cookie of a key that was removed gives %v, want ErrForeign", err)
	}
	if err := pool[0].SetKeys(); err == nil {
		t.Error("a Sealer can be without keys")
	}
	exchange() // with the keys as before
}

// TestCheck: the hook sees a user that goes back to an older state.
func TestCheck(t *testing.T) {
	c := newClock()
	latest := c.Time
	errOld := errors.New("an older state")
	s, err := New(Config{Pool: "jobs", Keys: []Key{testKey(1)}, Now: c.now, Check: func(got Content) error {
		if got.Identity != "user" || !bytes.HasPrefix(got.State, []byte("state")) || got.Expires.Sub(got.Sealed) != DefaultLife {
			t.Errorf("Check gets %+v", got)
		}
		if got.Sealed.Before(latest) {
			return errOld
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	first := seal(t, s, "user", "state 1")
	c.Time = c.Add(time.Second)
	second := seal(t, s, "user", "state 2")
	if _, err := s.Open("user", first); err != nil {
		t.Errorf("the first cookie: %v", err)
	}
	latest = c.Time
	if _, err := s.Open("user", second); err != nil {
		t.Errorf("the second cookie: %v", err)
	}
	if got, err := s.Open("user", first); !errors.Is(err, errOld) || got != nil {
		t.Errorf("the first cookie gives %q, %v, want the error of Check", got, err)
	}
}

func TestConfig(t *testing.T) {
	k := testKey(1)
	for name, cfg := range map[string]Config{
		"no pool":        {Keys: []Key{k}},
		"no key":         {Pool: "jobs"},
		"zero key":       {Pool: "jobs", Keys: []Key{{}}},
		"same keys":      {Pool: "jobs", Keys: []Key{k, k}},
		"too many keys":  {Pool: "jobs", Keys: make([]Key, MaxKeys+1)},
		"negative life":  {Pool: "jobs", Keys: []Key{k}, Life: -1},
		"very short one": {Pool: "jobs", Keys: []Key{k}, Life: 1},
	} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: New accepts %+v", name, cfg)
		}
	}
}

func TestKeys(t *testing.T) {
	k := GenerateKey()
	if k == GenerateKey() {
		t.Fatal("two new keys are the same")
	}
	got, err := ParseKey(k.Secret() + "\n")
	if err != nil || got != k {
		t.Errorf("ParseKey of %v gives %v, %v", k, got, err)
	}
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		text := fmt.Sprintf(format, k)
		if !strings.Contains(text, "cookie key ") || strings.Contains(text, k.Secret()[len(keyPrefix):20]) {
			t.Errorf("%s prints %s", format, text)
		}
	}
	text := k.Secret()
	typo := []byte(text)
	typo[20] ^= 1
	for _, bad := range []string{"", "rspcookie1-", text[:len(text)-1], text + "A", text[1:], string(typo)} {
		if _, err := ParseKey(bad); err == nil || len(bad) > 20 && strings.Contains(err.Error(), bad[15:20]) {
			t.Errorf("ParseKey(%q) gives %v, want an error without the key", bad, err)
		}
	}
	k2 := GenerateKey()
	keys, err := ParseKeys([]byte("# keys of the pool jobs\n\n" + k.Secret() + "\n  " + k2.Secret() + "  \r\n"))
	if err != nil || len(keys) != 2 || keys[0] != k || keys[1] != k2 {
		t.Errorf("ParseKeys gives %v, %v", keys, err)
	}
	if _, err := ParseKeys([]byte("# none\n")); err == nil {
		t.Error("ParseKeys accepts a file without keys")
	}
	if _, err := ParseKeys([]byte(k.Secret() + "\nsecret\n")); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("ParseKeys gives %v, want an error in line 2", err)
	}
}

// TestAllocs: one allocation for what is returned, one more for a user with an identity.
func TestAllocs(t *testing.T) {
	if here.Race() {
		t.Skip("LEFT OUT: the race detector adds allocations; run the test without -race")
	}
	s := newSealer(t, newClock(), "jobs", testKey(1), testKey(2))
	state := make([]byte, 200)
	for identity, want := range map[string]float64{"": 1, "CN=user": 2} {
		var b []byte
		if got := testing.AllocsPerRun(100, func() { b, _ = s.Seal(identity, state) }); got > want {
			t.Errorf("Seal for %q allocates %v times, want at most %v", identity, got, want)
		}
		if got := testing.AllocsPerRun(100, func() { _, _ = s.Open(identity, b) }); got > want {
			t.Errorf("Open for %q allocates %v times, want at most %v", identity, got, want)
		}
	}
}

// FuzzOpen: no cookie but those that were sealed is opened.
func FuzzOpen(f *testing.F) {
	c := newClock()
	s := newSealer(f, c, "jobs", testKey(1), testKey(101))
	sealed, err := s.seal("", []byte("state"), [24]byte{}) // the same in all processes
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte{})
	f.Add(sealed)
	f.Add(sealed[:len(sealed)-1])
	f.Add(append(bytes.Clone(sealed[:headLen]), make([]byte, 100)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		state, err := s.Open("", b)
		if !bytes.Equal(before, b) {
			t.Fatal("Open changes the cookie")
		}
		if bytes.Equal(b, sealed) {
			if err != nil || string(state) != "state" {
				t.Fatalf("a good cookie gives %q, %v", state, err)
			}
			return
		}
		if err == nil || state != nil {
			t.Fatalf("Open gives %q, %v for a cookie that was not sealed: %x", state, err, b)
		}
		if !errors.Is(err, ErrTruncated) && !errors.Is(err, ErrForeign) && !errors.Is(err, ErrForged) {
			t.Fatalf("Open gives %v", err)
		}
	})
}

func BenchmarkSeal(b *testing.B) {
	s := newSealer(b, newClock(), "jobs", testKey(1))
	state := make([]byte, 200)
	b.ReportAllocs()
	for b.Loop() {
		_, _ = s.Seal("", state)
	}
}

func BenchmarkOpen(b *testing.B) {
	s := newSealer(b, newClock(), "jobs", testKey(1))
	c, _ := s.Seal("", make([]byte, 200))
	b.ReportAllocs()
	for b.Loop() {
		_, _ = s.Open("", c)
	}
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}
