package here

import (
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
)

func TestMain(m *testing.M) {
	if os.Getenv("HERE_TEST_AS_CHILD") != "" {
		if !signal.Ignored(syscall.SIGHUP) {
			panic("the shell did not have SIGHUP ignored")
		}
		Signals()
		out, err := exec.Command("sh", "-c", "trap 'echo caught' HUP; kill -HUP $$").CombinedOutput()
		if err != nil {
			panic(err)
		}
		_, _ = os.Stdout.Write(out)
		return
	}
	os.Exit(m.Run())
}

// TestSignals: a shell that is started under nohup can trap SIGHUP.
func TestSignals(t *testing.T) {
	cmd := exec.Command("sh", "-c", `trap '' HUP INT QUIT; exec "$0"`, os.Args[0])
	cmd.Env = append(os.Environ(), "HERE_TEST_AS_CHILD=1")
	out, err := cmd.CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "caught" {
		t.Errorf("got %q, %v, want caught", out, err)
	}
}
