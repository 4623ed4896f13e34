// Command unused finds exported names of internal packages that no other package uses.
// Such a name need not be exported, or can be deleted.
//
//	go run ./test/lint/unused ./...
//
// A function that only tests call has no use, except in test helpers: packages below
// test/, and packages whose name ends in "test". Other names may be exported for the
// tests of other packages.
package main

import (
	"fmt"
	"log"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/tools/go/packages"
)

// kept are names without a use that stay exported, and why.
var kept = map[string]string{
	"internal/sctp/localaddr Read":      "tests in network namespaces compare with it",
	"internal/sctp/sctptest As":         "tests of a trusted scope",
	"internal/sctp/sctptest Heal":       "the end of Cut",
	"internal/sctp/stack EncapPort":     "tests connect to a port that the kernel has chosen",
	"internal/services ParsePong":       "the users of the service are in tests",
	"internal/services Status":          "the users of the service are in tests",
	"internal/tlv Policy":               "the reader and the writer of each parameter",
	"registrar/internal/ledger FirstOf": "tests of the registrar read its suspects",
	"registrar/internal/ledger Used":    "tests of the registrar compare it with a count of their own",
}

func main() {
	dir, err := os.Getwd()
	if err != nil {
		log.Fatal(err)
	}
	found, err := find(dir, os.Args[1:]...)
	if err != nil {
		log.Fatal(err)
	}
	found = slices.DeleteFunc(found, excepted)
	for _, n := range found {
		fmt.Println(n)
	}
	if len(found) > 0 {
		os.Exit(1)
	}
}

func excepted(n name) bool { return kept[filepath.Dir(n.file)+" "+n.name] != "" }

// find loads packages from a directory and gives the names without a use.
func find(dir string, patterns ...string) ([]name, error) {
	loaded, err := packages.Load(&packages.Config{
		Dir: dir, Tests: true,
		Mode: packages.NeedName | packages.NeedFiles | packages.NeedImports | packages.NeedSyntax | packages.NeedTypes | packages.NeedTypesInfo,
	}, patterns...)
	if err != nil {
		return nil, err
	}
	if len(loaded) == 0 {
		return nil, fmt.Errorf("no packages match %v: try go list -test -export %[1]v", patterns)
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
