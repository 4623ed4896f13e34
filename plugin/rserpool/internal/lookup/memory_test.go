package lookup

import (
	"net/netip"
	"reflect"
	"testing"

	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
)

// TestBounded: the memory does not grow, and forgets the oldest first.
func TestBounded(t *testing.T) {
	space := newSpace()
	put(t, space, "web", element(1, "192.0.2.1 2001:db8::1"), element(2, "192.0.2.2 2001:db8::2"))
	s := New(256, 1)
	p := space.Pool("web")
	var buf [1]*handlespace.Element
	addr := netip.MustParseAddr("10.0.0.0")
	for range 4 * len(s.buckets) * bucketWays {
		addr = addr.Next()
		s.Pick(buf[:0], &Origin{Addr: addr}, p, A, handlespace.IPv4, 1, now)
	}
	if _, reused := s.Pick(buf[:0], &Origin{Addr: addr}, p, AAAA, handlespace.IPv6, 1, now); !reused {
		t.Error("the latest of many clients is forgotten, want the oldest to go first")
	}
}

// TestMarksHaveNoPointers: a garbage collection would have to look at all of them.
func TestMarksHaveNoPointers(t *testing.T) {
	var check func(path string, of reflect.Type)
	check = func(path string, of reflect.Type) {
		switch of.Kind() {
		case reflect.Struct:
			for i := range of.NumField() {
				check(path+"."+of.Field(i).Name, of.Field(i).Type)
			}
		case reflect.Array:
			check(path+"[]", of.Elem())
		case reflect.Pointer, reflect.Slice, reflect.Map, reflect.String, reflect.Interface, reflect.Func, reflect.Chan, reflect.UnsafePointer:
			t.Errorf("%s is a %v", path, of)
		default:
		}
	}
	check("marks", reflect.TypeFor[marks]())
}
