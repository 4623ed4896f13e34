package secure

import (
	"bytes"
	"fmt"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
)

// cutter cuts a stream of bytes into messages.
type cutter struct {
	frame *sctp.Framing
	max   int    // the longest message
	part  []byte // the beginning of a message; nil between messages
}

// cut takes bytes from b until a message is whole, and returns it and the rest of b. Without
// a message there is no rest. Memory is allocated as bytes arrive, since a peer may announce
// bytes and never send them.
func (c *cutter) cut(b []byte) (msg, rest []byte, err error) {
	f := c.frame
	if len(c.part) == 0 && len(b) >= f.HeadLen {
		n, err := c.length(b)
		if err != nil {
			return nil, nil, err
		}
		if whole := f.Padded(n); whole <= len(b) {
			return bytes.Clone(b[:n:n]), b[whole:], nil
		}
	}
	if missing := f.HeadLen - len(c.part); missing > 0 {
		head := min(missing, len(b))
		c.part, b = append(c.part, b[:head]...), b[head:]
		if len(c.part) < f.HeadLen {
			return nil, nil, nil
		}
	}
	n, err := c.length(c.part)
	if err != nil {
		return nil, nil, err
	}
	take := min(f.Padded(n)-len(c.part), len(b))
	c.part, b = append(c.part, b[:take]...), b[take:]
	if len(c.part) < f.Padded(n) {
		return nil, nil, nil
	}
	msg, c.part = c.part[:n:n], nil
	return msg, b, nil
}

// length reads the length of a message from its head.
func (c *cutter) length(head []byte) (int, error) {
	n := c.frame.Len(head[:c.frame.HeadLen])
	if n < c.frame.HeadLen || n > c.max {
		return 0, fmt.Errorf("peer sent a message with length %d: it must be %d to %d", n, c.frame.HeadLen, c.max)
	}
	return n, nil
}
