package pu_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"time"

	"github.com/rserpool/coredns-rserpool/asap/pu"
)

// Five lines: open a user, dial a pool, send, receive.
func ExampleUser_Dial() {
	ctx := context.Background()
	u, err := pu.Open(pu.Config{Registrars: []string{"192.0.2.53"}})
	if err != nil {
		log.Fatal(err)
	}
	defer u.Close()
	s, err := u.Dial(ctx, "EchoPool")
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
	if err := s.Send(ctx, []byte("hello")); err != nil {
		log.Fatal(err)
	}
	m, err := s.Receive(ctx)
	fmt.Printf("%s %v\n", m.Data, err)
}

// Jobs survive the element that works on them: those without an answer go to the next one.
// An element that gives no answer for a second, while it owes one, is left.
func ExampleUser_DialSession() {
	ctx := context.Background()
	u, err := pu.Open(pu.Config{Registrars: []string{"192.0.2.53"}})
	if err != nil {
		log.Fatal(err)
	}
	defer u.Close()
	s, err := u.DialSession(ctx, pu.SessionConfig{
		Pool:          "jobs",
		Unacked:       pu.Resend,
		AnswerTimeout: time.Second,
		Notify:        func(ev pu.SessionEvent) { log.Print(ev) },
	})
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
	for i := range 10 {
		if err := s.Send(ctx, fmt.Appendf(nil, "job %d", i)); err != nil {
			log.Fatal(err)
		}
	}
	for range 10 {
		answer, err := s.Receive(ctx)
		if err != nil {
			log.Fatal(err)
		}
		s.Ack(1) // the elements answer in order
		fmt.Printf("%s\n", answer.Data)
	}
}

// A stream of bytes. The loop begins anew when an element fails.
func ExampleSession_Conn() {
	ctx := context.Background()
	u, err := pu.Open(pu.Config{Registrars: []string{"192.0.2.53"}})
	if err != nil {
		log.Fatal(err)
	}
	defer u.Close()
	s, err := u.DialSession(ctx, pu.SessionConfig{Pool: "files", EndOnShutdown: true})
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
	for {
		c := s.Conn()
		_, _ = fmt.Fprintln(c, "GET report.txt")
		text, err := io.ReadAll(c)
		if errors.Is(err, pu.ErrFailover) {
			continue
		}
		fmt.Printf("%s %v\n", text, err)
		return
	}
}

// The reasons why no element serves.
func ExampleFailoverError() {
	u, err := pu.Open(pu.Config{Registrars: []string{"192.0.2.53"}})
	if err != nil {
		log.Fatal(err)
	}
	defer u.Close()
	_, err = u.Dial(context.Background(), "jobs")
	var failed *pu.FailoverError
	switch {
	case errors.Is(err, pu.ErrUnknownPool):
		fmt.Println("no element is registered")
	case errors.As(err, &failed):
		for _, a := range failed.Attempts {
			fmt.Println(a.Element.ID, a.Element.UserTransport, a.Err)
		}
	}
}
