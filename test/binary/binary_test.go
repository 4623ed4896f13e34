package binary

import (
	"os/exec"
	"strings"
	"testing"
)

func TestPathIsOfThisModule(t *testing.T) {
	out, err := exec.Command(Path(t, "rsp"), "version").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "rsp") {
		t.Errorf("rsp version: %v, %s", err, out)
	}
}
