package network

import (
	"flag"
	"os"
	"testing"

	"github.com/rserpool/coredns-rserpool/test/here"
)

// TestMain has eight tests run at the same time: they spend their time waiting.
func TestMain(m *testing.M) {
	if text := os.Getenv(elementsEnv); text != "" {
		elementsMain(text)
		return
	}
	here.Signals()
	flag.Parse()
	_ = flag.Set("test.parallel", "8")
	os.Exit(m.Run())
}
