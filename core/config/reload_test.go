package config

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestFiles shows a configuration in which secrets are written in every way, without any of them.
func TestFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.hcl")
	putFile(t, path, `
admin {
  token = "hidden-text-admin-token"
}
locals {
  key = "hidden text of a local"
  ok  = sensitive("hidden-b") # old = "hidden-c"
}
source "peopleforce" "people" {
  secrets = ["hidden-a", "hidden ${env("TAIL")} d", local.key, env("SECRET", "hidden-e"), trimspace(file("key.txt"))]
  tenant  = "shown-a"
}
sink "file" "out" {
  dir = "shown-b"
}
route "all" {
  to "file" "out" {}
}
`)
	putFile(t, filepath.Join(filepath.Dir(path), "key.txt"), "hidden-in-a-file\n")
	opt := describedPlugins(t).options()
	opt.Getenv = func(name string) (string, bool) { return "hidden-" + name, true }
	cfg, diags := Load(t.Context(), path, opt)
	if cfg == nil {
		t.Fatal(diags.Err())
	}
	files := diags.Files()
	if len(files) != 1 || files[0].Name != path {
		t.Fatalf("%d files", len(files))
	}
	text := files[0].Text
	if strings.Contains(text, "hidden") {
		t.Errorf("a secret is shown:\n%s", text)
	}
	for _, shown := range []string{`"shown-a"`, `"shown-b"`, `env("TAIL")`, `env("SECRET", "(sensitive)")`, `file("key.txt")`} {
		if !strings.Contains(text, shown) {
			t.Errorf("%s is missing in\n%s", shown, text)
		}
	}
}

// TestStamps sees what another load would see: a change of a file of the configuration, of its folder, of the lock file, and
// of what file() reads; and nothing in anything else.
func TestStamps(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	putFile(t, at("a.hcl"), "locals {\n x = file(\"text\")\n y = file(\"missing\")\n}\n")
	putFile(t, at("text"), "1")
	var diags *Diagnostics
	load := func() {
		t.Helper()
		_, diags = Load(t.Context(), dir, describedPlugins(t).options())
		if !maps.Equal(diags.Now(), diags.Loaded()) {
			t.Error("it has changed since it was loaded")
		}
	}
	load()
	for _, c := range []struct {
		what   string
		change func()
		seen   bool
	}{
		{"the file", func() { putFile(t, at("a.hcl"), "locals {\n x = file(\"text\")\n}\n") }, true},
		{"what file() reads", func() { putFile(t, at("text"), "2") }, true},
		{"its time alone", func() { putFile(t, at("text"), "2") }, false},
		{"a new file", func() { putFile(t, at("b.hcl"), "locals {\n z = file(\"missing\")\n}\n") }, true},
		{"what was missing", func() { putFile(t, at("missing"), "3") }, true},
		{"a test", func() { putFile(t, at("a.test.hcl"), "") }, false},
		{"a hidden file", func() { putFile(t, at(".a.hcl"), "") }, false},
		{"the lock file", func() { putFile(t, at("grapnel.lock.hcl"), "") }, true},
		{"the lock file's end", func() { remove(t, at("grapnel.lock.hcl")) }, true},
		{"a file's end", func() { remove(t, at("b.hcl")) }, true},
	} {
		c.change()
		if changed := !maps.Equal(diags.Now(), diags.Loaded()); changed != c.seen {
			t.Errorf("%s: changed is %v", c.what, changed)
		}
		load()
	}
}

// TestNeedsRestart places what is said of settings.
func TestNeedsRestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.hcl")
	putFile(t, path, "server {\n  listen = \":8080\"\n  limits {\n    connections = 5\n  }\n}\n")
	_, diags := Load(t.Context(), path, Options{})
	for setting, want := range map[string]string{
		"server.listen": ":2,3", "server.limits.connections": ":4,5", "server.limits.idle_timeout": ":3,3", "server.tls": ":1,1",
		"admin.listen": "",
	} {
		n := len(diags.All())
		diags.NeedsRestart(setting)
		found := false
		for _, d := range diags.All() {
			if strings.HasPrefix(d.Summary, `"`+setting+`" `) {
				found = d.Range.String() == path+want
			}
		}
		if len(diags.All()) != n+1 || !found {
			t.Errorf("%s: %v", setting, diags.All())
		}
	}
}

func putFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}
