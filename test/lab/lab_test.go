// Package lab holds the kernel lab, which is scripts (README.md), and their tests.
package lab

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
)

// compile makes a program or a library of a C file.
func compile(t *testing.T, source string, flags ...string) string {
	t.Helper()
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		t.Skip("User-Mode Linux is for x86-64")
	}
	if exec.Command("../compiler").Run() != nil {
		t.Skip("LEFT OUT: xstate.c: no C compiler (apt-get install gcc libc6-dev)")
	}
	rests(t, source, "xstate/xstate.c")
	out := filepath.Join(t.TempDir(), "out")
	args := append(flags, "-Wall", "-Wextra", "-Werror", "-O1", "-o", out, source)
	cc := strings.Fields(cmp.Or(os.Getenv("CC"), "cc"))
	cmd := exec.Command(cc[0], append(cc[1:], args...)...)
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, text)
	}
	return out
}

// rests tells go test the files on which a result rests, as it sees only what this
// process reads.
func rests(t *testing.T, files ...string) {
	t.Helper()
	for _, f := range files {
		if _, err := os.ReadFile(f); err != nil {
			t.Fatal(err)
		}
	}
}

// preload is an environment with a library. LD_PRELOAD may not have spaces in it, so
// it has the file's name only.
func preload(library string) []string {
	return append(os.Environ(), "LD_PRELOAD="+filepath.Base(library), "LD_LIBRARY_PATH="+filepath.Dir(library))
}

func output(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v", cmd, err)
	}
	return strings.TrimSpace(string(out))
}

// TestFitting: the components that lie within an area. The offsets and sizes are
// those of a processor with AMX.
func TestFitting(t *testing.T) {
	try := compile(t, "xstate/try.c")
	amx := strings.Fields("2:576:256 5:1088:64 6:1152:512 7:1664:1024 9:2688:8 17:2752:64 18:2816:8192")
	for _, c := range []struct {
		name string
		len  int
		list []string
		want string
	}{
		{"all but AMX: the area of User-Mode Linux 6.1", 2696, amx, "2e7"},
		{"AMX too", 11008, amx, "602e7"},
		{"AMX cut by a byte", 11007, amx, "202e7"},
		{"PKRU cut by a byte", 2695, amx, "e7"},
		{"the legacy area and the header", 576, amx, "3"},
		{"size 0 is none", 11008, []string{"2:576:256", "3:0:0"}, "7"},
		{"offset and size beyond 32 bits", 11008, []string{"2:4294967295:2"}, "3"},
		{"the last component", 1000, []string{"62:576:8"}, "4000000000000003"},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := append([]string{"fitting", strconv.Itoa(c.len)}, c.list...)
			if got := output(t, exec.Command(try, args...)); got != c.want {
				t.Errorf("within %d bytes are %s, want %s", c.len, got, c.want)
			}
		})
	}
}

// TestExtend: a short area is kept, its header loses what it cannot hold, and the
// rest is 0 up to the host's size and no further.
func TestExtend(t *testing.T) {
	try := compile(t, "xstate/try.c")
	for _, c := range []struct {
		name      string
		size, len int
	}{
		{"by AMX", 11008, 2696},
		{"by a byte", 577, 576},
		{"by nothing", 2696, 2696},
		{"to the largest", 1<<16 - 1, 2696},
	} {
		t.Run(c.name, func(t *testing.T) {
			want := bytes.Repeat([]byte{7}, c.len)
			copy(want[512:], []byte{0xe7, 2, 0, 0, 0, 0, 0, 0}) // no AMX (bits 17 and 18)
			want = append(want, make([]byte, c.size-c.len)...)
			want = append(want, 9) // what lies behind
			got := output(t, exec.Command(try, "extend", strconv.Itoa(c.size), strconv.Itoa(c.len), "602e7", "2e7"))
			if want := hex.EncodeToString(want); got != want {
				t.Errorf("got\n%s, want\n%s", got, want)
			}
		})
	}
}

// TestSetRegisters sets a process's registers with an area without the AVX-512 of
// this processor, as UML does without AMX on a processor that has that.
func TestSetRegisters(t *testing.T) {
	try := compile(t, "xstate/try.c")
	library := compile(t, "xstate/xstate.c", "-shared", "-fPIC")
	set := func(len string, env ...string) string {
		cmd := exec.Command(try, "set", len)
		cmd.Env = env
		return output(t, cmd)
	}
	const long = "832" // up to AVX
	bare := set(long)
	if !strings.Contains(bare, "refused") {
		t.Skipf("this host takes an area of %s bytes: %s", long, bare)
	}
	for _, len := range []string{long, "65536"} {
		if got := set(len, preload(library)...); !strings.Contains(got, "set 5a..5a") {
			t.Errorf("%s bytes with the library: got %q, want the registers set", len, got)
		}
	}
	if got := set("100", preload(library)...); !strings.Contains(got, "refused") {
		t.Errorf("100 bytes with the library: got %q, want them refused as by the host", got)
	}
}

// TestPackages: a processor that needs xstate.c needs a compiler for it.
func TestPackages(t *testing.T) {
	if _, err := exec.LookPath("dpkg-query"); err != nil {
		t.Skip("this is no Debian")
	}
	rests(t, "check-packages", "xstate/needed", "../compiler")
	for _, c := range []struct {
		xstate, cc string
		want       bool
	}{
		{"on", "no-such-compiler", true},
		{"off", "no-such-compiler", false},
		{"on", "true", false},
	} {
		cmd := exec.Command("./check-packages", "-q")
		cmd.Env = append(os.Environ(), "UML_XSTATE="+c.xstate, "CC="+c.cc)
		out, _ := cmd.Output() // fails if any package is missing
		if got := strings.Contains(string(out), "gcc libc6-dev"); got != c.want {
			t.Errorf("UML_XSTATE=%s CC=%s: missing are %q, want the compiler among them: %t", c.xstate, c.cc, out, c.want)
		}
	}
}

// TestBoot boots the lab on a host that looks as if it had AMX.
func TestBoot(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	amx := compile(t, "xstate/amx.c", "-shared", "-fPIC")
	rests(t, "run-in-uml", "check-packages", "xstate/needed")
	if exec.Command("./check-packages", "-q").Run() != nil {
		t.Skip("test/lab/all says what the lab needs")
	}
	boot := func(xstate string) string {
		cmd := exec.Command("./run-in-uml", "-t", "120", "--", "echo", "booted")
		cmd.Env = append(preload(amx), "UML_XSTATE="+xstate)
		out, _ := cmd.CombinedOutput() // some are to fail
		return string(out)
	}
	if out := boot("off"); strings.HasPrefix(out, "booted") {
		t.Skip("this User-Mode Linux needs no help")
	} else if !strings.Contains(out, "put_fp_registers") {
		t.Errorf("without xstate.c: no put_fp_registers in\n%s", out)
	}
	if out := boot("on"); out != "booted\n" {
		t.Errorf("with xstate.c: got\n%s", out)
	}
}
