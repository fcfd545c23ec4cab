package scaffold

import (
	"go/format"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/grapnelhq/grapnel/core"
)

// checkout is this repository.
const checkout = "../.."

// files reads all that was written below a folder.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		rel, _ := filepath.Rel(dir, path)
		out[filepath.ToSlash(rel)] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestFiles checks what can be seen without building: that all is there and formatted, and no place is left open. That it
// builds and runs is shown with the commands of the first README.
func TestFiles(t *testing.T) {
	common := []string{".github/workflows/check.yml", ".gitignore", "Makefile", "README.md", "go.mod", "go.sum", "main.go", "main_test.go"}
	for _, kind := range []core.PluginKind{core.PluginSink, core.PluginDecoder} {
		for _, name := range []string{"a", "tickets", "my_very_long_name_of_a_far_end_in_47_words_or_so", "x__y_", "main", "sink"} {
			dir := filepath.Join(t.TempDir(), "new")
			p, err := New(Options{Kind: kind, Name: name, Dir: dir, SDK: checkout, Plugins: "bin/plugins", Program: "grapnel"})
			if err != nil {
				t.Fatal(err)
			}
			got := files(t, dir)
			want := slices.Clone(common)
			if kind == core.PluginSink {
				want = append(want, "plugintest.json")
			}
			var have []string
			for file, text := range got {
				have = append(have, file)
				if filepath.Ext(file) == ".go" {
					if formatted, err := format.Source([]byte(text)); err != nil || string(formatted) != text {
						t.Errorf("%s %s: %s is not formatted: %v", kind, name, file, err)
					}
				}
				for _, line := range strings.Split(text, "\n") {
					if strings.Count(line, "@") > 1 {
						t.Errorf("%s %s: %s has a place that is left open: %s", kind, name, file, line)
					}
				}
			}
			slices.Sort(have)
			if diff := cmp.Diff(want, have); diff != "" {
				t.Errorf("%s %s: files -want +got:\n%s", kind, name, diff)
			}
			if !strings.Contains(got["README.md"], p.Config) || p.Tidy {
				t.Errorf("%s %s: %+v\n%s", kind, name, p, got["README.md"])
			}
		}
	}
}

func TestNames(t *testing.T) {
	for _, c := range []struct {
		kind core.PluginKind
		name string
		want string // a part of the error
	}{
		{"sink", "x1_y", ""},
		{"sonk", "x", `a plugin is a sink or a decoder, not "sonk"`},
		{"sink", "My-Shop", `such as "my_shop"`},
		{"sink", "2fast", `such as "fast"`},
		{"sink", "", `such as "tickets"`},
		{"sink", "../x", `such as "x"`},
		{"sink", "shop_v2", "read as a version"},
		{"sink", "shop_v1_2", "read as a version"},
		{"sink", "shop_vault", ""},
	} {
		err := CheckName(c.kind, c.name)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %q: %v", c.kind, c.name, err)
		}
	}
}

// TestSDK checks where the sdk comes from.
func TestSDK(t *testing.T) {
	root, err := filepath.Abs(checkout)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, dir, sdk, version string
		want, failure           string // a part of go.mod, of the error
	}{
		{name: "a checkout that is named", sdk: checkout, want: "replace " + sdkModule + " => " + root + "/sdk\n"},
		{name: "its sdk", sdk: checkout + "/sdk", want: "replace " + sdkModule + " => " + root + "/sdk\n"},
		{name: "a release that is named", sdk: "v1.2.0", want: "require " + sdkModule + " v1.2.0\n"},
		{name: "as old as the host", version: "1.2.3", want: "require " + sdkModule + " v1.2.3\n"},
		{name: "a host that is no release", version: "0.1.0-dev", failure: "name one with --sdk DIR"},
		{name: "devel", version: "devel", failure: "name one with --sdk DIR"},
		{name: "half a version", sdk: "v1.2", failure: "neither a checkout of Grapnel nor a version such as v1.2.0"},
		{name: "some folder", sdk: ".", failure: "neither a checkout"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "new")
			_, err := New(Options{
				Kind: core.PluginSink, Name: "x", Dir: dir, SDK: c.sdk, Version: c.version, Plugins: "bin/plugins", Program: "grapnel",
			})
			if c.failure != "" {
				if err == nil || !strings.Contains(err.Error(), c.failure) {
					t.Errorf("error %v", err)
				}
				if _, err := os.Stat(dir); err == nil {
					t.Error("a folder was made")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := files(t, dir)["go.mod"]; !strings.Contains(got, c.want) {
				t.Errorf("go.mod is\n%s", got)
			}
		})
	}
}

// TestInCheckout checks that a plugin within a checkout names the sdk by a relative path.
func TestInCheckout(t *testing.T) {
	root := t.TempDir()
	for _, file := range []string{"sdk/go.mod", "examples/sink-chat/go.mod", "examples/sink-chat/go.sum"} {
		text, err := os.ReadFile(filepath.Join(checkout, file))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(root, filepath.Dir(file)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, file), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(root)
	p, err := New(Options{Kind: core.PluginSink, Name: "x", Dir: "mine/x", Plugins: "bin/plugins", Program: "bin/grapnel"})
	if err != nil {
		t.Fatal(err)
	}
	got := files(t, "mine/x")
	if !strings.Contains(got["go.mod"], "replace "+sdkModule+" => ../../sdk\n") {
		t.Errorf("go.mod is\n%s", got["go.mod"])
	}
	if !strings.Contains(got["Makefile"], "PLUGINS ?= ../../bin/plugins\n") {
		t.Errorf("Makefile is\n%s", got["Makefile"])
	}
	want := "(cd mine/x && go test ./... && go build -o ../../bin/plugins/grapnel-sink-x .)\nbin/grapnel plugin test mine/x"
	if p.Test != want {
		t.Errorf("commands %s", p.Test)
	}
	if _, err := New(Options{Kind: core.PluginSink, Name: "y", Dir: "sdk/y"}); err == nil {
		t.Error("a plugin lies in the sdk")
	}
}

// TestNothingLeft checks that a module that cannot be written leaves nothing, and that nothing is written over.
func TestNothingLeft(t *testing.T) {
	dir := t.TempDir()
	o := Options{Kind: core.PluginSink, Name: "x", Dir: dir, SDK: checkout, Plugins: "bin/plugins", Module: "not a path"}
	if _, err := New(o); err == nil || !strings.Contains(err.Error(), `"not a path" cannot be the path of a Go module`) {
		t.Errorf("error %v", err)
	}
	if err := write(dir, map[string][]byte{"a": nil, "b": nil, "c/d": nil, "a/e": nil}); err == nil {
		t.Error("a file is a folder")
	}
	if entries, _ := os.ReadDir(dir); len(entries) > 0 {
		t.Errorf("left: %v", entries)
	}
	if err := os.WriteFile(filepath.Join(dir, ".notes"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	o.Module = ""
	if _, err := New(o); err == nil || !strings.Contains(err.Error(), "is not empty: it has .notes") {
		t.Errorf("error %v", err)
	}
	o.Dir = filepath.Join(dir, ".notes")
	if _, err := New(o); err == nil {
		t.Error("a file is taken for a folder")
	}
}
