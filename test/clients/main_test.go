package clients_test

import (
	"flag"
	"os"
	"testing"

	"github.com/rserpool/coredns-rserpool/test/clients"
	"github.com/rserpool/coredns-rserpool/test/here"
)

var long = flag.Bool("long", false, "the long form: ten minutes for each client")

func TestMain(m *testing.M) {
	clients.Main()
	here.Signals()
	flag.Parse()
	_ = flag.Set("test.parallel", "6") // they wait half of the time
	code := m.Run()
	removeApps()
	os.Exit(code)
}
