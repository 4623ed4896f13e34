package test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Tables in docs/ name tests as "`package`: TestOne, TestTwo; `other`: TestThree",
// a package by its folder, and link to rows of other tables by <a id="...">.
var (
	docPackage = regexp.MustCompile("`([a-z0-9/]+)`: ")
	docTest    = regexp.MustCompile(`\b(?:Test|Fuzz)[A-Z]\w*`)
	docFile    = regexp.MustCompile("`([a-z0-9/_]+/[a-z0-9_]+\\.go)`")
	docLink    = regexp.MustCompile(`\]\((?:([a-z]+\.md))?#([a-z0-9-]+)\)`)
	docAnchor  = regexp.MustCompile(`<a id="([a-z0-9-]+)">`)
	testFunc   = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
)

// testsOf returns the names of all tests by their folder.
func testsOf(t *testing.T, root string) map[string][]string {
	t.Helper()
	tests := map[string][]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		folder, _ := filepath.Rel(root, filepath.Dir(path))
		for _, m := range testFunc.FindAllStringSubmatch(string(b), -1) {
			tests[filepath.ToSlash(folder)] = append(tests[filepath.ToSlash(folder)], m[1])
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return tests
}

// missingTests returns the tests that a line of a table names and that do not exist in the
// package named before them.
func missingTests(line string, tests map[string][]string) (missing []string) {
	pkg := ""
	for _, cell := range regexp.MustCompile(`[;|]`).Split(line, -1) {
		if m := docPackage.FindStringSubmatch(cell); m != nil {
			pkg = m[1]
		}
		for _, name := range docTest.FindAllString(cell, -1) {
			if !slices.Contains(tests[pkg], name) {
				missing = append(missing, pkg+": "+name)
			}
		}
	}
	return missing
}

// TestDocsNameTests: the tests, files and rows that the RFC tables name exist.
func TestDocsNameTests(t *testing.T) {
	const root = ".."
	tests := testsOf(t, root)
	text := map[string]string{}
	for _, name := range []string{"rfc.md", "deviations.md"} {
		b, err := os.ReadFile(filepath.Join(root, "docs", name))
		if err != nil {
			t.Fatal(err)
		}
		text[name] = string(b)
	}
	for name, s := range text {
		named := 0
		for i, line := range strings.Split(s, "\n") {
			for _, m := range missingTests(line, tests) {
				t.Errorf("docs/%s:%d names a test that does not exist: %s", name, i+1, m)
			}
			named += len(docTest.FindAllString(line, -1))
			for _, m := range docFile.FindAllStringSubmatch(line, -1) {
				if _, err := os.Stat(filepath.Join(root, m[1])); err != nil {
					t.Errorf("docs/%s:%d names a file that does not exist: %s", name, i+1, m[1])
				}
			}
			for _, m := range docLink.FindAllStringSubmatch(line, -1) {
				if to := text[m[1]]; m[1] != "" && to != "" && !strings.Contains(to, `<a id="`+m[2]+`">`) {
					t.Errorf("docs/%s:%d links to a row that does not exist: %s#%s", name, i+1, m[1], m[2])
				}
			}
		}
		if named < 30 {
			t.Errorf("docs/%s names %d tests only: is its form another one now?", name, named)
		}
		seen := map[string]bool{}
		for _, m := range docAnchor.FindAllStringSubmatch(s, -1) {
			if seen[m[1]] {
				t.Errorf("docs/%s has two rows %q", name, m[1])
			}
			seen[m[1]] = true
		}
	}
}

// badRow returns what is wrong with a row of the tables in docs/rfc.md, "" for a good row.
func badRow(line string) string {
	cells := strings.Split(strings.Trim(line, "|"), "|")
	if len(cells) != 6 {
		return "not six cells"
	}
	state, test, deviation := strings.TrimSpace(cells[2]), strings.TrimSpace(cells[4]), cells[5]
	word, _, _ := strings.Cut(strings.NewReplacer(":", " ", ";", " ", ",", " ").Replace(state), " ")
	switch word {
	case "deviates":
		if !strings.Contains(deviation, "](deviations.md#") {
			return "deviates, and does not link to docs/deviations.md"
		}
	case "complete", "partial":
	case "absent":
		return ""
	default:
		return "no state: " + state
	}
	if test == "" {
		return word + ", and neither a test nor \"no test\""
	}
	return ""
}

// TestRFCTable: every section has a state, and every implemented one a test.
func TestRFCTable(t *testing.T) {
	b, err := os.ReadFile("../docs/rfc.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for i, line := range strings.Split(string(b), "\n") {
		section := strings.HasPrefix(line, "| ") && line[2] >= '0' && line[2] <= '9'
		if !section {
			continue
		}
		rows++
		if bad := badRow(line); bad != "" {
			t.Errorf("docs/rfc.md:%d: %s", i+1, bad)
		}
	}
	if rows < 150 {
		t.Errorf("%d sections, want 150: is the form of the table another one now?", rows)
	}
	for _, line := range []string{"| 1 | a | complete | b | |", "| 1 | a | complete | b | | |", "| 1 | a | done | b | c | |", "| 1 | a | deviates | b | c | |"} {
		if badRow(line) == "" {
			t.Errorf("%s is taken for a good row", line)
		}
	}
}

// TestDocsNameSomeTest: every test that another text names exists in a package.
func TestDocsNameSomeTest(t *testing.T) {
	const root = ".."
	var all []string
	for _, list := range testsOf(t, root) {
		all = append(all, list...)
	}
	var files []string
	for _, pattern := range []string{"*.md", "docs/*.md", "plugin/rserpool/*.md", "test/*/*.md"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range strings.Split(string(b), "\n") {
			for _, name := range docTest.FindAllString(line, -1) {
				pattern := strings.Contains(line, "-run ")
				exists := func(n string) bool { return n == name || pattern && strings.HasPrefix(n, name) }
				if !slices.ContainsFunc(all, exists) {
					t.Errorf("%s:%d names a test that does not exist: %s", file, i+1, name)
				}
			}
		}
	}
}

// TestDocsNameTestsCatches: missingTests finds mistakes.
func TestDocsNameTestsCatches(t *testing.T) {
	tests := map[string][]string{"asap": {"TestOne", "TestTwo"}, "enrp": {"TestTwo"}}
	for line, want := range map[string]int{
		"| 3.1 | `asap`: TestOne, TestTwo; `enrp`: TestTwo |": 0,
		"| 3.1 | no test |": 0,
		"| 3.1 | `asap`: TestOne (every case), TestThree |": 1,
		"| 3.1 | `asap`: TestOne; `enrp`: TestOne |":        1,
		"| 3.1 | TestOne |":                                 1,
		"| 3.1 | `nothing`: TestOne |":                      1,
	} {
		if got := missingTests(line, tests); len(got) != want {
			t.Errorf("%s: got %q, want %d of them", line, got, want)
		}
	}
}

// pathInDocs is a file of this module as the documentation names it.
var pathInDocs = regexp.MustCompile("`((?:asap|cmd|docs|enrp|internal|plugin|registrar|rserpool|test)/[\\w./-]+\\.(?:go|md|sh))`")

// TestDocsNameFiles: the files that the recipes and the other documentation name exist.
func TestDocsNameFiles(t *testing.T) {
	docs, err := filepath.Glob("../docs/*.md")
	if err != nil || len(docs) == 0 {
		t.Fatalf("no documentation: %v", err)
	}
	named := 0
	for _, doc := range append(docs, "../CONTRIBUTING.md", "../README.md", "../plugin/rserpool/README.md") {
		text, err := os.ReadFile(doc)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range pathInDocs.FindAllStringSubmatch(string(text), -1) {
			named++
			if _, err := os.Stat(filepath.Join("..", m[1])); err != nil {
				t.Errorf("%s names a file that does not exist: %s", doc, m[1])
			}
		}
	}
	if named < 20 {
		t.Errorf("found the names of %d files, want the recipes' at least", named)
	}
}
