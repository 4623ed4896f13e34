package pe_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/rserpool/coredns-rserpool/asap/cookie"
	"github.com/rserpool/coredns-rserpool/asap/pe"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// A TCP server on port 8080 joins the pool web, until SIGTERM.
func Example() {
	e, err := pe.Open(pe.Config{
		Pool:       "web",
		Transport:  rserpool.MustParseTransport("tcp:8080"),
		Policy:     rserpool.MustParsePolicy("WeightedRoundRobin:3"),
		Registrars: []string{"192.0.2.53"},
		Notify:     func(ev pe.Event) { fmt.Println(ev) },
	})
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	select {
	case <-ctx.Done():
	case <-e.Done(): // a registrar refuses the element
	}
	if err := e.Close(); err != nil {
		log.Fatal(err)
	}
}

// A program that must be in the pool before it goes on.
func ExampleElement_Wait() {
	e, err := pe.Open(pe.Config{
		Pool:       "web",
		Transport:  rserpool.MustParseTransport("tcp:8080"),
		Policy:     rserpool.Policy{Type: rserpool.RoundRobin},
		Registrars: []string{"192.0.2.53", "registrar.example.org"},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer e.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	switch err := e.Wait(ctx); {
	case errors.Is(err, rserpool.CauseInconsistentPolicy):
		log.Fatal("the pool has another policy: ", err)
	case err != nil:
		log.Print(err) // the element goes on trying
	}
}

// A server tells how busy it is.
func ExampleElement_Update() {
	e, err := pe.Open(pe.Config{
		Pool:       "web",
		Transport:  rserpool.MustParseTransport("tcp:8080"),
		Policy:     rserpool.Policy{Type: rserpool.LeastUsed},
		Registrars: []string{"192.0.2.53"},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer e.Close()
	busy := 0.25
	err = e.Update(rserpool.Policy{Type: rserpool.LeastUsed, Load: rserpool.FromFraction(busy)})
	if err != nil {
		log.Print(err)
	}
}

// An echo server: five lines in main, and the handler.
func ExampleListenAndServe() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	cfg := pe.ListenConfig{Config: pe.Config{Pool: "EchoPool", Registrars: []string{"192.0.2.53"}}}
	if err := pe.ListenAndServe(ctx, cfg, echo); err != nil {
		log.Fatal(err)
	}
}

func echo(ctx context.Context, s *pe.Session) {
	for {
		m, err := s.Receive(ctx)
		if err != nil {
			return // the user has ended the session, or was lost
		}
		if err := s.SendMessage(ctx, m); err != nil {
			return
		}
	}
}

// A server that counts the requests of a session. If it fails, the next server continues the
// count from the cookie. All servers of the pool have the same file of keys.
func ExampleSession_SetCookie() {
	text, err := os.ReadFile("/etc/counter/cookie-keys")
	if err != nil {
		log.Fatal(err)
	}
	keys, err := cookie.ParseKeys(text)
	if err != nil {
		log.Fatal(err)
	}
	sealer, err := cookie.New(cookie.Config{Pool: "counters", Keys: keys, Life: 10 * time.Minute})
	if err != nil {
		log.Fatal(err)
	}
	err = pe.ListenAndServe(context.Background(), pe.ListenConfig{
		Config:  pe.Config{Pool: "counters", Registrars: []string{"192.0.2.53"}},
		Cookies: sealer,
	}, count)
	if err != nil {
		log.Fatal(err)
	}
}

func count(ctx context.Context, s *pe.Session) {
	n := 0
	for first := true; ; first = false {
		if _, err := s.Receive(ctx); err != nil {
			return
		}
		if state, ok := s.Cookie(); ok && first {
			n, _ = strconv.Atoi(string(state)) // an element of the pool has sealed it
		}
		n++
		text := strconv.Itoa(n)
		// The cookie goes first: the user never has an answer without its state.
		if s.SetCookie([]byte(text)) != nil || s.Send(ctx, []byte(text)) != nil {
			return
		}
	}
}
