// Package recipe gives tests the files that docs/clients.md shows, so that the page is
// what was tested.
package recipe

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// block is a fenced block with the name of its file behind the language.
var block = regexp.MustCompile("(?ms)^```[a-z]+ ([^\\s`]+)\n(.*?)^```$")

// Text is the text of the page's file with that name, with old strings replaced by new
// ones. Each old string must be in the text.
func Text(t testing.TB, name string, oldnew ...string) string {
	t.Helper()
	page, err := read()
	if err != nil {
		t.Fatal(err)
	}
	text, err := find(page, name, oldnew)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// read reads docs/clients.md. Tests run in the directory of their package.
func read() (string, error) {
	dir, err := os.Getwd()
	for err == nil {
		b, err := os.ReadFile(filepath.Join(dir, "docs", "clients.md"))
		if err == nil || dir == filepath.Dir(dir) {
			return string(b), err
		}
		dir = filepath.Dir(dir)
	}
	return "", err
}

// find is Text without the file.
func find(page, name string, oldnew []string) (string, error) {
	text, found := "", 0
	for _, m := range block.FindAllStringSubmatch(page, -1) {
		if m[1] == name {
			text, found = m[2], found+1
		}
	}
	if found != 1 {
		return "", fmt.Errorf("docs/clients.md has %d files %s, want one", found, name)
	}
	for i := 0; i+1 < len(oldnew); i += 2 {
		if !strings.Contains(text, oldnew[i]) {
			return "", fmt.Errorf("%s in docs/clients.md does not contain %q", name, oldnew[i])
		}
		text = strings.ReplaceAll(text, oldnew[i], oldnew[i+1])
	}
	return text, nil
}
