//go:build unix

package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/grapnelhq/grapnel/core/internal/e2e/harness"
)

// TestProviders posts one signed event of each provider and one with a wrong signature.
func TestProviders(t *testing.T) {
	t.Parallel()
	h := programs.NewHost(t, harness.Options{Config: harness.YouforceSource + `
source "peopleforce" "people" {
  secrets = [env("PEOPLEFORCE_SECRET")]
}
source "acculynx" "roofing" {
  path_token = env("ACCULYNX_TOKEN")
}
sink "file" "out" {
  dir = "out"
}
route "all" {
  to "file" "out" {}
}
`})
	h.Start()
	h.MustPost(harness.Youforce("hr", "k", 1))
	h.MustPost(harness.SignPeopleForce("people", sample(t, "decoder-peopleforce/testdata/published/employee-create.json")))
	h.MustPost(harness.AccuLynx("roofing", sample(t, "decoder-acculynx/testdata/captured/contact_added.json")))
	forged := harness.Youforce("hr", "k", 2)
	forged.Body = harness.Youforce("hr", "k", 3).Body
	if a, err := h.Post(forged); err != nil || a.Status != 401 {
		t.Errorf("a body under another one's signature: %+v, %v", a, err)
	}
	h.WaitSettled(10 * time.Second)

	var types []string
	for _, l := range h.Lines("out/events.jsonl") {
		types = append(types, l.Type)
	}
	slices.Sort(types)
	want := []string{"acculynx.contact.added", "peopleforce.employee.created", "youforce.employment.updated"}
	if !slices.Equal(types, want) {
		t.Errorf("at the sink: %q, want %q", types, want)
	}
	h.Stop()
	if left := h.Plugins(); len(left) > 0 {
		t.Errorf("plugins outlived the host: %v", left)
	}
	if left := h.RunFolders(); len(left) > 0 {
		t.Errorf("run folders are left: %v", left)
	}
}

// sample reads a file of a plugin.
func sample(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("../../../plugins", filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	return b
}
