package pu

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestHTTPServer is no test: it is a server process of TestHTTPKilled.
func TestHTTPServer(t *testing.T) {
	addr := os.Getenv("PU_HTTP_SERVER")
	if addr == "" {
		t.Skip("not a server process")
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println("serving")
	_ = http.Serve(ln, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, addr)
	}))
}

// serve starts a server process, and waits until it serves.
func serve(t *testing.T, addr string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "-test.run=^TestHTTPServer$")
	cmd.Env = append(os.Environ(), "PU_HTTP_SERVER="+addr)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return cmd
}

func kill(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait()
}

// TestHTTPKilled: HTTP clients reach a pool while its server processes are killed and
// started again. Requests fail only if their server dies while it serves them, and
// http.Transport repeats nearly all of those.
func TestHTTPKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("more than two seconds")
	}
	p := newTCPPool(t, 3)
	var servers []*exec.Cmd
	for _, e := range p.elems {
		e.kill(false)
		servers = append(servers, serve(t, e.ln.Addr().String()))
	}
	transport := &http.Transport{DialContext: p.u.DialContext, MaxIdleConnsPerHost: 8}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: 10 * time.Second}
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var mu sync.Mutex
	more := sync.NewCond(&mu)
	done, failed, seen := 0, 0, map[string]int{}
	for range 8 {
		wg.Go(func() {
			for ctx.Err() == nil {
				res, err := client.Get("http://" + string(testPool) + poolSuffix + "/")
				var body []byte
				if err == nil {
					body, err = io.ReadAll(res.Body)
					_ = res.Body.Close()
				}
				mu.Lock()
				done++
				if err != nil {
					failed++
					t.Logf("request failed: %v", err)
				} else {
					seen[string(body)]++
				}
				more.Broadcast()
				mu.Unlock()
			}
		})
	}
	wait := func(n int) {
		mu.Lock()
		defer mu.Unlock()
		for target := done + n; done < target; {
			more.Wait()
		}
	}
	const rounds = 6
	for i := range rounds {
		wait(2000)
		kill(t, servers[i%3])
		wait(2000)
		servers[i%3] = serve(t, p.elems[i%3].ln.Addr().String())
	}
	stop()
	wg.Wait()
	for _, s := range servers {
		kill(t, s)
	}
	t.Logf("%d requests, %d failed, %d servers were killed; by server: %v", done, failed, rounds, seen)
	if failed > rounds {
		t.Errorf("%d of %d requests failed, want one for each killed server at most", failed, done)
	}
	if len(seen) < 3 {
		t.Errorf("served by %v, want three", seen)
	}
}

// TestDialContext: hosts that are no pools are dialled as usual.
func TestDialContext(t *testing.T) {
	p := newTCPPool(t, 1)
	c, err := p.u.DialContext(t.Context(), "tcp", p.elems[0].ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := c.(*Stream); ok {
		t.Error("an address is a pool")
	}
	_ = c.Close()
	for _, tt := range []struct{ network, addr, want string }{
		{"tcp", ".pool:80", "want tcp and a pool handle"},
		{"udp", "web.pool:80", "want tcp and a pool handle"},
		{"tcp", "web.pool", "missing port"},
		{"tcp", "other.pool:80", "knows no pool"},
	} {
		if _, err := p.u.DialContext(t.Context(), tt.network, tt.addr); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s %s: got %v, want %q", tt.network, tt.addr, err, tt.want)
		}
	}
}
