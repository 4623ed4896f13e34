package main

import (
	"io"
	"slices"
	"strings"
	"testing"
)

// The lines of go test -json for a good package, one with a test that fails beside
// others, one that cannot be built, and one whose process ends in a test.
const sample = `
{"Action":"start","Package":"m/good"}
{"Action":"run","Package":"m/good","Test":"TestA"}
{"Action":"output","Package":"m/good","Test":"TestA","Output":"=== RUN   TestA\n"}
{"Action":"output","Package":"m/good","Test":"TestA","Output":"    a_test.go:1: LEFT OUT: no IPv6\n"}
{"Action":"output","Package":"m/good","Test":"TestA","Output":"--- SKIP: TestA (0.00s)\n"}
{"Action":"skip","Package":"m/good","Test":"TestA"}
{"Action":"output","Package":"m/good","Test":"TestB","Output":"    b_test.go:1: chatter\n"}
{"Action":"output","Package":"m/good","Test":"TestB","Output":"--- PASS: TestB (0.00s)\n"}
{"Action":"pass","Package":"m/good","Test":"TestB","Elapsed":2.5}
{"Action":"output","Package":"m/good","Test":"TestC","Output":"    c_test.go:1: runs elsewhere\n"}
{"Action":"skip","Package":"m/good","Test":"TestC"}
{"Action":"output","Package":"m/good","Output":"PASS\n"}
{"Action":"output","Package":"m/good","Output":"ok  \tm/good\t0.1s\n"}
{"Action":"pass","Package":"m/good"}
{"Action":"output","Package":"m/bad","Test":"TestD","Output":"--- FAIL: TestD (0.00s)\n"}
{"Action":"output","Package":"m/bad","Test":"TestD/x","Output":"    --- FAIL: TestD/x (0.00s)\n"}
{"Action":"output","Package":"m/bad","Test":"TestD/x","Output":"        d_test.go:1: got 1, want 2\n"}
{"Action":"output","Package":"m/bad","Test":"TestD/y","Output":"        d_test.go:2: chatter\n"}
{"Action":"pass","Package":"m/bad","Test":"TestD/y"}
{"Action":"fail","Package":"m/bad","Test":"TestD/x"}
{"Action":"fail","Package":"m/bad","Test":"TestD"}
{"Action":"output","Package":"m/bad","Test":"TestE","Output":"    e_test.go:1: LEFT OUT: no IPv6\n"}
{"Action":"skip","Package":"m/bad","Test":"TestE"}
{"Action":"output","Package":"m/bad","Output":"FAIL\n"}
{"Action":"output","Package":"m/bad","Output":"FAIL\tm/bad\t0.1s\n"}
{"Action":"fail","Package":"m/bad"}
{"ImportPath":"m/broken","Action":"build-output","Output":"broken.go:1: undefined: x\n"}
{"Action":"output","Package":"m/broken","Output":"FAIL\tm/broken [build failed]\n"}
{"Action":"fail","Package":"m/broken","FailedBuild":"m/broken"}
{"Action":"output","Package":"m/ends","Test":"TestF","Output":"panic: at once\n"}
not JSON
`

const printed = `ok  	m/good	0.1s
--- FAIL: TestD (0.00s)
    --- FAIL: TestD/x (0.00s)
        d_test.go:1: got 1, want 2
FAIL
FAIL	m/bad	0.1s
broken.go:1: undefined: x
FAIL	m/broken [build failed]
not JSON
panic: at once
LEFT OUT: no IPv6 (good.TestA and 1 more)
SLOW: good.TestB took 2.5 s: skip it if testing.Short() (limit 2 s)
`

func TestReport(t *testing.T) {
	var out strings.Builder
	r := newReport(&out)
	r.short = true
	r.read(strings.NewReader(strings.TrimPrefix(sample, "\n")))
	r.finish()
	if got := out.String(); got != printed {
		t.Errorf("got\n%s\nwant\n%s", got, printed)
	}
}

// TestAgain: only packages that the race detector has ended by a fault of its own run again,
// and only if nothing else failed.
func TestAgain(t *testing.T) {
	const (
		fault   = `{"Action":"output","Package":"m/fault","Output":"ThreadSanitizer: CHECK failed: tsan_rtl.cpp:346\n"}` + "\n"
		segment = `{"Action":"output","Package":"m/fault","Output":"SIGSEGV: segmentation violation\n"}` + "\n"
		nilUsed = `{"Action":"output","Package":"m/fault","Output":"[signal SIGSEGV: segmentation violation code=0x1]\n"}` + "\n"
		ends    = `{"Action":"fail","Package":"m/fault"}` + "\n"
		failure = `{"Action":"output","Package":"m/fault","Test":"TestA","Output":"--- FAIL: TestA (0.00s)\n"}` + "\n"
		race    = `{"Action":"output","Package":"m/fault","Output":"WARNING: DATA RACE\n"}` + "\n"
		other   = `{"Action":"output","Package":"m/bad","Output":"FAIL\n"}` + "\n" + `{"Action":"fail","Package":"m/bad"}` + "\n"
		open    = `{"Action":"start","Package":"m/open"}` + "\n"
		good    = `{"Action":"pass","Package":"m/good"}` + "\n"
	)
	for _, tt := range []struct {
		name, events string
		again        bool
	}{
		{"fault", good + fault + ends, true},
		{"bad address in the detector", good + segment + ends, true},
		{"bad address in Go", good + nilUsed + ends, false},
		{"failure", failure + ends, false},
		{"fault and failure", failure + fault + ends, false},
		{"fault and race", race + fault + ends, false},
		{"fault and another failure", fault + ends + other, false},
		{"fault and a package without an end", fault + ends + open, false},
		{"good", good, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newReport(io.Discard)
			r.read(strings.NewReader(tt.events))
			r.finish()
			var want []string
			if tt.again {
				want = []string{"-race", "-p", "1", "m/fault"}
			}
			if got := r.again([]string{"-race", "-p", "1", "./m/fault", "github.com/m/good"}); !slices.Equal(got, want) {
				t.Errorf("got the arguments %q, want %q", got, want)
			}
		})
	}
}
