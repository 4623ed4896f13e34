package child

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// forOne are the variables of sd_listen_fds(3) and sd_watchdog_enabled(3) that name the one
// process they are for.
var forOne = []string{"LISTEN_PID", "WATCHDOG_PID"}

// listenPIDFD names the process of LISTEN_PID a second time, by the inode of its pidfd.
const listenPIDFD = "LISTEN_PIDFDID"

// becoming is argument 0 of a process that [Become] makes the command. Before the command's
// path and arguments is a descriptor, which gets the number of the error.
const becoming = "rsp-becomes-the-command"

// becomes has [Become] start a command if variables of the environment name this process.
// They must name the command, whose number is known only when it has been started. result
// turns the result of cmd.Start into that of the command's start.
func becomes(cmd *exec.Cmd) (result func(error) error, err error) {
	this := strconv.Itoa(os.Getpid())
	if cmd.Err != nil || !slices.ContainsFunc(forOne, func(v string) bool { return os.Getenv(v) == this }) {
		return func(err error) error { return err }, nil
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	// The new process inherits to as it is: exec.Cmd.ExtraFiles would take the place of
	// systemd's sockets. No other process is started meanwhile.
	var fds [2]int
	if err := syscall.Pipe(fds[:]); err != nil {
		return nil, err
	}
	syscall.CloseOnExec(fds[0])
	from, to := os.NewFile(uintptr(fds[0]), "pipe"), os.NewFile(uintptr(fds[1]), "pipe")
	cmd.Args = append([]string{becoming, strconv.Itoa(fds[1]), cmd.Path}, cmd.Args...)
	cmd.Path = self
	return func(err error) error {
		defer from.Close()
		to.Close()
		if err != nil {
			return err
		}
		b, err := io.ReadAll(from) // until the command has taken over, or its end
		if n, notNumber := strconv.Atoi(string(b)); notNumber == nil {
			return syscall.Errno(n)
		}
		return err
	}, nil
}

// Become replaces this process by the command if [Start] has started this process for
// that. It must be the first call in main.
func Become() {
	if os.Args[0] != becoming || len(os.Args) < 4 {
		return
	}
	InheritIgnored()
	report, _ := strconv.Atoi(os.Args[1])
	syscall.CloseOnExec(report)
	err := syscall.Exec(os.Args[2], os.Args[3:], renamed(os.Environ(), os.Getppid(), os.Getpid()))
	var n syscall.Errno
	errors.As(err, &n)
	_, _ = syscall.Write(report, []byte(strconv.Itoa(int(n))))
	os.Exit(StartStatus(err))
}

// renamed returns an environment whose variables name process to in place of process from.
func renamed(env []string, from, to int) []string {
	var list []string
	for _, s := range env {
		name, value, _ := strings.Cut(s, "=")
		if slices.Contains(forOne, name) && value == strconv.Itoa(from) {
			s = name + "=" + strconv.Itoa(to)
		}
		if name != listenPIDFD {
			list = append(list, s)
		}
	}
	return list
}

// InheritIgnored ignores SIGQUIT if this process was started to ignore it, as Go does with
// SIGINT and SIGHUP. Go does not report an ignored SIGQUIT; shells ignore it with SIGINT or
// not at all.
func InheritIgnored() {
	if signal.Ignored(syscall.SIGINT) {
		signal.Ignore(syscall.SIGQUIT)
	}
}
