package main

import (
	"syscall"
	"testing"
	"time"
)

// TestDrain: between the deregistration and the signal to the command, clients have time
// to resolve again.
func TestDrain(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	start := func(t *testing.T, s *server, drain string, more ...string) *proc {
		args := append([]string{"--drain", drain}, more...)
		if s != nil {
			args = append(args, s.args...)
		}
		p := startRSP(t, register(r, args...)...)
		r.has(t, "web", 1)
		return p
	}
	t.Run("command", func(t *testing.T) {
		s := newServer(t)
		p := start(t, s, "500ms")
		s.lives(p)
		begin := time.Now()
		p.signal(syscall.SIGTERM)
		p.says("deregistered")
		r.has(t, "web", 0)
		s.lives(p)
		if status := p.wait(); status != 9 {
			t.Errorf("status %d, want the command's 9", status)
		}
		if d := time.Since(begin); d < 500*time.Millisecond {
			t.Errorf("the command ends after %v, want 500ms at least", d)
		}
	})
	t.Run("second signal", func(t *testing.T) {
		s := newServer(t)
		p := start(t, s, "10m")
		s.lives(p)
		p.signal(syscall.SIGTERM)
		p.says("draining")
		time.Sleep(repeatTime + 50*time.Millisecond)
		s.end(p)
	})
	t.Run("the command ends", func(t *testing.T) {
		p := start(t, nil, "10m", "--", "/bin/sh", "-c", "trap 'exit 7' HUP; echo ready; while :; do sleep 0.05; done")
		p.says("ready")
		p.signal(syscall.SIGTERM)
		p.says("draining")
		p.signal(syscall.SIGHUP) // which is passed on
		if status := p.wait(); status != 7 {
			t.Errorf("status %d, want the command's 7", status)
		}
	})
	t.Run("no command", func(t *testing.T) {
		p := start(t, nil, "500ms")
		begin := time.Now()
		p.signal(syscall.SIGTERM)
		p.says("draining")
		r.has(t, "web", 0)
		if status := p.wait(); status != exitOK {
			t.Errorf("status %d", status)
		}
		if d := time.Since(begin); d < 500*time.Millisecond {
			t.Errorf("rsp ends after %v, want 500ms at least", d)
		}
	})
	t.Run("no command, second signal", func(t *testing.T) {
		p := start(t, nil, "10m")
		p.signal(syscall.SIGTERM)
		p.says("draining")
		p.again(syscall.SIGTERM)
		if status := p.wait(); status != exitOK {
			t.Errorf("status %d", status)
		}
	})
	t.Run("never registered", func(t *testing.T) {
		s := newServer(t)
		p := startRSP(t, append([]string{"register", "-p", "web", "-s", "tcp:1", "--via", "udp", "-r", "127.0.0.1/1", "--drain", "10m"}, s.args...)...)
		p.says("no registrar could be reached")
		s.end(p)
	})
}
