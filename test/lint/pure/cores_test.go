package pure

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCoresExist: a core that was moved or renamed is not left unchecked.
func TestCoresExist(t *testing.T) {
	for path, core := range Cores {
		dir := filepath.Join("../../..", strings.TrimPrefix(path, module))
		if found, _ := filepath.Glob(filepath.Join(dir, "*.go")); len(found) == 0 {
			t.Errorf("%s is not there: name its new place in cores.go", dir)
		}
		for _, name := range core.Drivers {
			if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
				t.Errorf("the driver is not there: %v", err)
			}
		}
	}
}
