package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/rserpool/coredns-rserpool/asap/endpoint"
	"github.com/rserpool/coredns-rserpool/asap/pe"
)

// TestHintOnce: whether a registrar runs at all is asked once, and not where
// one has answered.
func TestHintOnce(t *testing.T) {
	none := pe.Event{Type: pe.NoRegistrar, Err: &endpoint.UnreachableError{}}
	lost := pe.Event{Type: pe.HomeLost, Err: errors.New("it refuses element 1")}
	for _, tt := range []struct {
		name   string
		events []pe.Event
		want   int
	}{
		{"nobody there", []pe.Event{none, none}, 1},
		{"no room there", []pe.Event{lost, none}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out strings.Builder
			s := &supervisor{registration: &registration{cfg: pe.Config{Pool: "web"}}, log: &logger{w: &out, level: normal}}
			for _, ev := range tt.events {
				s.notify(ev)
			}
			if got := strings.Count(out.String(), "is a registrar running there?"); got != tt.want {
				t.Errorf("the hint comes %d times, want %d:\n%s", got, tt.want, &out)
			}
		})
	}
}
