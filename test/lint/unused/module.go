package main

import (
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/tools/go/packages"
)

// place is where an object is declared. A package and the variants of it that the
// tests have are loaded separately, so one declaration has several objects.
type place string

// module collects the exported names of internal packages, and what is used.
type module struct {
	dir        string
	exported   map[place]types.Object
	used       map[place]types.Object
	interfaces []*types.Interface
	seen       map[*types.Package]bool // by addInterfaces
	fset       *token.FileSet
}

func newModule(dir string) *module {
	return &module{dir: dir, exported: map[place]types.Object{}, used: map[place]types.Object{}, seen: map[*types.Package]bool{}}
}

func (m *module) add(p *packages.Package) {
	m.fset = p.Fset
	m.addInterfaces(p.Types)
	own := strings.TrimSuffix(p.PkgPath, "_test")
	tagged := taggedFields(p)
	for id, o := range p.TypesInfo.Defs {
		if o != nil && o.Exported() && internal(p.PkgPath) && !m.inTest(id.Pos()) && outward(o) && !tagged[id] {
			m.exported[m.place(o)] = o
		}
	}
	for id, o := range p.TypesInfo.Uses {
		if o.Pkg() == nil || o.Pkg().Path() == own {
			continue
		}
		if !m.inTest(id.Pos()) || helper(own) || helper(o.Pkg().Path()) {
			m.used[m.place(o)] = o
		}
	}
}

func (m *module) place(o types.Object) place {
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
	return place(fmt.Sprintf("%s:%d: %s", file, pos.Line, o.Name()))
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

// addInterfaces keeps the interfaces that a package and its imports declare.
func (m *module) addInterfaces(p *types.Package) {
	if m.seen[p] {
		return
	}
	m.seen[p] = true
	for _, name := range p.Scope().Names() {
		if i, ok := p.Scope().Lookup(name).Type().Underlying().(*types.Interface); ok && i.NumMethods() > 0 {
			m.interfaces = append(m.interfaces, i)
		}
	}
	for _, q := range p.Imports() {
		m.addInterfaces(q)
	}
}

// unused gives a line for each exported name without a use.
func (m *module) unused() []string {
	types := m.mentioned()
	var lines []string
	for at, o := range m.exported {
		if m.used[at] == nil && !types[at] && !types[m.enum(o)] && !m.implements(o) {
			lines = append(lines, fmt.Sprintf("%s is exported, but no other package uses it", at))
		}
	}
	slices.Sort(lines)
	return lines
}

// mentioned gives the types that users have without naming them, as the results of
// functions and as fields.
func (m *module) mentioned() map[place]bool {
	found := map[place]bool{}
	var visit func(t types.Type)
	visit = func(t types.Type) {
		switch t := t.(type) {
		case *types.Named:
			at := m.place(t.Obj())
			for arg := range t.TypeArgs().Types() {
				visit(arg)
			}
			if found[at] {
				return
			}
			found[at] = true
			if internalType(t) {
				visit(t.Underlying())
			}
		case *types.Alias:
			found[m.place(t.Obj())] = true
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

// enum gives the type of a constant, "" for all else: an enumeration is exported as a
// whole.
func (m *module) enum(o types.Object) place {
	if named, ok := types.Unalias(o.Type()).(*types.Named); ok {
		if _, ok := o.(*types.Const); ok {
			return m.place(named.Obj())
		}
	}
	return ""
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
	if types.IsInterface(recv) {
		return false
	}
	if _, ok := recv.(*types.Pointer); !ok {
		recv = types.NewPointer(recv)
	}
	return slices.ContainsFunc(m.interfaces, func(i *types.Interface) bool {
		method, _, _ := types.LookupFieldOrMethod(i, false, f.Pkg(), f.Name())
		return method != nil && types.Implements(recv, i)
	})
}
