package binary

import (
	"debug/elf"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
)

func TestPathIsOfThisModule(t *testing.T) {
	out, err := exec.Command(Path(t, "rsp"), "version").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "rsp") {
		t.Errorf("rsp version: %v, %s", err, out)
	}
}

// TestStatic: the programs need no C library, so that they start in any image.
func TestStatic(t *testing.T) {
	if runtime.GOOS != "linux" || os.Getenv("RSERPOOL_BIN") != "" {
		t.Skip("only make build on Linux makes static programs")
	}
	for _, name := range []string{"coredns", "rsp"} {
		f, err := elf.Open(Path(t, name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for _, p := range f.Progs {
			if p.Type == elf.PT_INTERP {
				t.Errorf("%s needs a dynamic linker", name)
			}
		}
	}
}
