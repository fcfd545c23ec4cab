package config

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"github.com/grapnelhq/grapnel/core"
)

// described is a catalogue of the repository's plugins, from what they say about themselves. A test of the commands keeps
// the files true.
type described map[string]*core.PluginInfo

func describedPlugins(t testing.TB) described {
	t.Helper()
	files, err := filepath.Glob("testdata/plugins/*.json")
	if err != nil || len(files) == 0 {
		t.Fatal("no descriptions", err)
	}
	out := described{}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var info core.PluginInfo
		if err := json.Unmarshal(b, &info); err != nil {
			t.Fatal(file, err)
		}
		info.Version = "0.1.0"
		out[strings.TrimSuffix(filepath.Base(file), ".json")] = &info
	}
	return out
}

func (d described) Describe(_ context.Context, kind core.PluginKind, name string) (*core.PluginInfo, error) {
	if info := d[string(kind)+"-"+name]; info != nil {
		return info, nil
	}
	return nil, fmt.Errorf("grapnel-%s-%s: %w", kind, name, core.ErrNoPlugin)
}

func (d described) Validate(context.Context, core.PluginKind, string, []byte) (core.Validation, error) {
	return core.Validation{}, nil
}

// options are for a configuration whose environment has everything that it asks for.
func (d described) options() Options {
	return Options{
		Getenv:  func(name string) (string, bool) { return "value of " + name, name != "GRAPNEL_LISTEN" },
		Plugins: func(Plugins) (Catalog, error) { return d, nil },
	}
}

// typedCase is a configuration of the corpus: base.hcl and some routes.
type typedCase struct {
	name, src, want string
	archive         *txtar.Archive
	file            string
}

// typedCases reads the archives of testdata/typed: for each case NAME.hcl, and NAME.want, what validate says about it.
// What right.txtar has is right.
func typedCases(t testing.TB) (wrong, right []typedCase) {
	t.Helper()
	files, err := filepath.Glob("testdata/typed/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no corpus", err)
	}
	for _, file := range files {
		a, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if file, err = filepath.Abs(file); err != nil {
			t.Fatal(err)
		}
		class := strings.TrimSuffix(filepath.Base(file), ".txtar")
		for i, f := range a.Files {
			name, ok := strings.CutSuffix(f.Name, ".hcl")
			if !ok {
				continue
			}
			c := typedCase{name: class + "/" + name, src: string(f.Data), archive: a, file: file}
			if i+1 < len(a.Files) && a.Files[i+1].Name == name+".want" {
				c.want = string(a.Files[i+1].Data)
			}
			if class == "right" {
				right = append(right, c)
			} else {
				wrong = append(wrong, c)
			}
		}
	}
	return wrong, right
}

// loadCase loads a case; what is said about it names its file case.hcl.
func loadCase(t testing.TB, base []byte, src string, opt Options) (*Config, string) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string][]byte{"base.hcl": base, "case.hcl": []byte(src)} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cfg, diags := Load(t.Context(), dir, opt)
	if (cfg == nil) != diags.HasErrors() {
		t.Errorf("a configuration with errors, or none without: %v", diags.Err())
	}
	var out bytes.Buffer
	if err := diags.Write(&out, false, 0); err != nil {
		t.Fatal(err)
	}
	return cfg, strings.ReplaceAll(out.String(), dir+string(filepath.Separator), "")
}

func typedBase(t testing.TB) []byte {
	t.Helper()
	base, err := os.ReadFile("testdata/typed/base.hcl")
	if err != nil {
		t.Fatal(err)
	}
	return base
}

// TestTypedRoutes runs the corpus.
func TestTypedRoutes(t *testing.T) {
	wrong, right := typedCases(t)
	if len(wrong) < 60 || len(right) < 20 {
		t.Errorf("%d wrong and %d right configurations", len(wrong), len(right))
	}
	base, opt := typedBase(t), describedPlugins(t).options()
	got := map[string]string{}
	for _, c := range slices.Concat(wrong, right) {
		t.Run(c.name, func(t *testing.T) {
			_, said := loadCase(t, base, c.src, opt)
			got[c.name] = said
			if strings.Contains(said, "s3cr3t") {
				t.Errorf("a secret shows:\n%s", said)
			}
			if *update {
				return
			}
			if diff := cmp.Diff(c.want, said); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
	for _, c := range wrong {
		if got[c.name] == "" {
			t.Errorf("%s: nothing is said about it", c.name)
		}
	}
	if *update {
		updateTyped(t, slices.Concat(wrong, right), got)
	}
}

func updateTyped(t *testing.T, cases []typedCase, got map[string]string) {
	t.Helper()
	byFile := map[string]*txtar.Archive{}
	for _, c := range cases {
		a := byFile[c.file]
		if a == nil {
			a = &txtar.Archive{Comment: c.archive.Comment}
			byFile[c.file] = a
		}
		name := c.name[strings.LastIndexByte(c.name, '/')+1:]
		a.Files = append(a.Files, txtar.File{Name: name + ".hcl", Data: []byte(c.src)})
		if said := got[c.name]; said != "" {
			a.Files = append(a.Files, txtar.File{Name: name + ".want", Data: []byte(said)})
		}
	}
	for _, file := range slices.Sorted(maps.Keys(byFile)) {
		if err := os.WriteFile(file, txtar.Format(byFile[file]), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
