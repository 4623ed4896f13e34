package child

import (
	"bytes"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/rserpool/coredns-rserpool/test/here"
)

func TestMain(m *testing.M) {
	here.Signals()
	os.Exit(m.Run())
}

func TestStatus(t *testing.T) {
	for _, c := range []struct {
		script string
		want   int
	}{
		{"exit 0", 0},
		{"exit 7", 7},
		{"kill -TERM $$", 143},
		{"kill -KILL $$", 137},
	} {
		t.Run(c.script, func(t *testing.T) {
			p, err := Start([]string{"/bin/sh", "-c", c.script}, nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			<-p.Done()
			if got := p.Status(); got != c.want {
				t.Errorf("status %d, want %d", got, c.want)
			}
		})
	}
}

func TestSignal(t *testing.T) {
	var out bytes.Buffer
	r, w := newPipe()
	p, err := Start([]string{"/bin/sh", "-c", `trap 'echo got it; exit 5' HUP; echo ready; while :; do sleep 0.05; done`}, w, &out)
	if err != nil {
		t.Fatal(err)
	}
	r.waitFor(t, "ready\n")
	p.Signal(syscall.SIGHUP)
	<-p.Done()
	if got := p.Status(); got != 5 {
		t.Errorf("status %d, want 5", got)
	}
	r.waitFor(t, "got it\n")
}

func TestStartStatus(t *testing.T) {
	if _, err := Start([]string{"/nonexistent/x"}, nil, nil); StartStatus(err) != 127 {
		t.Errorf("%v gives status %d, want 127", err, StartStatus(err))
	}
	if _, err := Start([]string{"no-such-command-at-all"}, nil, nil); StartStatus(err) != 127 {
		t.Errorf("%v gives status %d, want 127", err, StartStatus(err))
	}
	if _, err := Start([]string{"/etc/passwd"}, nil, nil); StartStatus(err) != 126 {
		t.Errorf("%v gives status %d, want 126", err, StartStatus(err))
	}
	if StartStatus(exec.ErrNotFound) != 127 {
		t.Error("ErrNotFound is not 127")
	}
}

// pipe gathers lines for a test to wait for.
type pipe struct{ lines chan string }

func newPipe() (*pipe, *pipe) {
	p := &pipe{lines: make(chan string, 100)}
	return p, p
}

func (p *pipe) Write(b []byte) (int, error) {
	p.lines <- string(b)
	return len(b), nil
}

func (p *pipe) waitFor(t *testing.T, want string) {
	t.Helper()
	for got := range p.lines {
		if got == want {
			return
		}
		t.Logf("the command says %q", got)
	}
}
