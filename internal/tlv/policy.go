package tlv

import (
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// Policy reads the current parameter as a pool member selection policy.
func (c *Cursor) Policy() (p rserpool.Policy) {
	f := c.open()
	p.Type = rserpool.PolicyType(c.Uint32())
	for _, v := range p.Type.Fields() {
		*p.Field(v) = c.Uint32()
	}
	p.Extra = string(c.rest())
	c.close(f)
	if !p.Type.Valid() {
		c.Refuse("policy type " + p.Type.String() + " is reserved")
	}
	return p
}

// Policy writes a Pool Member Selection Policy parameter.
func (w *Builder) Policy(p rserpool.Policy) {
	if !p.Type.Valid() {
		w.fail("policy type %v is reserved", p.Type)
		return
	}
	start := w.open(TypePolicy)
	w.Uint32(uint32(p.Type))
	for _, v := range p.Type.Fields() {
		w.Uint32(*p.Field(v))
	}
	w.str(p.Extra)
	w.close(start)
}

// AppendPolicy adds a Pool Member Selection Policy parameter to b; on error it
// returns b as it was.
func AppendPolicy(b []byte, p rserpool.Policy) ([]byte, error) {
	w := begin(b)
	w.Policy(p)
	return w.Finish()
}
