package network

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// pcap writes frames to a file that tcpdump reads; nil writes nothing.
type pcap struct {
	mu sync.Mutex
	w  *bufio.Writer // nil after the test
}

// newPcap makes the file of a LAN if NETWORK_PCAP names a directory.
func newPcap(t testing.TB, lan int) *pcap {
	t.Helper()
	dir := os.Getenv("NETWORK_PCAP")
	if dir == "" {
		return nil
	}
	name := fmt.Sprintf("%s-%d.pcap", strings.ReplaceAll(t.Name(), "/", "-"), lan)
	f, err := os.Create(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	p := &pcap{w: bufio.NewWriter(f)}
	var head []byte
	for _, v := range []uint32{0xa1b2c3d4, 2 | 4<<16, 0, 0, 1 << 16, 1} {
		head = binary.NativeEndian.AppendUint32(head, v)
	}
	_, _ = p.w.Write(head)
	t.Cleanup(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		_ = p.w.Flush()
		_ = f.Close()
		p.w = nil
	})
	return p
}

func (p *pcap) write(frame []byte) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.w == nil {
		return
	}
	now := time.Now()
	var head []byte
	for _, v := range []uint32{uint32(now.Unix()), uint32(now.Nanosecond() / 1000), uint32(len(frame)), uint32(len(frame))} {
		head = binary.NativeEndian.AppendUint32(head, v)
	}
	_, _ = p.w.Write(head)
	_, _ = p.w.Write(frame)
}
