package handlespace

import (
	"net/netip"
	"reflect"
	"testing"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// change sets v, which is zero, to another value.
func change(t *testing.T, name string, v reflect.Value) {
	t.Helper()
	switch p := v.Addr().Interface().(type) {
	case *[]netip.Addr:
		*p = []netip.Addr{netip.MustParseAddr("192.0.2.1")}
		return
	case *[]rserpool.Parameter:
		*p = []rserpool.Parameter{{Type: 0x8001}}
		return
	}
	switch {
	case v.CanUint():
		v.SetUint(1)
	case v.CanInt():
		v.SetInt(1)
	case v.Kind() == reflect.Bool:
		v.SetBool(true)
	case v.Kind() == reflect.String:
		v.SetString("x")
	case v.Type() == reflect.TypeFor[[]byte]():
		v.SetBytes([]byte{1})
	default:
		t.Fatalf("%s: the test cannot change a %v", name, v.Type())
	}
}

// eachField calls f with the fields of the struct v, and with those of its structs.
func eachField(name string, v reflect.Value, f func(name string, v reflect.Value)) {
	for i := range v.NumField() {
		field, path := v.Field(i), name+"."+v.Type().Field(i).Name
		if field.Kind() == reflect.Struct {
			eachField(path, field, f)
		} else {
			f(path, field)
		}
	}
}

// TestSame: registrations that differ in any field of a pool element are not the same.
// Otherwise a registration that changes only this field would change nothing.
func TestSame(t *testing.T) {
	var e, o Element
	if !e.same(&o) {
		t.Error("two zero elements differ")
	}
	eachField("PoolElement", reflect.ValueOf(&o.PoolElement).Elem(), func(name string, v reflect.Value) {
		change(t, name, v)
		if e.same(&o) {
			t.Errorf("same does not compare %s", name)
		}
		v.SetZero()
	})
}
