// Package test holds what concerns the module as a whole; its folders hold
// the kernel lab, interoperability tests, a simulation and the sample set-up.
package test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/rserpool/coredns-rserpool/"

// rules are the module's dependency directions, as docs/architecture.md draws
// them: what a package (and what lies below it) must not import.
var rules = []struct {
	pkg    string   // prefix below the module
	except []string // prefixes that the rule does not hold for
	deny   []string // prefixes that it must not import
	only   []string // the only packages of this module that it may import
}{
	{pkg: "rserpool", only: []string{"internal/netaddr"}, deny: []string{"net", "os", "log", "sync", "sync/atomic"}},
	{pkg: "internal/tlv", only: []string{"rserpool"}},
	{pkg: "asap", except: []string{"asap/pe", "asap/pu"}, only: []string{"internal/tlv", "rserpool"}},
	{pkg: "enrp", except: []string{"enrp/guest"}, only: []string{"internal/tlv", "rserpool"}},
	{pkg: "enrp/guest", only: []string{"enrp", "internal/client", "internal/hunt", "internal/sctp", "rserpool"}},
	{pkg: "internal/sctp", only: []string{"rserpool"}},
	{pkg: "internal/sctp/wire", only: []string{}},
	{pkg: "internal/sctp/localaddr", only: []string{}},
	{pkg: "internal/sctp/kernel", only: []string{"internal/sctp", "internal/sctp/localaddr", "internal/sctp/wire"}},
	{pkg: "internal/sctp/udp", only: []string{"internal/sctp", "internal/sctp/localaddr", "internal/sctp/wire"}},
	{pkg: "internal/sctp/tcp", only: []string{"internal/sctp", "internal/sctp/localaddr", "internal/sctp/wire"}},
	{pkg: "", except: []string{"internal/sctp/stack"}, deny: []string{module + "internal/sctp/kernel", module + "internal/sctp/udp", module + "internal/sctp/tcp"}},
	{pkg: "internal/ascii", only: []string{}},
	{pkg: "internal/netaddr", only: []string{}},
	{pkg: "internal/setting", only: []string{}},
	{pkg: "internal/multicast", only: []string{}},
	{pkg: "registrar/internal/ledger", only: []string{"enrp", "registrar/handlespace", "rserpool"}},
	{pkg: "registrar/internal/deadline", only: []string{}},
	{pkg: "registrar/handlespace", only: []string{"internal/ascii", "rserpool"}, deny: []string{"net", "os", "log"}},
	{pkg: "registrar", except: []string{"registrar/host", "registrar/handlespace"}, only: []string{"asap", "enrp", "internal/setting", "internal/tlv", "registrar/handlespace", "rserpool"}, deny: []string{"net", "os", "log", "sync", "sync/atomic"}},
	{pkg: "internal/hunt", only: []string{"asap", "internal/sctp", "rserpool"}, deny: []string{"net", "os", "log", "sync", "sync/atomic"}},
	{pkg: "internal/client", only: []string{"asap", "internal/hunt", "internal/multicast", "internal/sctp", "internal/sctp/localaddr", "internal/sctp/stack", "rserpool"}},
	{pkg: "asap/pe", only: []string{"asap", "internal/client", "internal/hunt", "internal/sctp", "internal/tlv", "rserpool"}},
	{pkg: "asap/pu", only: []string{"asap", "internal/client", "internal/hunt", "internal/sctp", "internal/tlv", "rserpool"}},
	{pkg: "", except: []string{"plugin", "cmd"}, deny: []string{"github.com/coredns/"}},
	{pkg: "", except: []string{"test"}, deny: []string{module + "test"}},
}

type goPackage struct {
	ImportPath string
	Imports    []string
}

func TestDependencyDirection(t *testing.T) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", module+"...").Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w\n%s", err, exit.Stderr)
		}
		t.Fatalf("go list: %v", err)
	}
	dec := json.NewDecoder(strings.NewReader(string(out)))
	packages := 0
	for {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		packages++
		for _, bad := range violations(p) {
			t.Error(bad)
		}
	}
	if packages < 10 {
		t.Errorf("looked at %d packages, want the whole module", packages)
	}
}

// violations tells how p breaks the rules.
func violations(p goPackage) []string {
	var bad []string
	name := strings.TrimPrefix(p.ImportPath+"/", module)
	for _, r := range rules {
		if !below(name, r.pkg) || anyBelow(name, r.except) {
			continue
		}
		for _, imp := range p.Imports {
			own, isOwn := strings.CutPrefix(imp+"/", module)
			if isOwn && r.only != nil && !contains(r.only, strings.TrimSuffix(own, "/")) && !below(own, r.pkg) {
				bad = append(bad, p.ImportPath+" must not import "+imp)
			}
			for _, d := range r.deny {
				if imp == d || strings.HasSuffix(d, "/") && strings.HasPrefix(imp, d) || strings.HasPrefix(imp, d+"/") && strings.Contains(d, ".") {
					bad = append(bad, p.ImportPath+" must not import "+imp)
				}
			}
		}
	}
	return bad
}

func below(name, prefix string) bool { return prefix == "" || strings.HasPrefix(name, prefix+"/") }

func anyBelow(name string, prefixes []string) bool {
	for _, p := range prefixes {
		if below(name, p) {
			return true
		}
	}
	return false
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

func TestDependencyRulesCatch(t *testing.T) {
	for _, p := range []goPackage{
		{module + "registrar", []string{"net"}},
		{module + "registrar", []string{"sync"}},
		{module + "registrar", []string{module + "internal/sctp"}},
		{module + "rserpool", []string{module + "internal/tlv"}},
		{module + "internal/tlv", []string{module + "asap"}},
		{module + "enrp", []string{module + "registrar"}},
		{module + "internal/sctp", []string{module + "asap"}},
		{module + "internal/sctp/kernel", []string{module + "internal/sctp/udp"}},
		{module + "internal/sctp/wire", []string{module + "internal/sctp"}},
		{module + "registrar/host", []string{module + "internal/sctp/tcp"}},
		{module + "asap/pe", []string{module + "registrar"}},
		{module + "registrar/host", []string{"github.com/coredns/coredns/plugin"}},
		{module + "plugin/rserpool", []string{module + "test/interop"}},
	} {
		if len(violations(p)) == 0 {
			t.Errorf("%s importing %s is not caught", p.ImportPath, p.Imports[0])
		}
	}
	for _, p := range []goPackage{
		{module + "registrar", []string{"net/netip", module + "asap", module + "registrar/handlespace"}},
		{module + "registrar/handlespace", []string{"sync", "net/netip"}},
		{module + "plugin/rserpool", []string{"github.com/coredns/coredns/plugin", module + "registrar/host"}},
	} {
		if bad := violations(p); len(bad) > 0 {
			t.Errorf("false alarm: %v", bad)
		}
	}
}
