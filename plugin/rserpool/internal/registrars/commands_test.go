package registrars

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rserpool/coredns-rserpool/internal/control"
	"github.com/rserpool/coredns-rserpool/test/here"
)

func withState(addr, dir, path string) Options {
	o := at(addr)
	o.State, o.Control = dir, path
	return o
}

func remove(path, pool string, id uint32) string {
	req := control.Request{Remove: &control.Element{Pool: []byte(pool)}}
	_ = req.Remove.ID.UnmarshalText([]byte(fmt.Sprintf("%08x", id)))
	resp, err := control.Call(context.Background(), path, req)
	return fmt.Sprint(resp, err)
}

// TestCommands: the socket is there as long as the registrar, over reloads.
func TestCommands(t *testing.T) {
	f, rs := newFakes()
	dir := here.ShortDir(t)
	path := filepath.Join(dir, defaultControl)
	inst := startInstance(t, rs, withState(addr1, dir, ""), withState(addr1, dir, ""))
	check := func(what string) {
		t.Helper()
		if got, want := remove(path, "web", 7), "{ elsewhere 00000007 [192.0.2.2:9901]} <nil>"; got != want {
			t.Errorf("%s: got %s, want %s", what, got, want)
		}
		if got, want := remove(path, "none", 7), "{ unknown 00000000 []} <nil>"; got != want {
			t.Errorf("%s: got %s, want %s", what, got, want)
		}
	}
	check("at the start")
	before, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	inst.Restart()
	next := startInstance(t, rs, withState(addr1, dir, ""))
	inst.Shutdown()
	check("after a reload")
	next.Restart()
	if err := next.Add(aBlock(withState(addr1, "/other", ""))); !strings.Contains(fmt.Sprint(err), "state /other, not "+dir) {
		t.Errorf("reload with another directory: got error %v", err)
	}
	next.RestartFailed(never)
	check("after a reload that failed")
	if after, err := os.Lstat(path); err != nil || !os.SameFile(before, after) {
		t.Errorf("the socket is another one after a reload: %v", err)
	}
	if _, err := control.Call(context.Background(), path, control.Request{}); !strings.Contains(fmt.Sprint(err), "does not know this command") {
		t.Errorf("a request without a command: got error %v", err)
	}
	f.only(t, addr1).notReady.Store(true)
	if got, want := remove(path, "none", 7), "the registrar starts, and does not know all elements yet: try again"; !strings.Contains(got, want) {
		t.Errorf("before it is ready: got %s, want %s", got, want)
	}
	if err := next.FinalShutdown(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after the end: %v, want no socket", err)
	}
}

// TestCommandsOff: without the option there is no socket.
func TestCommandsOff(t *testing.T) {
	_, rs := newFakes()
	dir := here.ShortDir(t)
	inst := startInstance(t, rs, withState(addr1, dir, Off), withState(addr2, "", ""))
	if files, err := os.ReadDir(dir); err != nil || len(files) > 0 {
		t.Errorf("got %v, %v; want no files", files, err)
	}
	if err := inst.FinalShutdown(); err != nil {
		t.Error(err)
	}
}

// TestCommandsFail: a socket that the Corefile names must work, and leaves nothing behind
// otherwise. Without the usual one the registrar starts all the same.
func TestCommandsFail(t *testing.T) {
	f, rs := newFakes()
	dir := here.ShortDir(t)
	path := filepath.Join(dir, "taken")
	other, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	inst := rs.NewInstance()
	if err := inst.Add(aBlock(withState(addr1, "", path))); err != nil {
		t.Fatal(err)
	}
	if err := inst.Startup(); !strings.Contains(fmt.Sprint(err), "Testfile:1 - registrar at "+addr1+": control: another process serves the socket "+path) {
		t.Errorf("got error %v", err)
	}
	if r := f.only(t, addr1); r.closed.Load() != 1 {
		t.Error("the registrar was not closed")
	}
	if running, _ := left(rs); running != 0 {
		t.Errorf("got %d registrars, want none", running)
	}
	missing := startInstance(t, rs, withState(addr2, filepath.Join(dir, "missing"), ""))
	if err := missing.FinalShutdown(); err != nil {
		t.Error(err)
	}
}
