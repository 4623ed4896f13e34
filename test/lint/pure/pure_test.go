package pure

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/tools/go/analysis/analysistest"
)

// TestPure: each "want" in testdata is found, and nothing else.
func TestPure(t *testing.T) {
	a := New(map[string]Core{"core": {Drivers: []string{"driver.go"}}, "locks": {Locks: true}})
	analysistest.Run(t, analysistest.TestData(), a, "core", "locks", "clocks")
}

// TestTestFiles: test files may read clocks.
func TestTestFiles(t *testing.T) {
	// See TestFind of package unused for the new name.
	name := fmt.Sprintf("core%d", time.Now().UnixNano())
	dir, cleanup, err := analysistest.WriteFiles(map[string]string{
		name + "/core.go":      "package core",
		name + "/core_test.go": "package core\n\nimport \"time\"\n\nvar start = time.Now()",
	})
	if err != nil {
		t.Fatal(err)
	}
	defer cleanup()
	analysistest.Run(t, dir, New(map[string]Core{name: {}}), name)
}

func TestBusy(t *testing.T) { analysistest.Run(t, analysistest.TestData(), Busy, "busy") }
