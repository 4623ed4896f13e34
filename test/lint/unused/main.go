// Command unused finds exported names of internal packages that no other package uses.
// Such a name need not be exported, or can be deleted.
//
//	go run ./test/lint/unused ./...
//
// A use in a test does not count, except for test helpers: packages below test/, and
// packages whose name ends in "test".
package main

import (
	"fmt"
	"log"
	"os"
	"slices"
	"strings"

	"golang.org/x/tools/go/packages"
)

// unchecked are the folders whose names are not held to this yet.
var unchecked = []string{"internal/sctp/", "internal/tlv/"}

func main() {
	dir, err := os.Getwd()
	if err != nil {
		log.Fatal(err)
	}
	found, err := find(dir, os.Args[1:]...)
	if err != nil {
		log.Fatal(err)
	}
	found = slices.DeleteFunc(found, func(line string) bool {
		return slices.ContainsFunc(unchecked, func(dir string) bool { return strings.HasPrefix(line, dir) })
	})
	for _, line := range found {
		fmt.Println(line)
	}
	if len(found) > 0 {
		os.Exit(1)
	}
}

// find loads packages from a directory and gives a line for each name without a use.
func find(dir string, patterns ...string) ([]string, error) {
	loaded, err := packages.Load(&packages.Config{
		Dir: dir, Tests: true,
		Mode: packages.NeedName | packages.NeedFiles | packages.NeedImports | packages.NeedSyntax | packages.NeedTypes | packages.NeedTypesInfo,
	}, patterns...)
	if err != nil {
		return nil, err
	}
	m := newModule(dir)
	for _, p := range loaded {
		if len(p.Errors) > 0 {
			return nil, fmt.Errorf("cannot load %s: %w", p.PkgPath, p.Errors[0])
		}
		m.add(p)
	}
	return m.unused(), nil
}
