package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
)

// TestFind: the names of testdata/module.txtar without a use are found, and no others.
func TestFind(t *testing.T) {
	dir := t.TempDir()
	files, err := txtar.ParseFile("testdata/module.txtar")
	if err != nil {
		t.Fatal(err)
	}
	// The go command writes the main packages of tests to its cache, even if they are
	// there, which fails if another user has written them. So the module has a new name.
	unique := fmt.Sprintf("example.org/m%d", time.Now().UnixNano())
	for _, f := range files.Files {
		name := filepath.Join(dir, f.Name)
		f.Data = bytes.ReplaceAll(f.Data, []byte("example.org/m"), []byte(unique))
		if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, f.Data, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	got, err := find(dir, "./...")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, n := range got {
		names = append(names, strings.TrimSuffix(n.String(), " is exported, but no other package uses it"))
	}
	want := []string{
		"internal/lib/lib.go:9: Unused",
		"internal/lib/lib.go:11: OnlyItself",
		"internal/lib/lib.go:13: OnlyTests",
		"internal/lib/lib.go:17: M",
		"internal/lib/lib.go:26: NotCalled",
		"internal/lib/lib.go:44: Number",
		"internal/libtest/libtest.go:6: NoHelp",
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}
