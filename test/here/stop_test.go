package here

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestStop: the process stands still at once, with all its threads.
func TestStop(t *testing.T) {
	for range 50 {
		cmd := exec.Command("/bin/sh", "-c", "while :; do :; done")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		Stop(t, cmd.Process.Pid)
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid))
		if err != nil {
			t.Skipf("LEFT OUT: no state of processes on this machine: %v", err)
		}
		if !strings.Contains(string(stat), ") T ") {
			t.Errorf("the process is not stopped: %s", stat)
		}
		_ = cmd.Process.Kill()
		<-ended
	}
}
