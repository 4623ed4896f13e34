package test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	markdownLink = regexp.MustCompile(`\]\(([^)#\s]*)(?:#([^)\s]+))?\)`)
	heading      = regexp.MustCompile(`(?m)^#+ (.*)$`)
	notInSlug    = regexp.MustCompile(`[^a-z0-9 -]`)
)

// documents are the paths of all texts in Markdown, but not the captures'.
func documents(t *testing.T) (paths []string) {
	t.Helper()
	for _, pattern := range []string{"*.md", "docs/*.md", "plugin/rserpool/*.md", "test/*/*.md"} {
		found, err := filepath.Glob(filepath.Join("..", pattern))
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, found...)
	}
	return paths
}

// anchors are the names in a text that links can end in.
func anchors(text string) (names []string) {
	for _, m := range heading.FindAllStringSubmatch(text, -1) {
		names = append(names, strings.ReplaceAll(notInSlug.ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-"))
	}
	for _, m := range docAnchor.FindAllStringSubmatch(text, -1) {
		names = append(names, m[1])
	}
	return names
}

// badLinks are the links of the document at path that lead nowhere, and the Go files
// that it names with their folder and that do not exist.
func badLinks(path, text string) (bad []string) {
	for _, m := range markdownLink.FindAllStringSubmatch(text, -1) {
		if strings.Contains(m[1], "://") {
			continue
		}
		to, there := path, text
		if m[1] != "" {
			to = filepath.Join(filepath.Dir(path), m[1])
		}
		if _, err := os.Stat(to); err != nil {
			bad = append(bad, m[1])
			continue
		}
		if m[1] != "" && m[2] != "" {
			b, _ := os.ReadFile(to)
			there = string(b)
		}
		if m[2] != "" && !slices.Contains(anchors(there), m[2]) {
			bad = append(bad, m[1]+"#"+m[2])
		}
	}
	for _, m := range docFile.FindAllStringSubmatch(text, -1) {
		if _, err := os.Stat(filepath.Join("..", m[1])); err != nil {
			bad = append(bad, m[1])
		}
	}
	return bad
}

// TestDocLinks: links between the texts, and the files that they name, exist.
func TestDocLinks(t *testing.T) {
	links := 0
	for _, path := range documents(t) {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, bad := range badLinks(path, string(b)) {
			t.Errorf("%s names what does not exist: %s", path, bad)
		}
		links += len(markdownLink.FindAllString(string(b), -1))
	}
	if links < 100 {
		t.Errorf("%d links, want more: is their form another one now?", links)
	}
	const text = "# One\n[a](#one) [b](#two) [c](no.md) `test/doclinks_test.go` `test/no.go` [d](../docs/rfc.md#no)"
	if got := badLinks("../README.md", text); !slices.Equal(got, []string{"#two", "no.md", "../docs/rfc.md", "test/no.go"}) {
		t.Errorf("got bad links %q", got)
	}
}
