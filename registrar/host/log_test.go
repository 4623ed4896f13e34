package host

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
)

// A log that accepts nothing, such as a full pipe, delays neither the registrar
// nor its end, and tells later how much it has missed.
func TestStuckLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw := sctptest.NewNetwork()
		stuck := make(chan struct{})
		var lines []string // its goroutine's until that has ended
		h, err := Open(Config{
			ASAP:    []netip.AddrPort{netip.MustParseAddrPort(hostAddr)},
			network: func() (network, error) { return memory{nw}, nil },
			Logger: logTo(func(_ bool, text string) {
				<-stuck
				lines = append(lines, text)
			}),
		})
		if err != nil {
			t.Fatal(err)
		}
		pe := newPeer(t, memory{nw}, "10.0.0.1:1")
		pe.connect(h.LocalAddrs()[0], sctp.Kernel)
		const elements = 2 * logQueue
		for i := range elements {
			// The core itself leaves out lines that come too fast.
			time.Sleep(50 * time.Millisecond)
			pe.send(pe.assoc, registration(fmt.Sprint("pool", i), 7, "10.0.0.1"))
			if m := last[*asap.RegistrationResponse](pe); m.Reject {
				t.Fatalf("registration %d is refused: %v", i, m.Causes)
			}
		}
		start := time.Now()
		if err := h.Close(); err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took != logFlush {
			t.Errorf("the end took %v, want %v", took, logFlush)
		}
		close(stuck)
		<-h.log.ended
		text := strings.Join(lines, "\n")
		if n := len(lines); n < logQueue || n > logQueue+3 || !strings.Contains(text, "log lines were dropped") {
			t.Errorf("%d lines, want those of the queue and how many were left out:\n%s", n, text)
		}
	})
}
