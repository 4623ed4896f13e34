package cookie

import (
	"bytes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// The parts of a cookie.
const (
	version  = 1
	idLen    = 4
	headLen  = 1 + idLen
	openLen  = headLen + chacha20poly1305.NonceSizeX // not encrypted
	timesLen = 16
)

const (
	// Overhead is how many octets a cookie has more than its state.
	Overhead = openLen + timesLen + chacha20poly1305.Overhead
	// MaxState is the longest state in octets: an ASAP message has at most 65,535, with
	// its header and that of the cookie (RFC 5354, Section 3.13).
	MaxState = math.MaxUint16 - 8 - Overhead
	// MaxKeys is the greatest number of keys of a Sealer.
	MaxKeys = 16
	// DefaultLife is Config.Life where it is not set.
	DefaultLife = time.Hour
)

// The errors of Open. All but these are of Config.Check.
var (
	// ErrTruncated: the cookie is too short to be one.
	ErrTruncated = errors.New("state cookie is truncated")
	// ErrForeign: it was sealed with a key that this pool does not use, or is of another
	// format.
	ErrForeign = errors.New("state cookie is not of this pool, or of a key that is no longer used")
	// ErrForged: it was not sealed by this pool for this identity, or was changed.
	ErrForged = errors.New("state cookie is forged")
	// ErrExpired: Config.Life has passed since it was sealed.
	ErrExpired = errors.New("state cookie has expired")
)

// ErrTooLong is the error of Seal for a state of more than MaxState octets.
var ErrTooLong = fmt.Errorf("state is too long for a cookie: at most %d octets", MaxState)

// Config configures a Sealer. Pool and Keys are required.
type Config struct {
	// Pool is the handle of the elements' pool. Cookies of other pools are foreign, even
	// if these have the same keys.
	Pool rserpool.PoolHandle
	// Keys are the keys, at most MaxKeys: the first one seals, all open.
	Keys []Key
	// Life is how long a cookie is valid; default DefaultLife, at least a millisecond. A
	// session may last longer: its element seals the state again before the cookie expires.
	// The clocks of the elements should differ by much less.
	Life time.Duration
	// Check, if set, is called with what a valid cookie says before Open returns it. If
	// it returns an error, Open returns that error with the cookie refused. It can see a
	// user that goes back to an older cookie, which a Sealer cannot. It may be called
	// from several goroutines at a time.
	Check func(Content) error
	// Now is the clock; default [time.Now].
	Now func() time.Time
}

// Content is what a valid cookie says.
type Content struct {
	// Identity is the one that Open was called with.
	Identity string
	// State is the state. Check must not change it.
	State []byte
	// Sealed is when the cookie was sealed, by the clock of the element that did so, in
	// whole milliseconds; Expires is until when it is valid.
	Sealed, Expires time.Time
}

// Sealer seals and opens cookies. [New] makes one; the zero value cannot be used. Its
// methods may be called from any goroutine.
type Sealer struct {
	cfg  Config
	keys atomic.Pointer[[]derived]
}

// derived is what a key is for one pool.
type derived struct {
	head [headLen]byte // of its cookies
	aead cipher.AEAD
}

// New makes a Sealer.
func New(cfg Config) (*Sealer, error) {
	if cfg.Pool == "" {
		return nil, errors.New("no pool handle: set Pool to the pool of the elements")
	}
	if cfg.Life == 0 {
		cfg.Life = DefaultLife
	}
	if cfg.Life < time.Millisecond {
		return nil, fmt.Errorf("field Life is %v: it must be at least 1ms", cfg.Life)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	s := &Sealer{cfg: cfg}
	if err := s.SetKeys(cfg.Keys...); err != nil {
		return nil, err
	}
	s.cfg.Keys = nil
	return s, nil
}

// SetKeys replaces the keys: the first one seals, all open. After an error the keys are
// as before.
func (s *Sealer) SetKeys(keys ...Key) error {
	if len(keys) == 0 || len(keys) > MaxKeys {
		return fmt.Errorf("%d cookie keys: there must be 1 to %d", len(keys), MaxKeys)
	}
	list := make([]derived, 0, len(keys))
	for i, k := range keys {
		switch {
		case !k.set:
			return fmt.Errorf("cookie key %d is the zero value: use GenerateKey or ParseKey", i+1)
		case slices.Contains(keys[:i], k):
			return fmt.Errorf("%v is listed twice", k)
		}
		d, err := k.derive(s.cfg.Pool)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(list, func(o derived) bool { return o.head == d.head }) {
			return fmt.Errorf("%v has the same identifier as another key: generate another one", k)
		}
		list = append(list, d)
	}
	s.keys.Store(&list)
	return nil
}

// derive makes the key and the key identifier of a pool.
func (k Key) derive(pool rserpool.PoolHandle) (derived, error) {
	key, err := hkdf.Key(sha256.New, k.secret[:], nil, "rserpool cookie 1 key "+string(pool), chacha20poly1305.KeySize)
	if err != nil {
		return derived{}, err
	}
	id, err := hkdf.Key(sha256.New, k.secret[:], nil, "rserpool cookie 1 id "+string(pool), idLen)
	if err != nil {
		return derived{}, err
	}
	d := derived{head: [headLen]byte{version}}
	copy(d.head[1:], id)
	d.aead, err = chacha20poly1305.NewX(key)
	return d, err
}

// Seal seals a state for a user. identity is who the user has proved to be, such as the
// subject of its TLS certificate, and "" without such a proof: only the same identity can
// use the cookie. The state is not changed or kept.
func (s *Sealer) Seal(identity string, state []byte) ([]byte, error) {
	var nonce [chacha20poly1305.NonceSizeX]byte
	_, _ = rand.Read(nonce[:])
	return s.seal(identity, state, nonce)
}

func (s *Sealer) seal(identity string, state []byte, nonce [chacha20poly1305.NonceSizeX]byte) ([]byte, error) {
	if len(state) > MaxState {
		return nil, fmt.Errorf("%w, got %d", ErrTooLong, len(state))
	}
	d := &(*s.keys.Load())[0]
	now := s.cfg.Now()
	b := make([]byte, 0, len(state)+Overhead)
	b = append(b, d.head[:]...)
	b = append(b, nonce[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(now.UnixMilli()))
	b = binary.BigEndian.AppendUint64(b, uint64(now.Add(s.cfg.Life).UnixMilli()))
	b = append(b, state...)
	// Encrypted in place.
	return d.aead.Seal(b[:openLen], b[headLen:openLen], b[openLen:], additional(d.head[:], identity)), nil
}

// additional are the data that are authenticated beside the cookie's content. The head
// has a fixed length, so no two pairs of head and identity have the same.
func additional(head []byte, identity string) []byte {
	if identity == "" {
		return head
	}
	return append(head[:len(head):len(head)], identity...)
}

// Open gives the state of a cookie that this pool has sealed for the identity, or says
// why the cookie is refused: [ErrTruncated], [ErrForeign], [ErrForged], [ErrExpired] or
// the error of Config.Check. The cookie is not changed or kept.
func (s *Sealer) Open(identity string, cookie []byte) ([]byte, error) {
	if len(cookie) < Overhead {
		return nil, fmt.Errorf("%w: %d octets, at least %d are needed", ErrTruncated, len(cookie), Overhead)
	}
	if len(cookie) > Overhead+MaxState {
		return nil, ErrForeign
	}
	keys := *s.keys.Load()
	for i := range keys {
		d := &keys[i]
		if !bytes.Equal(d.head[:], cookie[:headLen]) {
			continue
		}
		plain, err := d.aead.Open(nil, cookie[headLen:openLen], cookie[openLen:], additional(d.head[:], identity))
		if err != nil {
			return nil, ErrForged
		}
		return s.check(identity, plain)
	}
	return nil, ErrForeign
}

// check gives the state of an authentic cookie if it is valid.
func (s *Sealer) check(identity string, plain []byte) ([]byte, error) {
	at := func(b []byte) time.Time { return time.UnixMilli(int64(binary.BigEndian.Uint64(b))) }
	c := Content{Identity: identity, State: plain[timesLen:], Sealed: at(plain), Expires: at(plain[8:])}
	if now := s.cfg.Now(); !now.Before(c.Expires) {
		return nil, fmt.Errorf("%w: sealed %v ago, valid for %v", ErrExpired, now.Sub(c.Sealed).Round(time.Second), c.Expires.Sub(c.Sealed))
	}
	if s.cfg.Check != nil {
		if err := s.cfg.Check(c); err != nil {
			return nil, fmt.Errorf("state cookie is refused: %w", err)
		}
	}
	return c.State, nil
}
