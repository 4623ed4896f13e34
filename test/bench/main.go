package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// sizes say how much is measured.
type sizes struct {
	heats   int // how often all name servers are started anew
	rounds  int // turns of each of them in a heat
	queries int // of one turn

	pools, poolSize, onePool int // the large handlespaces
	scaleRounds, scaleTurn   int

	elements, changes int // while things change: elements, changes a second of each kind
	rate              int // queries a second
	changeRounds      int
	changeTime        time.Duration

	transferElements, transferRounds int // of a zone transfer

	associations int // idle ones

	sharedElements int // of a handlespace that a peer downloads
	scopeTime      string

	// Beside a trusted scope: how often its name servers are started anew, and downloads.
	trustHeats, downloads int

	// What go test runs: shapes of handlespaces, and how often.
	benchTime, messageTime string
	benchCount, largeCount int
	shapes, largeShapes    string
}

var normal = sizes{
	heats: 11, rounds: 2, queries: 10000,
	pools: 100000, poolSize: 10, onePool: 1000000, scaleRounds: 12, scaleTurn: 25000,
	elements: 100000, changes: 1000, rate: 5000, changeRounds: 5, changeTime: 2 * time.Second,
	transferElements: 100000, transferRounds: 9,
	associations: 10000, sharedElements: 1000000, scopeTime: "3x",
	trustHeats: 21, downloads: 3,
	benchTime: "0.005s", messageTime: "0.1s", benchCount: 8, largeCount: 2,
	shapes: "1x10|1x1000|1000x10|1x100000", largeShapes: "100000x10",
}

// quick shows that everything runs, and no more.
var quick = sizes{
	heats: 2, rounds: 1, queries: 500,
	pools: 20, poolSize: 10, onePool: 200, scaleRounds: 1, scaleTurn: 500,
	elements: 100, changes: 100, rate: 500, changeRounds: 1, changeTime: 300 * time.Millisecond,
	transferElements: 200, transferRounds: 1,
	associations: 10, sharedElements: 200, scopeTime: "1x",
	trustHeats: 2, downloads: 1,
	benchTime: "1x", messageTime: "1x", benchCount: 1, largeCount: 1,
	shapes: "1x10", largeShapes: "1x1000",
}

// bench is one run.
type bench struct {
	sizes
	coredns  string // the binary
	other    string // another one to compare with, if there is one
	profiles string // directory for CPU profiles, if they are wanted
	table    table
}

// parts are the parts of a run, in their order.
var parts = []struct {
	name string
	run  func(*bench) error
}{
	{"dns", (*bench).dns},
	{"scale", (*bench).scale},
	{"changes", (*bench).changesBesideQueries},
	{"transfer", (*bench).transfer},
	{"handlespace", (*bench).handlespace},
	{"messages", (*bench).messages},
	{"memory", (*bench).memory},
	{"scope", (*bench).scope},
	{"trust", (*bench).trust},
	{"kernel", (*bench).kernel},
}

func main() {
	if len(os.Args) == 3 {
		if s, ok := yardsticks[os.Args[1]]; ok {
			fail(s(os.Args[2]))
			return
		}
	}
	var names []string
	for _, p := range parts {
		names = append(names, p.name)
	}
	coredns := flag.String("coredns", "bin/coredns", "the `binary` to measure")
	other := flag.String("beside", "", "another `binary` of this server, to compare with in the part dns")
	only := flag.String("only", strings.Join(names, ","), "the `parts` to run, separated by commas")
	short := flag.Bool("quick", false, "tiny numbers, to see whether it runs")
	profiles := flag.String("profiles", "", "write a CPU profile for each load on a CoreDNS into this `directory`")
	flag.Parse()

	wanted := strings.Split(*only, ",")
	for _, name := range wanted {
		if !slices.Contains(names, name) {
			fail(fmt.Errorf("-only: there is no part %q; the parts are %s", name, strings.Join(names, ",")))
		}
	}
	if *profiles != "" {
		fail(os.MkdirAll(*profiles, 0o777))
	}
	b := &bench{sizes: normal, coredns: *coredns, other: *other, profiles: *profiles}
	if *short {
		b.sizes = quick
	}
	err := b.run(wanted)
	b.table.print(os.Stdout)
	fail(err)
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run runs the parts that are named. A part that fails does not keep the
// others from running.
func (b *bench) run(names []string) error {
	var errs []error
	for _, p := range parts {
		if !slices.Contains(names, p.name) {
			continue
		}
		start := time.Now()
		if err := p.run(b); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", p.name, err))
		}
		note("%s took %.0f s", p.name, time.Since(start).Seconds())
	}
	return errors.Join(errs...)
}

// note prints the progress.
func note(format string, args ...any) { fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...) }
