package trusted

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/rserpool/coredns-rserpool/test/binary"
	"github.com/rserpool/coredns-rserpool/test/here"
	"github.com/rserpool/coredns-rserpool/test/network"
)

func TestMain(m *testing.M) {
	here.Signals()
	os.Exit(m.Run())
}

// steps are the blocks of the README's section, in their order.
func steps(t *testing.T) (blocks []string) {
	t.Helper()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## A trusted scope in five minutes\n")
	section, _, _ = strings.Cut(section, "\n## ")
	for _, part := range strings.Split(section, "\n\n") {
		if strings.HasPrefix(strings.TrimPrefix(part, "\n"), "    ") {
			blocks = append(blocks, strings.ReplaceAll(strings.TrimPrefix(part, "\n"), "\n    ", "\n")[4:])
		}
	}
	if len(blocks) != 4 {
		t.Fatalf("the README has %d blocks in its section, want 4: keys, Corefile, start, query\n%q", len(blocks), blocks)
	}
	return blocks
}

// place is a directory on a host, with the programs in $PATH.
type place struct {
	*network.Host
	t   *testing.T
	dir string
}

func newPlace(t *testing.T) *place {
	n := network.New(t)
	p := &place{n.Host("a machine", "192.0.2.53/24"), t, t.TempDir()}
	bin := t.TempDir()
	for _, name := range []string{"rsp", "coredns"} {
		if err := os.Symlink(binary.Path(t, name), filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	p.write("my-server", "#!/bin/sh\nexec sleep 1000\n")
	return p
}

func (p *place) write(name, text string) {
	p.t.Helper()
	if err := os.WriteFile(filepath.Join(p.dir, name), []byte(text), 0o755); err != nil {
		p.t.Fatal(err)
	}
}

// start starts a command line in the directory.
func (p *place) start(line string) *network.Process {
	p.t.Helper()
	cmd := p.Command("sh", "-c", "exec "+line)
	cmd.Dir = p.dir
	return p.StartCommand(cmd)
}

// run runs command lines, which must succeed.
func (p *place) run(lines string) {
	p.t.Helper()
	for line := range strings.Lines(lines) {
		if c := p.start(strings.TrimSpace(line)); c.Wait() != 0 {
			p.t.Fatalf("%s: %s", line, c.Output())
		}
	}
}

// has waits until DNS answers with an address, or with none if it is "".
func (p *place) has(name, addr string) {
	p.t.Helper()
	network.Eventually(p.t, fmt.Sprintf("%s has the address %q", name, addr), func() error {
		return p.Do(func() error {
			m, err := dns.Exchange(new(dns.Msg).SetQuestion(name, dns.TypeA), "127.0.0.1:1053")
			if err != nil {
				return err
			}
			got := ""
			if len(m.Answer) == 1 {
				got = m.Answer[0].(*dns.A).A.String()
			}
			if got != addr {
				return fmt.Errorf("got %v", m)
			}
			return nil
		})
	})
}

// TestReadme runs the commands of the README in an empty directory. The element with the
// certificate is in the answers. Others are refused, with words at both ends.
func TestReadme(t *testing.T) {
	p := newPlace(t)
	blocks := steps(t)
	p.run(blocks[0])
	p.write("Corefile", blocks[1])
	var started []*network.Process
	for line := range strings.Lines(blocks[2]) {
		started = append(started, p.start(strings.TrimSpace(line)))
	}
	coredns, element := started[0], started[1]
	element.WaitFor("registered")
	query, answer, _ := strings.Cut(blocks[3], "\n")
	if !strings.HasPrefix(query, "$ dig @127.0.0.1 -p 1053 +short ") {
		t.Fatalf("the test does not understand %q", query)
	}
	name := query[strings.LastIndexByte(query, ' ')+1:] + "."
	p.has(name, strings.TrimSpace(answer))

	p.run(`rsp ca init --dir other example.net
rsp ca issue --dir other --out foreign pool/web/host2
rsp ca issue --dir other --out stranger pool/web/host3
rsp ca issue --out wrong pool/bank/host4
sh -c 'cat ca/ca.pem >> foreign/ca.pem'`)
	for _, tt := range []struct{ name, options, says, log string }{
		{"no certificate", "--tls-ca ca/ca.pem", "is enough for users only", ""},
		{"right authority, wrong pool", "--tls wrong", "In a trusted scope the element needs --tls", `certificate of spiffe://example.org/rserpool/pool/bank/host4 may not register in pool "web" (allow)`},
		{"wrong authority", "--tls foreign", "peer refuses our certificate", `certificate of spiffe://example.net/rserpool/pool/web/host2 has an unknown authority`},
		{"an authority that does not know the registrar's", "--tls stranger", "certificate of spiffe://example.org/rserpool/registrar/ns1 has an unknown authority", ""},
		{"TLS at the plain port", "--tls host1 --registrar 127.0.0.1:3863", "no registrar could be reached", ""},
	} {
		r := p.start("rsp register " + tt.options + " --pool web --serve tcp:8081")
		r.WaitFor(tt.says)
		if tt.log != "" {
			coredns.WaitFor(tt.log)
		}
		r.Signal(os.Kill)
		r.Wait()
	}
	plain := p.start("rsp register --registrar 127.0.0.1:3864 --pool web --serve tcp:8081")
	plain.WaitFor("rsp:")
	p.has(name, strings.TrimSpace(answer))
}

// TestMixed: a registrar with TLS and a plain one in one process, as for the elements of
// RSPLIB. Each has its own pools, and neither lets in who belongs to the other.
func TestMixed(t *testing.T) {
	p := newPlace(t)
	p.run(steps(t)[0])
	p.write("Corefile", `pool.example.org:1053 {
    rserpool {
        asap 127.0.0.1
        tls ns1/cert.pem ns1/key.pem ns1/ca.pem
    }
}
old.example.org:1053 {
    rserpool {
        asap 127.0.0.2
    }
}
`)
	coredns := p.start("coredns -conf Corefile")
	coredns.WaitFor("registrar serves ASAP at 127.0.0.2:3863")
	trusted := p.start("rsp register --tls host1 --pool web --serve tcp:8080 --address 127.0.0.1")
	plain := p.start("rsp register --registrar 127.0.0.2 --pool web --serve tcp:8080 --address 127.0.0.3 --local 127.0.0.3")
	trusted.WaitFor("registered")
	plain.WaitFor("registered")
	p.has("web.pool.example.org.", "127.0.0.1")
	p.has("web.old.example.org.", "127.0.0.3")

	p.start("rsp register --registrar 127.0.0.1:3864 --pool bank --serve tcp:8080")
	coredns.WaitFor("peer speaks plain ASAP")
	lost := p.start("rsp register --tls host1 --registrar 127.0.0.2:3863 --pool web --serve tcp:8080")
	lost.WaitFor("does not speak TLS")
	p.has("web.pool.example.org.", "127.0.0.1")
	p.has("web.old.example.org.", "127.0.0.3")
}
