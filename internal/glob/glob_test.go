package glob

import (
	"slices"
	"testing"
)

// FuzzGlob: a glob matches what a slow, plain search says.
func FuzzGlob(f *testing.F) {
	for _, pair := range [][2]string{{"web", "WEB"}, {"*.eu", "a.b.EU"}, {"a*b*c", "aXbYbZc"}, {"?*?", "x"}, {"we?", "webs"}, {"?", ""}, {"**a", "ba"}, {`\*`, "*"}, {`*\255?`, "\xff\xff\xff"}, {"*", ""}} {
		f.Add(pair[0], pair[1])
	}
	f.Fuzz(func(t *testing.T, text, handle string) {
		g, err := Parse(text)
		if err != nil {
			return
		}
		if len(handle) > 300 || len(g) > 300 {
			return
		}
		if back, err := Parse(g.String()); err != nil || !slices.Equal(back, g) {
			t.Errorf("glob %q is spelled %q, which is another: %v", text, g, err)
		}
		m := g.Matcher()
		if got, want := m.Match(handle), slowMatch(g, string(lowerBytes([]byte(handle)))); got != want {
			t.Errorf("glob %q, handle %q: got %t, want %t", text, handle, got, want)
		}
		if name, ok := g.Name(); ok && m.Match(handle) != (name == string(lowerBytes([]byte(handle)))) {
			t.Errorf("the name %q matches %q: %t", text, handle, m.Match(handle))
		}
	})
}

// slowMatch says for each beginning of the handle which beginnings of the glob match it.
func slowMatch(g Glob, handle string) bool {
	match := make([]bool, len(g)+1)
	match[0] = true
	for i := 0; i < len(g) && g[i] == anyRun; i++ {
		match[i+1] = true
	}
	for _, c := range []byte(handle) {
		next := make([]bool, len(g)+1)
		for i, t := range g {
			switch t {
			case anyRun:
				next[i+1] = next[i] || match[i] || match[i+1]
			case anyOctet:
				next[i+1] = match[i]
			default:
				next[i+1] = match[i] && t == token(c)
			}
		}
		match = next
	}
	return match[len(g)]
}

func lowerBytes(b []byte) []byte {
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c | 0x20
		}
	}
	return b
}
