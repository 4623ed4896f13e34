package enrp

import "testing"

func FuzzParse(f *testing.F) {
	codec.Fuzz(f, func(t *testing.T, m Message, b []byte) {
		sender, receiver := m.IDs()
		if s, r := IDs(b); s != sender || r != receiver {
			t.Fatalf("IDs() of the message are %v, %v, of its bytes %v, %v", sender, receiver, s, r)
		}
	})
}
