package clients_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/test/clients"
	"github.com/rserpool/coredns-rserpool/test/clients/recipe"
	"github.com/rserpool/coredns-rserpool/test/network"
)

// set is the identifiers of elements, as 8 hexadecimal digits.
type set map[string]bool

// consumer is a running client of one pool.
type consumer interface {
	// servers are the elements that the client uses now.
	servers() (set, error)
	// lost says how often the client has lost a server, or a request has failed, since
	// the client's start, and what happened last.
	lost() (n int, last string)
	// poll is the longest time after which the client asks for the pool and uses the
	// answer.
	poll() time.Duration
}

// start is what all clients are started with.
type start struct {
	*clients.Site
	t      testing.TB
	host   *network.Host
	server string // the name server
	name   string // the pool's name in DNS
	poll   time.Duration
	idAt   func(address string) string // the element there
}

// recipe is a file of docs/clients.md for this pool and name server.
func (s *start) recipe(name string, oldnew ...string) string {
	return recipe.Text(s.t, name, append(oldnew, "web.pool.example.org", s.name)...)
}

// ask tells the host of its name server, for clients that read /etc/resolv.conf.
func (s *start) ask() {
	s.host.File("/etc/resolv.conf", "nameserver "+s.server+"\n")
}

// haproxy is HAProxy with the recipe.
type haproxy struct {
	start
	p      *network.Process
	socket string
}

// statistics is what the test adds to HAProxy's configuration.
const statistics = `global
    stats socket %s level admin
    log stdout format raw local0
defaults
    log global
`

func startHAProxy(s start, recipe string) consumer {
	clients.Need(s.t, "haproxy", "haproxy")
	// A socket's path has 108 bytes at most.
	dir, err := os.MkdirTemp("", "h")
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { os.RemoveAll(dir) })
	c := &haproxy{start: s, socket: filepath.Join(dir, "s")}
	global := s.host.NewFile("statistics.cfg", fmt.Sprintf(statistics, c.socket))
	c.p = s.host.Start("haproxy", "-db", "-f", global, "-f", s.host.NewFile("haproxy.cfg", recipe))
	return c
}

func (c *haproxy) servers() (set, error) {
	conn, err := net.Dial("unix", c.socket)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.WriteString(conn, "show servers state\n"); err != nil {
		return nil, err
	}
	text, err := io.ReadAll(conn)
	up := set{}
	for line := range strings.Lines(string(text)) {
		const name, state = 17, 5 // srv_fqdn, srv_op_state (2: running)
		f := strings.Fields(line)
		if id, ok := strings.CutPrefix(at(f, name), "pe-"); ok && at(f, state) == "2" {
			up[id[:8]] = true
		}
	}
	return up, err
}

func at(f []string, i int) string {
	if i >= len(f) {
		return ""
	}
	return f[i]
}

// changed matches HAProxy's lines about servers that come and go.
var changed = regexp.MustCompile(`.*( is going | is DOWN| is UP|changed its IP|no server available).*`)

func (c *haproxy) lost() (int, string) { return count(changed, c.p.Output()) }

func count(re *regexp.Regexp, text string) (int, string) {
	all := re.FindAllString(text, -1)
	if len(all) == 0 {
		return 0, ""
	}
	return len(all), all[len(all)-1]
}

func (c *haproxy) poll() time.Duration { return c.start.poll }

// prometheus is Prometheus with the recipe.
type prometheus struct {
	start
	before set
	gone   int
	last   string
}

func startPrometheus(s start, recipe string) consumer {
	clients.Need(s.t, "prometheus", "prometheus")
	s.ask()
	s.host.Start("prometheus", "--config.file="+s.host.NewFile("prometheus.yml", recipe), "--storage.tsdb.path="+s.t.TempDir())
	return &prometheus{start: s}
}

// get reads JSON from a client's interface.
func get(h *network.Host, url string, v any) error {
	b, err := fetch(h, url)
	if err != nil || v == nil {
		return err
	}
	return json.Unmarshal(b, v)
}

func fetch(h *network.Host, url string) ([]byte, error) {
	c := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DialContext: h.DialContext, DisableKeepAlives: true}}
	r, err := c.Get(url)
	if err != nil {
		return nil, err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err == nil && r.StatusCode != http.StatusOK {
		err = errors.New(r.Status)
	}
	return b, err
}

// servers are the targets. A target that is gone since the last call is a loss.
func (c *prometheus) servers() (set, error) {
	var reply struct {
		Data struct {
			ActiveTargets []struct {
				Labels struct{ Instance string }
			}
		}
	}
	if err := get(c.host, "http://127.0.0.1:9090/api/v1/targets?state=active", &reply); err != nil {
		return nil, err
	}
	now := set{}
	for _, t := range reply.Data.ActiveTargets {
		if id, ok := strings.CutPrefix(t.Labels.Instance, "pe-"); ok {
			now[id[:8]] = true
		} else if host, _, err := net.SplitHostPort(t.Labels.Instance); err == nil {
			now[c.idAt(host)] = true
		}
	}
	for id := range c.before {
		if !now[id] {
			c.gone++
			c.last = "target " + id + " is gone"
		}
	}
	c.before = now
	return now, nil
}

// lost counts targets, and the series that there should not be: each spelling of an
// element's name makes one.
func (c *prometheus) lost() (int, string) {
	var reply struct{ Data []struct{ Instance string } }
	if err := get(c.host, "http://127.0.0.1:9090/api/v1/series?match[]=up", &reply); err != nil {
		return c.gone, c.last
	}
	if n := len(reply.Data) - len(c.before); n > 0 {
		return c.gone + n, fmt.Sprintf("%d series of %d targets", len(reply.Data), len(c.before))
	}
	return c.gone, c.last
}

// poll: Prometheus passes on the changes of 5 seconds together.
func (c *prometheus) poll() time.Duration { return c.start.poll + 5*time.Second }

// proxy is a proxy whose statistics say nothing about its servers: requests do.
type proxy struct {
	start
	// all is how many servers it has, and requests are those in which it uses each of them.
	all, requests int
	failed        int
	last          string
}

func startCaddy(s start, recipe string, servers int) consumer {
	clients.Need(s.t, "caddy", "caddy")
	s.ask()
	cmd := s.host.Command("caddy", "run", "--adapter", "caddyfile", "--config", s.host.NewFile("Caddyfile", recipe))
	cmd.Env = append(os.Environ(), "HOME="+s.t.TempDir())
	s.host.StartCommand(cmd).WaitFor("serving initial configuration")
	// An answer begins with another element than the one before, and Caddy counts on: it may
	// leave one out for a while.
	return &proxy{start: s, all: servers, requests: 10 * servers}
}

func startNginx(s start, recipe string) consumer {
	clients.Need(s.t, "nginx", "nginx-light")
	s.host.Start("nginx", "-p", s.t.TempDir(), "-c", s.host.NewFile("nginx.conf", recipe), "-g", "daemon off; pid nginx.pid; error_log stderr;")
	network.Eventually(s.t, "nginx listens", func() error {
		c, err := s.host.Dial("tcp", "127.0.0.1:80")
		if err == nil {
			c.Close()
		}
		return err
	})
	return &proxy{start: s, all: 1, requests: 1}
}

// servers sends requests over one connection, and returns the elements that have answered.
func (c *proxy) servers() (set, error) {
	h := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DialContext: c.host.DialContext}}
	defer h.CloseIdleConnections()
	seen := set{}
	for i := 0; i < c.requests && len(seen) < c.all; i++ {
		req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://127.0.0.1/", nil)
		if err != nil {
			return nil, err
		}
		r, err := h.Do(req)
		if err != nil {
			return nil, err
		}
		b, _ := io.ReadAll(r.Body)
		r.Body.Close()
		var id string
		if _, err := fmt.Sscanf(string(b), "element{id=%q}", &id); err != nil {
			c.failed++
			c.last = r.Status
			continue
		}
		seen[id] = true
	}
	return seen, nil
}

func (c *proxy) lost() (int, string) { return c.failed, c.last }

func (c *proxy) poll() time.Duration { return c.start.poll }
