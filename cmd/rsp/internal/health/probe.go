package health

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"syscall"

	"github.com/rserpool/coredns-rserpool/cmd/rsp/internal/child"
)

// Parse reads a probe:
//
//	tcp                 connect to the served address and port
//	tcp:HOST:PORT       connect there
//	http://HOST[:PORT]/PATH, https://...   GET with a status of 2xx or 3xx
//	http:/PATH, https:/PATH                the same at the served address and port
//	cmd:COMMAND         a shell command that exits with status 0
//
// Served gives the served address and port when the probe runs.
func Parse(s string, served func() string) (Probe, error) {
	kind, rest, _ := strings.Cut(s, ":")
	switch {
	case kind == "tcp" && rest == "":
		return connect(served), nil
	case kind == "tcp":
		host, port, err := net.SplitHostPort(rest)
		if err != nil || host == "" {
			return nil, fmt.Errorf("check %q: use tcp or tcp:HOST:PORT", s)
		}
		if err := checkPort(port); err != nil {
			return nil, fmt.Errorf("check %q: %w", s, err)
		}
		return connect(func() string { return rest }), nil
	case kind == "http" || kind == "https":
		return parseHTTP(s, served)
	case kind == "cmd" && strings.TrimSpace(rest) != "":
		return command(rest), nil
	}
	return nil, fmt.Errorf("check %q must be one of tcp, tcp:HOST:PORT, http://HOST:PORT/PATH, http:/PATH and cmd:COMMAND", s)
}

// checkPort refuses a port to which no check can connect: it would fail for ever, and the
// server would never be registered. A port may be the name of a service.
func checkPort(port string) error {
	if n, err := net.LookupPort("tcp", port); err != nil || n == 0 {
		return fmt.Errorf("port %q is not 1 to 65535", port)
	}
	return nil
}

func connect(to func() string) Probe {
	return func(ctx context.Context) error {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", to())
		if err != nil {
			return err
		}
		return conn.Close()
	}
}

func parseHTTP(s string, served func() string) (Probe, error) {
	u, err := url.Parse(s)
	if err != nil {
		return nil, fmt.Errorf("check: %w", err)
	}
	if u.Opaque != "" || u.Path == "" && u.Host == "" || u.Hostname() == "" && strings.HasPrefix(s, u.Scheme+"://") {
		return nil, fmt.Errorf("check %q must be a URL such as http://127.0.0.1:8080/health, or http:/health for the served address", s)
	}
	if u.Port() != "" || strings.HasSuffix(u.Host, ":") {
		if err := checkPort(u.Port()); err != nil {
			return nil, fmt.Errorf("check %q: %w", s, err)
		}
	}
	client := &http.Client{
		// A redirection is an answer; rsp does not follow it.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport:     &http.Transport{DisableKeepAlives: true, MaxResponseHeaderBytes: child.MaxOutput},
	}
	return func(ctx context.Context) error {
		target := *u
		if target.Host == "" {
			target.Host = served()
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
		if err != nil {
			return err
		}
		req.Header.Set("User-Agent", "rsp-check")
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		_, _ = io.CopyN(io.Discard, resp.Body, child.MaxOutput)
		if resp.StatusCode < 200 || resp.StatusCode > 399 {
			return fmt.Errorf("GET %s: status %s", target.String(), resp.Status)
		}
		return nil
	}, nil
}

func command(line string) Probe {
	return func(ctx context.Context) error {
		out, err := child.Shell(ctx, line, true)
		if err != nil && noFork.Match(out) {
			err = fmt.Errorf("%w: %w", err, syscall.EAGAIN)
		}
		if first, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n"); err != nil && first != "" && ctx.Err() == nil {
			return fmt.Errorf("%w: %s", err, first[:min(len(first), maxFirstLine)])
		}
		return err
	}
}

// noFork are the messages of shells that cannot start a process: dash, BusyBox, bash.
var noFork = regexp.MustCompile(`(?m)^\S*sh: .*(Cannot fork|can't fork|fork: )`)

// maxFirstLine limits the part of a command's first line that is logged, in bytes.
const maxFirstLine = 200
