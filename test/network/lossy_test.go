package network_test

import (
	"flag"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/test/network"
)

var long = flag.Bool("long", false, "the long form: a minute of a bad path")

// TestLossyPath: 10 % loss each way and 200 ms for a round trip. It measures how
// many keep-alives there are and how many elements are removed that live.
func TestLossyPath(t *testing.T) {
	if !*long {
		t.Skip("with -long only: it measures for a minute")
	}
	const elements = 50
	n := network.New(t)
	r, e := machine(n, "registrar", "10.98.1.1"), machine(n, "elements", "10.98.1.2")
	r.CoreDNS(strings.Replace(site("timer KEEP-ALIVE-INTERVAL 2s"), "errors\n", "errors\n prometheus 127.0.0.1:9153\n", 1))
	r.Serving("127.0.0.1")
	for range elements {
		e.RSP("register", "-p", "web", "-s", "tcp:80", "-r", "10.98.1.1", "-q")
	}
	all := func() error {
		text, err := metrics(r)
		if got := sum(text, `coredns_rserpool_elements\{[^}]*\}`); err == nil && got != elements {
			err = fmt.Errorf("%d elements", got)
		}
		return err
	}
	network.Eventually(t, "all are registered", all)
	before := time.Now()
	e.Eth0().Wire(network.Wire{Loss: 0.1, Delay: 100 * time.Millisecond})
	<-time.After(time.Minute) // the measurement
	text, err := metrics(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("in %v: %d keep-alives, %d not acknowledged in time, removed: %q", time.Since(before).Round(time.Second),
		sum(text, `coredns_rserpool_keepalives_sent_total\{[^}]*\}`), sum(text, `coredns_rserpool_keepalives_timed_out_total\{[^}]*\}`),
		regexp.MustCompile(`(?m)^coredns_rserpool_elements_removed_total.*$`).FindAllString(text, -1))
	e.Eth0().Wire(network.Wire{})
	network.Eventually(t, "all are back", all)
}

// metrics gets what the registrar on a host counts.
func metrics(h *network.Host) (string, error) {
	c := &http.Client{Transport: &http.Transport{DialContext: h.DialContext, DisableKeepAlives: true}, Timeout: 10 * time.Second}
	res, err := c.Get("http://127.0.0.1:9153/metrics")
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s", res.Status)
	}
	return string(b), err
}

// sum adds up the values of a metric.
func sum(text, metric string) (total int) {
	for _, m := range regexp.MustCompile(`(?m)^`+metric+` (\d+)`).FindAllStringSubmatch(text, -1) {
		v, _ := strconv.Atoi(m[1])
		total += v
	}
	return total
}
