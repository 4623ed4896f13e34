package registrars

import (
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// notInCorefile are the fields of host.Config that no line of a Corefile sets, and asap,
// which names the registrar. Pools and their Rules are compared by TestDisagree, Trust by
// TestMistrust. Rights are made from Trust.
var notInCorefile = []string{"ASAP", "Pools", "Rules", "Rights", "Trust", "Rand", "Discover", "PeerEncapPort", "CloseTimeout", "Logger", "Keep"}

// TestDifferences: blocks whose options differ in any field conflict. Otherwise they would
// share a registrar that has only the options of the first one.
func TestDifferences(t *testing.T) {
	var fields []string
	each("", reflect.ValueOf(&Options{}).Elem(), func(name string, _ reflect.Value) { fields = append(fields, name) })
	for _, field := range fields {
		if slices.Contains(notInCorefile, field) {
			continue
		}
		a, b := DefaultOptions(), DefaultOptions()
		each("", reflect.ValueOf(&b).Elem(), func(name string, v reflect.Value) {
			if name == field {
				change(t, name, v)
			}
		})
		if got := a.differences(b); len(got) != 1 {
			t.Errorf("options that differ in %s: got differences %q, want one", field, got)
		}
	}
}

// each calls f with the exported fields of the struct v. It looks into embedded structs,
// and into those of timers and limits, whose fields without a name cannot be set.
func each(path string, v reflect.Value, f func(name string, v reflect.Value)) {
	for i := range v.NumField() {
		field := v.Type().Field(i)
		switch {
		case !field.IsExported():
		case field.Anonymous:
			each(path, v.Field(i), f)
		case slices.Contains([]string{"Timers", "Limits", "Transports"}, field.Name):
			each(field.Name+".", v.Field(i), f)
		case field.Tag.Get("former") == "":
			f(path+field.Name, v.Field(i))
		}
	}
}

// change gives v another value.
func change(t *testing.T, name string, v reflect.Value) {
	t.Helper()
	addr := netip.MustParseAddrPort("192.0.2.1:1234")
	switch {
	case v.CanUint():
		v.SetUint(v.Uint() + 1)
	case v.Kind() == reflect.String:
		v.SetString("/other")
	case v.CanInt():
		v.SetInt(v.Int() + 1)
	case v.Type() == reflect.TypeOf(addr):
		v.Set(reflect.ValueOf(addr))
	case v.Type() == reflect.TypeFor[[]netip.AddrPort]():
		v.Set(reflect.ValueOf([]netip.AddrPort{addr}))
	default:
		t.Fatalf("%s: the test cannot change a %v", name, v.Type())
	}
}

// TestMove: the error of a reload that gives a registrar other addresses says what to do, and does not
// take it for a registrar that another block has.
func TestMove(t *testing.T) {
	addrs := func(change func(*Options), addrs ...string) Options {
		o := at(addrs[0])
		for _, a := range addrs[1:] {
			o.ASAP = append(o.ASAP, netip.MustParseAddrPort(a))
		}
		if change != nil {
			change(&o)
		}
		return o
	}
	state := func(o *Options) { o.State = "/state" }
	const move = ", which runs; a reload cannot move a registrar: if that one is to serve at "
	for _, tt := range []struct {
		name     string
		from, to Options
		want     string
	}{
		{"one more address", at(addr1), addrs(nil, addr1, addr2), "asap 127.0.0.1:3863 overlaps with asap 127.0.0.1:3863 of another registrar" + move + addr1 + " " + addr2 + " from now on, restart CoreDNS. Otherwise use the same addresses"},
		{"another port", at(addr1), at("127.0.0.1:3900"), "encap 9899 on 127.0.0.1 is taken by the registrar at 127.0.0.1:3863" + move + "127.0.0.1:3900 from now on, restart CoreDNS. Otherwise give one of them another port"},
		{"another address, with a state", addrs(state, addr1), addrs(state, addr2), "state /state is that of the registrar at " + addr1 + move + addr2 + " from now on, restart CoreDNS. Otherwise give each registrar a directory of its own"},
		{"another state", at(addr1), addrs(state, addr1), "registrar at " + addr1 + " already runs with other options (state /state, not off); a running registrar keeps its options until CoreDNS is restarted"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, rs := newFakes()
			tt.from.Control = Off
			tt.to.Control = Off
			inst := startInstance(t, rs, tt.from)
			inst.Restart()
			err := rs.NewInstance().Add(aBlock(tt.to))
			if err == nil || !strings.HasPrefix(err.Error(), "Testfile:1 - "+tt.want) {
				t.Errorf("got error\n%v\nwant one that begins with\n%s", err, tt.want)
			}
			inst.RestartFailed(never)
			inst.FinalShutdown()
		})
	}
}
