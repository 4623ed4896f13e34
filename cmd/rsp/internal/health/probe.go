package health

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// Parse reads a probe:
//
//	tcp                 connect to the served address and port
//	tcp:HOST:PORT       connect there
//	http://HOST[:PORT]/PATH, https://...   GET with a status of 2xx or 3xx
//	http:/PATH, https:/PATH                the same at the served address and port
//	cmd:COMMAND         a command of the shell that exits with status 0
//
// Served gives the served address and port when the probe runs.
func Parse(s string, served func() string) (Probe, error) {
	kind, rest, _ := strings.Cut(s, ":")
	switch {
	case kind == "tcp" && rest == "":
		return connect(served), nil
	case kind == "tcp":
		if _, _, err := net.SplitHostPort(rest); err != nil {
			return nil, fmt.Errorf("check %q: after tcp: stands HOST:PORT", s)
		}
		return connect(func() string { return rest }), nil
	case kind == "http" || kind == "https":
		return parseHTTP(s, served)
	case kind == "cmd" && strings.TrimSpace(rest) != "":
		return command(rest), nil
	}
	return nil, fmt.Errorf("check %q is none of tcp, tcp:HOST:PORT, http://HOST:PORT/PATH, http:/PATH and cmd:COMMAND", s)
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
	if u.Opaque != "" || u.Path == "" && u.Host == "" {
		return nil, fmt.Errorf("check %q is no URL such as http://127.0.0.1:8080/health, or http:/health for the served address", s)
	}
	client := &http.Client{
		// What is redirected is answered; where to is no matter of ours.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport:     &http.Transport{DisableKeepAlives: true},
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
		_, _ = io.CopyN(io.Discard, resp.Body, 1<<16)
		if resp.StatusCode < 200 || resp.StatusCode > 399 {
			return fmt.Errorf("GET %s: status %s", target.String(), resp.Status)
		}
		return nil
	}, nil
}

func command(line string) Probe {
	return func(ctx context.Context) error {
		cmd := Shell(ctx, line)
		out, err := cmd.CombinedOutput()
		if ctx.Err() != nil {
			return fmt.Errorf("command %q takes too long", line)
		}
		if err != nil {
			if first, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n"); first != "" {
				return fmt.Errorf("command %q: %w: %s", line, err, first)
			}
			return fmt.Errorf("command %q: %w", line, err)
		}
		return nil
	}
}

// Shell makes a command of the shell that ends with ctx, all its processes
// included.
func Shell(ctx context.Context, line string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", line)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second // should one hold on to the output nevertheless
	return cmd
}
