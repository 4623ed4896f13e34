package network

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"time"
)

// Link is a host's interface on a LAN.
type Link struct {
	Name string
	host *Host
	lan  *LAN
	tap  *os.File
	wire Wire         // guarded by the LAN's lock
	late chan delayed // frames on their way
	done chan struct{}
}

type delayed struct {
	at    time.Time
	frame []byte
}

// Link adds an interface on a LAN, up and with these addresses ("10.98.1.1/24").
func (h *Host) Link(name string, lan *LAN, addrs ...string) *Link {
	h.t.Helper()
	l := h.link(name, lan)
	h.addrs(name, addrs)
	l.Up()
	return l
}

// link adds an interface that is down.
func (h *Host) link(name string, lan *LAN) *Link {
	h.t.Helper()
	l := &Link{Name: name, host: h, lan: lan, late: make(chan delayed, 4096), done: make(chan struct{})}
	err := h.space.do(func() (err error) {
		l.tap, err = openTap(name)
		return err
	})
	if err != nil {
		h.t.Fatal(err)
	}
	h.IP(fmt.Sprintf("link set %s address %s", name, h.n.mac()))
	lan.mu.Lock()
	lan.ports = append(lan.ports, l)
	lan.mu.Unlock()
	go l.read()
	go l.deliverLate()
	h.links = append(h.links, l)
	return l
}

// mac gives a hardware address that is new in this network.
func (n *Network) mac() string {
	n.macs++
	return fmt.Sprintf("02:00:00:00:%02x:%02x", n.macs>>8&255, n.macs&255)
}

// read takes the host's frames to the LAN.
func (l *Link) read() {
	defer close(l.done)
	buf := make([]byte, 1<<16)
	for {
		n, err := l.tap.Read(buf)
		if err != nil {
			return
		}
		l.lan.frame(l, buf[:n])
	}
}

// deliver takes a frame to the host; the LAN's lock is held.
func (l *Link) deliver(frame []byte, delay time.Duration) {
	if delay == 0 && len(l.late) == 0 {
		_, _ = l.tap.Write(frame) // fails where the interface is down
		return
	}
	select {
	case l.late <- delayed{time.Now().Add(delay), bytes.Clone(frame)}:
	default: // so many frames are no test of ours: the wire is full
	}
}

func (l *Link) deliverLate() {
	for d := range l.late {
		time.Sleep(time.Until(d.at)) // this is the wire's length
		_, _ = l.tap.Write(d.frame)
	}
}

// Wire changes the wire between the host and the LAN.
func (l *Link) Wire(w Wire) {
	l.lan.mu.Lock()
	defer l.lan.mu.Unlock()
	l.wire = w
}

// Up brings the interface up.
func (l *Link) Up() { l.host.t.Helper(); l.host.IP("link set", l.Name, "up") }

// Down takes the interface down.
func (l *Link) Down() { l.host.t.Helper(); l.host.IP("link set", l.Name, "down") }

// Unplug takes the carrier away, as a cable that is pulled out; the addresses stay.
func (l *Link) Unplug() { l.host.t.Helper(); l.carrier(false) }

// Plug brings the carrier back.
func (l *Link) Plug() { l.host.t.Helper(); l.carrier(true) }

func (l *Link) carrier(on bool) {
	l.host.t.Helper()
	if err := setCarrier(l.tap, on); err != nil {
		l.host.t.Fatalf("carrier of %s: %v", l.Name, err)
	}
}

// close ends the interface.
func (l *Link) close() {
	l.tap.Close()
	<-l.done
	l.lan.mu.Lock()
	defer l.lan.mu.Unlock()
	for i, p := range l.lan.ports {
		if p == l {
			l.lan.ports = append(l.lan.ports[:i:i], l.lan.ports[i+1:]...)
			break
		}
	}
	for m, p := range l.lan.at {
		if p == l {
			delete(l.lan.at, m)
		}
	}
	close(l.late) // nothing is delivered any more: the lock is held
}

// addrs adds addresses to an interface.
func (h *Host) addrs(name string, addrs []string) {
	h.t.Helper()
	for _, a := range addrs {
		if strings.Contains(a, ":") {
			a += " nodad"
		}
		h.IP("addr add", a, "dev", name)
	}
}
