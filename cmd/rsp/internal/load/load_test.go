package load

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestSources(t *testing.T) {
	path := filepath.Join(t.TempDir(), "load")
	if err := os.WriteFile(path, []byte("42% since noon\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		in   string
		want float64
		bad  bool
	}{
		{"file:" + path, 0.42, false},
		{"file:" + path + "x", 0, true},
		{"cmd:echo 0.5", 0.5, false},
		{"cmd:echo", 0, true},
		{"cmd:echo much", 0, true},
		{"cmd:exit 1", 0, true},
	} {
		src, err := Parse(c.in)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := src(t.Context()); got != c.want || (err != nil) != c.bad {
			t.Errorf("%s gives %v, %v, want %v, error %v", c.in, got, err, c.want, c.bad)
		}
	}
	for _, bad := range []string{"", "fixed", "file:", "cmd:", "cpu:1", "0.5"} {
		if _, err := Parse(bad); err == nil {
			t.Errorf("Parse(%q) gives no error", bad)
		}
	}
}

func TestCPU(t *testing.T) {
	before, err := parseStat([]byte("cpu  100 0 50 800 50 0 0 0 7 7\ncpu0 1 2 3\n"))
	if err != nil || before != (times{busy: 150, total: 1000}) {
		t.Fatalf("times %+v, %v, want 150 of 1000 busy", before, err)
	}
	after, _ := parseStat([]byte("cpu  140 0 60 840 60 0 0 0 7 7\n"))
	if got := after.since(before); got != 0.5 {
		t.Errorf("load %v, want 0.5", got)
	}
	if got := before.since(after); got != 0 {
		t.Errorf("load %v when the counters went back, want 0", got)
	}
	for _, bad := range []string{"", "cpu 1 2 3", "cpu0 1 2 3 4", "cpu a b c d"} {
		if _, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("parseStat(%q) gives no error", bad)
		}
	}
	if _, err := os.Stat("/proc/stat"); err != nil {
		t.Skip(err)
	}
	if f, err := cpu()(t.Context()); err != nil || f < 0 || f > 1 {
		t.Errorf("this machine's load is %v, %v", f, err)
	}
}

// TestFollow: only changes of note are told, and a failing source once.
func TestFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad, worse := errors.New("bad"), errors.New("worse")
		steps := []struct {
			f   float64
			err error
		}{{0.5, nil}, {0.51, nil}, {0.46, nil}, {0, bad}, {0, bad}, {0, worse}, {0.46, nil}, {0, bad}, {0.995, nil}, {1, nil}, {1, nil}}
		var told []float64
		warned, i := 0, 0
		ctx, cancel := context.WithCancel(t.Context())
		start := time.Now()
		Follow(ctx, "test", func(context.Context) (float64, error) {
			if i == len(steps) {
				cancel()
				return 0, nil
			}
			i++
			return steps[i-1].f, steps[i-1].err
		}, 2*time.Second, 0.03, func(f float64) { told = append(told, f) }, func(error) { warned++ })
		if want := []float64{0.5, 0.46, 0.995, 1}; !slices.Equal(told, want) {
			t.Errorf("told %v, want %v", told, want)
		}
		if warned != 3 {
			t.Errorf("warned %d times, want 3", warned)
		}
		if d := time.Since(start); d != 22*time.Second {
			t.Errorf("took %v, want 22s", d)
		}
	})
}

// TestFollowHangs: a source that hangs is told of, is asked no second time
// beside the first, and is not waited for at the end.
func TestFollowHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		defer close(release)
		var asked atomic.Int32
		warned := 0
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		start := time.Now()
		Follow(ctx, "file:x", func(context.Context) (float64, error) { asked.Add(1); <-release; return 1, nil },
			time.Hour, 0.03, func(f float64) { t.Errorf("told %v", f) }, func(err error) {
				warned++
				if err.Error() != "file:x: no value within 10s" {
					t.Errorf("warned of %q", err)
				}
				if d := time.Since(start); d > 11*time.Second {
					t.Errorf("%v after %v", err, d)
				}
			})
		if n := asked.Load(); n != 1 || warned != 1 {
			t.Errorf("asked %d times, warned %d times, want once each", n, warned)
		}
		if d := time.Since(start); d > 61*time.Second {
			t.Errorf("it ends after %v, want a minute", d)
		}
	})
}

// TestSourceOutput: what a source gives is read up to a limit.
func TestSourceOutput(t *testing.T) {
	for _, in := range []string{"cmd:yes 0.5", "file:/dev/zero", "file:/dev/urandom"} {
		src, err := Parse(in)
		if err != nil {
			t.Fatal(err)
		}
		if f, err := src(t.Context()); err == nil {
			t.Errorf("%s gives %v, want an error", in, f)
		} else if n := len(err.Error()); n > 400 {
			t.Errorf("%s gives an error of %d bytes", in, n)
		}
	}
}
