package asap

import (
	"testing"

	"github.com/rserpool/coredns-rserpool/internal/tlv"
	"github.com/rserpool/coredns-rserpool/internal/tlv/tlvtest"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// TestAllocs: what the codec may allocate for the messages that come and go in
// great numbers.
func TestAllocs(t *testing.T) {
	codec.Allocs(t, map[string]float64{
		"registration":                     2, // message, handle
		"registration with ASAP transport": 3, // and addresses
		"handle resolution":                2, // message, handle
		"handle resolution response":       6, // and 2 growths of the elements, 2 times addresses
		"keep-alive":                       2,
		"keep-alive acknowledgement":       2,
		"deregistration":                   2,
	})
}

// knows is a receiver of messages that holds one pool handle.
func knows(h rserpool.PoolHandle) func([]byte) rserpool.PoolHandle {
	return func(b []byte) rserpool.PoolHandle {
		if string(b) == string(h) {
			return h
		}
		return ""
	}
}

// TestAllocsResolution: a registrar that is asked for a pool it holds, and
// answers from its handlespace, need not allocate at all.
func TestAllocsResolution(t *testing.T) {
	_, data := codec.Find(t, "handle resolution")
	var m HandleResolution
	if _, err := m.Parse(data, nil); err != nil {
		t.Fatal(err)
	}
	known := knows(m.Handle)
	if got := testing.AllocsPerRun(100, func() {
		if _, err := m.Parse(data, known); err != nil {
			t.Fatal(err)
		}
	}); got > 0 {
		t.Errorf("HandleResolution.Parse allocates %v times, want 0", got)
	}
	buf := make([]byte, 0, 1024)
	elements := []*rserpool.PoolElement{&element, &element, &element}
	if got := testing.AllocsPerRun(100, func() {
		var w tlv.Builder
		w.BeginHandleResolutionResponse(buf, true, m.Handle, element.Policy)
		for _, e := range elements {
			w.PoolElement(e)
		}
		if _, err := w.Finish(); err != nil {
			t.Fatal(err)
		}
	}); got > 0 {
		t.Errorf("writing a response allocates %v times, want 0", got)
	}
}

func BenchmarkParse(b *testing.B) {
	for _, tt := range messages {
		b.Run(tt.Name, func(b *testing.B) {
			data := tlvtest.Unhex(b, tt.Hex)
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := Parse(data); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAppend(b *testing.B) {
	for _, tt := range messages {
		b.Run(tt.Name, func(b *testing.B) {
			buf := make([]byte, 0, 1024)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := tt.Message.Append(buf); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkHandleResolutionParse(b *testing.B) {
	_, data := codec.Find(b, "handle resolution")
	var m HandleResolution
	if _, err := m.Parse(data, nil); err != nil {
		b.Fatal(err)
	}
	known := knows(m.Handle)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := m.Parse(data, known); err != nil {
			b.Fatal(err)
		}
	}
}
