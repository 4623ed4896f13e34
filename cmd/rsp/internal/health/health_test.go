package health

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestVerdict(t *testing.T) {
	for _, c := range []struct {
		name          string
		fail, rise    int
		results, want string // + and -; verdict after each
	}{
		{"first success is enough", 3, 2, "+", "+"},
		{"first failures", 3, 2, "---+", "---+"},
		{"failures in a row", 3, 2, "+---", "+++-"},
		{"failures apart", 3, 2, "+--+--+", "+++++++"},
		{"rise again", 2, 3, "+--+++", "++---+"},
		{"rise apart", 1, 2, "+-+-++", "+----+"},
		{"at once", 1, 1, "+-+-", "+-+-"},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := verdict{fail: c.fail, rise: c.rise}
			var got strings.Builder
			for _, r := range c.results {
				before := v.fit
				if changed := v.observe(r == '+'); changed != (v.fit != before) {
					t.Errorf("changed = %v from %v to %v", changed, before, v.fit)
				}
				got.WriteByte("-+"[map[bool]int{true: 1}[v.fit]])
			}
			if got.String() != c.want {
				t.Errorf("verdicts %s after %s, want %s", &got, c.results, c.want)
			}
		})
	}
}

// TestRun: the times of probes, and what is told.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var at []time.Duration
		var told []bool
		results := []error{errors.New("a"), errors.New("b"), nil, nil, errors.New("c"), errors.New("d"), nil}
		ctx, cancel := context.WithCancel(t.Context())
		c := Checker{
			Interval: 2 * time.Second, Timeout: time.Second, Fail: 2, Rise: 1,
			Probe: func(context.Context) error {
				at = append(at, time.Since(start))
				if len(at) == len(results) {
					defer cancel()
				}
				return results[len(at)-1]
			},
			Notify: func(fit bool, err error) {
				if fit != (err == nil) {
					t.Errorf("told fit = %v with error %v", fit, err)
				}
				told = append(told, fit)
			},
		}
		c.Run(ctx)
		ms := time.Millisecond
		want := []time.Duration{0, 250 * ms, 500 * ms, 2500 * ms, 4500 * ms, 6500 * ms, 8500 * ms}
		for i := range want {
			if i >= len(at) || at[i] != want[i] {
				t.Fatalf("probes at %v, want %v", at, want)
			}
		}
		if len(told) != 3 || told[0] || !told[1] || told[2] {
			t.Errorf("told %v, want the first failure, fit, unfit", told)
		}
	})
}

// TestReasons: while a server is unfit, another kind of reason is told, not another port or time.
// Reasons that change all the time are told ever more seldom, and one that stays each minute.
func TestReasons(t *testing.T) {
	refused := func(i int) error { return fmt.Errorf("dial 127.0.0.1:%d: connection refused", 40000+i) }
	type told struct {
		at   time.Duration
		what string
	}
	for _, c := range []struct {
		name   string
		probes int // one a second, and four a second until the first success
		result func(i int) error
		want   []told
	}{
		{"a server that starts", 15, func(i int) error {
			switch {
			case i < 2:
				return refused(i)
			case i < 10:
				return errors.New("status 404 Not Found")
			}
			return nil
		}, []told{{0, "refused"}, {time.Second, "404"}, {2500 * time.Millisecond, "fit"}}},
		{"ports and times", 200, refused, []told{{0, "refused"}}},
		{"a reason that stays", 500, refused, []told{{0, "refused"}, {time.Minute, "refused"}, {2 * time.Minute, "refused"}}},
		{"reasons that change all the time", 60, func(i int) error {
			return []error{errors.New("a"), errors.New("b")}[i/4%2]
		}, []told{{0, "a"}, {time.Second, "b"}, {4 * time.Second, "a"}, {9 * time.Second, "b"}}},
		{"a server that was fit", 10, func(i int) error {
			switch i {
			case 0, 3:
				return nil
			case 1, 2, 4, 5:
				return refused(i)
			}
			return errors.New("x509: unknown authority")
		}, []told{{0, "fit"}, {2 * time.Second, "refused"}, {6 * time.Second, "x509"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				start, n := time.Now(), 0
				var got []told
				checker := Checker{
					Interval: time.Second, Timeout: time.Second, Fail: 2, Rise: 2,
					Probe: func(context.Context) error {
						if n++; n == c.probes {
							defer cancel()
						}
						return c.result(n - 1)
					},
					Notify: func(fit bool, err error) {
						what := "fit"
						if !fit {
							what = err.Error()
						}
						got = append(got, told{time.Since(start), what})
					},
				}
				checker.Run(ctx)
				if !slices.EqualFunc(got, c.want, func(g, w told) bool { return g.at == w.at && strings.Contains(g.what, w.what) }) {
					t.Errorf("told %v, want %v", got, c.want)
				}
			})
		})
	}
}

func TestRunTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		c := Checker{
			Interval: time.Minute, Timeout: time.Second, Fail: 1, Rise: 1,
			Probe: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
			Notify: func(_ bool, err error) {
				if cancel(); err.Error() != "no result within 1s" {
					t.Errorf("told of %q", err)
				}
			},
		}
		start := time.Now()
		c.Run(ctx)
		if d := time.Since(start); d != time.Second {
			t.Errorf("the probe took %v, want its timeout of 1s", d)
		}
	})
}

// TestRunNotMade: a probe that this machine could not make says nothing of the
// server.
func TestRunNotMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fork := fmt.Errorf("command: %w", &os.PathError{Op: "fork/exec", Path: "/bin/sh", Err: syscall.EAGAIN})
		dial := &net.OpError{Op: "dial", Err: os.NewSyscallError("socket", syscall.EMFILE)}
		bad := errors.New("503")
		results := []error{fork, nil, fork, fork, fork, dial, bad, fork, bad, nil}
		var told []string
		n := 0
		ctx, cancel := context.WithCancel(t.Context())
		c := Checker{
			Interval: time.Second, Timeout: time.Second, Fail: 2, Rise: 1,
			Probe: func(context.Context) error {
				if n++; n == len(results) {
					defer cancel()
				}
				return results[n-1]
			},
			Notify: func(fit bool, _ error) { told = append(told, fmt.Sprintf("%d %v", n, fit)) },
			Warn:   func(error) { told = append(told, fmt.Sprintf("%d warning", n)) },
		}
		c.Run(ctx)
		want := []string{"1 warning", "2 true", "3 warning", "6 warning", "8 warning", "9 false"}
		if !slices.Equal(told, want) {
			t.Errorf("told %q, want %q", told, want)
		}
	})
}

// TestShellCannotFork: the shell of a check ran, and could start no process. That
// says nothing of the server either. A server may say something like it.
func TestShellCannotFork(t *testing.T) {
	for _, c := range []struct {
		says string
		want bool // a result
	}{
		{"/bin/sh: 1: Cannot fork", false},
		{"sh: can't fork: Resource temporarily unavailable", false},
		{"/bin/sh: fork: retry: Resource temporarily unavailable", false},
		{"connect: Resource temporarily unavailable", true},
		{"Cannot fork", true},
	} {
		probe, err := Parse(`cmd:echo "`+c.says+`" >&2; exit 2`, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := probe(t.Context()); err == nil || made(err) != c.want {
			t.Errorf("%q: error %v, a result: %v, want %v", c.says, err, made(err), c.want)
		}
	}
}

func TestProbes(t *testing.T) {
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/ok":
		case "/moved":
			http.Redirect(w, r, "/bad", http.StatusFound)
		default:
			http.Error(w, "no", http.StatusServiceUnavailable)
		}
	}))
	defer web.Close()
	host := strings.TrimPrefix(web.URL, "http://")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := l.Addr().String()
	l.Close()

	for _, c := range []struct {
		check, served, fails string
	}{
		{"tcp", host, ""},
		{"tcp", closed, "refused"},
		{"tcp:" + host, closed, ""},
		{web.URL + "/ok", "", ""},
		{web.URL + "/moved", "", ""},
		{web.URL + "/bad", "", "503"},
		{"http:/ok", host, ""},
		{"http:/bad", host, "503"},
		{"cmd:exit 0", "", ""},
		{"cmd:echo broken; exit 3", "", "exit status 3: broken"},
		{"cmd:sleep 60 & wait", "", "takes too long"},
	} {
		t.Run(c.check, func(t *testing.T) {
			p, err := Parse(c.check, func() string { return c.served })
			if err != nil {
				t.Fatal(err)
			}
			limit := 10 * time.Second
			if strings.Contains(c.fails, "too long") {
				limit = 100 * time.Millisecond
			}
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			start := time.Now()
			err = p(ctx)
			if c.fails == "" && err != nil || c.fails != "" && (err == nil || !strings.Contains(err.Error(), c.fails)) {
				t.Errorf("error %v, want one with %q", err, c.fails)
			}
			if d := time.Since(start); d > 5*time.Second {
				t.Errorf("the probe took %v", d)
			}
		})
	}
}

func TestParse(t *testing.T) {
	for _, bad := range []string{
		"", "udp", "tcp:8080", "cmd:", "cmd: ", "http:", "http://", "http:health", "ftp://x/y", "http://[::1",
		"tcp:127.0.0.1:99999", "tcp:127.0.0.1:0", "tcp:127.0.0.1:-1", "tcp:127.0.0.1:", "tcp:127.0.0.1:no-service", "tcp::8080",
		"http://127.0.0.1:99999/", "https://127.0.0.1:0/", "http://127.0.0.1:/", "http://:8080/", "http:///health",
	} {
		if _, err := Parse(bad, func() string { return "" }); err == nil {
			t.Errorf("Parse(%q) gives no error", bad)
		}
	}
	for _, good := range []string{"tcp:localhost:8080", "tcp:[::1]:65535", "http://localhost", "https://[::1]:1/x", "http:/health"} {
		if _, err := Parse(good, func() string { return "" }); err != nil {
			t.Error(err)
		}
	}
}
