package registrars

import (
	"net/netip"
	"reflect"
	"slices"
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
