package main

import (
	"bytes"
	"errors"
	"strings"
	"syscall"
	"testing"
)

// failingWriter writes nothing.
type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

// TestOutputFails: output that cannot be written is an error, whatever the command.
func TestOutputFails(t *testing.T) {
	r := newENRPRegistry(t, nil)
	eventually(t, "the registrar has a handlespace", r.Ready)
	guest := []string{"--via", "udp", "-r", r.enrp}
	disk := errors.New("no space left on device")
	for _, args := range [][]string{
		{"version"},
		{"--version"},
		{},
		{"help"},
		{"help", "register"},
		{"ca"},
		{"resolve", "--help"},
		{"completion", "bash"},
		{"cookie-key"},
		append([]string{"peers"}, guest...),
		append([]string{"dump"}, guest...),
		append([]string{"dump", "--json"}, guest...),
	} {
		for _, w := range []failingWriter{{disk}, {syscall.EPIPE}} {
			var errs bytes.Buffer
			want, says := exitFailed, "rsp: no space left on device\n"
			if errors.Is(w.err, syscall.EPIPE) {
				want, says = exitPipe, ""
			}
			if status, _ := run(args, w, &errs); status != want || errs.String() != says {
				t.Errorf("rsp %s with %v: status %d, want %d, and %q", strings.Join(args, " "), w.err, status, want, errs.String())
			}
		}
	}
}
