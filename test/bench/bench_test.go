package main

import (
	"bytes"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/rserpool/coredns-rserpool/test/binary"
)

func TestMain(m *testing.M) {
	if os.Getenv(asMain) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// TestQuick runs every part, with numbers so small that the figures mean
// nothing: it shows that they would be measured.
func TestQuick(t *testing.T) {
	if testing.Short() {
		t.Skip("builds CoreDNS")
	}
	b := &bench{sizes: quick, coredns: binary.Path(t, "coredns")}
	var names []string
	for _, p := range parts {
		if p.name != "kernel" { // the lab has its own tests
			names = append(names, p.name)
		}
	}
	if err := b.run(names); err != nil {
		t.Error(err)
	}
	var out bytes.Buffer
	b.table.print(&out)
	for _, want := range []string{
		"A, beside hosts", "SRV with 3 elements, beside file", "SRV with 60 elements, by TCP, beside file", "HTTPS", "AXFR of 200 elements", "20 pools of 10", "one pool of 200",
		"99th percentile", "selection of 1 / 3, 1x10, RLU", "new registration, 1x10",
		"heap of an element with two addresses, 1x10", "handle resolution, bytes in", "goroutines, each of 10", "A, in a trusted scope", "SRV, in a trusted scope", "200 elements, in a trusted scope",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no row %q in\n%s", want, &out)
		}
	}
	for _, r := range b.table.rows {
		if r.ours == "" || math.IsNaN(r.ratio) {
			t.Errorf("row %+v has no figure", r)
		}
	}
}

// A name server whose answers are not as they should be, or do not come, is
// found out.
func TestLoadChecks(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	server, err := startYardstick(self, "empty")
	if err != nil {
		t.Fatal(err)
	}
	defer server.close()
	ask := func(answers int) (tally, error) {
		l := newLoad("udp", server.addr, []question{newQuestion("one.pool.example.org.", dns.TypeA, answers, 0)})
		defer l.close()
		return l.flood(100)
	}
	got, err := ask(0)
	if err != nil || got.sent != 100 || got.lost != 0 || len(got.latencies) != 100 || got.p99() <= 0 {
		t.Errorf("flood: got %d sent, %d lost, %d latencies, %v", got.sent, got.lost, len(got.latencies), err)
	}
	if _, err := ask(1); err == nil || !strings.Contains(err.Error(), "want 0, 1, 0") {
		t.Errorf("missing answers: got %v, want an error that says so", err)
	}
	if server.cpu() <= 0 || server.cpu() > time.Minute {
		t.Errorf("CPU time of the server: %v", server.cpu())
	}
}

func TestTable(t *testing.T) {
	var tb table
	tb.bound("met", 5, 10, " B")
	tb.bound("not met", 1, 0, "")
	tb.add(row{name: "ratio", ours: "1.20", neighbour: "1", ratio: medianRatio([]float64{1, 6, 5}, []float64{1, 5, 1}), most: 1.1, target: "<= 1.10 x"})
	tb.info("just so", number(1234.5))
	var got bytes.Buffer
	tb.print(&got)
	want := `| figure  | ours | neighbour | ratio | target    | met |
|---      |---   |---        |---    |---        |---  |
| met     | 5 B  |           | 0.50  | <= 10 B   | yes |
| not met | 1    |           |       | <= 0      | NO  |
| ratio   | 1.20 | 1         | 1.20  | <= 1.10 x | NO  |
| just so | 1234 |           |       |           |     |
`
	if got.String() != want {
		t.Errorf("got\n%s\nwant\n%s", &got, want)
	}
}

func TestParseBench(t *testing.T) {
	got := parseBench([]byte("BenchmarkSelect/1x10/RR/1-2 \t 100\t 55.5 ns/op\t 0 B/op\nBenchmarkSelect/1x10/RR/1-2 100 50 ns/op 0 B/op\nPASS\n"))
	if v := got["BenchmarkSelect/1x10/RR/1 ns/op"]; v != 50 || len(got) != 2 {
		t.Errorf("got %v, want 50 ns/op and 0 B/op", got)
	}
}
