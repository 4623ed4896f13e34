package sctptest

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
)

// The types of the content of records, and messages that package tls never sends of itself
// (RFC 8446, Sections 4.6 and 5.1).
const (
	RecordAlert     = 0x15
	RecordHandshake = 0x16
	RecordData      = 0x17
)

var (
	// KeyUpdate has the receiver change the keys of what it reads, and KeyUpdateBoth also
	// those of what it sends.
	KeyUpdate, KeyUpdateBoth = []byte{0x18, 0, 0, 1, 0}, []byte{0x18, 0, 0, 1, 1}
	// Ticket is a NewSessionTicket.
	Ticket = []byte{4, 0, 0, 15, 0, 0, 1, 0, 0, 0, 0, 0, 1, 7, 0, 1, 9, 0, 0}
)

// Secrets are those of one handshake. It is the KeyLogWriter of its tls.Config.
type Secrets struct{ log bytes.Buffer }

// Write implements io.Writer.
func (s *Secrets) Write(b []byte) (int, error) { return s.log.Write(b) }

// Records makes and opens the records of one side of TLS 1.3 after its handshake.
type Records struct {
	t testing.TB
	// Out are the keys of what the side sends, In those of what it receives.
	Out, In *RecordKeys
}

// Records takes over from package tls.
func (s *Secrets) Records(t testing.TB, conn *tls.Conn, client bool) *Records {
	t.Helper()
	if suite := conn.ConnectionState().CipherSuite; suite != tls.TLS_AES_128_GCM_SHA256 {
		t.Skipf("LEFT OUT: TLS with %s. This machine's processor has no instructions for AES", tls.CipherSuiteName(suite))
	}
	out, in := "CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0"
	if !client {
		out, in = in, out
	}
	return &Records{t, s.keys(t, out), s.keys(t, in)}
}

// keys finds a secret in the log, whose lines have a label, a random and the secret.
func (s *Secrets) keys(t testing.TB, label string) *RecordKeys {
	t.Helper()
	for line := range strings.Lines(s.log.String()) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == label {
			secret, err := hex.DecodeString(f[2])
			if err != nil {
				t.Fatal(err)
			}
			k := &RecordKeys{t: t}
			k.use(secret)
			return k
		}
	}
	t.Fatalf("Got no %s from package tls", label)
	return nil
}

// Seal makes a record.
func (r *Records) Seal(content byte, data []byte) []byte { return r.Out.seal(content, data) }

// Open opens a record, and returns the type of its content.
func (r *Records) Open(record []byte) (content byte, data []byte) {
	r.t.Helper()
	return r.In.open(record)
}

// RecordKeys are the keys of one direction.
type RecordKeys struct {
	t      testing.TB
	secret []byte
	aead   cipher.AEAD
	iv     []byte
	seq    uint64
}

// Update changes the keys (RFC 8446, Section 7.2).
func (k *RecordKeys) Update() { k.use(k.expand(k.secret, "traffic upd", sha256.Size)) }

// use derives the keys from a secret (RFC 8446, Section 7.3).
func (k *RecordKeys) use(secret []byte) {
	k.t.Helper()
	block, err := aes.NewCipher(k.expand(secret, "key", 16))
	if err != nil {
		k.t.Fatal(err)
	}
	if k.aead, err = cipher.NewGCM(block); err != nil {
		k.t.Fatal(err)
	}
	k.secret, k.iv, k.seq = secret, k.expand(secret, "iv", 12), 0
}

// expand is HKDF-Expand-Label without a context (RFC 8446, Section 7.1).
func (k *RecordKeys) expand(secret []byte, label string, n int) []byte {
	k.t.Helper()
	label = "tls13 " + label
	out, err := hkdf.Expand(sha256.New, secret, fmt.Sprintf("%c%c%c%s%c", 0, n, len(label), label, 0), n)
	if err != nil {
		k.t.Fatal(err)
	}
	return out
}

// nonce is that of the next record (RFC 8446, Section 5.3).
func (k *RecordKeys) nonce() []byte {
	n := bytes.Clone(k.iv)
	binary.BigEndian.PutUint64(n[4:], binary.BigEndian.Uint64(n[4:])^k.seq)
	k.seq++
	return n
}

func (k *RecordKeys) seal(content byte, data []byte) []byte {
	inside := append(bytes.Clone(data), content)
	head := binary.BigEndian.AppendUint16([]byte{RecordData, 3, 3}, uint16(len(inside)+k.aead.Overhead()))
	return k.aead.Seal(head, k.nonce(), inside, head)
}

func (k *RecordKeys) open(record []byte) (content byte, data []byte) {
	k.t.Helper()
	inside, err := k.aead.Open(nil, k.nonce(), record[5:], record[:5])
	if err != nil {
		k.t.Fatalf("record of %d bytes: %v", len(record), err)
	}
	last := len(inside) - 1
	return inside[last], inside[:last]
}
