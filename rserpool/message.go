package rserpool

// Message is a message of a session between a pool user and a pool element (RFC 5352,
// Section 6.5).
type Message struct {
	// Data has from 1 to 65536 bytes.
	Data []byte
	// PPID is the payload protocol identifier of SCTP, which says what Data is. Any
	// value is allowed but those of ASAP (11) and ENRP (12): 11 marks the control
	// channel (RFC 5352, Section 5).
	PPID uint32
	// Stream is the SCTP stream, from 0 to 9. Every peer has stream 0; an association whose
	// peer has fewer streams fails when another one is used. Messages of one stream arrive in their order. Messages
	// of other streams than 0 may overtake the cookie that a pool user sends first after a
	// failover.
	Stream uint16
}
