package rserpool

import (
	"fmt"
	"strings"

	"github.com/rserpool/coredns-rserpool/internal/glob"
)

// parseGlob reads a pool handle as a name relative to the zone, with the escapes of DNS.
// '*' and '?' that are not escaped are wildcards. A handle that is no such name is written
// in its _ph- form.
func parseGlob(text string) (glob.Glob, error) {
	g, err := glob.Parse(text)
	if name, ok := g.Name(); ok && err == nil {
		var why string
		if g, why = readPoolName(name); why != "" {
			err = fmt.Errorf("%q %s", text, why)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%w; write a pool as its name without the zone, such as web, Compute\\032Pool or *.eu", err)
	}
	return g, nil
}

// readPoolName returns the glob of the pool with this name.
func readPoolName(name string) (_ glob.Glob, why string) {
	if hasPrefixFold([]byte(name), encodedPrefix) {
		h, ok := decodeHandle([]byte(name))
		if !ok {
			return nil, "is not the _ph- form of a handle"
		}
		return glob.Exact(string(h)), ""
	}
	if len(name) > maxName-2 {
		return nil, "is too long"
	}
	for label := range strings.SplitSeq(name, ".") {
		switch {
		case label == "":
			return nil, "has an empty label"
		case len(label) > maxLabel:
			return nil, "has a label of more than 63 octets"
		}
	}
	return glob.Exact(name), ""
}
