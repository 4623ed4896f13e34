package cookie

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"testing"
	"time"

	"golang.org/x/crypto/chacha20"
	"golang.org/x/crypto/chacha20poly1305"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// vectorKey is the text of the octets 1 to 32.
const vectorKey = "rspcookie1-AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyC4OV1y"

// vectors are cookies with given nonces, for other implementations of the format. Pool
// jobs, sealed at 2026-11-28 12:00:00 UTC for a minute.
var vectors = []struct {
	key             string
	identity, state string
	nonce           byte // the first octet; the next ones count on
	cookie          string
}{
	{vectorKey, "", "", 0, "0134b6176a 000102030405060708090a0b0c0d0e0f1011121314151617 41b9f8c4e8d3515ce30205b21cb14942 a3b7aa19f20d55af71f2f0abb70dfe14"},
	{vectorKey, "", "state", 0x40, "0134b6176a 404142434445464748494a4b4c4d4e4f5051525354555657 d6d17cb9dff4b1f876211fad828c7cc6a1cbd4e83a e7a4dbe72ed84621cce54ac1a5f595eb"},
	{vectorKey, "CN=user", "state", 0x80, "0134b6176a 808182838485868788898a8b8c8d8e8f9091929394959697 c0071c4a478f918ed294356e821749f069daa97ba6 dbb60647d1ee38b40a7b3338d0eb8b67"},
}

// TestVectors: the cookies are as written down, and as a slow second implementation of
// the format in doc.go gives them.
func TestVectors(t *testing.T) {
	c := newClock()
	for i, v := range vectors {
		k, err := ParseKey(v.key)
		if err != nil {
			t.Fatal(err)
		}
		s := newSealer(t, c, "jobs", k)
		var nonce [chacha20poly1305.NonceSizeX]byte
		for j := range nonce {
			nonce[j] = v.nonce + byte(j)
		}
		got, err := s.seal(v.identity, []byte(v.state), nonce)
		if err != nil {
			t.Fatal(err)
		}
		if slow := slowSeal(t, k, "jobs", v.identity, v.state, nonce[:], c.Time, time.Minute); !bytes.Equal(got, slow) {
			t.Errorf("vector %d is\n%x, by the second implementation\n%x", i, got, slow)
		}
		if want := unhex(t, v.cookie); !bytes.Equal(got, want) {
			t.Errorf("vector %d is\n%x, want\n%x", i, got, want)
		}
		if state, err := s.Open(v.identity, got); err != nil || string(state) != v.state {
			t.Errorf("vector %d opens to %q, %v", i, state, err)
		}
	}
}

// slowSeal seals as doc.go says, with HKDF and XChaCha20 made from their parts.
func slowSeal(t *testing.T, k Key, pool rserpool.PoolHandle, identity, state string, nonce []byte, now time.Time, life time.Duration) []byte {
	t.Helper()
	mac := func(key []byte, parts ...string) []byte {
		h := hmac.New(sha256.New, key)
		for _, p := range parts {
			h.Write([]byte(p))
		}
		return h.Sum(nil)
	}
	prk := mac(make([]byte, 32), string(k.secret[:]))
	key := mac(prk, "rserpool cookie 1 key ", string(pool), "\x01")
	head := append([]byte{1}, mac(prk, "rserpool cookie 1 id ", string(pool), "\x01")[:4]...)
	sub, err := chacha20.HChaCha20(key, nonce[:16])
	if err != nil {
		t.Fatal(err)
	}
	aead, err := chacha20poly1305.New(sub)
	if err != nil {
		t.Fatal(err)
	}
	plain := binary.BigEndian.AppendUint64(nil, uint64(now.UnixMilli()))
	plain = binary.BigEndian.AppendUint64(plain, uint64(now.Add(life).UnixMilli()))
	plain = append(plain, state...)
	sealed := aead.Seal(nil, append(make([]byte, 4), nonce[16:]...), plain, append(bytes.Clone(head), identity...))
	return bytes.Join([][]byte{head, nonce, sealed}, nil)
}
