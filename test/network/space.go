package network

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// space is a network namespace and a mount namespace. They live as long as the
// thread that made them, the processes that it started, and the sockets in them.
type space struct {
	tid   int // the thread, to name the namespaces by
	net   *os.File
	work  chan func()
	ended chan struct{}
}

// newSpace starts a thread in new namespaces.
func newSpace() (*space, error) {
	s := &space{work: make(chan func()), ended: make(chan struct{})}
	ready := make(chan error)
	go func() {
		defer close(s.ended)
		runtime.LockOSThread() // and never unlock: the thread ends with this goroutine
		err := s.enter()
		ready <- err
		if err != nil {
			return
		}
		for f := range s.work {
			f()
		}
	}()
	if err := <-ready; err != nil {
		<-s.ended
		return nil, err
	}
	return s, nil
}

// enter leaves the machine's namespaces for new ones.
func (s *space) enter() error {
	if err := unix.Unshare(unix.CLONE_NEWNET | unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	// The interfaces in /sys are those of the process that mounts it.
	if err := unix.Mount("sysfs", "/sys", "sysfs", 0, ""); err != nil {
		return fmt.Errorf("mount /sys: %w", err)
	}
	s.tid = unix.Gettid()
	f, err := os.Open("/proc/thread-self/ns/net")
	s.net = f
	return err
}

// on runs f on the space's own thread. It is for what both namespaces matter to
// and is over soon, such as the start of a process, which is to be killed when
// the thread ends.
func (s *space) on(f func() error) error {
	done := make(chan error)
	s.work <- func() { done <- f() }
	return <-done
}

// do runs f on a thread of its own in the network namespace.
func (s *space) do(f func() error) error {
	err := fmt.Errorf("the function ended its goroutine")
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if err = unix.Setns(int(s.net.Fd()), unix.CLONE_NEWNET); err == nil {
			err = f()
		}
	}()
	<-done
	return err
}

// kill ends all processes in the namespace: those that a process has started and
// left behind, as rsp its COMMAND when it is killed. They would live on, and hold
// what they have inherited, such as a lock of the script that runs the tests.
func (s *space) kill() error {
	var own unix.Stat_t
	if err := unix.Fstat(int(s.net.Fd()), &own); err != nil {
		return err
	}
	for deadline := time.Now().Add(Patience); ; time.Sleep(time.Millisecond) {
		dirs, err := filepath.Glob("/proc/[0-9]*")
		if err != nil {
			return err
		}
		alive := 0
		for _, dir := range dirs {
			var its unix.Stat_t
			pid, err := strconv.Atoi(filepath.Base(dir))
			// A process that has ended has no namespace; ours may look as if it was
			// in this one, if the space's thread is the first of the process.
			if err == nil && pid != os.Getpid() && unix.Stat(dir+"/ns/net", &its) == nil && its.Ino == own.Ino && its.Dev == own.Dev {
				alive++
				_ = unix.Kill(pid, unix.SIGKILL)
			}
		}
		if alive == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d processes do not end", alive)
		}
	}
}

// close ends the thread.
func (s *space) close() {
	close(s.work)
	<-s.ended
	s.net.Close()
}
