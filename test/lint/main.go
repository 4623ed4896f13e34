// Command lint checks rules of this module that go vet does not have. `make check`
// runs it as the tool of go vet, which keeps the results of what has not changed.
//
//   - exhaustive: a switch over an enumeration has all cases, or a default
//   - errorlint: errors are wrapped with %w, and compared with errors.Is and errors.As
//   - pure: no clock, global chance, goroutine or socket in cores and codecs
//   - busy: no waiting with runtime.Gosched, which takes a processor from what it waits for
//
// What no other package uses is found by the command in the folder unused.
package main

import (
	"log"
	"slices"
	"strings"

	"github.com/nishanths/exhaustive/passes/exhaustive"
	"github.com/polyfloyd/go-errorlint/errorlint"
	"github.com/rserpool/coredns-rserpool/test/lint/pure"
	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/analysis/unitchecker"
)

const module = "github.com/rserpool/coredns-rserpool/"

// open are the enumerations whose values come from the network or the kernel, or grow
// with the RFCs. No switch names all of their values.
const open = `\.(Type|CauseCode|MessageType|ChunkType|Errno)$`

// unchecked are the packages whose switches are not held to exhaustive yet.
var unchecked = []string{}

func main() {
	enums, errs := exhaustive.Analyzer, errorlint.NewAnalyzer()
	set(enums, "d", "true")
	set(enums, "typeignore", open)
	set(errs, "errorf", "true")
	productOnly(enums)
	unitchecker.Main(enums, errs, pure.New(pure.Cores), pure.Busy)
}

func set(a *analysis.Analyzer, flag, value string) {
	if err := a.Flags.Set(flag, value); err != nil {
		log.Fatalf("flag -%s of %s: %v", flag, a.Name, err)
	}
}

// productOnly keeps an analyzer from reporting on tests. A test waits for one of many
// events, and its switch has the case that it waits for.
func productOnly(a *analysis.Analyzer) {
	run := a.Run
	a.Run = func(pass *analysis.Pass) (any, error) {
		p, path := *pass, strings.TrimPrefix(pass.Pkg.Path()+"/", module)
		left := slices.ContainsFunc(append(unchecked, "test"), func(s string) bool { return strings.HasPrefix(path, s+"/") })
		p.Report = func(d analysis.Diagnostic) {
			if !left && !strings.HasSuffix(pass.Fset.Position(d.Pos).Filename, "_test.go") {
				pass.Report(d)
			}
		}
		return run(&p)
	}
}
