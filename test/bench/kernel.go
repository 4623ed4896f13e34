package main

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"time"
)

// echoes are made twice, few and many: what starting and ending take cancels
// out.
var echoes = [2]int{200, 1200}

// kernel adds the figures of kernel SCTP, from tests that run in the kernel
// lab. Without the lab they are left out.
func (b *bench) kernel() error {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return fmt.Errorf("go list: %w", err)
	}
	root := string(bytes.TrimSpace(out))
	lab := filepath.Join(root, "test", "lab")
	if out, err := exec.Command(filepath.Join(lab, "check-packages")).CombinedOutput(); err != nil {
		note("LEFT OUT: kernel SCTP, as there is no kernel lab here: %s", out)
		return nil
	}
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, "kernel.test")
	if out, err := exec.Command("go", "test", "-c", "-o", binary, module+"internal/sctp/kernel").CombinedOutput(); err != nil {
		return fmt.Errorf("go test -c: %w\n%s", err, out)
	}
	guest := func(env string, command ...string) ([]byte, error) {
		cmd := exec.Command(filepath.Join(lab, "run-in-uml"), append([]string{"-t", "300", "--"}, command...)...)
		cmd.Dir = filepath.Join(root, "internal", "sctp", "kernel")
		cmd.Env = append(os.Environ(), env)
		out, err := cmd.CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%s: %w\n%s", cmd, err, out)
		}
		return out, err
	}

	if _, err := exec.LookPath("strace"); err != nil {
		note("LEFT OUT: system calls a message, as there is no strace here")
	} else {
		each := math.Inf(1)
		for range 2 { // the less, as whatever else the machine does only adds
			var calls [2]float64
			for i, n := range echoes {
				trace := filepath.Join(dir, "strace")
				if _, err := guest(fmt.Sprintf("SCTP_TEST_ECHOES=%d", n), "strace", "-f", "-c", "-o", trace, binary, "-test.run", "^TestKernelEchoes$"); err != nil {
					return err
				}
				if calls[i], err = totalCalls(trace); err != nil {
					return err
				}
			}
			each = min(each, (calls[1]-calls[0])/float64(2*(echoes[1]-echoes[0]))) // an echo is two messages
		}
		b.table.add(row{
			name: "kernel SCTP, system calls a message, its sending and receiving", ours: number(each),
			neighbour: "9.3 to 12.6 (RSPLIB, constant)", ratio: each / 9.3, most: 4 / 9.3, target: "<= 4",
		})
	}

	out, err = guest("", binary, "-test.v", "-test.run", "^TestKernelManyRequests$")
	if err != nil {
		return err
	}
	var longest time.Duration
	for _, m := range regexp.MustCompile(`longest pause (\S+)`).FindAllSubmatch(out, -1) {
		d, err := time.ParseDuration(string(m[1]))
		if err != nil {
			return err
		}
		longest = max(longest, d)
	}
	if longest == 0 {
		return fmt.Errorf("the test of many requests tells no pause:\n%s", out)
	}
	b.table.bound("kernel SCTP, longest pause with 64 associations of 16 outstanding requests, ms", longest.Seconds()*1e3, 1000, "")
	return nil
}

var totalLine = regexp.MustCompile(`(?m)^100\.00\s+\S+\s+\d*\s+(\d+)\s.*total$`)

// totalCalls reads the sum of strace -c.
func totalCalls(file string) (float64, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	m := totalLine.FindSubmatch(text)
	if m == nil {
		return 0, fmt.Errorf("strace tells no total:\n%s", text)
	}
	return strconv.ParseFloat(string(m[1]), 64)
}
