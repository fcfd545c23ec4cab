//go:build foreign && linux

package foreign

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/grapnelhq/grapnel/core/internal/e2e/harness"
)

// TestReadByJQ has jq read what the file sink wrote: every sample of Youforce and PeopleForce holds the same record
// as the request, as jq sees both.
func TestReadByJQ(t *testing.T) {
	need(t, "jq")
	h := programs.NewHost(t, harness.Options{Config: harness.YouforceSource + `
source "peopleforce" "people" {
  secrets = [env("PEOPLEFORCE_SECRET")]
}
sink "file" "out" {
  dir = "out"
}
route "all" {
  to "file" "out" {}
}
`})
	h.Start()
	type sent struct{ file, record string } // record: jq's path of it in the request
	var all []sent
	for _, p := range []struct {
		plugin, record string
		sign           func(body []byte, n int) harness.Post
	}{
		{"decoder-youforce", ".value", func(b []byte, n int) harness.Post {
			return harness.SignYouforce("hr", "EMPLOYMENT_CHANGED", fmt.Sprint("jq-", n), b)
		}},
		{"decoder-peopleforce", ".data", func(b []byte, _ int) harness.Post { return harness.SignPeopleForce("people", b) }},
	} {
		files, err := filepath.Glob("../../../plugins/" + p.plugin + "/testdata/*/*.json")
		if err != nil {
			t.Fatal(err)
		}
		for n, f := range files {
			body, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			// Some files hold what a decoder made, or a body that it refuses.
			if !jqHas(t, f, "type == \"object\" and ("+p.record+" | type) == \"object\"") || strings.Contains(f, "golden") {
				continue
			}
			h.MustPost(p.sign(body, n))
			all = append(all, sent{f, p.record})
		}
	}
	h.WaitSettled(20 * time.Second)
	file := h.Path("out/events.jsonl")
	// jq -s reads the file as one stream of values, whatever its lines are.
	if got := strings.TrimSpace(jq(t, file, "-s", "length")); got != fmt.Sprint(len(all)) {
		t.Errorf("jq counts %s events, %d were sent", got, len(all))
	}
	event := `.specversion == "1.0" and (.id | startswith("evt_")) and (.data | type) == "object"`
	if got := strings.TrimSpace(jq(t, file, "-s", "all("+event+")")); got != "true" {
		t.Errorf("jq does not find the attributes of CloudEvents in every line")
	}
	records := strings.Split(strings.TrimSpace(jq(t, file, "-cS", ".data")), "\n")
	left := map[string]int{}
	for _, r := range records {
		left[r]++
	}
	for _, s := range all {
		want := strings.TrimSpace(jq(t, s.file, "-cS", s.record))
		if left[want] == 0 {
			t.Errorf("%s: its record is not in the file:\n%s", s.file, want)
			continue
		}
		left[want]--
	}
	if len(all) < 20 || !json.Valid([]byte(records[0])) {
		t.Errorf("only %d samples", len(all))
	}
	t.Logf("jq reads %d events", len(records))
	h.Stop()
}

func jq(t *testing.T, file string, args ...string) string {
	t.Helper()
	var errOut bytes.Buffer
	cmd := exec.Command("jq", append(args, file)...)
	cmd.Stderr = &errOut
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("jq %q: %v\n%s", args, err, errOut.String())
	}
	return string(out)
}

// jqHas reports whether a filter gives true.
func jqHas(t *testing.T, file, filter string) bool {
	t.Helper()
	return exec.Command("jq", "-e", filter, file).Run() == nil
}
