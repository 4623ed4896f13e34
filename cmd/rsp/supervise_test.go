package main

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/rserpool/coredns-rserpool/asap/pe"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// TestHintOnce: the hint that no registrar may be running is logged once, and not if one
// has answered.
func TestHintOnce(t *testing.T) {
	none := pe.Event{Type: pe.NoRegistrar, Err: &rserpool.UnreachableError{}}
	lost := pe.Event{Type: pe.HomeLost, Err: errors.New("it refuses element 1")}
	aborted := pe.Event{Type: pe.NoRegistrar, Err: &rserpool.UnreachableError{Attempts: []rserpool.Attempt{{Registrar: rserpool.Registrar{Host: "r1", Port: 3864}, Err: errors.New("aborted")}}}}
	for _, tt := range []struct {
		name   string
		tls    bool
		events []pe.Event
		want   int
	}{
		{"nobody there", false, []pe.Event{none, none}, 1},
		{"no room there", false, []pe.Event{lost, none}, 0},
		{"without TLS at the port for TLS", false, []pe.Event{lost, aborted, lost, aborted}, 1},
		{"no room there, in TLS", true, []pe.Event{lost, aborted}, 0},
		{"a registrar was there", false, []pe.Event{{Type: pe.Registered}, lost, aborted}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out strings.Builder
			s := &supervisor{registration: &registration{cfg: pe.Config{Pool: "web"}}, teller: teller{log: &logger{w: &out, level: normal}, pool: "web", tls: tt.tls}}
			for _, ev := range tt.events {
				s.notify(ev)
			}
			if got := strings.Count(out.String(), "is a registrar running there?"); got != tt.want {
				t.Errorf("the hint comes %d times, want %d:\n%s", got, tt.want, &out)
			}
		})
	}
}

// TestUnservedOnce: why a registrar ends the association before it accepts the registration is
// told once a round: with the round, or when another registrar has accepted the element.
func TestUnservedOnce(t *testing.T) {
	aborted := errors.New("aborted")
	unserved := pe.Event{Type: pe.HomeLost, Registrar: "r1:1", Err: aborted, Unserved: true}
	refused := pe.Event{Type: pe.HomeLost, Registrar: "r1:1", Err: &pe.RejectedError{Registrar: "r1:1"}, Unserved: true}
	none := pe.Event{Type: pe.NoRegistrar, Err: &rserpool.UnreachableError{Attempts: []rserpool.Attempt{{Registrar: rserpool.Registrar{Host: "r1", Port: 1}, Err: aborted}}}}
	const round, lost = "no registrar could be reached: r1:1: aborted", "registrar r1:1 has not accepted the registration: aborted"
	for _, tt := range []struct {
		name   string
		events []pe.Event
		want   []string // the lines
	}{
		{"the only one", []pe.Event{unserved, none, unserved, none}, []string{round, round}},
		{"another one accepts", []pe.Event{unserved, {Type: pe.Registered}}, []string{lost, "registered"}},
		{"rounds that are not told", []pe.Event{unserved, none, unserved, unserved, {Type: pe.Registered}}, []string{round, lost, "registered"}},
		{"a refusal", []pe.Event{refused, {Type: pe.Registered}}, []string{"refuses element", "registered"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out strings.Builder
			told := teller{log: &logger{w: &out, level: normal}, pool: "web", hinted: true}
			for _, ev := range tt.events {
				told.notify(ev)
			}
			lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
			if !slices.EqualFunc(lines, tt.want, strings.Contains) {
				t.Errorf("log %q, want %q", lines, tt.want)
			}
		})
	}
}

type refusedError struct{}

func (refusedError) Error() string { return "it refuses element 1" }
func (refusedError) Refused() bool { return true }

// TestRefusedOnce: if all registrars have refused, the round is not logged, because each
// refusal has its line.
func TestRefusedOnce(t *testing.T) {
	for _, tt := range []struct {
		name string
		errs []error
		want string
	}{
		{"all refuse", []error{refusedError{}, refusedError{}}, ""},
		{"one does not answer", []error{refusedError{}, errors.New("no answer")}, "no registrar accepts the registration: r1:1: it refuses element 1; r1:1: no answer"},
		{"none answers", []error{errors.New("no answer")}, "no registrar could be reached: r1:1: no answer"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out strings.Builder
			s := &supervisor{registration: &registration{cfg: pe.Config{Pool: "web"}}, teller: teller{log: &logger{w: &out, level: normal}, pool: "web", hinted: true}}
			none := &rserpool.UnreachableError{}
			for _, err := range tt.errs {
				none.Attempts = append(none.Attempts, rserpool.Attempt{Registrar: rserpool.Registrar{Host: "r1", Port: 1}, Err: err})
			}
			s.notify(pe.Event{Type: pe.NoRegistrar, Err: none})
			if got := out.String(); (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
				t.Errorf("log %q, want %q", got, tt.want)
			}
		})
	}
}

// webConfig is a configuration of an element of the pool web.
func webConfig(r *registry, notify func(pe.Event)) pe.Config {
	return pe.Config{
		Pool:       "web",
		Transport:  rserpool.Transport{Type: rserpool.TCP, Port: 80},
		Policy:     rserpool.Policy{Type: rserpool.RoundRobin},
		Registrars: []string{r.at},
		Via:        rserpool.ViaUDP,
		Notify:     notify,
	}
}

// TestSurvivesPanic: a panic ends the element, but not rsp, which runs another one.
func TestSurvivesPanic(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	out := newReader()
	mistakes := 1
	ctx, cancel := context.WithCancel(t.Context())
	var reg *registration
	var err error
	reg, err = newRegistration(webConfig(r, func(ev pe.Event) {
		reg.observe(ev)
		if mistakes--; mistakes == 0 {
			panic("a mistake")
		}
		if ev.Type == pe.Registered {
			cancel()
		}
	}), &logger{w: out, level: quiet})
	if err != nil {
		t.Fatal(err)
	}
	if err := reg.run(ctx); err != nil {
		t.Error(err)
	}
	if got := out.String(); !strings.Contains(got, "Config.Notify, a function of this program, has panicked: a mistake\n") {
		t.Errorf("the log has no word of the mistake:\n%s", got)
	}
	r.has(t, "web", 0)
}
