package pure

import (
	"testing"

	"golang.org/x/tools/go/analysis/analysistest"
)

// TestPure: each "want" in testdata is found, and nothing else.
func TestPure(t *testing.T) {
	a := New(map[string]Core{"core": {Drivers: []string{"driver.go"}}, "locks": {Locks: true}})
	analysistest.Run(t, analysistest.TestData(), a, "core", "locks", "clocks")
}

func TestBusy(t *testing.T) { analysistest.Run(t, analysistest.TestData(), Busy, "busy") }
