package config

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/pluginfile"
)

// TestLockFits is about lock files and plugins blocks that do not agree with each other, or with what is there.
func TestLockFits(t *testing.T) {
	const other = "0000000000000000000000000000000000000000000000000000000000000000"
	lock := func(label, version, more string, hashes ...string) string {
		text := "plugin \"" + label + "\" {\n  version = \"" + version + "\"\n  " + more + "\n"
		if len(hashes) > 0 {
			text += "  hashes = {\n    " + strings.Join(hashes, "\n    ") + "\n  }\n"
		}
		return text + "}\n"
	}
	here := pluginfile.Current() + ` = "` + strings.ToUpper(programHash) + `"`
	const elsewhere = `freebsd_386 = "` + other + `"`
	pin := func(s string) string { return "plugins {\n  plugin \"sink-file\" {\n    " + s + "\n  }\n}\n" }
	for name, c := range map[string]struct {
		lock, plugins string
		want          []string // of the output; none: there is no diagnostic
	}{
		"fits":        {lock("sink-file", "1.4.0", "protocol = 1", here, elsewhere), pin(`version = "~> 1.2"`), nil},
		"same hash":   {lock("sink-file", "1.4.0", "", here), pin(`sha256 = "` + programHash + `"`), nil},
		"sha256 only": {"", pin(`sha256 = "` + strings.ToUpper(programHash) + `"`), nil},
		"any platform": {
			lock("sink-file", "1.4.0", `sha256 = "`+programHash+`"`, elsewhere), "", nil,
		},
		"platform": {lock("sink-file", "1.4.0", "", elsewhere), "", []string{
			`grapnel.lock.hcl:1:1: error: The lock file has no hash of the plugin "sink-file" for ` + pluginfile.Current(),
			`It has one for "freebsd_386".`, "grapnel plugin lock sink-file",
		}},
		"constraint": {lock("sink-file", "1.4.0", "", here), pin(`version = "~> 2.0"`), []string{
			`config.hcl:2:3: error: The lock file has version 1.4.0 of the plugin "sink-file", the configuration asks for "~> 2.0"`,
			"The entry is at grapnel.lock.hcl:1:1.", "grapnel plugin lock sink-file",
		}},
		"other hash": {lock("sink-file", "1.4.0", "", here), pin(`sha256 = "` + other + `"`), []string{
			`config.hcl:2:3: error: The lock file has another hash of the plugin "sink-file" than the configuration`, programHash,
		}},
		"protocol": {lock("sink-file", "1.4.0", "protocol = 2", here), "", []string{
			`grapnel.lock.hcl:1:1: error: The plugin "sink-file" was locked with protocol 2, this version of grapnel speaks 1 with it`,
		}},
		"dev": {lock("sink-file", "1.4.0", "", elsewhere), pin(`dev = "x"`), []string{"1 warning"}},
		"version that is not there": {lock("sink-old", "1.0.0", "", here), "sink \"old\" \"x\" {}\n", []string{
			`grapnel.lock.hcl:1:1: error: The plugin "sink-old" is not there in version 1.0.0`, "(there are: 0.9.0)",
			"To get it: grapnel plugin install SOURCE 'sink-old@1.0.0'",
		}},
		"not a hash": {"", pin(`sha256 = "12"`), []string{`config.hcl:3:14: error: "sha256" of plugin "sink-file" must be the 64`}},
		"mistakes": {
			lock("sink-file", "1.2", "protocol = 0", `linux = "`+other+`"`) + lock("sink-crm", "1.0.0", `protocol = "new"`, `linux_amd64 = 5`) +
				lock("sink-x", "1.0.0", "hashes = {}") + lock("sink-y", "1.0.0", "hashes = null") +
				lock("sink-z", "1.0.0", "hashes = x") + lock("sink-w", "devel", "protocol = env(1)"), "",
			[]string{
				`:2:13: error: "version" of plugin "sink-file" must be the version that the program names, such as "1.2.0"`,
				`:3:14: error: "protocol" of plugin "sink-file" must be the number of the plugin protocol`,
				`:4:12: error: "hashes" of plugin "sink-file" must be a hash for each platform`,
				`:10:14: error: "protocol" of plugin "sink-crm"`, `:11:12: error: "hashes" of plugin "sink-crm"`,
				`:17:12: error: "hashes" of plugin "sink-x"`, `:21:12: error: "hashes" of plugin "sink-y"`,
				`:25:12: error: Variables not allowed`, `:29:14: error: Function calls not allowed`, `"sha256" is missing in plugin "sink-w"`,
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			err := os.WriteFile("config.hcl", []byte(c.plugins+"sink \"file\" \"audit\" {\n  dir = \"x\"\n}\n"), 0o600)
			if c.lock != "" {
				err = errors.Join(err, os.WriteFile(lockFile, []byte(c.lock), 0o600))
			}
			if err != nil {
				t.Fatal(err)
			}
			opt := options(nil)
			opt.Plugins = func(p Plugins) (Catalog, error) {
				all := catalog()
				all[core.PluginSink]["file"].Protocol = 1
				return pinned{all, p}, nil
			}
			_, diags := Load(t.Context(), "config.hcl", opt)
			var out bytes.Buffer
			if err := diags.Write(&out, false, 0); err != nil {
				t.Fatal(err)
			}
			if len(c.want) == 0 && out.Len() > 0 {
				t.Errorf("%s", out.String())
			}
			for _, want := range c.want {
				if !strings.Contains(out.String(), want) {
					t.Errorf("no %q in\n%s", want, out.String())
				}
			}
		})
	}
}

// TestFormatLock writes a lock file and reads it again.
func TestFormatLock(t *testing.T) {
	t.Chdir(t.TempDir())
	a, b := strings.Repeat("a", 64), strings.Repeat("b", 64)
	list := []Locked{
		{Kind: core.PluginSink, Name: "file", Version: "1.4.0", Protocol: 1, Hashes: map[string]string{"linux_amd64": a, "darwin_arm64": b}},
		{Kind: core.PluginDecoder, Name: "x", Version: "0.1.0-rc.1+x", SHA256: a},
	}
	text := FormatLock(list)
	want := `# The plugin programs that may run. Written by ` + "`grapnel plugin lock`" + `; keep it beside the configuration,
# under version control.

plugin "decoder-x" {
  version  = "0.1.0-rc.1+x"
  sha256   = "` + a + `"
}

plugin "sink-file" {
  version  = "1.4.0"
  protocol = 1
  hashes = {
    darwin_arm64 = "` + b + `"
    linux_amd64  = "` + a + `"
  }
}
`
	if diff := cmp.Diff(want, string(text)); diff != "" {
		t.Error(diff)
	}
	config := `
plugins {
  dir = "there"
  plugin "sink-file" {
    version = "~> 1.0"
  }
}
source "x" "a" {
  secrets = [env("MISSING")]
}
sink "file" "b" {
  enabled = false
}
sink "file" "c" {}
sink "Bad" "d" {}
`
	if err := errors.Join(os.WriteFile("config.hcl", []byte(config), 0o600), os.WriteFile(LockPath("config.hcl"), text, 0o600)); err != nil {
		t.Fatal(err)
	}
	plugins, uses, diags := LoadPlugins("config.hcl", Options{})
	if len(diags.All()) > 0 {
		t.Fatal(diags.All())
	}
	if diff := cmp.Diff([]Locked{list[1], list[0]}, plugins.Locked, cmpopts.IgnoreTypes(Range{})); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]Use{{core.PluginDecoder, "x"}, {core.PluginSink, "file"}}, uses); diff != "" {
		t.Error(diff)
	}
	if filepath.Base(plugins.Dir) != "there" || plugins.LockFile != lockFile || !plugins.Pins[0].Constraint.Allows("1.4.0") {
		t.Errorf("%+v", plugins)
	}
	if err := os.WriteFile(lockFile, []byte("plugin {}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, diags := LoadPlugins("config.hcl", Options{}); !diags.HasErrors() {
		t.Error("a broken lock file is no error")
	}
}

// FuzzLock reads lock files: without a mistake they say the same when they are written again.
func FuzzLock(f *testing.F) {
	hash := strings.Repeat("0123456789abcdef", 4)
	f.Add(`plugin "sink-file" {` + "\n version = \"1.2.0\"\n sha256 = \"" + hash + "\"\n}\n")
	f.Add(`plugin "decoder-x" {` + "\n version = \"devel\"\n protocol = 1\n hashes = { linux_amd64 = \"" + hash + "\" }\n}\n")
	f.Add(`plugin "sink-file" {` + "\n version = \"${1}\"\n hashes = { \"linux_amd64\" : x }\n}\n")
	f.Fuzz(func(t *testing.T, text string) {
		if first, ok := parseLock(t, text); ok {
			again, ok := parseLock(t, string(FormatLock(first)))
			if diff := cmp.Diff(first, again, cmpopts.IgnoreTypes(Range{}), cmpopts.SortSlices(func(a, b Locked) bool {
				return a.Kind+core.PluginKind(a.Name) < b.Kind+core.PluginKind(b.Name)
			})); !ok || diff != "" {
				t.Errorf("%t\n%s", ok, diff)
			}
		}
	})
}

func parseLock(t *testing.T, text string) ([]Locked, bool) {
	l := newLoader(t.Context(), "config.hcl", Options{})
	body := l.parseText(lockFile, []byte(text))
	if body != nil && len(l.diags.list) == 0 {
		l.lockEntries(body)
	}
	l.finish()
	return l.cfg.Plugins.Locked, len(l.diags.list) == 0
}
