//go:build unix

package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/admin"
	"github.com/grapnelhq/grapnel/core/internal/e2e/harness"
	"github.com/grapnelhq/grapnel/core/store"
)

// TestBackup backs a host up under load, restores the file in another folder by the documented commands, and runs a host
// on it: whatever was accepted before the backup is there, byte for byte, what waited is delivered, and more is accepted.
func TestBackup(t *testing.T) {
	t.Parallel()
	h := programs.NewHost(t, harness.Options{Config: harness.YouforceToFile})
	h.Start()
	l := h.StartLoad(harness.LoadOptions{Conns: 4})
	l.WaitAccepted(500, time.Minute)
	h.MustRun("sinks", "pause", "out", "--reason", "backup")
	l.WaitAccepted(l.Accepted()+300, time.Minute) // some wait
	newest, err := h.Control.Requests(t.Context(), store.RequestFilter{Limit: 1})
	if err != nil {
		t.Fatal(err)
	}
	before := newest.Items[0].Seq
	slowest := watchAccepts(t, h)
	path := h.Path("backup.db")
	var b store.Backup
	if err := json.Unmarshal([]byte(h.MustRun("backup", "--json", path)), &b); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d requests in %d bytes; the slowest accept took %s", b.Requests, b.Bytes, slowest())
	if b.Requests < before || !b.Checked || b.Path != path {
		t.Errorf("%d requests were accepted before, the backup says %+v", before, b)
	}
	l.WaitAccepted(l.Accepted()+300, time.Minute) // the host goes on
	if out, errOut, err := h.Run("backup", path); err == nil || !strings.Contains(errOut, "there is such a file already") {
		t.Errorf("over a backup: %v, %s%s", err, out, errOut)
	}
	l.Stop()
	h.Stop()
	want := exported(t, h, before)

	other := programs.NewHost(t, harness.Options{Config: harness.YouforceToFile})
	if out := other.MustRun("backup", "--verify", path); !strings.Contains(out, "it is whole") {
		t.Errorf("verified: %s", out)
	}
	restore(t, other, path)
	other.Start()
	if text := other.Log(); strings.Contains(text, "without closing") {
		t.Error("the host takes the backup for what a killed host left")
	}
	if diff := cmp.Diff(want, exported(t, other, before)); diff != "" {
		t.Errorf("the requests accepted before the backup (-had +restored):\n%s", diff)
	}
	// What waited at the backup's moment is delivered, and what comes now behind it.
	if n := other.Count("out", core.DeliveryPending); n == 0 {
		t.Error("nothing waits in the backup")
	}
	more := other.StartLoad(harness.LoadOptions{Limit: 100, Name: "more"})
	more.Wait()
	other.MustRun("sinks", "resume", "out")
	other.WaitSettled(time.Minute)
	check(t, more.Verify(other.Lines("out/events.jsonl")))
	delivered := map[string]bool{}
	for _, line := range append(h.Lines("out/events.jsonl"), other.Lines("out/events.jsonl")...) {
		delivered[line.ID] = true
	}
	for id := range want {
		key, repeat, err := core.ParseRequestID(id)
		if err != nil {
			t.Fatal(err)
		}
		if !delivered[core.EventID(key, repeat, 0)] {
			t.Fatalf("the event of %s was never delivered", id)
		}
	}
	other.Stop()

	// Without a host the command opens the database itself.
	if out := other.MustRun("backup", "second.db"); !strings.Contains(out, "it is whole") {
		t.Errorf("without a host: %s", out)
	}
	if info, err := os.Stat(other.Path("second.db")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file of a backup: %v, %v", info, err)
	}
	if left, err := filepath.Glob(other.Path("*.partial*")); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// restore runs the commands of the documentation.
func restore(t *testing.T, h *harness.Host, backup string) {
	t.Helper()
	text, err := os.ReadFile("../../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, commands, ok := strings.Cut(string(text), "To restore, ")
	_, commands, ok2 := strings.Cut(commands, "\n```sh\n")
	commands, _, ok3 := strings.Cut(commands, "```")
	if !ok || !ok2 || !ok3 {
		t.Fatal("the commands that restore a backup are not documented")
	}
	sh := exec.Command("sh", "-eux")
	sh.Dir, sh.Env = h.Dir, append(os.Environ(), "BACKUP="+backup)
	sh.Stdin = strings.NewReader(commands)
	if out, err := sh.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// exported reads the requests up to a sequence: their bodies by id.
func exported(t *testing.T, h *harness.Host, last int64) map[string]string {
	t.Helper()
	bodies := map[string]string{}
	for dec := json.NewDecoder(strings.NewReader(h.MustRun("requests", "export"))); dec.More(); {
		var r admin.Request
		if err := dec.Decode(&r); err != nil {
			t.Fatal(err)
		}
		if r.Seq <= last {
			bodies[r.ID] = r.Body + string(r.BodyBase64)
		}
	}
	if int64(len(bodies)) != last {
		t.Errorf("%d requests up to number %d", len(bodies), last)
	}
	return bodies
}
