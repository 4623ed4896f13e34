package main

import (
	"bytes"
	"fmt"
	"maps"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
)

// goBench runs benchmarks of a package, several times over, and returns the
// least of each metric by benchmark and unit, such as
// "BenchmarkSelect/1x10/RR/1 ns/op". What else the machine does only adds.
func goBench(pkg, bench, benchTime string, count int) (map[string]float64, error) {
	cmd := exec.Command("go", "test", "-run", "^$", "-bench", bench, "-benchtime", benchTime,
		"-count", strconv.Itoa(count), "-benchmem", "-timeout", "5m", module+pkg)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", cmd, err, out)
	}
	m := parseBench(out)
	if len(m) == 0 {
		return nil, fmt.Errorf("%s: no benchmark was run", cmd)
	}
	return m, nil
}

const module = "github.com/rserpool/coredns-rserpool/"

var procs = regexp.MustCompile(`-\d+$`)

func parseBench(out []byte) map[string]float64 {
	m := map[string]float64{}
	for line := range bytes.Lines(out) {
		f := strings.Fields(string(line))
		if len(f) < 4 || !strings.HasPrefix(f[0], "Benchmark") {
			continue
		}
		name := procs.ReplaceAllString(f[0], "")
		for i := 2; i+1 < len(f); i += 2 {
			key := name + " " + f[i+1]
			if v, err := strconv.ParseFloat(f[i], 64); err == nil && (m[key] == 0 || v < m[key]) {
				m[key] = v
			}
		}
	}
	return m
}

// policies in the order of the reference's table.
var policies = [...]string{"RR", "WRR", "RAND", "WRAND", "PRIO", "LU", "LUD", "RLU"}

// reference is what the handlespace of RSPLIB, in C, takes in process on a
// machine of this class, as it was measured once: it is not run here.
var reference = []struct {
	shape      string
	one, three [len(policies)]float64 // ns for a selection; 0 where there is none
	leastPut   float64                // ns for a new registration
	mostPut    float64
	bytes      float64 // of an element
}{
	{"1x10", [...]float64{156, 245, 276, 278, 113, 110, 173, 324}, [...]float64{172, 260, 798, 852, 110, 119, 204, 906}, 440, 550, 586},
	{"1x1000", [...]float64{471, 328, 749, 603, 278, 295, 589, 816}, [...]float64{573, 362, 2021, 1858, 302, 300, 646, 2089}, 1300, 1500, 529},
	{"1000x10", [...]float64{579, 541, 676, 765, 375, 358, 722, 818}, [...]float64{609, 629, 1655, 1591, 401, 391, 672, 1883}, 2300, 2800, 557},
	{"1x100000", [...]float64{658, 497, 2442, 2733, 609, 337, 993, 2996}, [...]float64{686, 512, 6962, 8368, 631, 522, 1066, 8429}, 4300, 6500, 528},
	{"100000x10", [...]float64{3847, 4389, 4785, 0, 3401, 4905, 0, 3904}, [...]float64{3937, 4304, 6620, 0, 3598, 4565, 0, 6395}, 8000, 11000, 557},
}

// handlespace compares the handlespace with the reference's.
func (b *bench) handlespace() error {
	m := map[string]float64{}
	names := strings.Join(policies[:], "|")
	for _, run := range []struct {
		bench, benchTime string
		count            int
	}{
		{fmt.Sprintf("^Benchmark(Select|Put)$/^(%s)$/^(%s)$/^(1|3|new)$", b.shapes, names), b.benchTime, b.benchCount},
		{fmt.Sprintf("^Benchmark(Select|Put)$/^(%s)$/^(RR|WRR|RAND|PRIO|LU|RLU)$/^(1|3|new)$", b.largeShapes), b.benchTime, b.largeCount},
		{fmt.Sprintf("^BenchmarkHeap$/^(%s|%s)$/^(%s)$", b.shapes, b.largeShapes, names), "1x", 1},
	} {
		some, err := goBench("registrar/handlespace", run.bench, run.benchTime, run.count)
		if err != nil {
			return err
		}
		maps.Copy(m, some)
	}
	for _, ref := range reference {
		least, most, heap, allocs := 0.0, 0.0, 0.0, 0.0
		for i, policy := range policies {
			at := ref.shape + "/" + policy
			one, ok := m["BenchmarkSelect/"+at+"/1 ns/op"]
			if !ok {
				continue
			}
			three := m["BenchmarkSelect/"+at+"/3 ns/op"]
			allocs = max(allocs, m["BenchmarkSelect/"+at+"/1 allocs/op"], m["BenchmarkSelect/"+at+"/3 allocs/op"])
			put := m["BenchmarkPut/"+at+"/new ns/op"]
			if least == 0 || put < least {
				least = put
			}
			most = max(most, put)
			heap = max(heap, m["BenchmarkHeap/"+at+" B/element"])
			r := row{name: "selection of 1 / 3, " + ref.shape + ", " + policy + ", ns", ours: number(one) + " / " + number(three)}
			if ref.one[i] > 0 {
				r.neighbour = number(ref.one[i]) + " / " + number(ref.three[i]) + " (RSPLIB, constant)"
				r.ratio, r.most, r.target = max(one/ref.one[i], three/ref.three[i]), 0.5, "<= 0.5 x"
				if strings.Contains(policy, "RAND") || policy == "RLU" {
					r.most, r.target = 1.0/3, "<= 0.33 x"
				}
			}
			b.table.add(r)
		}
		if most == 0 {
			continue
		}
		b.table.bound("selection, "+ref.shape+", allocations, most of all policies", allocs, 0, "")
		b.table.add(row{
			name: "new registration, " + ref.shape + ", fastest to slowest policy, ns", ours: number(least) + " to " + number(most),
			neighbour: number(ref.leastPut) + " to " + number(ref.mostPut) + " (RSPLIB, constant)",
			ratio:     most / ref.mostPut, most: 0.5, target: "<= 0.5 x",
		})
		b.table.add(row{
			name: "heap of an element with two addresses, " + ref.shape + ", worst policy, B", ours: number(heap),
			neighbour: number(ref.bytes) + " (RSPLIB, constant)", ratio: heap / ref.bytes, most: 1, target: "<= 1 x",
		})
		if ref.shape == "1x100000" {
			b.table.bound("heap of an element, 100000 registered, worst policy", heap, 600, " B")
		}
	}
	return nil
}

// messages adds what a message through the registrar's core takes, bytes in to
// bytes out.
func (b *bench) messages() error {
	m, err := goBench("registrar", "^Benchmark(Resolution|Reregistration)$/^1000x10$", b.messageTime, b.benchCount)
	if err != nil {
		return err
	}
	const us = 1000
	for _, r := range []struct {
		name, bench     string
		reference, most float64
	}{
		{"handle resolution", "BenchmarkResolution", 3.8, 1.9},
		{"re-registration", "BenchmarkReregistration", 6.4, 3.2},
	} {
		took := m[r.bench+"/1000x10 ns/op"] / us
		b.table.add(row{
			name: r.name + ", bytes in to bytes out, 1000x10, us", ours: number(took),
			neighbour: number(r.reference) + " (RSPLIB, constant)", ratio: took / r.reference, most: 0.5, target: "<= 0.5 x",
		})
	}
	b.table.bound("handle resolution, allocations", m["BenchmarkResolution/1000x10 allocs/op"], 0, "")
	b.table.info("re-registration, allocations", number(m["BenchmarkReregistration/1000x10 allocs/op"]))
	return nil
}
