// Package pure has an analyzer that finds what makes a protocol core depend on more
// than its input: clocks and timers, global chance, goroutines, locks and sockets.
// Another one finds busy waits anywhere.
package pure

import (
	"go/ast"
	"go/types"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/tools/go/analysis"
)

// Core is a package that depends on nothing but its input.
type Core struct {
	Drivers []string // files that are no part of the core: they run it
	Locks   bool     // it may use package sync
}

// clocks are the functions of package time that read a clock or start a timer.
var clocks = []string{"After", "AfterFunc", "NewTicker", "NewTimer", "Now", "Since", "Sleep", "Tick", "Until"}

// sources are the functions of math/rand and math/rand/v2 that make a source of
// chance from a seed. The others draw from the global one.
var sources = []string{"New", "NewChaCha8", "NewPCG", "NewSource", "NewZipf"}

// imports must not be imported; locks only where Core.Locks is set.
var (
	imports = []string{"context", "crypto/rand", "log", "log/slog", "net", "os", "runtime", "syscall"}
	locks   = []string{"sync", "sync/atomic"}
)

// New makes the analyzer for the packages of cores, by their import paths. Test files
// are not looked at.
func New(cores map[string]Core) *analysis.Analyzer {
	return &analysis.Analyzer{
		Name: "pure",
		Doc:  "find clocks, global chance, goroutines, locks and sockets in protocol cores",
		Run: func(pass *analysis.Pass) (any, error) {
			if core, ok := cores[pass.Pkg.Path()]; ok {
				core.check(pass)
			}
			return nil, nil
		},
	}
}

func (c Core) check(pass *analysis.Pass) {
	for _, file := range pass.Files {
		name := filepath.Base(pass.Fset.Position(file.Package).Filename)
		if strings.HasSuffix(name, "_test.go") || slices.Contains(c.Drivers, name) {
			continue
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt:
				pass.Reportf(n.Pos(), "goroutine in a protocol core: the caller drives it")
			case *ast.ImportSpec:
				if path, err := strconv.Unquote(n.Path.Value); err == nil && c.Refuses(path) {
					pass.Reportf(n.Pos(), "import of %s in a protocol core", path)
				}
			case *ast.Ident:
				if what := forbidden(pass.TypesInfo.Uses[n]); what != "" {
					pass.Reportf(n.Pos(), "%s in a protocol core", what)
				}
			}
			return true
		})
	}
}

// Refuses reports whether the package must not import another one.
func (c Core) Refuses(path string) bool {
	return slices.Contains(imports, path) || !c.Locks && slices.Contains(locks, path)
}

// forbidden says what is wrong with the use of an object, "" if nothing is.
func forbidden(o types.Object) string {
	f, ok := o.(*types.Func)
	if !ok || f.Pkg() == nil || f.Signature().Recv() != nil {
		return ""
	}
	switch f.Pkg().Path() {
	case "time":
		if slices.Contains(clocks, f.Name()) {
			return "time." + f.Name() + " reads a clock or starts a timer: use the time of the event"
		}
	case "math/rand", "math/rand/v2":
		if !slices.Contains(sources, f.Name()) {
			return "rand." + f.Name() + " draws from the global source: use the seeded one"
		}
	}
	return ""
}

// Busy is an analyzer that finds loops that wait by yielding the processor.
var Busy = &analysis.Analyzer{
	Name: "busy",
	Doc:  "find uses of runtime.Gosched",
	Run: func(pass *analysis.Pass) (any, error) {
		for id, o := range pass.TypesInfo.Uses {
			if o.Pkg() != nil && o.Pkg().Path() == "runtime" && o.Name() == "Gosched" {
				pass.Reportf(id.Pos(), "busy wait: wait for an event")
			}
		}
		return nil, nil
	},
}
