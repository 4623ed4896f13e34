package registrar

import (
	"encoding/hex"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// exchange is a message to a registrar with the reference implementation's response.
type exchange struct {
	capture, number string
	peer            netip.AddrPort
	message         []byte
	answers         []string
	ours            string // if it is another answer, "-" for none
}

func readExchanges(t *testing.T) []*exchange {
	t.Helper()
	b, err := os.ReadFile("testdata/exchanges.txt")
	if err != nil {
		t.Fatal(err)
	}
	var list []*exchange
	open := make(map[string]*exchange) // by capture and peer
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if strings.HasPrefix(line, "#") || len(f) < 5 {
			continue
		}
		key := f[0] + f[2]
		switch f[3] {
		case "<":
			open[key].answers = append(open[key].answers, f[4])
			continue
		case "=":
			ours, _, _ := strings.Cut(strings.Join(f[4:], " "), " #")
			open[key].ours = ours
			continue
		}
		data, err := hex.DecodeString(f[4])
		if err != nil {
			t.Fatal(err)
		}
		open[key] = &exchange{capture: f[0], number: f[1], peer: netip.MustParseAddrPort(f[2]), message: data}
		list = append(list, open[key])
	}
	return list
}

// The captured clients get the reference implementation's responses, byte for byte,
// except for the deliberate differences.
func TestExchanges(t *testing.T) {
	var w *world
	assocs := make(map[string]AssocID)
	capture, n := "", 0
	for _, x := range readExchanges(t) {
		if x.capture != capture {
			capture, w = x.capture, newWorld(t)
		}
		key := x.capture + x.peer.String()
		if assocs[key] == 0 {
			assocs[key] = AssocID(len(assocs) + 1)
			w.handle(AssocUp{Assoc: assocs[key], Peer: []netip.AddrPort{x.peer}, Via: rserpool.ViaKernel})
		}
		var got []string
		for _, a := range w.handle(Received{Assoc: assocs[key], PPID: 11, Data: x.message}) {
			if s, ok := a.(*Send); ok && s.Data[0] != 7 {
				got = append(got, hex.EncodeToString(s.Data))
			}
		}
		want := strings.Join(x.answers, " ")
		if x.ours != "" {
			want = strings.TrimPrefix(x.ours, "-")
		}
		if got := strings.Join(got, " "); got != want {
			t.Errorf("%s %s, %x:\n got %s\nwant %s", x.capture, x.number, x.message, got, want)
		}
		n++
	}
	if n < 150 {
		t.Errorf("only %d exchanges", n)
	}
}
