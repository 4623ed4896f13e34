// Package binary builds the module's programs for tests, where `make build` puts
// them, so that tests of several packages share them.
package binary

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
)

// Path is the path of a program, "coredns" or "rsp", as the source is now. To test
// other builds, name their directory in the environment variable RSERPOOL_BIN.
func Path(t testing.TB, name string) string {
	t.Helper()
	dir, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, name)
}

// build runs `make build`, one at a time on this machine. In the kernel lab,
// which is too slow for that, it was run before.
var build = sync.OnceValues(func() (string, error) {
	if dir := os.Getenv("RSERPOOL_BIN"); dir != "" {
		return dir, nil
	}
	dir, err := root()
	if err != nil || os.Getenv("IN_UML") != "" {
		return filepath.Join(dir, "bin"), err
	}
	lock, err := os.Open(filepath.Join(dir, "Makefile"))
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", fmt.Errorf("lock of %s: %w", lock.Name(), err)
	}
	out, err := exec.Command("make", "-s", "-C", dir, "build").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("make build: %w\n%s", err, out)
	}
	return filepath.Join(dir, "bin"), nil
})

// root is the module's directory: tests run in the directory of their package.
func root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("the working directory is not in the module")
		}
		dir = filepath.Dir(dir)
	}
}
