package trust_test

import (
	"bytes"
	"regexp"
	"slices"
	"testing"

	"github.com/rserpool/coredns-rserpool/internal/trust/trusttest"
)

// TestDamagedBundle: a file of CAs that has lost one of them by damage is refused, and the former
// one stays in use.
func TestDamagedBundle(t *testing.T) {
	c := newClock()
	one, two, three := issue(t, nil, ca("one")), issue(t, nil, ca("two")), issue(t, nil, ca("three"))
	whole := pemOf(one, two, three)
	joined := slices.Concat(bytes.TrimSpace(pemOf(one)), pemOf(two, three))
	leaf := issue(t, three, named(web))
	f := files(t, []*cert{one, two, three}, leaf)
	cred, _ := open(t, f, c)
	for name, text := range map[string][]byte{
		"no newline between two":   joined,
		"the end is cut off":       whole[:len(whole)-40],
		"the begin is cut off":     whole[5:],
		"a character is damaged":   bytes.Replace(whole, []byte("\nMII"), []byte("\nM!I"), 1),
		"a certificate is shifted": bytes.Replace(whole, pemOf(two), append([]byte("  "), pemOf(two)...), 1),
	} {
		trusttest.Write(t, f.CA, text)
		changed, err := cred.Reload()
		if changed || err == nil || !regexp.MustCompile(`ca.pem: only [12] of 3 certificates can be read`).MatchString(err.Error()) {
			t.Errorf("%s: %v, %v", name, changed, err)
		}
		if _, _, err := cred.Identify(state(leaf)); err != nil {
			t.Errorf("%s: the former file is not in use: %v", name, err)
		}
	}
	trusttest.Write(t, f.CA, slices.Concat([]byte("# no -----BEGIN CERTIFICATE----- here\nTwo of them:\n"), pemOf(one), []byte("\n\n"), pemOf(three)))
	if changed, err := cred.Reload(); !changed || err != nil {
		t.Errorf("with comments: %v, %v", changed, err)
	}
}
