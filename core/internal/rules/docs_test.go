package rules

import (
	"bytes"
	"errors"
	"go/parser"
	"go/token"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// textFiles calls check for every text file of the repository, with its path from the root. What .gitignore names is
// left out.
func textFiles(t *testing.T, check func(name string, text []byte)) {
	t.Helper()
	n := 0
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // what a test that runs beside this one has removed
			return err
		}
		name, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		if d != nil && d.IsDir() && path.Base(name) == "node_modules" {
			return fs.SkipDir
		}
		switch name {
		case ".git": // a file in a work tree of its own
			if d != nil && !d.IsDir() {
				return nil
			}
			return fs.SkipDir
		case "bin", "data", "dist":
			return fs.SkipDir
		}
		if d == nil || !d.Type().IsRegular() {
			return nil
		}
		text, err := os.ReadFile(file)
		if err != nil || bytes.IndexByte(text[:min(len(text), 8<<10)], 0) >= 0 {
			return nil //nolint:nilerr // gone, or no text
		}
		n++
		check(name, text)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if n < 100 {
		t.Fatalf("found only %d files below %s", n, root)
	}
}

// TestNoMachinePaths checks that no file names a place of one machine, or what was beside the project when it was written.
func TestNoMachinePaths(t *testing.T) {
	// In two parts, since this file is checked, too.
	words := []string{"/wo" + "rk/", "../sha" + "red", "/tmp/no" + "tes", "/tmp/to" + "ols", "/ro" + "ot/", "/Us" + "ers/", "sub" + "agent"}
	textFiles(t, func(name string, text []byte) {
		for _, w := range words {
			if i := bytes.Index(text, []byte(w)); i >= 0 {
				t.Errorf("%s:%d: %q", name, 1+bytes.Count(text[:i], []byte{'\n'}), w)
			}
		}
	})
}

// TestLinks checks that every relative link of a Markdown file leads to a file or folder, and to a heading where it names one.
func TestLinks(t *testing.T) {
	textFiles(t, func(name string, text []byte) {
		if path.Ext(name) != ".md" {
			return
		}
		for _, target := range links(string(text)) {
			u, err := url.Parse(target)
			if err != nil {
				t.Errorf("%s: link %q: %v", name, target, err)
				continue
			}
			if u.Scheme != "" || u.Host != "" {
				continue
			}
			to, page := name, string(text)
			if u.Path != "" {
				to = path.Join(path.Dir(name), u.Path)
				info, err := os.Stat(filepath.Join(root, filepath.FromSlash(to)))
				if err != nil || strings.HasPrefix(to, "../") {
					t.Errorf("%s: link %q leads nowhere", name, target)
					continue
				}
				if info.IsDir() || u.Fragment == "" {
					continue
				}
				b, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(to)))
				if err != nil {
					t.Fatal(err)
				}
				page = string(b)
			}
			if !anchors(page)[u.Fragment] {
				t.Errorf("%s: link %q: %s has no heading #%s", name, target, to, u.Fragment)
			}
		}
	})
}

// outsideCode calls line for every line of a Markdown text that is in no fenced block.
func outsideCode(text string, line func(string)) {
	fenced := false
	for l := range strings.Lines(text) {
		if strings.HasPrefix(strings.TrimSpace(l), "```") {
			fenced = !fenced
		} else if !fenced {
			line(l)
		}
	}
}

// links returns the targets of a Markdown text's inline links.
func links(text string) (targets []string) {
	outsideCode(text, func(l string) {
		for i, code := range strings.Split(l, "`") {
			if i%2 == 1 { // code
				continue
			}
			for _, part := range strings.Split(code, "](")[1:] {
				target, _, _ := strings.Cut(part, ")")
				targets = append(targets, target)
			}
		}
	})
	return targets
}

// anchors returns the names that the headings of a Markdown text have as targets of links.
func anchors(text string) map[string]bool {
	found := map[string]bool{}
	outsideCode(text, func(l string) {
		title := strings.TrimLeft(l, "#")
		if title == l || !strings.HasPrefix(title, " ") {
			return
		}
		found[strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, strings.TrimSpace(title))] = true
	})
	return found
}

// fences returns the fenced blocks of a language in a Markdown text.
func fences(text, language string) (blocks []string) {
	for _, part := range strings.Split(text, "\n```"+language+"\n")[1:] {
		block, _, _ := strings.Cut(part, "```")
		blocks = append(blocks, block)
	}
	return blocks
}

// TestExamplesInDocs checks that what the documentation shows in HCL and Go is HCL and Go.
func TestExamplesInDocs(t *testing.T) {
	textFiles(t, func(name string, text []byte) {
		if path.Ext(name) != ".md" {
			return
		}
		for i, block := range fences(string(text), "hcl") {
			if _, diags := hclsyntax.ParseConfig([]byte(block), name, hcl.InitialPos); diags.HasErrors() {
				t.Errorf("%s: HCL block %d: %v", name, i+1, diags)
			}
		}
		for i, block := range fences(string(text), "go") {
			if !strings.HasPrefix(block, "package ") {
				block = "package example\n" + block
			}
			if _, err := parser.ParseFile(token.NewFileSet(), name, block, 0); err != nil {
				t.Errorf("%s: Go block %d: %v", name, i+1, err)
			}
		}
	})
}

// TestReadmeSink checks that the sink of the README is the one that examples/sink-chat builds and tests.
func TestReadmeSink(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile(filepath.Join(root, "examples", "sink-chat", "main.go"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(readme), "\n## Build a sink\n")
	if !ok {
		t.Fatal(`README.md has no section "Build a sink"`)
	}
	blocks := fences(section, "go")
	i := strings.Index(string(source), "package main\n")
	if len(blocks) == 0 || i < 0 {
		t.Fatal("there is no Go block, or no package clause")
	}
	if want := string(source[i:]); blocks[0] != want {
		t.Errorf("the Go block of README.md is not examples/sink-chat/main.go without its first comment; it should be\n%s", want)
	}
}
