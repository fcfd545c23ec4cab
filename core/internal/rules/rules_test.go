package rules

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	module = "github.com/grapnelhq/grapnel"
	root   = "../../.."
)

type pkg struct {
	ImportPath   string
	Name         string
	Doc          string
	Imports      []string
	TestImports  []string
	XTestImports []string
	Module       *struct{ Path string }
}

// packages lists the packages of one module of the repository.
func packages(t *testing.T, dir string) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json", "./...")
	cmd.Dir = filepath.Join(root, dir)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list in %s: %v", dir, err)
	}
	var all []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// modules are the folders of all modules but the root and the tools.
func modules(t *testing.T) []string {
	t.Helper()
	dirs := []string{"sdk"}
	for _, pattern := range []string{"plugins/*", "examples/*"} {
		found, err := filepath.Glob(filepath.Join(root, pattern, "go.mod"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			rel, err := filepath.Rel(root, filepath.Dir(f))
			if err != nil {
				t.Fatal(err)
			}
			dirs = append(dirs, filepath.ToSlash(rel))
		}
	}
	if len(dirs) < 5 {
		t.Fatalf("found only the modules %v", dirs)
	}
	return dirs
}

func under(path string, prefixes ...string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return path == p || strings.HasPrefix(path, p+"/") })
}

// TestHostImports checks which package of the host may know which library.
func TestHostImports(t *testing.T) {
	only := []struct {
		names []string
		by    []string
	}{
		{
			[]string{
				"github.com/hashicorp/go-plugin", "google.golang.org/grpc", "google.golang.org/protobuf",
				module + "/sdk/wire", module + "/sdk/proto", module + "/sdk/serve",
			},
			[]string{module + "/core/pluginhost", module + "/core/internal/otlptest"},
		},
		{
			[]string{"go.opentelemetry.io"},
			[]string{module + "/core/tracing", module + "/core/internal/otlptest"},
		},
		{[]string{"github.com/hashicorp/hcl/v2", "github.com/zclconf/go-cty"}, []string{module + "/core/config", module + "/core/expr"}},
		{
			[]string{"database/sql", "zombiezen.com/go/sqlite", "modernc.org/sqlite", "github.com/jackc/pgx"},
			[]string{module + "/core/store"},
		},
		{[]string{"github.com/spf13/cobra"}, []string{module + "/core/cmd"}},
		{[]string{"github.com/prometheus"}, []string{module + "/core/metrics"}},
	}
	for _, p := range packages(t, ".") {
		for _, imp := range p.Imports {
			for _, rule := range only {
				if under(imp, rule.names...) && !under(p.ImportPath, rule.by...) {
					t.Errorf("%s imports %s, which only %v may", p.ImportPath, imp, rule.by)
				}
			}
		}
	}
}

// TestSideways checks that the parts of the host do not know each other: cmd/grapnel wires them.
func TestSideways(t *testing.T) {
	parts := []string{"ingress", "engine", "pluginhost", "config", "admin", "store/sqlite", "route", "metrics", "tracing"}
	// Shared ground: the vocabulary and pure packages.
	for _, p := range packages(t, ".") {
		for _, imp := range p.Imports {
			for _, part := range parts {
				if !under(imp, module+"/core/"+part) || under(p.ImportPath, module+"/core/"+part, module+"/core/cmd", module+"/core/internal") {
					continue
				}
				t.Errorf("%s imports %s: parts of the host meet in core/cmd/grapnel only", p.ImportPath, imp)
			}
		}
	}
	for _, p := range packages(t, ".") {
		if p.ImportPath != module+"/core" {
			continue
		}
		for _, imp := range p.Imports {
			if strings.Contains(imp, ".") && imp != module+"/sdk" {
				t.Errorf("package core imports %s; it may import the standard library and sdk", imp)
			}
		}
	}
}

// TestPluginImports checks that plugins and examples depend on the sdk, never on the host, and that the sdk is light.
func TestPluginImports(t *testing.T) {
	for _, dir := range modules(t) {
		for _, p := range packages(t, dir) {
			for _, imp := range slices.Concat(p.Imports, p.TestImports, p.XTestImports) {
				if under(imp, module+"/core") {
					t.Errorf("%s imports %s of the host", p.ImportPath, imp)
				}
			}
			for _, imp := range p.Imports {
				if p.ImportPath == module+"/sdk" && strings.Contains(imp, ".") {
					t.Errorf("package sdk imports %s; it may import the standard library only", imp)
				}
				if dir != "sdk" && under(imp, module+"/sdk/wire", module+"/sdk/proto", "github.com/hashicorp/go-plugin") {
					t.Errorf("%s imports %s; plugins import sdk and sdk/serve", p.ImportPath, imp)
				}
			}
		}
	}
}

// TestPackageDocs checks that every package says what it is for.
func TestPackageDocs(t *testing.T) {
	for _, dir := range append(modules(t), ".") {
		for _, p := range packages(t, dir) {
			if p.Doc == "" && !strings.Contains(p.ImportPath, "/proto/") {
				t.Errorf("%s has no package comment", p.ImportPath)
			}
		}
	}
}

// TestSource checks every Go file: no init functions, no os.Exit outside of main, no variable that a package changes.
func TestSource(t *testing.T) {
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "testdata" || d.Name() == "bin" || d.Name() == ".git" || d.Name() == "proto" || d.Name() == "tools") {
			return fs.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, path, src, 0)
		if err != nil {
			return err
		}
		for _, decl := range f.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				t.Errorf("%s: an init function", fset.Position(fn.Pos()))
			}
		}
		ast.Inspect(f, func(n ast.Node) bool {
			call, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if x, ok := call.X.(*ast.Ident); ok && x.Name == "os" && call.Sel.Name == "Exit" && !exitAllowed(path, f) {
				t.Errorf("%s: os.Exit outside of main", fset.Position(call.Pos()))
			}
			return true
		})
		checkVariables(t, fset, f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// exitAllowed: main packages may, and so may package serve, whose Main is a plugin's main.
func exitAllowed(path string, f *ast.File) bool {
	return f.Name.Name == "main" || strings.Contains(filepath.ToSlash(path), "sdk/serve/")
}

// checkVariables finds package variables that the same file assigns to. It goes by name: a local variable of the same name
// as a package variable is to be named otherwise, too.
func checkVariables(t *testing.T, fset *token.FileSet, f *ast.File) {
	t.Helper()
	vars := map[string]bool{}
	for _, decl := range f.Decls {
		gen, ok := decl.(*ast.GenDecl)
		if !ok || gen.Tok != token.VAR {
			continue
		}
		for _, spec := range gen.Specs {
			for _, name := range spec.(*ast.ValueSpec).Names {
				vars[name.Name] = name.Name != "_"
			}
		}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		assign, ok := n.(*ast.AssignStmt)
		if !ok || assign.Tok == token.DEFINE {
			return true
		}
		for _, lhs := range assign.Lhs {
			if id, ok := lhs.(*ast.Ident); ok && vars[id.Name] {
				t.Errorf("%s: the package variable %s is changed", fset.Position(assign.Pos()), id.Name)
			}
		}
		return true
	})
}
