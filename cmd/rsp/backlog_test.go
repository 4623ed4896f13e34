package main

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// reader is standard error with a reader that can hang or end.
type reader struct {
	mu   sync.Mutex
	cond *sync.Cond
	hung bool
	gone bool
	got  strings.Builder
}

func newReader() *reader {
	r := new(reader)
	r.cond = sync.NewCond(&r.mu)
	return r
}

func (r *reader) set(hung, gone bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hung, r.gone = hung, gone
	r.cond.Broadcast()
}

func (r *reader) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.hung {
		r.cond.Wait()
	}
	if r.gone {
		return 0, errors.New("broken pipe")
	}
	return r.got.Write(b)
}

func (r *reader) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.got.String()
}

// TestBacklogHangs: if the reader of the log hangs, no writer blocks, 64 KiB are kept, and
// the number of lost lines is written where they are missing.
func TestBacklogHangs(t *testing.T) { synctest.Test(t, testBacklogHangs) }

func testBacklogHangs(t *testing.T) {
	r := newReader()
	l := newBacklog(r)
	r.set(true, false)
	line := strings.Repeat("x", 1023) + "\n"
	const written = 200
	for range written {
		fmt.Fprint(l, line)
		synctest.Wait() // until the first line is in the writer's Write
	}
	if l.size > maxBacklog {
		t.Errorf("%d bytes wait, want at most %d", l.size, maxBacklog)
	}
	l.flush(time.Millisecond) // returns
	r.set(false, false)
	l.flush(patience)
	got := r.String()
	kept := strings.Count(got, line)
	// One more line than fits is in the writer's Write.
	if want := maxBacklog/len(line) + 1; kept != want {
		t.Errorf("%d lines are kept, want %d", kept, want)
	}
	want := fmt.Sprintf("rsp: %d log lines were lost: standard error was blocked or closed\n", written-kept)
	if !strings.HasSuffix(got, want) {
		t.Errorf("%q is not at the end", want)
	}
	fmt.Fprint(l, "after\n")
	l.flush(patience)
	if !strings.HasSuffix(r.String(), want+"after\n") {
		t.Error("the next line does not follow")
	}
}

// TestBacklogGone: if the reader of the log has ended, lines are lost, and their number is
// written when the log works again.
func TestBacklogGone(t *testing.T) {
	r := newReader()
	l := newBacklog(r)
	r.set(false, true)
	for range 3 {
		fmt.Fprint(l, "lost\n")
		l.flush(patience)
	}
	r.set(false, false)
	fmt.Fprint(l, "kept\n")
	l.flush(patience)
	if got, want := r.String(), "rsp: 3 log lines were lost: standard error was blocked or closed\nkept\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
