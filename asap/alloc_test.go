package asap

import (
	"testing"

	"github.com/rserpool/coredns-rserpool/internal/tlv"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// find returns the message of that name in the table.
func find(t testing.TB, name string) (Message, []byte) {
	t.Helper()
	for _, tt := range messages {
		if tt.name == name {
			return tt.message, unhex(t, tt.hex)
		}
	}
	t.Fatalf("no message %q", name)
	return nil, nil
}

// TestAllocs: what the codec may allocate for the messages that come and go in
// great numbers.
func TestAllocs(t *testing.T) {
	tests := []struct {
		name          string
		parse, append float64
	}{
		{"registration", 3, 0},                     // message, handle, addresses
		{"registration with ASAP transport", 4, 0}, // and addresses again
		{"handle resolution", 2, 0},                // message, handle
		{"handle resolution response", 6, 0},       // and 2 growths of the elements, 2 times addresses
		{"keep-alive", 2, 0},
		{"keep-alive acknowledgement", 2, 0},
		{"deregistration", 2, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m, data := find(t, tt.name)
			got := testing.AllocsPerRun(100, func() {
				if _, _, err := Parse(data); err != nil {
					t.Fatal(err)
				}
			})
			if got > tt.parse {
				t.Errorf("Parse allocates %v times, want at most %v", got, tt.parse)
			}
			buf := make([]byte, 0, 1024)
			got = testing.AllocsPerRun(100, func() {
				if _, err := m.Append(buf); err != nil {
					t.Fatal(err)
				}
			})
			if got > tt.append {
				t.Errorf("Append allocates %v times, want at most %v", got, tt.append)
			}
		})
	}
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
	_, data := find(t, "handle resolution")
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
		b.Run(tt.name, func(b *testing.B) {
			data := unhex(b, tt.hex)
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
		b.Run(tt.name, func(b *testing.B) {
			buf := make([]byte, 0, 1024)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := tt.message.Append(buf); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkHandleResolutionParse(b *testing.B) {
	_, data := find(b, "handle resolution")
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
