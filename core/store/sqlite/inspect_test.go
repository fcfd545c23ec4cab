package sqlite

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/auth"
	"github.com/grapnelhq/grapnel/core/store"
)

// TestInspect looks at a database while it is open, closed, left open by a killed host, of another schema, and damaged.
func TestInspect(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "grapnel.db")
	s := open(t, Options{Path: path})
	now := time.Now().UTC().Truncate(time.Microsecond)
	for n := range uint64(50) {
		r := sampleRequest(n)
		r.ReceivedAt = now.Add(-49*time.Hour + time.Duration(n)*time.Hour)
		if _, err := s.Accept(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		d := &store.Decision{Request: r, Dead: "not decoded"}
		if n == 0 {
			d = oneDelivery(r, "crm", "")
			d.Deliveries[0].State, d.Deliveries[0].SettledAt = core.DeliveryDead, now
		}
		if err := s.Route(t.Context(), []*store.Decision{d}); err != nil {
			t.Fatal(err)
		}
	}
	for _, cause := range []string{auth.CauseTooOld, auth.CauseTooOld, auth.CauseTooNew, auth.CauseBadToken} {
		s.RecordRejection(core.Rejection{At: now, Source: "people", Status: 401, Cause: cause})
	}
	s.RecordRejection(core.Rejection{At: now.Add(-25 * time.Hour), Source: "people", Status: 401, Cause: auth.CauseTooOld})
	if err := s.flushRejections(t.Context()); err != nil {
		t.Fatal(err)
	}
	look := func() store.Inspection {
		t.Helper()
		in, err := Inspect(t.Context(), path, true, now)
		if err != nil {
			t.Fatal(err)
		}
		return in
	}
	known := look().Known
	want := store.Inspection{
		Schema: known, Known: known, Running: true, Oldest: now.Add(-49 * time.Hour), Newest: now, LastDay: 24,
		Requests: 50, DeadRequests: 49, Dead: map[string]int64{"crm": 1}, Paused: map[string]string{},
		Late: map[string]store.Late{"people": {TooOld: 2, TooNew: 1}},
	}
	if diff := cmp.Diff(want, look()); diff != "" {
		t.Errorf("open (-want +got):\n%s", diff)
	}
	closeStore(t, s)
	want.Running = false
	if diff := cmp.Diff(want, look()); diff != "" {
		t.Errorf("closed (-want +got):\n%s", diff)
	}
	for _, beside := range []string{"-wal", "-shm"} {
		if _, err := os.Stat(path + beside); err == nil {
			t.Errorf("it leaves a file %s", beside)
		}
	}
	change := func(statement string) {
		t.Helper()
		c, err := openConn(path, 100)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.exec(statement); err != nil {
			t.Fatal(err)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	change("UPDATE meta SET value = 1 WHERE name = 'running'")
	if in := look(); !in.Running || in.Suspect {
		t.Errorf("killed: %+v", in)
	}
	change("UPDATE meta SET value = 50 WHERE name = 'suspect_seq'")
	if in := look(); !in.Suspect {
		t.Errorf("suspect: %+v", in)
	}
	change("PRAGMA user_version = 1000")
	if in := look(); in.Schema != 1000 || in.Requests != 0 {
		t.Errorf("newer: %+v", in)
	}
	change("PRAGMA application_id = 7")
	if in := look(); !in.Foreign {
		t.Errorf("foreign: %+v", in)
	}
	change("PRAGMA application_id = 1198682222") // applicationID
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range b[8192:16384] {
		b[8192+i] = 0xff
	}
	for name, content := range map[string][]byte{"pages": b, "all": []byte("this is no database, it is a text that is long enough to be one")} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if in := look(); len(in.Damage) == 0 {
			t.Errorf("%s: no damage was found: %+v", name, in)
		}
	}
	if _, err := Inspect(t.Context(), filepath.Join(dir, "none.db"), false, now); err == nil {
		t.Error("there is no such database")
	}
}
