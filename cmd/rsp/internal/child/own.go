package child

import (
	"os/exec"
	"sync"
	"syscall"
)

// own are the processes that this package has started and waits for, with true for
// leaders of probes. Children belong to the whole process, so this is a variable of the
// package.
var own = struct {
	sync.Mutex
	probe map[int]bool
}{probe: map[int]bool{}}

// start starts a command. Reap does not take its end for that of an orphan.
func start(cmd *exec.Cmd, probe bool) error {
	own.Lock()
	defer own.Unlock()
	err := cmd.Start()
	if err == nil {
		own.probe[cmd.Process.Pid] = probe
	}
	return err
}

// wait waits for the end of a command that start has started.
func wait(cmd *exec.Cmd) error {
	err := cmd.Wait()
	own.Lock()
	defer own.Unlock()
	delete(own.probe, cmd.Process.Pid)
	return err
}

// KillProbes kills all running commands of [Shell] with their process groups.
func KillProbes() {
	own.Lock()
	defer own.Unlock()
	for pid, probe := range own.probe {
		if probe {
			_ = syscall.Kill(-pid, syscall.SIGKILL)
		}
	}
}
