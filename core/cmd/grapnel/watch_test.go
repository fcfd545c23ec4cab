package main

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestWatcher changes the files of a program in the ways that matter, and some that do not.
func TestWatcher(t *testing.T) {
	t.Setenv("GOWORK", "off")
	t.Setenv("GOFLAGS", "")
	root := t.TempDir()
	dir := filepath.Join(root, "plugin")
	at := func(name string) string { return filepath.Join(root, filepath.FromSlash(name)) }
	write(t, at("plugin/go.mod"), "module example.test/plugin\n\ngo 1.26\n\nrequire example.test/lib v0.0.0\n\nreplace example.test/lib => ../lib\n")
	write(t, at("plugin/main.go"), "package main\n\nimport (\n\t_ \"embed\"\n\n\t_ \"example.test/lib\"\n\t_ \"example.test/plugin/inner\"\n)\n\n"+
		"//go:embed text.txt\nvar text string\n\nfunc main() {}\n")
	write(t, at("plugin/text.txt"), "text")
	write(t, at("plugin/inner/inner.go"), "package inner\n")
	write(t, at("plugin/other/other.go"), "package other\n")
	write(t, at("lib/go.mod"), "module example.test/lib\n\ngo 1.26\n")
	write(t, at("lib/lib.go"), "package lib\n")

	w := &watcher{dir: dir, every: 10 * time.Millisecond}
	changed := func(want bool, change func()) bool {
		t.Helper()
		w.look(t.Context())
		change()
		patience := 20 * w.every
		if want {
			patience = time.Minute
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		return w.wait(ctx)
	}
	for _, c := range []struct {
		name string
		want bool
	}{
		{"plugin/main.go", true}, {"plugin/more.go", true}, {"plugin/go.mod", true}, {"plugin/go.sum", true}, {"plugin/text.txt", true},
		{"plugin/inner/inner.go", true}, {"plugin/inner/new.s", true}, {"lib/lib.go", true}, {"lib/go.mod", true},
		{"plugin/data/grapnel.db", false}, {"plugin/grapnel.db", false}, {"plugin/main_test.go", false}, {"plugin/.main.go.swp", false},
		{"plugin/other/other.go", false}, {"plugin/config.hcl", false},
	} {
		before, err := os.ReadFile(at(c.name))
		if err != nil {
			before = nil
		}
		text := string(before) + "\n"
		if filepath.Base(c.name) == "more.go" {
			text = "package main\n"
		}
		if got := changed(c.want, func() { write(t, at(c.name), text) }); got != c.want {
			t.Errorf("%s: changed %v, want %v; watched are %q and %q", c.name, got, c.want, w.dirs, w.files)
		}
	}
	if !changed(true, func() {
		if err := os.Remove(at("plugin/more.go")); err != nil {
			t.Fatal(err)
		}
	}) {
		t.Error("a file that is gone is no change")
	}
	if changed(false, func() {}) {
		t.Error("nothing is a change")
	}

	// What was known stays watched while the sources say nothing that go understands.
	known := slices.Clone(w.dirs)
	write(t, at("plugin/go.mod"), "modul plugin")
	if w.look(t.Context()); !slices.Equal(w.dirs, known) {
		t.Errorf("watched are %q, before %q", w.dirs, known)
	}
	blind := &watcher{dir: dir, every: w.every}
	if blind.look(t.Context()); len(blind.seen) == 0 {
		t.Error("a folder whose go.mod is broken from the start is not watched")
	}
}
