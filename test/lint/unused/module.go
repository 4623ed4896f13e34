package main

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/tools/go/packages"
)

// name is a declaration. A package and the variants of it that the tests have are loaded
// separately, so one declaration has several objects.
type name struct {
	file string // from the module's root
	line int
	name string
}

func (n name) String() string {
	return fmt.Sprintf("%s:%d: %s is exported, but no other package uses it", n.file, n.line, n.name)
}

// module collects the exported names of internal packages, and what is used.
type module struct {
	dir        string
	exported   map[name]types.Object
	used       map[name]types.Object
	interfaces []*types.Interface
	seen       map[*types.Package]bool // by addInterfaces
	fset       *token.FileSet
}

func newModule(dir string) *module {
	return &module{dir: dir, exported: map[name]types.Object{}, used: map[name]types.Object{}, seen: map[*types.Package]bool{}}
}

func (m *module) add(p *packages.Package) {
	m.fset = p.Fset
	m.addInterfaces(p.Types)
	own := p.PkgPath // or with _test, which is another package
	base := strings.TrimSuffix(own, "_test")
	tagged := taggedFields(p)
	m.addNameless(p, own, base)
	for id, o := range p.TypesInfo.Defs {
		if o != nil && o.Exported() && internal(p.PkgPath) && !m.inTest(id.Pos()) && outward(o) && !tagged[id] {
			m.exported[m.name(o)] = o
		}
	}
	for id, o := range p.TypesInfo.Uses {
		if o.Pkg() == nil || o.Pkg().Path() == own {
			continue
		}
		if _, called := o.(*types.Func); called && m.inTest(id.Pos()) && !helper(base) && !helper(o.Pkg().Path()) {
			continue
		}
		m.used[m.name(o)] = o
	}
	for _, o := range p.TypesInfo.Defs {
		if v, ok := o.(*types.Var); ok && v.Embedded() && !m.inTest(v.Pos()) {
			m.addPromoted(v.Type(), own)
		}
	}
}

func (m *module) name(o types.Object) name {
	switch x := o.(type) { // one declaration for all instances
	case *types.Func:
		o = x.Origin()
	case *types.Var:
		o = x.Origin()
	}
	pos := m.fset.Position(o.Pos())
	file, err := filepath.Rel(m.dir, pos.Filename)
	if err != nil {
		file = pos.Filename
	}
	return name{file, pos.Line, o.Name()}
}

func (m *module) inTest(pos token.Pos) bool {
	return strings.HasSuffix(m.fset.Position(pos).Filename, "_test.go")
}

// internal reports whether only this module can import a package.
func internal(path string) bool { return strings.Contains(path+"/", "/internal/") }

// helper reports whether a package exists for tests.
func helper(path string) bool {
	return strings.Contains(path+"/", "/test/") || strings.HasSuffix(path, "test")
}

// outward reports whether other packages can use an object: it is declared by the
// package itself, or is a method or a field.
func outward(o types.Object) bool {
	if v, ok := o.(*types.Var); ok && v.IsField() {
		return !v.Embedded()
	}
	f, ok := o.(*types.Func)
	return ok && f.Signature().Recv() != nil || o.Parent() == o.Pkg().Scope()
}

// taggedFields are the names of fields with tags, which are used by reflection.
func taggedFields(p *packages.Package) map[*ast.Ident]bool {
	tagged := map[*ast.Ident]bool{}
	for _, file := range p.Syntax {
		ast.Inspect(file, func(n ast.Node) bool {
			if f, ok := n.(*ast.Field); ok && f.Tag != nil {
				for _, id := range f.Names {
					tagged[id] = true
				}
			}
			return true
		})
	}
	return tagged
}

// addPromoted notes the methods and fields that a struct has of a type of another
// package that it embeds.
func (m *module) addPromoted(t types.Type, own string) {
	if p, ok := t.(*types.Pointer); ok {
		t = p.Elem()
	}
	if named, ok := types.Unalias(t).(*types.Named); ok {
		for f := range named.Methods() {
			m.addOther(f, own)
		}
	}
	m.addFields(t, own, true)
}

// addNameless notes what is used without a name: interfaces, and the fields of structs of
// other packages in literals and in conversions to another struct.
func (m *module) addNameless(p *packages.Package, own, base string) {
	for e, tv := range p.TypesInfo.Types {
		if i, ok := tv.Type.(*types.Interface); ok && tv.IsType() { // without a name
			m.interfaces = append(m.interfaces, i)
		}
		ofAll := !m.inTest(e.Pos()) || helper(base)
		switch e := e.(type) {
		case *ast.CompositeLit:
			if len(e.Elts) > 0 {
				if _, keyed := e.Elts[0].(*ast.KeyValueExpr); !keyed {
					m.addFields(tv.Type, own, ofAll)
				}
			}
		case *ast.CallExpr:
			if p.TypesInfo.Types[e.Fun].IsType() {
				m.addFields(p.TypesInfo.Types[e.Args[0]].Type, own, ofAll)
			}
		}
	}
}

// addFields notes the fields of a struct: if ofAll is false, only those that a package for
// tests declares.
func (m *module) addFields(t types.Type, own string, ofAll bool) {
	if s, ok := t.Underlying().(*types.Struct); ok {
		for f := range s.Fields() {
			if ofAll || f.Pkg() != nil && helper(f.Pkg().Path()) {
				m.addOther(f, own)
			}
		}
	}
}

func (m *module) addOther(o types.Object, own string) {
	if o.Pkg() != nil && o.Pkg().Path() != own {
		m.used[m.name(o)] = o
	}
}

// addInterfaces keeps the interfaces that a package and its imports declare.
func (m *module) addInterfaces(p *types.Package) {
	if m.seen[p] {
		return
	}
	m.seen[p] = true
	for _, n := range p.Scope().Names() {
		if i, ok := p.Scope().Lookup(n).Type().Underlying().(*types.Interface); ok && i.NumMethods() > 0 {
			m.interfaces = append(m.interfaces, i)
		}
	}
	for _, q := range p.Imports() {
		m.addInterfaces(q)
	}
}

// unused gives the exported names without a use, in the order of the files.
func (m *module) unused() []name {
	types := m.mentioned()
	var found []name
	for n, o := range m.exported {
		if m.used[n] == nil && !types[n] && !types[m.enum(o)] && !m.implements(o) {
			found = append(found, n)
		}
	}
	slices.SortFunc(found, func(a, b name) int { return cmp.Or(cmp.Compare(a.file, b.file), cmp.Compare(a.line, b.line)) })
	return found
}

// mentioned gives the types that users have without naming them, as the results of
// functions and as fields.
func (m *module) mentioned() map[name]bool {
	found := map[name]bool{}
	var visit func(t types.Type)
	visit = func(t types.Type) {
		switch t := t.(type) {
		case *types.Named:
			at := m.name(t.Obj())
			for arg := range t.TypeArgs().Types() {
				visit(arg)
			}
			for p := range t.TypeParams().TypeParams() {
				visit(p.Constraint())
			}
			if found[at] {
				return
			}
			found[at] = true
			if internalType(t) {
				visit(t.Underlying())
			}
		case *types.Alias:
			found[m.name(t.Obj())] = true
			visit(t.Rhs())
		case *types.Signature:
			visit(t.Params())
			visit(t.Results())
		case *types.Tuple:
			for v := range t.Variables() {
				visit(v.Type())
			}
		case *types.Map:
			visit(t.Key())
			visit(t.Elem())
		case *types.Struct:
			for f := range t.Fields() {
				if f.Exported() {
					visit(f.Type())
				}
			}
		case interface{ Elem() types.Type }: // pointer, slice, array, channel
			visit(t.Elem())
		}
	}
	for _, o := range m.used {
		if internal(o.Pkg().Path()) {
			visit(o.Type())
		}
	}
	return found
}

func internalType(t *types.Named) bool {
	return t.Obj().Pkg() != nil && internal(t.Obj().Pkg().Path())
}

// enum gives the type of a constant, nothing for all else: an enumeration is exported as a
// whole.
func (m *module) enum(o types.Object) name {
	if named, ok := types.Unalias(o.Type()).(*types.Named); ok {
		if _, ok := o.(*types.Const); ok {
			return m.name(named.Obj())
		}
	}
	return name{}
}

// implements reports whether an object is a method by which its type implements an
// interface, or by which package errors works.
func (m *module) implements(o types.Object) bool {
	f, ok := o.(*types.Func)
	if !ok || f.Signature().Recv() == nil {
		return false
	}
	if slices.Contains([]string{"Is", "As", "Unwrap"}, f.Name()) {
		return true
	}
	recv := f.Signature().Recv().Type()
	if types.IsInterface(recv) { // exported, so that others can implement it
		return true
	}
	if _, ok := recv.(*types.Pointer); !ok {
		recv = types.NewPointer(recv)
	}
	return slices.ContainsFunc(m.interfaces, func(i *types.Interface) bool {
		method, _, _ := types.LookupFieldOrMethod(i, false, f.Pkg(), f.Name())
		return method != nil && types.Implements(recv, i)
	})
}
