package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestServeUsage: after a usage error of rsp serve, rsp says what is wrong and ends with
// status 2.
func TestServeUsage(t *testing.T) {
	keys := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(keys, []byte("no key\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"serve"}, "SERVICE is missing: one of echo, discard, daytime, chargen, pingpong, calc, scripting"},
		{[]string{"serve", "ecko"}, `unknown service "ecko"`},
		{[]string{"serve", "echo", "x"}, `unexpected argument "x"`},
		{[]string{"serve", "echo", "--pool", ""}, "--pool is empty"},
		{[]string{"serve", "echo", "--via", "tcp"}, "register over SCTP"},
		{[]string{"serve", "echo", "--capacity", "0"}, "--capacity must be at least 1"},
		{[]string{"serve", "echo", "--max-sessions", "0"}, "--max-sessions must be at least 1"},
		{[]string{"serve", "echo", "--policy", "x"}, "--policy: "},
		{[]string{"serve", "echo", "--cookie-keys", "/no/such/file"}, "--cookie-keys: open /no/such/file"},
		{[]string{"serve", "echo", "--cookie-keys", keys}, "--cookie-keys: " + keys},
		{[]string{"serve", "calc", "--speed", "0"}, "--speed"},
		{[]string{"serve", "calc", "--speed", "NaN"}, "--speed"},
		{[]string{"serve", "calc", "--max-jobs", "0"}, "--max-jobs"},
		{[]string{"serve", "calc", "--cookie-time", "1ms"}, "--cookie-time"},
		{[]string{"serve", "scripting"}, "start it with --allow-commands if that is what you want"},
		{[]string{"serve", "scripting", "--allow-commands", "--time", "1ms"}, "--time"},
		{[]string{"serve", "scripting", "--allow-commands", "--memory", "0"}, "--memory"},
		{[]string{"serve", "scripting", "--allow-commands", "--run-as", "no such user"}, "--run-as: there is no user"},
		{[]string{"serve", "scripting", "--allow-commands", "--run-as", "0"}, "must not run as root"},
		{[]string{"cookie-key", "x"}, `unexpected argument "x"`},
	} {
		out, errs, status := rsp(t, c.args...)
		if status != exitUsage || out != "" || !strings.Contains(errs, c.want) {
			t.Errorf("%v: status %d, stdout %q, stderr\n%swant status 2 and %q", c.args, status, out, errs, c.want)
		}
	}
	if os.Geteuid() == 0 {
		if _, errs, status := rsp(t, "serve", "scripting", "--allow-commands"); status != exitUsage || !strings.Contains(errs, "--run-as is missing") {
			t.Errorf("as root: status %d, %s", status, errs)
		}
	}
}

// TestServeHelp: each service explains itself.
func TestServeHelp(t *testing.T) {
	for _, k := range serviceKinds() {
		out, errs, status := rsp(t, "help", "serve", k.name)
		if status != exitOK || !strings.Contains(out, k.pool) || !strings.Contains(out, `(default "`+k.policy+`")`) || !strings.Contains(out, "Exit status") {
			t.Errorf("rsp help serve %s: status %d\n%s%s", k.name, status, out, errs)
		}
	}
	if out, _, _ := rsp(t, "help", "serve", "scripting"); !strings.Contains(out, "DANGER") || !strings.Contains(out, "--run-as") {
		t.Errorf("rsp help serve scripting does not warn:\n%s", out)
	}
}

// TestConnectShown: messages cannot control the terminal.
func TestConnectShown(t *testing.T) {
	if got, want := shownLines("a\x1b[2Jb\tc\r\nd\u009b\x00é\n"), "a?[2Jb\tc\r\nd??é\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
