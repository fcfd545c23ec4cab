//go:build unix

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/sdk"
)

// TestDryRun runs every sample of one provider through a configuration, with the real decoder, and opens no sink: the
// folder of the file sink is not made.
func TestDryRun(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "config.hcl")
	err := os.WriteFile(file, []byte(`
plugins {
  dir = "`+programs.PluginDir(t)+`"
}
source "peopleforce" "people" {
  secrets = [env("NOBODY_SETS_THIS")]
}
sink "file" "audit" {
  dir = "events"
}
route "all" {
  to "file" "audit" {}
}
`), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	c := &cobra.Command{}
	c.SetContext(t.Context())
	cfg, err := loadToLook(c, file)
	if err != nil {
		t.Fatal(err)
	}
	d, err := openDryRun(t.Context(), cfg, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	var requests []*core.Request
	var types []string
	for _, e := range cfg.Sources[0].Info.Provider.Events {
		for _, s := range e.Samples {
			r := &core.Request{Source: "people", Method: "POST", Body: s.Body}
			for _, h := range s.Headers {
				r.Headers = append(r.Headers, sdk.Header{Name: strings.ToLower(h.Name), Value: h.Value})
			}
			requests, types = append(requests, r), append(types, e.Type)
		}
	}
	results, err := d.Run(t.Context(), requests)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range results {
		if r.Refusal != "" || len(r.Events) != 1 || r.Events[0].Type != types[i] || len(r.Deliveries) != 1 ||
			r.Deliveries[0].State != core.DeliveryPending {
			t.Errorf("%s: %q, %d events, %d deliveries", types[i], r.Refusal, len(r.Events), len(r.Deliveries))
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "events")); !os.IsNotExist(err) || len(results) < 10 {
		t.Errorf("%d results; the sink's folder: %v", len(results), err)
	}
}
