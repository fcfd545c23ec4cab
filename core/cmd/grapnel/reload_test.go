package main

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"

	"github.com/grapnelhq/grapnel/core/admin"
	"github.com/grapnelhq/grapnel/core/config"
)

// TestSettings tells what can change while a host runs from what cannot.
func TestSettings(t *testing.T) {
	base := func() *config.Config {
		return &config.Config{
			Server:  config.Server{Listen: ":8080", TLS: &config.TLS{Cert: "a", Key: "b"}, TrustedProxies: []netip.Prefix{}},
			Storage: config.Storage{Path: "x"}, Log: config.Log{Level: "info"},
			Plugins: config.Plugins{Pins: []config.Pin{{Name: "x", Range: config.Range{Line: 1}}}},
		}
	}
	for _, c := range []struct {
		name          string
		change        func(*config.Config)
		changes, need []string
	}{
		{"nothing", func(c *config.Config) { c.Server.TrustedProxies = nil; c.Plugins.Pins[0].Range.Line = 2 }, nil, nil},
		{"listen", func(c *config.Config) { c.Server.Listen = ":1" }, nil, []string{"server.listen"}},
		{"a certificate", func(c *config.Config) { c.Server.TLS.Cert = "c" }, []string{"server.tls.cert"}, nil},
		{"TLS off", func(c *config.Config) { c.Server.TLS = nil }, nil, []string{"server.tls"}},
		{"limits", func(c *config.Config) {
			c.Server.Limits.MaxBody, c.Server.Limits.HeaderTimeout = 1, time.Second
		}, []string{"server.limits.max_body"}, []string{"server.limits.header_timeout"}},
		{"storage", func(c *config.Config) {
			c.Storage.Path, c.Storage.Retention, c.Storage.DedupeWindow = "y", 1, 1
		}, []string{"storage.retention"}, []string{"storage.path", "storage.dedupe_window"}},
		{"pins", func(c *config.Config) { c.Plugins.Pins[0].Version = "1" }, []string{"plugins.pins"}, nil},
		{"the folder", func(c *config.Config) { c.Plugins.Dir = "z" }, nil, []string{"plugins.dir"}},
		{"the level", func(c *config.Config) { c.Log.Level, c.Reload.Watch = "debug", true }, []string{"log.level", "reload.watch"}, nil},
		{"tracing", func(c *config.Config) { c.Tracing = &config.Tracing{} }, nil, []string{"tracing"}},
		{"the token", func(c *config.Config) { c.Admin.Token = "t" }, nil, []string{"admin.token"}},
		{"blocks", func(c *config.Config) { c.Digest, c.Sinks = "d", []config.Sink{{Name: "x"}} }, nil, nil},
	} {
		next := base()
		c.change(next)
		if diff := cmp.Diff(c.changes, settings(base(), next, true)); diff != "" {
			t.Errorf("%s: changes: -want +got\n%s", c.name, diff)
		}
		if diff := cmp.Diff(c.need, needRestart(base(), next)); diff != "" {
			t.Errorf("%s: needs a restart: -want +got\n%s", c.name, diff)
		}
	}

	// The lists name what is there.
	var names func(prefix string, of reflect.Type) []string
	names = func(prefix string, of reflect.Type) (all []string) {
		for i := range of.NumField() {
			f := of.Field(i)
			inner := f.Type
			if inner.Kind() == reflect.Pointer {
				inner = inner.Elem()
			}
			if all = append(all, prefix+snake(f.Name)); inner.Kind() == reflect.Struct && !slices.Contains(blocks, f.Name) {
				all = append(all, names(prefix+snake(f.Name)+".", inner)...)
			}
		}
		return all
	}
	all := names("", reflect.TypeFor[config.Config]())
	for _, name := range reloadable {
		if !slices.Contains(all, name) {
			t.Errorf("reloadable has %s, which no configuration has", name)
		}
	}
	for _, name := range blocks {
		if !slices.Contains(all, snake(name)) {
			t.Errorf("blocks has %s, which no configuration has", name)
		}
	}
}

// TestReloadOfStoppingHost calls a configuration that was not checked to the end no mistaken one.
func TestReloadOfStoppingHost(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "config.hcl")
	for name, text := range map[string]string{
		path:                                    "plugins { dir = \".\" }\nsink \"file\" \"a\" {}\n",
		filepath.Join(dir, "grapnel-sink-file"): "#!/bin/sh\nexit 1\n",
	} {
		if err := os.WriteFile(name, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	h := newHost(&config.Config{Path: path}, nil, hclog.NewNullLogger())
	working, stop := context.WithCancel(t.Context())
	stop()
	h.working = working
	if v, err := (reloader{h}).Reload(t.Context(), bySignal); !errors.Is(err, context.Canceled) || v.Result != "" {
		t.Errorf("%+v, %v", v, err)
	}
	if list := (reloader{h}).Reloads(); len(list) > 0 {
		t.Errorf("%+v", list)
	}
}

// TestHistory keeps the start and the newest reloads, and knows which of them runs.
func TestHistory(t *testing.T) {
	r := newReloads()
	add := func(result string) *admin.Reload {
		v := &admin.Reload{Result: result, Trigger: bySignal, Draining: result == admin.ReloadApplied}
		if r.next == 0 {
			v.Trigger = byStart
		}
		r.add(v, nil)
		return v
	}
	add(admin.ReloadApplied)
	for range 2 * mostReloads {
		add(admin.ReloadInvalid)
	}
	if len(r.list) != mostReloads || r.list[0].Trigger != byStart || r.list[1].ID != mostReloads+3 {
		t.Errorf("%d are kept, from %d and %d on", len(r.list), r.list[0].ID, r.list[1].ID)
	}
	loaded, failed, n := r.state()
	if loaded.Trigger != byStart || failed == nil || failed.ID != 2*mostReloads+1 || n != 0 {
		t.Errorf("%+v %+v %d", loaded, failed, n)
	}
	first := add(admin.ReloadApplied)
	r.drained(1)
	r.drained(first.ID)
	second := add(admin.ReloadApplied)
	add(admin.ReloadUnchanged)
	if loaded, failed, n = r.state(); loaded.Result != admin.ReloadUnchanged || failed != nil || n != 3 || !loaded.Draining {
		t.Errorf("%+v %+v %d", loaded, failed, n)
	}
	r.drained(second.ID)
	if loaded, _, _ = r.state(); loaded.Draining {
		t.Error("nothing drains any more")
	}

	// One at a time.
	if err := r.take(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("the caller went away")
	cancel(cause)
	if err := r.take(ctx); !errors.Is(err, cause) {
		t.Errorf("a second turn: %v", err)
	}
	r.give()
	if err := r.take(t.Context()); err != nil {
		t.Error(err)
	}
}
