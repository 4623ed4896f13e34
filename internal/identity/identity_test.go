package identity

import (
	"strings"
	"testing"

	"github.com/rserpool/coredns-rserpool/internal/ascii"
	"github.com/rserpool/coredns-rserpool/internal/glob"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

func TestNames(t *testing.T) {
	for _, tc := range []struct {
		domain string
		handle rserpool.PoolHandle
		name   string
		want   string
		err    string
	}{
		{"example.org", "web", "host1", "spiffe://example.org/rserpool/pool/web/host1", ""},
		{"example.org", "Web-1_a.b", "Host.1", "spiffe://example.org/rserpool/pool/Web-1_a.b/Host.1", ""},
		{"example.org", "a b", "x", "spiffe://example.org/rserpool/pool/_ph-c4g64/x", ""},
		{"example.org", "a/b", "x", "spiffe://example.org/rserpool/pool/_ph-c4nm4/x", ""},
		{"example.org", "_ph-web", "x", "spiffe://example.org/rserpool/pool/_ph-", ""},
		{"example.org", ".", "x", "spiffe://example.org/rserpool/pool/_ph-5o/x", ""},
		{"example.org", "..", "x", "spiffe://example.org/rserpool/pool/_ph-5on0/x", ""},
		{"example.org", "\x00\xff", "x", "spiffe://example.org/rserpool/pool/_ph-03vg/x", ""},
		{"example.org", "", "x", "", "handle is empty"},
		{"Example.org", "web", "x", "", "is not a domain"},
		{"", "web", "x", "", "is not a domain"},
		{"example.org/x", "web", "x", "", "is not a domain"},
		{"example.org", "web", "", "", "is not a name"},
		{"example.org", "web", "..", "", "is not a name"},
		{"example.org", "web", "a/b", "", "is not a name"},
		{"example.org", "web", "ü", "", "is not a name"},
		{"example.org", "web", strings.Repeat("x", 217), "", ""},
		{"example.org", "web", strings.Repeat("x", 218), "", "has 257 bytes, more than 256"},
	} {
		got, err := Pool(tc.domain, tc.handle, tc.name)
		if tc.err != "" {
			if err == nil || got != "" || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("Pool(%q, %q, %q) = %q, %v, want an error with %q", tc.domain, tc.handle, tc.name, got, err, tc.err)
			}
			continue
		}
		if err != nil || tc.want != "" && !strings.HasPrefix(got, tc.want) {
			t.Errorf("Pool(%q, %q, %q) = %q, %v, want %q", tc.domain, tc.handle, tc.name, got, err, tc.want)
		}
		if back, ok := PoolOf(got); !ok || back != tc.handle || Domain(got) != tc.domain || IsRegistrar(got) {
			t.Errorf("PoolOf(%q) = %q, %v, want %q", got, back, ok, tc.handle)
		}
	}
	got, err := Registrar("example.org", "ns1")
	if want := "spiffe://example.org/rserpool/registrar/ns1"; got != want || err != nil || !IsRegistrar(got) || Domain(got) != "example.org" {
		t.Errorf("Registrar = %q, %v", got, err)
	}
	if _, ok := PoolOf(got); ok {
		t.Error("a registrar has a pool")
	}
}

// TestOtherNames: names that are neither those of a registrar nor of a pool.
func TestOtherNames(t *testing.T) {
	for _, id := range []string{
		"", Shared, "dns:host1.example.org", "spiffe://", "spiffe://example.org", "spiffe:///rserpool/registrar/ns1",
		"https://example.org/rserpool/pool/web/x", "spiffe://Example.org/rserpool/pool/web/x", "spiffe://Example.org/rserpool/registrar/x",
		"spiffe://example.org/rserpool/registrar/", "spiffe://example.org/rserpool/registrar/a/b", "spiffe://example.org/rserpool/registrar/..",
		"spiffe://example.org/rserpool/pool/web", "spiffe://example.org/rserpool/pool/web/", "spiffe://example.org/rserpool/pool//x",
		"spiffe://example.org/rserpool/pool/web/a/b", "spiffe://example.org/rserpool/pool/we%62/x", "spiffe://example.org/x/rserpool/pool/web/x",
		"spiffe://example.org/rserpool/pool/_ph-/x", "spiffe://example.org/rserpool/pool/_ph-z/x", "spiffe://example.org/rserpool/pool/../x",
		"spiffe://example.org/rserpool/pool/_ph-etim4/x", "spiffe://example.org/rserpool/pool/_ph-C4G64/x", // second spellings of web and "a b"
	} {
		if h, ok := PoolOf(id); ok || IsRegistrar(id) {
			t.Errorf("%q is for pool %q, or is a registrar", id, h)
		}
	}
}

const (
	web1  = "spiffe://example.org/rserpool/pool/web/host1"
	bank1 = "spiffe://example.org/rserpool/pool/bank/host1"
	ns1   = "spiffe://example.org/rserpool/registrar/ns1"
	far   = "spiffe://example.net/rserpool/registrar/ns1"
	work  = "spiffe://example.org/ns/default/sa/web"
	dns   = "dns:host1.example.org"
)

// TestRights: who may do what.
func TestRights(t *testing.T) {
	none := Rules{}
	rules := Rules{
		Allow: []Allow{
			{"web*", work}, {"*", "dns:host1.*"}, {"BANK", "spiffe://example.org/rserpool/pool/*/host1"},
		},
		Deny:       []string{"spiffe://example.org/rserpool/pool/bank/*", "spiffe://evil.example/rserpool/*/*"},
		Registrars: []string{"spiffe://example.org/rserpool/registrar/*", "dns:ns?.example.org"},
		Resolvers:  []string{"spiffe://example.org/user/*"},
	}
	const (
		registers = 1 << iota
		registrar
		resolves
		denied
	)
	for _, tc := range []struct {
		name  string
		rules *Rules
		id    string
		pool  rserpool.PoolHandle
		want  int
	}{
		{"without TLS", nil, "", "web", registers | registrar | resolves},
		{"without TLS, any name", nil, web1, "bank", registers | registrar | resolves},
		{"nobody", &none, "", "web", resolves},
		{"own pool", &none, web1, "web", registers | resolves},
		{"own pool, case", &none, web1, "WEB", registers | resolves},
		{"other pool", &none, web1, "bank", resolves},
		{"part of a pool's name", &none, web1, "we", resolves},
		{"registrar", &none, ns1, "web", registrar | resolves},
		{"registrar of any domain", &none, far, "web", registrar | resolves},
		{"pool of odd octets", &none, "spiffe://example.org/rserpool/pool/_ph-c4g64/x", "a b", registers | resolves},
		{"its form is not a handle", &none, "spiffe://example.org/rserpool/pool/_ph-c4g64/x", "_ph-c4g64", resolves},
		{"DNS name", &none, dns, "web", resolves},
		{"another SPIFFE name", &none, work, "web", resolves},
		{"shared secret", &none, Shared, "web", registers | registrar | resolves},

		{"nobody with rules", &rules, "", "web", 0},
		{"allowed", &rules, work, "web-2", registers},
		{"allowed, case of the pool", &rules, work, "WEB-2", registers},
		{"allowed elsewhere only", &rules, work, "bank", 0},
		{"DNS name allowed everywhere", &rules, dns, "any", registers},
		{"a star stays in its segment", &rules, "spiffe://example.org/rserpool/pool/a/b/host1", "bank", 0},
		{"allowed beside the own pool", &rules, web1, "bank", registers | resolves},
		{"denied", &rules, bank1, "bank", denied},
		{"denied domain", &rules, "spiffe://evil.example/rserpool/registrar/x", "web", denied},
		{"registrar of the list", &rules, ns1, "web", registrar | resolves},
		{"registrar of the list, DNS name", &rules, "dns:ns1.example.org", "web", registrar | resolves},
		{"registrar of another domain", &rules, far, "web", 0},
		{"resolver", &rules, "spiffe://example.org/user/u", "web", resolves},
		{"shared secret with rules", &rules, Shared, "web", registers | registrar | resolves},
		{"class", &Rules{Allow: []Allow{{"*", "dns:host[12].example.org"}}}, dns, "web", registers | resolves},
		{"escape", &Rules{Allow: []Allow{{"*", `dns:host1.\example.org`}}}, dns, "web", registers | resolves},
		{"deny in another case", &Rules{Deny: []string{"spiffe://example.org/rserpool/pool/Web/*"}}, "spiffe://example.org/rserpool/pool/wEB/Host1", "web", denied},
		{"deny the shared secret", &Rules{Deny: []string{Shared}}, Shared, "web", denied},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var r *Rights
			if tc.rules != nil {
				var err error
				if r, err = New(*tc.rules); err != nil {
					t.Fatal(err)
				}
			}
			got := 0
			for bit, is := range map[int]bool{
				registers: r.Registers(tc.id, tc.pool), registrar: r.Registrar(tc.id), resolves: r.Resolves(tc.id), denied: r.Denied(tc.id),
			} {
				if is {
					got |= bit
				}
			}
			if got != tc.want {
				t.Errorf("%q in pool %q: got %04b, want %04b (denied, resolves, registrar, registers)", tc.id, tc.pool, got, tc.want)
			}
		})
	}
}

func TestBadRules(t *testing.T) {
	for _, tc := range []struct {
		rules Rules
		want  string
	}{
		{Rules{Deny: []string{""}}, `"" is not a pattern of identities, such as spiffe://`},
		{Rules{Registrars: []string{ns1, "["}}, `"[" is not a pattern`},
		{Rules{Resolvers: []string{"a["}}, `"a[" is not a pattern`},
		{Rules{Allow: []Allow{{"*", `\`}}}, `"\\" is not a pattern`},
		{Rules{Allow: []Allow{{`a\`, "*"}}}, `pools "a\\" has an escape`},
		{Rules{Deny: []string{web1 + "/"}}, "host1/\" matches no identity"},
		{Rules{Deny: []string{"spiffe://example.org//*"}}, "matches no identity"},
		{Rules{Deny: []string{"spiffe://example.org"}}, "matches no identity"},
		{Rules{Allow: []Allow{{"*", "spiffe://Bad_*/x"}}}, "matches no identity"},
		{Rules{Registrars: []string{"spiffe://example.org/x%"}}, "matches no identity"},
		{Rules{Resolvers: []string{"dns:Host1.example.org"}}, "matches no identity"},
		{Rules{Resolvers: []string{"dns:a/b"}}, "matches no identity"},
		{Rules{Deny: []string{"spiffe://example.org/x/.."}}, "matches no identity"},
	} {
		if _, err := New(tc.rules); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%+v: error %v, want one with %s", tc.rules, err, tc.want)
		}
	}
}

// FuzzNames: a name is for the pool that Pool has made it for, and a name that is for a pool is
// not a registrar's.
func FuzzNames(f *testing.F) {
	f.Add(web1, "web", "host1")
	f.Add("spiffe://example.org/rserpool/pool/_ph-c4g64/x", "a b", "x")
	f.Add(ns1, "_ph-", ".")
	f.Add("spiffe://a/rserpool/pool/_ph-C4G64/x", "\x00", "-")
	f.Fuzz(func(t *testing.T, id, handle, name string) {
		if h, ok := PoolOf(id); ok {
			if h == "" || IsRegistrar(id) {
				t.Errorf("%q is for pool %q", id, h)
			}
			if r, err := New(Rules{}); err != nil || !r.Registers(id, h) || r.Registrar(id) {
				t.Errorf("%q has not the rights of pool %q", id, h)
			}
		}
		made, err := Pool("example.org", rserpool.PoolHandle(handle), name)
		if err != nil {
			return
		}
		if h, ok := PoolOf(made); !ok || string(h) != handle || len(made) > MaxLen {
			t.Errorf("PoolOf(%q) = %q, %v, want %q", made, h, ok, handle)
		}
	})
}

// FuzzRights: any rules are read or refused; nobody never registers, and who is denied has no
// right.
func FuzzRights(f *testing.F) {
	f.Add("web*", web1, "spiffe://*/rserpool/registrar/*", "", work, "web")
	f.Add(`\065`, "*", "[a-z]*", "dns:*", dns, "a")
	f.Fuzz(func(t *testing.T, pools, names, registrars, deny, id, handle string) {
		rules := Rules{Allow: []Allow{{pools, names}}, Registrars: []string{registrars}}
		if deny != "" {
			rules.Deny = []string{deny}
		}
		r, err := New(rules)
		if err != nil {
			return
		}
		h := rserpool.PoolHandle(handle)
		if r.Registers("", h) || r.Registrar("") || r.Denied("") {
			t.Error("nobody has a right")
		}
		if r.Denied(id) && (r.Registers(id, h) || r.Registrar(id) || r.Resolves(id)) {
			t.Errorf("%q is denied, and has a right", id)
		}
		own, isElement := PoolOf(id)
		g, err := glob.Parse(pools)
		if err != nil {
			t.Fatal(err)
		}
		m := g.Matcher()
		if r.Registers(id, h) && id != Shared && !(isElement && ascii.EqualFold(string(own), handle)) && !m.Match(handle) {
			t.Errorf("%q registers in %q by %q", id, h, pools)
		}
	})
}

// TestGoodPatterns: patterns that match names are read, whatever they have in classes and escapes.
func TestGoodPatterns(t *testing.T) {
	for _, text := range []string{
		"spiffe://*/rserpool/registrar/*", `spiffe://example.org/[^a-c\]/]x/\y`, "spiffe://e[xy]ample.org/?", "dns:*", "dns:[a-z]*.example.org", Shared,
	} {
		if _, err := New(Rules{Registrars: []string{text}}); err != nil {
			t.Error(err)
		}
	}
}

// TestURIs: a name has one spelling.
func TestURIs(t *testing.T) {
	for uri, want := range map[string]bool{
		ns1: true, work: true, "spiffe://example.org/a": true,
		"spiffe://example.org": false, "spiffe://example.org/": false, "spiffe://example.org/a/": false, "spiffe://example.org//a": false,
		"spiffe://example.org/rserpool/registrar/..": false, "spiffe://example.org/./a": false, "spiffe://example.org/a%62": false,
	} {
		if IsURI(uri) != want {
			t.Errorf("IsURI(%q) = %v, want %v", uri, !want, want)
		}
	}
}
