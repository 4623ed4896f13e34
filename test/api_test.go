package test

import (
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// public are the packages that programs of other modules use.
var public = []string{
	"rserpool", "asap", "asap/cookie", "asap/pe", "asap/pu", "enrp", "enrp/guest", "registrar", "registrar/handlespace", "registrar/host",
}

// TestPublicPages: every exported name of the public packages has a comment, and none
// is of a type that other modules cannot name.
func TestPublicPages(t *testing.T) {
	for _, name := range public {
		p, imports := page(t, name)
		if p.Doc == "" {
			t.Errorf("package %s has no comment", name)
		}
		check := func(what, comment string, node ast.Node) {
			t.Helper()
			if strings.TrimSpace(comment) == "" {
				t.Errorf("%s: %s has no comment", name, what)
			}
			ast.Inspect(node, func(n ast.Node) bool {
				if s, ok := n.(*ast.SelectorExpr); ok {
					if x, ok := s.X.(*ast.Ident); ok && imports[x.Name] {
						t.Errorf("%s: %s has to do with %s.%s, which is internal", name, what, x.Name, s.Sel.Name)
					}
				}
				return true
			})
		}
		funcs := p.Funcs
		values := append(p.Consts, p.Vars...)
		for _, x := range p.Types {
			check(x.Name, x.Doc, x.Decl)
			funcs = append(append(funcs, x.Funcs...), x.Methods...)
			values = append(append(values, x.Consts...), x.Vars...)
		}
		for _, f := range funcs {
			check(f.Name, f.Doc, f.Decl.Type)
		}
		for _, v := range values {
			check(strings.Join(v.Names, ", "), commentOf(v), &ast.GenDecl{Tok: v.Decl.Tok})
		}
	}
}

// commentOf is the comment of a group of constants or variables, or those of its names
// if each has one.
func commentOf(v *doc.Value) string {
	if v.Doc != "" {
		return v.Doc
	}
	text := ""
	for _, s := range v.Decl.Specs {
		spec, ok := s.(*ast.ValueSpec)
		if !ok || spec.Doc.Text() == "" {
			return ""
		}
		text += spec.Doc.Text()
	}
	return text
}

// page is a package as go doc shows it, and the names of the internal packages that it
// imports.
func page(t *testing.T, name string) (*doc.Package, map[string]bool) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", name, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	fset := token.NewFileSet()
	internal := map[string]bool{}
	var list []*ast.File
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(fset, file, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, f)
		for _, i := range f.Imports {
			if p, _ := strconv.Unquote(i.Path.Value); strings.Contains(p, "/internal/") {
				internal[path.Base(p)] = true
			}
		}
	}
	p, err := doc.NewFromFiles(fset, list, module+name)
	if err != nil {
		t.Fatal(err)
	}
	return p, internal
}

// TestExamples: the examples in docs/api.md exist.
func TestExamples(t *testing.T) {
	text, err := os.ReadFile("../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile("`([a-z/]+)`: `(Example\\w*)`").FindAllStringSubmatch(string(text), -1)
	if len(rows) < 8 {
		t.Errorf("docs/api.md names %d examples, want one for each task", len(rows))
	}
	for _, row := range rows {
		files, err := filepath.Glob(filepath.Join("..", row[1], "*example_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		var code strings.Builder
		for _, file := range files {
			part, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			code.Write(part)
		}
		if !strings.Contains(code.String(), "\nfunc "+row[2]+"()") {
			t.Errorf("%s has no %s in *example_test.go", row[1], row[2])
		}
	}
}
