// Package load reads how busy a server is, as a number from 0 to 1.
package load

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/rserpool/coredns-rserpool/cmd/rsp/internal/bounded"
	"github.com/rserpool/coredns-rserpool/cmd/rsp/internal/child"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// Source returns the present load, from 0 to 1.
type Source func(ctx context.Context) (float64, error)

// Parse reads a source:
//
//	file:PATH     a file that begins with a number
//	cmd:COMMAND   a shell command that prints a number
//	cpu           how busy this machine's processors are
//
// Numbers are as [rserpool.ParseFraction] reads them.
func Parse(s string) (Source, error) {
	kind, rest, _ := strings.Cut(s, ":")
	switch {
	case s == "cpu":
		return cpu(), nil
	case kind == "file" && rest != "":
		return func(context.Context) (float64, error) {
			b, err := readStart(rest)
			if err != nil {
				return 0, err
			}
			return firstWord(rest, b)
		}, nil
	case kind == "cmd" && strings.TrimSpace(rest) != "":
		return func(ctx context.Context) (float64, error) {
			out, err := child.Shell(ctx, rest, false)
			if err != nil {
				return 0, err
			}
			return firstWord(rest, out)
		}, nil
	}
	return nil, fmt.Errorf("load %q must be one of fixed, cpu, file:PATH and cmd:COMMAND", s)
}

// readStart reads the first MaxOutput bytes of a file.
func readStart(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, child.MaxOutput))
}

func firstWord(from string, b []byte) (float64, error) {
	words := bytes.Fields(b)
	if len(words) == 0 {
		return 0, fmt.Errorf("%s: no number", from)
	}
	f, err := rserpool.ParseFraction(string(words[0]))
	if err != nil {
		return 0, fmt.Errorf("%s: %w", from, err)
	}
	return f, nil
}

// firstLook is the time between the two readings of the first call of cpu.
const firstLook = 200 * time.Millisecond

// cpu returns the fraction of the processors' time since the last call that was not idle.
// The first call takes firstLook.
func cpu() Source {
	var last times
	return func(ctx context.Context) (float64, error) {
		if last.total == 0 {
			var err error
			if last, err = readStat(); err != nil {
				return 0, err
			}
			select {
			case <-ctx.Done():
				return 0, ctx.Err()
			case <-time.After(firstLook):
			}
		}
		now, err := readStat()
		if err != nil {
			return 0, err
		}
		f := now.since(last)
		last = now
		return f, nil
	}
}

func readStat() (times, error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return times{}, err
	}
	return parseStat(b)
}

// times are processor times in ticks.
type times struct{ busy, total uint64 }

func (t times) since(o times) float64 {
	if t.total <= o.total || t.busy < o.busy {
		return 0
	}
	return min(1, float64(t.busy-o.busy)/float64(t.total-o.total))
}

var errStat = errors.New("/proc/stat has no line of the form \"cpu USER NICE SYSTEM IDLE IOWAIT ...\"")

// parseStat reads the first line of /proc/stat (proc_stat(5)).
func parseStat(b []byte) (times, error) {
	line, _, _ := bytes.Cut(b, []byte("\n"))
	words := strings.Fields(string(line))
	if len(words) < 5 || words[0] != "cpu" {
		return times{}, errStat
	}
	var t times
	// user and nice include guest and guest_nice, the ninth and tenth value.
	for i, w := range words[1:min(len(words), 9)] {
		n, err := strconv.ParseUint(w, 10, 64)
		if err != nil {
			return times{}, errStat
		}
		t.total += n
		if i != 3 && i != 4 { // idle, iowait
			t.busy += n
		}
	}
	return t, nil
}

// maxLook is the longest time that a source has for a load, even if the interval is
// longer.
const maxLook = 10 * time.Second

// Follow reads a source of that name every interval until ctx ends. It reports the first
// load, and each load that differs by threshold or more from the last one reported. If the
// source fails, Follow reports each error once, until the source works again; the last
// load stays. A source has the interval to return a load, but at least 1 s and at most
// 10 s. A source that hangs has failed; Follow does not wait for it when ctx ends.
func Follow(ctx context.Context, name string, src Source, interval time.Duration, threshold float64, tell func(load float64), warn func(error)) {
	look := bounded.New(src)
	timer := time.NewTimer(0)
	defer timer.Stop()
	told, failing := -1.0, ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		limit := min(max(interval, time.Second), maxLook)
		once, cancel := context.WithTimeout(ctx, limit)
		f, err := look.Call(once)
		cancel()
		if errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("%s: no value within %v", name, limit)
		}
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			if err.Error() != failing {
				warn(err)
			}
			failing = err.Error()
		default:
			failing = ""
			if told < 0 || math.Abs(f-told) >= threshold && f != told || f != told && (f == 0 || f == 1) {
				told = f
				tell(f)
			}
		}
		timer.Reset(interval)
	}
}
