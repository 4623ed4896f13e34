// Command report runs `go test` with its arguments and prints its output. Then it lists
// the tests that were left out on this machine: those skipped with a text that begins with
// LEFT OUT, which go test does not show. With -short it also lists tests of more than two
// seconds. Packages whose tests the race detector has ended by a fault of its own run once
// more, if no other package failed.
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
)

func main() {
	r, err := run(os.Args[1:])
	if again := r.again(os.Args[1:]); again != nil {
		fmt.Printf("The race detector has ended these tests by a fault of its own. They run once more: %s\n", strings.Join(r.crashed, " "))
		_, err = run(again)
	}
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		os.Exit(max(exit.ExitCode(), 1))
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run runs go test with these arguments, and prints the report.
func run(args []string) (*report, error) {
	r := newReport(os.Stdout)
	cmd := exec.Command(cmp.Or(os.Getenv("GO"), "go"), append([]string{"test", "-json"}, args...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return r, err
	}
	r.short = slices.Contains(args, "-short")
	r.read(out)
	err = cmd.Wait()
	r.finish()
	return r, err
}

// isDetectorFault reports whether a line is what the race detector prints if one of its own
// assertions fails, or what Go's runtime prints if the detector, which is in C, uses a bad
// address; for Go code there are brackets around the signal. Both happen now and then in tests
// with many goroutines.
func isDetectorFault(line string) bool {
	return strings.Contains(line, "ThreadSanitizer: CHECK failed") || strings.HasPrefix(line, "SIGSEGV: segmentation violation")
}

// again returns the arguments to test the packages again that failed by faults of the race
// detector; nil if there are none, or if others failed too.
func (r *report) again(args []string) []string {
	if len(r.crashed) == 0 || r.failed {
		return nil
	}
	isPackage := func(arg string) bool { return strings.HasPrefix(arg, ".") || strings.HasPrefix(arg, "github.com/") }
	return append(slices.DeleteFunc(slices.Clone(args), isPackage), r.crashed...)
}

// mark begins the text of a skip that must be listed.
const mark = "LEFT OUT: "

// event is a line of `go test -json`, as `go doc test2json` describes it.
type event struct {
	Action  string
	Package string
	Test    string // "" for the package itself
	Output  string
	Elapsed float64 // seconds
}

// slow is how long a test may take, in seconds, without a line about it.
const slow = 2

// report prints a run of go test.
type report struct {
	w        io.Writer
	short    bool // tests that take long are told
	packages map[string]*lines
	reasons  []string            // why tests were left out, in the order of their coming
	leftOut  map[string][]string // and which, by reason
	slow     []string
	failed   bool     // a package failed
	crashed  []string // packages that failed only by a fault of the race detector
}

// lines are the output of a package.
type lines struct {
	events []event
	ended  map[string]bool // tests that passed or were skipped
}

func newReport(w io.Writer) *report {
	return &report{w: w, packages: map[string]*lines{}, leftOut: map[string][]string{}}
}

func (r *report) read(from io.Reader) {
	in := bufio.NewReader(from)
	for {
		line, err := in.ReadBytes('\n')
		var e event
		switch {
		case len(line) == 0:
		case json.Unmarshal(line, &e) != nil:
			_, _ = r.w.Write(line)
		default:
			r.take(e)
		}
		if err != nil {
			return
		}
	}
}

func (r *report) take(e event) {
	p := r.packages[e.Package]
	if p == nil {
		p = &lines{ended: map[string]bool{}}
		r.packages[e.Package] = p
	}
	switch e.Action {
	case "build-output":
		fmt.Fprint(r.w, e.Output)
	case "output":
		if !strings.HasPrefix(e.Output, "=== ") {
			p.events = append(p.events, e)
		}
		if _, reason, ok := strings.Cut(e.Output, mark); ok && e.Test != "" {
			r.leave(strings.TrimSpace(reason), path.Base(e.Package)+"."+e.Test)
		}
	case "pass", "skip", "fail":
		if e.Test != "" {
			p.ended[e.Test] = e.Action != "fail"
			if r.short && e.Elapsed > slow && !strings.Contains(e.Test, "/") {
				r.slow = append(r.slow, fmt.Sprintf("%s.%s took %.1f s", path.Base(e.Package), e.Test, e.Elapsed))
			}
			break
		}
		p.print(r.w, e.Action == "fail")
		switch {
		case e.Action != "fail":
		case p.crashed() && !p.has("--- FAIL") && !p.has("DATA RACE") && !p.has("panic:"):
			r.crashed = append(r.crashed, e.Package)
		default:
			r.failed = true
		}
		delete(r.packages, e.Package)
	}
}

// has reports whether a text is in the output.
func (p *lines) has(text string) bool {
	return slices.ContainsFunc(p.events, func(e event) bool { return strings.Contains(e.Output, text) })
}

// crashed reports whether the race detector has ended the tests.
func (p *lines) crashed() bool {
	return slices.ContainsFunc(p.events, func(e event) bool { return isDetectorFault(e.Output) })
}

// print prints what `go test` prints without -v: for a package that failed everything
// except the output of tests that passed, for others the last line.
func (p *lines) print(w io.Writer, failed bool) {
	for i, e := range p.events {
		if failed && !p.ended[e.Test] || i == len(p.events)-1 && e.Test == "" {
			fmt.Fprint(w, e.Output)
		}
	}
}

func (r *report) leave(reason, test string) {
	if !slices.Contains(r.reasons, reason) {
		r.reasons = append(r.reasons, reason)
	}
	r.leftOut[reason] = append(r.leftOut[reason], test)
}

// finish lists the tests that were left out, and prints the output of packages that have
// not ended.
func (r *report) finish() {
	for _, p := range r.packages {
		p.print(r.w, true)
		r.failed = true
	}
	for _, reason := range r.reasons {
		tests := r.leftOut[reason]
		text := tests[0]
		if len(tests) > 1 {
			text = fmt.Sprintf("%s and %d more", text, len(tests)-1)
		}
		fmt.Fprintf(r.w, "%s%s (%s)\n", mark, reason, text)
	}
	for _, s := range r.slow {
		fmt.Fprintf(r.w, "SLOW: %s: skip it if testing.Short() (limit %d s)\n", s, slow)
	}
}
