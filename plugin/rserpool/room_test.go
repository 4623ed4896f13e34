package rserpool

import (
	stdlog "log"
	"regexp"
	"strings"
	"testing"
	"time"

	_ "github.com/coredns/coredns/plugin/nsid"
	clog "github.com/coredns/coredns/plugin/pkg/log"
	_ "github.com/coredns/coredns/plugin/tsig"
	"github.com/miekg/dns"

	rsp "github.com/rserpool/coredns-rserpool/rserpool"
)

// TestRoom: answers leave room for what the plugins before this one add to them. No answer is
// longer than the client's buffer or is cut a second time: it has the elements of the labels, and
// over TCP no flag TC.
func TestRoom(t *testing.T) {
	const secret = "NDM2NTcyNzQ2OTZlNmI2OTZlNjc3MzY1"
	logged := make(lineWriter, 100)
	stdlog.SetOutput(logged)
	t.Cleanup(clog.Discard)
	tests := []struct {
		name, lines string
		nsid        bool // the client asks for it
		key, alg    string
	}{
		{name: "alone"},
		{name: "nsid, unasked", lines: "nsid " + strings.Repeat("n", 200)},
		{name: "nsid", lines: "nsid " + strings.Repeat("n", 200), nsid: true},
		{name: "nsid of the host's name", lines: "nsid", nsid: true},
		{name: "unsigned", lines: "tsig {\n secret key. " + secret + "\n}"},
		{name: "tsig", lines: "tsig {\n secret key. " + secret + "\n}", key: "key.", alg: dns.HmacSHA256},
		{name: "tsig, the longest", lines: "tsig {\n secret a.long.key.example.org. " + secret + "\n}", key: "a.long.key.example.org.", alg: dns.HmacSHA512},
		{name: "both", lines: "nsid " + strings.Repeat("n", 200) + "\ntsig {\n secret key. " + secret + "\n}", nsid: true, key: "key.", alg: dns.HmacSHA256},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			fakes := withFakes(t)
			s := startServer(t, "pool.example.org:0 {\n bind 127.0.0.1\n metadata\n log . \"<{/rserpool/elements}>\"\n rserpool {\n answers all\n pool few answers 9\n}\n "+tt.lines+"\n}")
			for _, f := range fakes {
				for id := range rsp.PEID(1500) {
					put(t, f.space, "many", element(id, 80, "192.0.2.1"))
				}
				for id := range rsp.PEID(9) {
					put(t, f.space, "few", element(id, 80, "192.0.2.1"))
				}
			}
			for _, size := range []int{512, 560, 600, 700, 900, 1232, 4096, dns.MaxMsgSize} {
				for _, pool := range []string{"few", "many"} {
					q := new(dns.Msg).SetQuestion(pool+"."+zoneZ, dns.TypeSRV)
					q.SetEdns0(uint16(min(size, 1232)), false)
					c := dns.Client{Timeout: 20 * time.Second}
					if size == dns.MaxMsgSize {
						c.Net = "tcp"
					} else {
						c.UDPSize = dns.MaxMsgSize // one that is too long is to be seen
						q.IsEdns0().SetUDPSize(uint16(size))
					}
					if tt.nsid {
						o := q.IsEdns0()
						o.Option = append(o.Option, &dns.EDNS0_NSID{Code: dns.EDNS0NSID})
					}
					if tt.key != "" {
						q.SetTsig(tt.key, tt.alg, 300, time.Now().Unix())
						c.TsigSecret = map[string]string{tt.key: secret}
					}
					at := s.addr()
					if c.Net == "tcp" {
						at = s.inst.Servers()[0].Addr().String()
					}
					m, octets := exchange(t, &c, q, at)
					if octets > size {
						t.Errorf("%s, %d: the answer has %d octets", pool, size, octets)
					}
					if got := logElements(t, logged); got != len(m.Answer) {
						t.Errorf("%s, %d: the answer has %d elements, the labels %d", pool, size, len(m.Answer), got)
					}
					if c.Net == "tcp" && m.Truncated {
						t.Errorf("%s: TC over TCP", pool)
					}
				}
			}
		})
	}
}

// exchange also returns the octets of the answer.
func exchange(t *testing.T, c *dns.Client, q *dns.Msg, addr string) (*dns.Msg, int) {
	t.Helper()
	conn, err := c.Dial(addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.UDPSize, conn.TsigSecret = c.UDPSize, c.TsigSecret
	if err := conn.SetDeadline(time.Now().Add(c.Timeout)); err != nil {
		t.Fatal(err)
	}
	if err := conn.WriteMsg(q); err != nil {
		t.Fatal(err)
	}
	b, err := conn.ReadMsgHeader(nil)
	if err != nil {
		t.Fatalf("no answer: %v", err)
	}
	m := new(dns.Msg)
	if err := m.Unpack(b); err != nil {
		t.Fatal(err)
	}
	return m, len(b)
}

// logElements awaits the line of a query, and returns the number of its elements.
func logElements(t *testing.T, logged lineWriter) int {
	t.Helper()
	for {
		if line := regexp.MustCompile("<(.+)>").FindStringSubmatch(await(t, "the query is logged", logged)); line != nil {
			return len(strings.Split(line[1], ","))
		}
	}
}
