package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// outsideModules are the modules that a program must download to use all public
// packages but the plugin.
var outsideModules = []string{
	"github.com/ishidawataru/sctp",
	"github.com/pion/logging",
	"github.com/pion/randutil",
	"github.com/pion/sctp",
	"github.com/pion/transport/v5",
	"go.etcd.io/bbolt",
	"golang.org/x/crypto",
	"golang.org/x/net",
	"golang.org/x/sys",
}

// TestOutside builds and runs a program of another module: it can use the public
// packages, and needs no more modules than these.
func TestOutside(t *testing.T) {
	dir, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	temp := t.TempDir()
	for name, from := range map[string]string{"main.go": "testdata/outside/main.go", "go.sum": "../go.sum"} {
		data, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(temp, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	mod := fmt.Sprintf("module example.org/outside\n\ngo 1.26.0\n\nrequire %s v0.0.0\n\nreplace %[1]s => %s\n", strings.TrimSuffix(module, "/"), dir)
	if err := os.WriteFile(filepath.Join(temp, "go.mod"), []byte(mod), 0o600); err != nil {
		t.Fatal(err)
	}
	command := func(name string, args ...string) string {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Dir = temp
		cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOPROXY=off", "GOWORK=off")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s %v: %v\n%s", name, args, err, out)
		}
		return string(out)
	}
	command("go", "build", "-o", "outside", ".")
	modules := strings.Fields(command("go", "list", "-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Path}}{{end}}{{end}}", "."))
	slices.Sort(modules)
	modules = slices.DeleteFunc(slices.Compact(modules), func(m string) bool { return m == strings.TrimSuffix(module, "/") })
	if !slices.Equal(modules, outsideModules) {
		t.Errorf("the program downloads the modules %v, want %v", modules, outsideModules)
	}
	got := command("./outside")
	want := "registered true\nresolved tcp 127.0.0.1 port 80\nwatched LeastUsed load 50.0%\nsealed state\ndumped web 1\n"
	if got != want {
		t.Errorf("the program prints\n%s\nwant\n%s", got, want)
	}
}
