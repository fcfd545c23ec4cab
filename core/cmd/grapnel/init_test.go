//go:build unix

package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/grapnelhq/grapnel/core/config"
)

// TestInitEveryPlugin writes a first configuration for each provider and each sink of the repository, with the first event
// type and with all. It is laid out, has no mistake and deserves no warning with the variables that it names, and its test
// passes.
func TestInitEveryPlugin(t *testing.T) {
	plugins := programs.PluginDir(t)
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	values := map[string]string{ // of variables whose look plugins check
		"SLACK_WEBHOOK_URL": "https://hooks.slack.com/services/T1/B1/abc", "HTTP_URL": "https://example.com/hook",
		"ACCULYNX_TOKEN": strings.Repeat("token-", 6), "CRM_TOKEN": "token",
	}
	sources, sinks := repositoryPlugins(t, "decoder-"), repositoryPlugins(t, "sink-")
	for _, source := range sources {
		for _, sink := range sinks {
			for _, all := range []bool{false, true} {
				name := source + " " + sink
				if all {
					name += " all"
				}
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					dir := t.TempDir()
					args := []string{"init", dir, "--plugins", plugins, "--provider", source, "--sink", sink}
					if all {
						args = append(args, "--source", "one", "--sink-name", "other", "--events", "*")
					}
					out := grapnel(t, args...)
					file := filepath.Join(dir, "config.hcl")
					if formatted := grapnel(t, "fmt", "--check", dir); formatted != "" {
						t.Errorf("fmt would change %s", formatted)
					}
					getenv := func(name string) (string, bool) {
						if !strings.Contains(out, "export "+name+"=") {
							return "", false
						}
						if v, ok := values[name]; ok {
							return v, true
						}
						return "value of " + name, true
					}
					cfg, diags := config.Load(t.Context(), file, config.Options{
						Getenv: getenv, CheckAuth: checkAuth,
						Plugins: func(p config.Plugins) (config.Catalog, error) {
							host, err := newPluginHost(p, nil, hclog.NewNullLogger())
							t.Cleanup(func() { host.Close(context.WithoutCancel(t.Context())) })
							return catalog{host, p.Dir}, err
						},
					})
					if len(diags.All()) > 0 {
						var text bytes.Buffer
						if err := diags.Write(&text, false, 0); err != nil {
							t.Fatal(err)
						}
						t.Fatalf("validate says:\n%s", &text)
					}
					if len(cfg.Sources) != 1 || len(cfg.Sinks) != 1 || len(cfg.Routes) != 1 {
						t.Errorf("%d sources, %d sinks, %d routes, want one of each",
							len(cfg.Sources), len(cfg.Sinks), len(cfg.Routes))
					}
					if got := grapnel(t, "test", "--config", file); !strings.Contains(got, "\n1 passed\n") {
						t.Errorf("test says:\n%s", got)
					}
				})
			}
		}
	}
}

// grapnel runs a command in this process and returns what it prints.
func grapnel(t *testing.T, args ...string) string {
	t.Helper()
	var out, errs bytes.Buffer
	root := newRoot()
	root.SetArgs(args)
	root.SetIn(strings.NewReader(""))
	root.SetOut(&out)
	root.SetErr(&errs)
	if err := root.ExecuteContext(t.Context()); err != nil {
		t.Fatalf("grapnel %s: %v\n%s%s", strings.Join(args, " "), err, &out, &errs)
	}
	return out.String()
}

// repositoryPlugins lists the plugins of the repository of a kind.
func repositoryPlugins(t *testing.T, prefix string) []string {
	t.Helper()
	folders, err := filepath.Glob(filepath.Join("..", "..", "..", "plugins", prefix+"*"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range folders {
		if _, err := os.Stat(filepath.Join(f, "main.go")); err == nil {
			names = append(names, strings.TrimPrefix(filepath.Base(f), prefix))
		}
	}
	if len(names) == 0 {
		t.Fatalf("there is no %s* in plugins", prefix)
	}
	return names
}
