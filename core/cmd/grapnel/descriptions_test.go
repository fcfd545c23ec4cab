//go:build unix

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/config"
	"github.com/grapnelhq/grapnel/core/pluginhost"
)

// TestDescriptions keeps the descriptions true against which package config tests routes: they are what the plugins say
// about themselves. UPDATE_SCRIPTS=1 writes them anew.
func TestDescriptions(t *testing.T) {
	dir := programs.PluginDir(t)
	found, err := pluginhost.Discover(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	host, err := newPluginHost(config.Plugins{Dir: dir}, nil, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = host.Close(t.Context()) })
	files := filepath.Join("..", "..", "config", "testdata", "plugins")
	for _, b := range found {
		name := string(b.Kind) + "-" + b.Name
		if _, err := os.Stat(filepath.Join("..", "..", "..", "plugins", name)); err != nil {
			continue // a plugin of other tests
		}
		info, err := host.Describe(t.Context(), b.Kind, b.Name)
		if err != nil {
			t.Error(err)
			continue
		}
		plain := core.PluginInfo{
			Kind: info.Kind, Name: info.Name, Capabilities: info.Capabilities, MaxBatch: info.MaxBatch,
			Config: info.Config, Message: info.Message, Provider: info.Provider,
		}
		var got bytes.Buffer
		enc := json.NewEncoder(&got)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", " ")
		if err := enc.Encode(plain); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(files, name+".json")
		if os.Getenv("UPDATE_SCRIPTS") != "" {
			if err := os.WriteFile(file, got.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(string(want), got.String()); diff != "" {
			t.Errorf("%s has changed (UPDATE_SCRIPTS=1 writes it anew) -file +plugin:\n%s", name, diff)
		}
	}
}
