package main

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"os"
	"slices"
	"syscall"
	"testing"
)

// TestJSONHandles: JSON tells pools apart whose handles are not UTF-8, and has what rsp takes
// as their handles. Other handles are as they are.
func TestJSONHandles(t *testing.T) {
	slow(t)
	r := newENRPRegistry(t, nil)
	handles := []string{"a", "é\n", "\xfe", "\xff"}
	want := []jsonHandle{{Pool: "a"}, {Pool: "é\n"}, {Pool: "\ufffd", PoolHex: "fe"}, {Pool: "\ufffd", PoolHex: "ff"}}
	for _, h := range handles {
		startRSP(t, register(r, "--pool", h)...)
	}
	for _, h := range handles {
		r.has(t, h, 1)
	}
	out, errs, status := rsp(t, "dump", "--json", "--via", "udp", "-r", r.enrp)
	var d jsonDump
	if err := json.Unmarshal([]byte(out), &d); status != exitOK || err != nil {
		t.Fatalf("status %d, %v\n%s%s", status, err, out, errs)
	}
	var dumped []jsonHandle
	for _, p := range d.Pools {
		dumped = append(dumped, p.jsonHandle)
	}
	if !slices.Equal(dumped, want) {
		t.Errorf("dump has %+v, want %+v", dumped, want)
	}
	for _, h := range dumped {
		handle := []byte(h.Pool)
		if h.PoolHex != "" {
			var err error
			if handle, err = hex.DecodeString(h.PoolHex); err != nil {
				t.Fatal(err)
			}
		}
		out, errs, status := rsp(t, "resolve", "--json", "--via", "udp", "-r", r.at, string(handle))
		var res jsonResolution
		if err := json.Unmarshal([]byte(out), &res); status != exitOK || err != nil || res.jsonHandle != h {
			t.Errorf("resolve %q: status %d, %v, %s%s, want %+v", handle, status, err, out, errs, h)
		}
	}
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	args := append([]string{"watch", "--json", "--via", "udp", "-r", r.at}, handles...)
	w := newProc(t, args...)
	w.cmd.Stdout = write
	w.start(args)
	write.Close()
	var present []jsonHandle
	lines := bufio.NewScanner(read)
	for len(present) < len(want) && lines.Scan() {
		var c jsonChange
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			t.Fatalf("%v in %s", err, lines.Text())
		}
		if c.Change == changePresent {
			present = append(present, c.jsonHandle)
		}
	}
	for _, h := range want {
		if !slices.Contains(present, h) {
			t.Errorf("watch does not have %+v: %+v", h, present)
		}
	}
	w.signal(syscall.SIGTERM)
	w.wait()
}
