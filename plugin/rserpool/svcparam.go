package rserpool

import (
	"cmp"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/miekg/dns"
	"github.com/rserpool/coredns-rserpool/internal/ascii"
)

// parseHTTPS reads the values of the option https.
func (o *poolOptions) parseHTTPS(args []string) (err error) {
	if slices.Equal(args, []string{"off"}) {
		o.https = nil
		return nil
	}
	o.https, err = parseBinding("https", args)
	return err
}

// schemeForm is the form of a URI scheme (RFC 3986, Section 3.1) that a label can carry.
var schemeForm = regexp.MustCompile(`^[a-z][a-z0-9+-]*$`)

// parseSVCB reads the values of the option svcb.
func (o *poolOptions) parseSVCB(args []string) error {
	scheme := strings.ToLower(strings.TrimPrefix(args[0], "_"))
	label := "_" + scheme
	switch {
	case slices.Contains([]string{"https", "http", "wss", "ws"}, scheme):
		return fmt.Errorf("%s URLs have HTTPS records; use the option https", scheme)
	case !schemeForm.MatchString(scheme) || len(label) > maxLabel:
		return fmt.Errorf("%q is not a URI scheme, such as dns", args[0])
	case label == infoLabel || protocol([]byte(label)) != 0:
		return fmt.Errorf("the name %s has another meaning; use another scheme", label)
	case slices.ContainsFunc(o.svcb, func(b *binding) bool { return b.scheme == label }):
		return fmt.Errorf("scheme %s is listed twice; give all its parameters in one line", scheme)
	}
	b, err := parseBinding(scheme, args[1:])
	if err != nil {
		return err
	}
	o.svcb = append(o.svcb, b)
	return nil
}

// maxParams is the most octets that the configured parameters of a record may have.
const maxParams = 4096

// parseBinding reads the parameters of a scheme's records, such as alpn=h2,h3, and checks
// what RFC 9460 requires of them.
func parseBinding(scheme string, args []string) (*binding, error) {
	b := &binding{scheme: "_" + scheme}
	size := 0
	for _, arg := range args {
		v, err := parseParam(arg)
		if err != nil {
			return nil, err
		}
		if b.param(v.Key()) != nil {
			return nil, fmt.Errorf("%s is given twice", v.Key())
		}
		b.params = append(b.params, v)
		size += len(arg)
	}
	if size > maxParams {
		return nil, fmt.Errorf("the parameters have %d octets, more than %d", size, maxParams)
	}
	slices.SortFunc(b.params, func(a, o dns.SVCBKeyValue) int { return cmp.Compare(a.Key(), o.Key()) })
	b.length = dns.Len(&dns.SVCB{Value: b.params}) - dns.Len(&dns.SVCB{})
	return b, b.check(scheme)
}

func (b *binding) param(k dns.SVCBKey) dns.SVCBKeyValue {
	i := slices.IndexFunc(b.params, func(v dns.SVCBKeyValue) bool { return v.Key() == k })
	if i < 0 {
		return nil
	}
	return b.params[i]
}

// check refuses parameters that contradict each other.
func (b *binding) check(scheme string) error {
	alpn, _ := b.param(dns.SVCB_ALPN).(*dns.SVCBAlpn)
	only := b.param(dns.SVCB_NO_DEFAULT_ALPN) != nil
	switch {
	case only && alpn == nil:
		return errors.New("no-default-alpn needs alpn, such as: alpn=h3 no-default-alpn")
	case scheme == "dns" && alpn == nil:
		return errors.New("dns needs alpn, such as alpn=dot: clients ignore its records without one (RFC 9461, Section 4.1)")
	case scheme == "dns" && only:
		return errors.New("no-default-alpn has no meaning for dns, which has no default protocol (RFC 9461, Section 4.1); remove it")
	case scheme == "dns" && b.param(dns.SVCB_DOHPATH) == nil && slices.ContainsFunc(alpn.Alpn, isHTTP):
		return errors.New("DNS over HTTPS (alpn h2 or h3) needs dohpath, such as dohpath=/dns-query{?dns}")
	}
	if m, ok := b.param(dns.SVCB_MANDATORY).(*dns.SVCBMandatory); ok {
		for _, k := range m.Code {
			if k != dns.SVCB_PORT && b.param(k) == nil {
				return fmt.Errorf("mandatory lists %s, which not every record has; remove it, or give %s a value", k, k)
			}
		}
	}
	b.quic = only && !slices.ContainsFunc(alpn.Alpn, func(id string) bool { return id != "h3" })
	return nil
}

func isHTTP(id string) bool { return id == "h2" || id == "h3" || id == "http/1.1" }

// svcParam is a parameter of SVCB and HTTPS records.
type svcParam struct {
	key     dns.SVCBKey
	example string
	// parse reads the value.
	parse func(value string) (dns.SVCBKeyValue, bool)
}

func svcParams() []svcParam {
	return []svcParam{
		{dns.SVCB_MANDATORY, "mandatory=alpn", parseMandatory},
		{dns.SVCB_ALPN, "alpn=h2,h3", parseALPN},
		{dns.SVCB_NO_DEFAULT_ALPN, "no-default-alpn", func(v string) (dns.SVCBKeyValue, bool) { return new(dns.SVCBNoDefaultAlpn), v == "" }},
		{dns.SVCB_ECHCONFIG, "ech=AEP+DQA/...", parseECH},
		{dns.SVCB_DOHPATH, "dohpath=/dns-query{?dns}", parseDoHPath},
		{dns.SVCB_OHTTP, "ohttp", func(v string) (dns.SVCBKeyValue, bool) { return new(dns.SVCBOhttp), v == "" }},
	}
}

// parseParam reads a parameter, as in a zone file.
func parseParam(arg string) (dns.SVCBKeyValue, error) {
	name, value, _ := strings.Cut(arg, "=")
	value = unquote(value)
	key, ok := parseKey(name)
	if !ok {
		return nil, fmt.Errorf("%q is not a parameter; use alpn, no-default-alpn, mandatory, ech, dohpath, ohttp, or keyNNNNN=VALUE for others", arg)
	}
	if key == dns.SVCB_PORT || key == dns.SVCB_IPV4HINT || key == dns.SVCB_IPV6HINT {
		return nil, fmt.Errorf("%s comes from the registration of each element; remove it", name)
	}
	for _, p := range svcParams() {
		if p.key == key {
			v, ok := p.parse(value)
			if !ok {
				return nil, fmt.Errorf("%q is not valid; write %s", arg, p.example)
			}
			return v, nil
		}
	}
	data, ok := unescapeAll(value)
	if !ok {
		return nil, fmt.Errorf(`%q is not valid; write a backslash as \\ and other octets as \DDD`, arg)
	}
	return &dns.SVCBLocal{KeyCode: key, Data: data}, nil
}

// unquote removes the quotes around a value.
func unquote(s string) string {
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		return s[1 : len(s)-1]
	}
	return s
}

// parseKey reads the name of a key. A key that has a name must be written by it.
func parseKey(name string) (dns.SVCBKey, bool) {
	if digits, ok := strings.CutPrefix(name, "key"); ok {
		n, err := strconv.ParseUint(digits, 10, 16)
		k := dns.SVCBKey(n)
		return k, err == nil && k.String() == name
	}
	for k := range dns.SVCB_OHTTP + 1 {
		if k.String() == name {
			return k, true
		}
	}
	return 0, false
}

func parseMandatory(value string) (dns.SVCBKeyValue, bool) {
	m := new(dns.SVCBMandatory)
	for name := range strings.SplitSeq(value, ",") {
		k, ok := parseKey(name)
		if !ok || k == dns.SVCB_MANDATORY || slices.Contains(m.Code, k) {
			return nil, false
		}
		m.Code = append(m.Code, k)
	}
	slices.Sort(m.Code)
	return m, true
}

// alpnForm is a protocol identifier that needs no escapes.
var alpnForm = regexp.MustCompile(`^[!#-+\--\[\]-~]{1,255}$`)

func parseALPN(value string) (dns.SVCBKeyValue, bool) {
	ids := strings.Split(value, ",")
	for i, id := range ids {
		if !alpnForm.MatchString(id) || slices.Contains(ids[:i], id) {
			return nil, false
		}
	}
	return &dns.SVCBAlpn{Alpn: ids}, true
}

// parseECH reads an ECHConfigList in base64, which begins with its length.
func parseECH(value string) (dns.SVCBKeyValue, bool) {
	b, err := base64.StdEncoding.DecodeString(value)
	if err != nil || len(b) < 4 || int(binary.BigEndian.Uint16(b)) != len(b)-2 {
		return nil, false
	}
	return &dns.SVCBECHConfig{ECH: b}, true
}

// dohForm is a relative URI template with the variable dns (RFC 9461, Section 5).
var dohForm = regexp.MustCompile(`^/[!-~]*\{[^{}]*\bdns\b[^{}]*\}[!-~]*$`)

func parseDoHPath(value string) (dns.SVCBKeyValue, bool) {
	return &dns.SVCBDoHPath{Template: value}, dohForm.MatchString(value)
}

// unescapeAll undoes the escapes of a value in presentation form.
func unescapeAll(s string) (b []byte, ok bool) {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '\\' {
			var size int
			if c, size = ascii.Unescape(s[i+1:]); size == 0 {
				return nil, false
			}
			i += size
		}
		b = append(b, c)
	}
	return b, true
}
