package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"time"

	"github.com/rserpool/coredns-rserpool/cmd/rsp/internal/serve"
	"github.com/spf13/cobra"
)

const scriptingHelp = `Run the work packages of RSPLIB's scriptingclient: a package is a tar file (plain, gzip or
bzip2) with a program ssrun, and the user gets what the program writes to output.data.

  DANGER: everyone who can reach this element can run programs on this machine. Users are
  not authenticated, and packages are not signed. The service therefore does nothing without
  --allow-commands. Use it in closed networks only, as a user of its own or in a container.

What a program may do:
  * It runs as the user of --run-as, or as the user that runs rsp. Root must name one.
  * On Linux it has namespaces of its own: it has no network, sees no other processes as its
    own, and all of its processes end with it. --no-isolation does without: a process that
    leaves the program's process group may then outlive it.
  * It runs in a new directory under --dir, which is deleted at its end, with an environment
    of PATH, HOME, TMPDIR, PWD and LANG. It can read what its user can read on this machine.
  * --time, --memory, --file-size and --processes limit it; --max-package limits what is sent,
    ten times as much may be unpacked. A package with links or devices is refused.
  * It ends when its session ends.

A package runs again from its start at the next element if this one fails: there are no
cookies. The load of the element is the number of sessions as a part of --max-jobs. An
element that is busy refuses further users; they try again.`

// defaultProcesses is how many processes another user may have.
const defaultProcesses = 256

func scriptingFlags(cmd *cobra.Command, f *serveFlags) makeService {
	var (
		cfg                serve.ScriptingConfig
		allow              bool
		runAs              string
		open               bool
		size, memory, file int64
	)
	fl := cmd.Flags()
	fl.BoolVar(&allow, "allow-commands", false, "run the programs that users send (required)")
	fl.StringVar(&runAs, "run-as", "", "`USER` that runs the programs (default: the user that runs rsp; required for root)")
	fl.BoolVar(&open, "no-isolation", false, "run the programs without namespaces of their own")
	fl.IntVar(&f.capacity, "max-jobs", 1, "most packages at a time")
	fl.StringVar(&cfg.Dir, "dir", "", "`DIRECTORY` for the packages (default: a new one among the temporary files)")
	fl.DurationVar(&cfg.Run.Time, "time", time.Hour, "time that a program may run")
	fl.Int64Var(&memory, "memory", 1024, "address space of a process, in MiB")
	fl.Int64Var(&file, "file-size", 256, "size of a file that a program writes, in MiB")
	fl.IntVar(&cfg.Run.Processes, "processes", 0, "processes that the programs' user may have, with those that run already; 0 stands for 256 with --run-as, else for no limit")
	fl.Int64Var(&size, "max-package", 64, "size of a package and of a result, in MiB")
	fl.DurationVar(&cfg.KeepAlive, "keep-alive", 10*time.Second, "time between two keep-alives to a user, and time to wait for the answer")
	noFiles(cmd, "run-as", "max-jobs", "time", "memory", "file-size", "processes", "max-package", "keep-alive")
	return func(log *logger) (serve.Service, func(), error) {
		switch {
		case !allow:
			return nil, nil, errors.New("this service runs programs that any user sends: start it with --allow-commands if that is what you want")
		case f.capacity < 1 || memory < 1 || file < 1 || size < 1 || cfg.Run.Processes < 0:
			return nil, nil, errors.New("--max-jobs, --memory, --file-size and --max-package must be at least 1, --processes must not be negative")
		case cfg.Run.Time < time.Second || cfg.KeepAlive < time.Second:
			return nil, nil, errors.New("--time and --keep-alive must be at least 1s")
		}
		const MiB = 1 << 20
		cfg.MaxJobs, cfg.MaxPackage, cfg.Run.Memory, cfg.Run.FileSize = f.capacity, size*MiB, memory*MiB, file*MiB
		cfg.Run.Isolate = !open
		if cfg.Run.Isolate && !serve.CanIsolate {
			return nil, nil, errors.New("this system has no namespaces: use --no-isolation, as a user that owns nothing")
		}
		if err := runProgramsAs(&cfg.Run, runAs); err != nil {
			return nil, nil, err
		}
		cfg.Name, _ = os.Hostname()
		cfg.Log = func(format string, args ...any) { log.log(normal, format, args...) }
		if log.level == verbose {
			cfg.Run.Output = os.Stderr
		}
		done, err := scriptingDir(&cfg)
		if err != nil {
			return nil, nil, err
		}
		if err := cfg.Run.Check(context.Background(), cfg.Dir); err != nil {
			done()
			return nil, nil, fmt.Errorf("no program can be run: %w", err)
		}
		return serve.NewScripting(cfg), done, nil
	}
}

// scriptingDir makes the directory of the packages if none is given, and returns what
// deletes it.
func scriptingDir(cfg *serve.ScriptingConfig) (done func(), err error) {
	done = func() {}
	if cfg.Dir == "" {
		if cfg.Dir, err = os.MkdirTemp("", "rsp-scripting-"); err != nil {
			return nil, err
		}
		dir := cfg.Dir
		done = func() { _ = os.RemoveAll(dir) }
	}
	if cfg.Run.SwitchUser { // the other user must pass through, and see no other packages
		err = os.Chmod(cfg.Dir, 0o711)
	}
	return done, err
}

// runProgramsAs finds the user that runs the programs.
func runProgramsAs(box *serve.Sandbox, name string) error {
	if name == "" {
		if os.Geteuid() == 0 {
			return errors.New("--run-as is missing: programs that users send must not run as root")
		}
		return nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		if u, err = user.LookupId(name); err != nil {
			return fmt.Errorf("--run-as: there is no user %q", name)
		}
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	switch {
	case err1 != nil || err2 != nil:
		return fmt.Errorf("--run-as: user %q has no number", name)
	case uid == 0:
		return errors.New("--run-as: programs that users send must not run as root")
	case os.Geteuid() == int(uid):
		return nil
	case os.Geteuid() != 0:
		return errors.New("--run-as: only root may run programs as another user")
	}
	box.SwitchUser, box.UID, box.GID = true, uint32(uid), uint32(gid)
	if box.Processes == 0 {
		box.Processes = defaultProcesses
	}
	return nil
}
