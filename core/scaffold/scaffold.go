// Package scaffold writes the module of a new plugin: code that works, tests, a README, a Makefile and a CI workflow. The
// command line calls it; it runs no program.
package scaffold

import (
	"embed"
	"errors"
	"fmt"
	"go/format"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	"golang.org/x/mod/module"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/pluginfile"
)

//go:embed template
var templates embed.FS

const sdkModule = "github.com/grapnelhq/grapnel/sdk"

// Options say what to write. All paths may be relative to the working folder.
type Options struct {
	Kind    core.PluginKind
	Name    string
	Dir     string // folder to write; it does not exist yet, or is empty
	Module  string // path of the Go module; empty: example.com/grapnel-<kind>-<name>
	SDK     string // a checkout's folder, or a version such as v1.2.0; empty: the checkout that Dir lies in, or else Version
	Version string // the host's own
	Plugins string // folder of the host's plugins, for the Makefile
	Program string // how the command line was called: "bin/grapnel"
}

// Plugin is what was written.
type Plugin struct {
	Config string // HCL: a block and a route, to be pasted
	Test   string // shell commands that test and build it
	Tidy   bool   // go.mod names a released sdk, whose checksums `go mod tidy` has to fetch
}

// CheckName says what is wrong with the kind and name of a new plugin.
func CheckName(kind core.PluginKind, name string) error {
	if kind != core.PluginSink && kind != core.PluginDecoder {
		return fmt.Errorf("a plugin is a sink or a decoder, not %q", kind)
	}
	if !pluginfile.ValidName(name) {
		return fmt.Errorf("%q cannot be a plugin's name: lower-case letters, digits and _, starting with a letter, such as %q",
			name, near(name))
	}
	f := pluginfile.File{Kind: kind, Name: name, Platform: pluginfile.Current()}
	if got, err := pluginfile.ParseName(f.FileName(), f.Platform); err != nil || got.Name != name {
		return fmt.Errorf("%q cannot be a plugin's name: the end of %s would be read as a version", name, f.FileName())
	}
	return nil
}

var notName = regexp.MustCompile(`[^a-z0-9]+`)

// near is a valid name that is like s.
func near(s string) string {
	s = strings.Trim(notName.ReplaceAllString(strings.ToLower(s), "_"), "_0123456789")
	if s == "" || len(s) > 64 {
		return "tickets"
	}
	return s
}

// New writes the module. It refuses a folder that has something in it, and leaves nothing behind when it fails.
func New(o Options) (*Plugin, error) {
	if err := CheckName(o.Kind, o.Name); err != nil {
		return nil, err
	}
	if o.Module == "" {
		o.Module = "example.com/grapnel-" + string(o.Kind) + "-" + o.Name
	}
	if err := module.CheckPath(o.Module); err != nil {
		return nil, fmt.Errorf("%q cannot be the path of a Go module: %w", o.Module, err)
	}
	if err := checkEmpty(o.Dir); err != nil {
		return nil, err
	}
	sdk, err := findSDK(o)
	if err != nil {
		return nil, err
	}
	goMod, goSum, err := sdk.module(o)
	if err != nil {
		return nil, err
	}
	plugins, err := pluginFolder(o)
	if err != nil {
		return nil, err
	}

	p := &Plugin{Tidy: sdk.version != ""}
	words := replacements(o, sdk, plugins)
	config, err := render(string(o.Kind)+"_config.hcl", words)
	if err != nil {
		return nil, err
	}
	p.Config = string(config)
	tidy := ""
	if p.Tidy {
		tidy = "go mod tidy && "
	}
	p.Test = fmt.Sprintf("(cd %s && %sgo test ./... && go build -o %s .)\n%s plugin test %s",
		quoted(o.Dir), tidy, quoted(path.Join(plugins, "grapnel-"+string(o.Kind)+"-"+o.Name)), o.Program, quoted(o.Dir))
	words = append(words, "@CONFIG@", p.Config)

	files := map[string][]byte{"go.mod": goMod}
	if goSum != nil {
		files["go.sum"] = goSum
	}
	for name, from := range layout(o.Kind) {
		if files[name], err = render(from, words); err != nil {
			return nil, err
		}
	}
	return p, write(o.Dir, files)
}

// layout maps the files of a plugin to their templates.
func layout(kind core.PluginKind) map[string]string {
	files := map[string]string{
		"Makefile": "Makefile", ".gitignore": "gitignore", ".github/workflows/check.yml": "workflow.yml",
	}
	for _, name := range []string{"main.go", "main_test.go", "README.md"} {
		files[name] = string(kind) + "_" + name
	}
	if kind == core.PluginSink {
		files["plugintest.json"] = "sink_plugintest.json"
	}
	return files
}

func replacements(o Options, sdk source, plugins string) []string {
	words := strings.Split(o.Name, "_")
	for i, w := range words {
		if w != "" {
			words[i] = strings.ToUpper(w[:1]) + w[1:]
		}
	}
	note := ""
	if sdk.dir != "" {
		note = "\n\nThe `replace` in `go.mod` takes the sdk from a checkout of Grapnel. In a repository of its own, where `.github` is read, the\n" +
			"plugin takes a release instead: `go mod edit -dropreplace " + sdkModule + "`, and\n`go get " + sdkModule + "@latest`."
	}
	return []string{
		"@NAME@", o.Name, "@KIND@", string(o.Kind),
		"@TITLE@", strings.TrimSpace(strings.Join(words, " ")),
		"@ENV@", strings.ToUpper(o.Name),
		"@HEADER@", "X-" + strings.Join(strings.FieldsFunc(strings.Join(words, " "), isSpace), "-") + "-Signature",
		"@PLUGINS@", plugins, "@SDKNOTE@", note,
	}
}

func isSpace(r rune) bool { return r == ' ' }

// render fills a template in. Go is formatted, because names have their lengths.
func render(name string, words []string) ([]byte, error) {
	text, err := templates.ReadFile("template/" + name + ".tmpl")
	if err != nil {
		return nil, err
	}
	out := []byte(strings.NewReplacer(words...).Replace(string(text)))
	if path.Ext(name) == ".go" {
		return format.Source(out)
	}
	return out, nil
}

func checkEmpty(dir string) error {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("the folder for the plugin: %w", err)
	case len(entries) > 0:
		return fmt.Errorf("%s is not empty: it has %s; name another folder with --dir", dir, entries[0].Name())
	}
	return nil
}

// write makes the folder and the files. When it fails, what it has made goes again.
func write(dir string, files map[string][]byte) (err error) {
	_, statErr := os.Stat(dir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	defer func() {
		if err == nil {
			return
		}
		for name := range files { // the folder was empty
			_ = os.RemoveAll(filepath.Join(dir, strings.SplitN(name, "/", 2)[0]))
		}
		if statErr != nil {
			_ = os.Remove(dir)
		}
	}()
	for name, text := range files {
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// pluginFolder is how the host's folder of plugins is named from within the new module. That of a module elsewhere has no
// way back.
func pluginFolder(o Options) (string, error) {
	abs, err := filepath.Abs(o.Plugins)
	if err != nil || !filepath.IsLocal(filepath.FromSlash(o.Dir)) {
		return filepath.ToSlash(abs), err
	}
	return between(o.Dir, abs)
}

// between is how a folder is named from within another, with slashes.
func between(from, to string) (string, error) {
	from, err := filepath.Abs(from)
	if err != nil {
		return "", err
	}
	to, err = filepath.Abs(to)
	if err != nil {
		return "", err
	}
	rel, err := filepath.Rel(from, to)
	return filepath.ToSlash(rel), err
}

var plain = regexp.MustCompile(`^[A-Za-z0-9_./@%+,:=-]+$`)

// quoted is a text as a shell takes it.
func quoted(s string) string {
	if plain.MatchString(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
