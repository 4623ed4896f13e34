// Package test has the tests of the module as a whole; its folders have the kernel lab,
// interoperability tests, a simulation and the sample set-up.
package test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/rserpool/coredns-rserpool/test/lint/pure"
)

const module = "github.com/rserpool/coredns-rserpool/"

// arrows are the imports between the packages of this module, as docs/architecture.md
// draws them: each package, and all that it may import. Packages below test may import
// all others.
var arrows = map[string]string{
	// Values, and parts that know nothing of RSerPool.
	"internal/ascii":     "",
	"internal/control":   "rserpool",
	"internal/glob":      "internal/ascii",
	"internal/identity":  "internal/ascii internal/glob rserpool",
	"internal/multicast": "",
	"internal/netaddr":   "",
	"internal/setting":   "",
	"internal/state":     "",
	"rserpool":           "internal/netaddr",

	// Messages.
	"internal/tlv":         "rserpool",
	"internal/tlv/tlvtest": "rserpool",
	"asap":                 "internal/tlv rserpool",
	"enrp":                 "internal/tlv rserpool",

	// The transport. Only the stack knows its kinds.
	"internal/sctp":           "rserpool",
	"internal/sctp/localaddr": "",
	"internal/sctp/wire":      "",
	"internal/sctp/kernel":    "internal/sctp internal/sctp/localaddr internal/sctp/wire",
	"internal/sctp/udp":       "internal/sctp internal/sctp/localaddr internal/sctp/wire",
	"internal/sctp/tcp":       "internal/sctp internal/sctp/localaddr internal/sctp/secure",
	"internal/sctp/secure":    "internal/sctp",
	"internal/sctp/stack":     "internal/sctp internal/sctp/kernel internal/sctp/localaddr internal/sctp/secure internal/sctp/tcp internal/sctp/udp",
	"internal/sctp/sctptest":  "internal/sctp internal/sctp/wire",

	// Certificates.
	"internal/trust":           "internal/identity",
	"internal/trust/authority": "internal/identity",
	"internal/trust/trusttest": "internal/trust internal/trust/authority",

	// Sessions.
	"internal/session/carrier": "asap internal/member internal/sctp internal/sctp/secure internal/sctp/stack rserpool",

	// Examples.
	"docs/examples/internal/exampletest": "test/binary test/here",
	"docs/examples/render":               "asap/cookie asap/pe asap/pu rserpool",
	"docs/examples/web":                  "asap/pe asap/pu rserpool",

	// Pool elements, pool users and guests.
	"internal/member": "internal/sctp/secure internal/trust rserpool",
	"internal/hunt":   "asap internal/sctp rserpool",
	"internal/client": "asap enrp internal/hunt internal/identity internal/member internal/multicast internal/sctp internal/sctp/localaddr internal/sctp/secure internal/sctp/stack rserpool",
	"asap/pe":         "asap internal/client internal/hunt internal/sctp internal/session internal/session/carrier internal/session/msgconn internal/tlv rserpool",
	"asap/cookie":     "rserpool",
	"asap/pu":         "asap internal/client internal/hunt internal/sctp internal/session internal/session/carrier internal/session/msgconn registrar/handlespace rserpool",
	"enrp/guest":      "enrp internal/client internal/hunt internal/sctp rserpool",

	// Sessions.
	"internal/session":         "asap rserpool",
	"internal/session/msgconn": "",

	// The messages of RSPLIB's example services.
	"internal/services": "",

	// Registrars. The core does not know the transport.
	"registrar/internal/chain":    "",
	"registrar/internal/deadline": "",
	"registrar/handlespace":       "internal/ascii registrar/internal/slots rserpool",
	"registrar/internal/slab":     "",
	"registrar/internal/slots":    "rserpool",
	"registrar/internal/ledger":   "enrp registrar/handlespace registrar/internal/chain registrar/internal/slab registrar/internal/slots rserpool",
	"registrar":                   "asap enrp internal/setting internal/tlv registrar/handlespace registrar/internal/chain registrar/internal/deadline registrar/internal/ledger registrar/internal/slab rserpool",
	"registrar/host":              "asap enrp internal/identity internal/member internal/multicast internal/sctp internal/sctp/secure internal/sctp/stack internal/setting internal/state internal/tlv registrar registrar/handlespace registrar/internal/slab rserpool",

	// CoreDNS.
	"plugin/rserpool/internal/registrars": "enrp internal/ascii internal/control internal/setting internal/trust registrar registrar/handlespace registrar/host rserpool",
	"plugin/rserpool/internal/lookup":     "registrar/handlespace rserpool",
	"plugin/rserpool":                     "asap enrp internal/ascii internal/control internal/identity internal/netaddr internal/glob internal/sctp/localaddr plugin/rserpool/internal/lookup plugin/rserpool/internal/registrars registrar registrar/handlespace registrar/host rserpool",
	"cmd/coredns":                         "plugin/rserpool",

	// The command.
	"cmd/rsp/internal/bounded": "",
	"cmd/rsp/internal/child":   "",
	"cmd/rsp/internal/health":  "cmd/rsp/internal/bounded cmd/rsp/internal/child",
	"cmd/rsp/internal/serve":   "internal/services rserpool",
	"cmd/rsp/internal/load":    "cmd/rsp/internal/bounded cmd/rsp/internal/child rserpool",
	"cmd/rsp":                  "asap asap/cookie asap/pe asap/pu cmd/rsp/internal/child cmd/rsp/internal/health cmd/rsp/internal/load cmd/rsp/internal/serve enrp enrp/guest internal/client internal/control internal/identity internal/netaddr internal/sctp internal/sctp/localaddr internal/services internal/trust internal/trust/authority rserpool",
}

// others are the modules of others that the product imports, and where.
var others = map[string]string{
	"github.com/coredns/":          "cmd/coredns plugin/rserpool plugin/rserpool/internal/registrars",
	"github.com/google/go-cmp":     "internal/tlv/tlvtest",
	"github.com/miekg/dns":         "plugin/rserpool",
	"github.com/prometheus/":       "plugin/rserpool plugin/rserpool/internal/registrars",
	"github.com/ishidawataru/sctp": "internal/sctp/kernel",
	"github.com/pion/":             "internal/sctp/udp",
	"github.com/spf13/":            "cmd/rsp",
	"go.etcd.io/":                  "internal/state",
	"golang.org/x/crypto":          "asap/cookie",
	"golang.org/x/net":             "cmd/rsp internal/multicast internal/sctp/udp",
	"golang.org/x/sys":             "cmd/rsp cmd/rsp/internal/child internal/sctp/kernel internal/sctp/localaddr internal/sctp/udp",
}

type goPackage struct {
	ImportPath string
	Imports    []string
}

// TestDependencyDirection: each package has its row in arrows, and imports nothing else.
func TestDependencyDirection(t *testing.T) {
	packages := list(t)
	for _, p := range packages {
		for _, bad := range violations(p) {
			t.Error(bad)
		}
	}
	for name := range arrows {
		if !slices.ContainsFunc(packages, func(p goPackage) bool { return p.ImportPath == module+name }) {
			t.Errorf("package %s has a row in arrows, but is not there", name)
		}
	}
}

// list lists the packages of this module.
func list(t *testing.T) []goPackage {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", module+"...").Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w\n%s", err, exit.Stderr)
		}
		t.Fatalf("go list: %v", err)
	}
	dec := json.NewDecoder(strings.NewReader(string(out)))
	var packages []goPackage
	for {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}

// violations says how p breaks the rules.
func violations(p goPackage) []string {
	name := strings.TrimPrefix(p.ImportPath, module)
	if strings.HasPrefix(name+"/", "test/") {
		return nil
	}
	row, ok := arrows[name]
	if !ok {
		return []string{"package " + name + " has no row in arrows (test/deps_test.go)"}
	}
	may := strings.Fields(row)
	var bad []string
	for _, imp := range p.Imports {
		if own, isOwn := strings.CutPrefix(imp, module); isOwn && !slices.Contains(may, own) || isOthers(imp) && !mayImport(name, imp) || impure(p, imp) {
			bad = append(bad, name+" must not import "+imp)
		}
	}
	return bad
}

// isOthers reports whether a package is neither ours nor Go's.
func isOthers(imp string) bool {
	first, _, _ := strings.Cut(imp, "/")
	return strings.Contains(first, ".") && !strings.HasPrefix(imp, module)
}

func mayImport(name, imp string) bool {
	for prefix, at := range others {
		if strings.HasPrefix(imp+"/", prefix) && slices.Contains(strings.Fields(at), name) {
			return true
		}
	}
	return false
}

// impure reports whether p is a protocol core or a codec that must not import a package
// of Go. Packages whose driver is in a file of its own are checked by test/lint.
func impure(p goPackage, imp string) bool {
	core, ok := pure.Cores[p.ImportPath]
	return ok && len(core.Drivers) == 0 && core.Refuses(imp)
}

func TestDependencyRulesCatch(t *testing.T) {
	for _, p := range []goPackage{
		{module + "registrar", []string{"net"}},
		{module + "registrar", []string{"sync"}},
		{module + "registrar", []string{module + "internal/sctp"}},
		{module + "rserpool", []string{module + "internal/tlv"}},
		{module + "rserpool", []string{"os"}},
		{module + "internal/tlv", []string{module + "asap"}},
		{module + "enrp", []string{module + "registrar"}},
		{module + "internal/sctp", []string{module + "asap"}},
		{module + "internal/sctp/kernel", []string{module + "internal/sctp/udp"}},
		{module + "internal/sctp/wire", []string{module + "internal/sctp"}},
		{module + "registrar/host", []string{module + "internal/sctp/tcp"}},
		{module + "asap/pe", []string{module + "registrar"}},
		{module + "registrar/host", []string{"github.com/coredns/coredns/plugin"}},
		{module + "registrar/host", []string{module + "plugin/rserpool"}},
		{module + "cmd/rsp", []string{module + "plugin/rserpool"}},
		{module + "plugin/rserpool", []string{module + "test/interop"}},
		{module + "internal/sctp/tcp", []string{"github.com/pion/sctp"}},
		{module + "asap", []string{"example.org/new"}},
		{module + "internal/new", []string{"fmt"}},
	} {
		if len(violations(p)) == 0 {
			t.Errorf("%s importing %s is not caught", p.ImportPath, p.Imports[0])
		}
	}
	for _, p := range []goPackage{
		{module + "registrar", []string{"net/netip", module + "asap", module + "registrar/handlespace"}},
		{module + "registrar/handlespace", []string{"sync", "net/netip"}},
		{module + "plugin/rserpool", []string{"github.com/coredns/coredns/plugin", module + "registrar/host"}},
		{module + "cmd/coredns", []string{"github.com/coredns/caddy", module + "plugin/rserpool"}},
		{module + "test/sim", []string{module + "registrar", "sync"}},
	} {
		if bad := violations(p); len(bad) > 0 {
			t.Errorf("false alarm: %v", bad)
		}
	}
}
