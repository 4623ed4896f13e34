package sctp

// Framing says where a message over TCP ends. TCP carries a stream of bytes, so a
// message must tell its length itself.
type Framing struct {
	// HeadLen is how many bytes at the start of a message tell its length.
	HeadLen int
	// Len reads the length of a message from its first HeadLen bytes. The length
	// includes the head, but no padding.
	Len func(head []byte) int
	// Align is what messages are padded to a multiple of, in bytes.
	Align int
	// PPID is the payload protocol identifier of all messages.
	PPID uint32
}

// Padded is the length of a message of n bytes with its padding.
func (f *Framing) Padded(n int) int { return (n + f.Align - 1) / f.Align * f.Align }
