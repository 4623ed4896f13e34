package main

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rserpool/coredns-rserpool/internal/control"
	"github.com/rserpool/coredns-rserpool/test/here"
)

// TestRemoveCommand: rsp says what the registrar has answered, and where to ask.
func TestRemoveCommand(t *testing.T) {
	dir := here.ShortDir(t)
	path := filepath.Join(dir, "s")
	s, err := control.Listen(path, func(_ context.Context, req control.Request) control.Response {
		if req.Remove == nil || req.Remove.ID != 0x2a {
			t.Errorf("got request %+v", req)
		}
		switch pool := string(req.Remove.Pool); pool {
		case "home":
			return control.Response{Result: control.Elsewhere, Home: 0xcafe, At: []string{"192.0.2.2:9901", "[2001:db8::2]:9901"}}
		case "lost":
			return control.Response{Result: control.Yielded, Home: 0xcafe}
		case "error":
			return control.Response{Error: "the registrar does not answer: busy"}
		default:
			return control.Response{Result: control.Result(pool)}
		}
	}, func(bool, string) {})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, tt := range []struct {
		pool, out, err string
		status         int
	}{
		{"removed", "element 0000002a of pool \"removed\" is removed\n", "", exitOK},
		{"replaced", "another process, whose registration waited for that, has the identifier now\n", "", exitOK},
		{"unknown", "", "rsp: there is no element 0000002a of pool \"unknown\"\n", exitRefused},
		{"home", "", "rsp: the home of element 0000002a of pool \"home\" is registrar 0000cafe at 192.0.2.2:9901,[2001:db8::2]:9901: remove it there\n", exitRefused},
		{"lost", "", "its home is now registrar 0000cafe at an unknown address, which has claimed it: remove it there\n", exitRefused},
		{"error", "", "rsp: the registrar does not answer: busy\n", exitFailed},
		{"new", "", `rsp: the registrar's answer "new" is not known`, exitFailed},
	} {
		out, errs, status := rsp(t, "remove", "--control", path, tt.pool, "pe-0000002a")
		if status != tt.status || !strings.Contains(out, tt.out) || !strings.Contains(errs, tt.err) || (out == "") != (tt.out == "") || (errs == "") != (tt.err == "") {
			t.Errorf("%s: got status %d, %q, %q; want %d, %q, %q", tt.pool, status, out, errs, tt.status, tt.out, tt.err)
		}
	}
	for _, tt := range []struct {
		path, err string
		status    int
	}{
		{filepath.Join(dir, "none"), "there is no socket at " + dir + "/none: give --control the path of the option control in the Corefile", exitUnreachable},
		{"/tmp/" + strings.Repeat("a", 103), "rsp: --control: /tmp/" + strings.Repeat("a", 103) + " has 108 octets", exitUsage},
	} {
		if _, errs, status := rsp(t, "remove", "--control", tt.path, "web", "2a"); status != tt.status || !strings.Contains(errs, tt.err) {
			t.Errorf("%s: got status %d, %q; want %d, %q", tt.path, status, errs, tt.status, tt.err)
		}
	}
}
