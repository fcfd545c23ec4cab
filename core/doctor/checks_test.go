package doctor_test

import (
	"errors"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/grapnelhq/grapnel/core/doctor"
	"github.com/grapnelhq/grapnel/core/store"
)

// TestChecks makes everything right, and then each thing wrong.
func TestChecks(t *testing.T) {
	bad := errors.New("it broke")
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	file := func(kind doctor.Kind, mode fs.FileMode, change func(*doctor.File)) []doctor.Finding {
		f := doctor.File{Path: "/x", Kind: kind, Mode: mode, Owner: 7, Writable: true}
		if change != nil {
			change(&f)
		}
		return doctor.Permissions([]doctor.File{f}, 7, 7)
	}
	disk := doctor.Disk{Free: 100 << 30, MinFree: 1 << 28, Size: 1 << 30, Requests: 1 << 20, LastDay: 1 << 18, Retention: 720 * time.Hour}
	short, near, grows := disk, disk, disk
	short.Free, near.Free, grows.Free = 1<<27, 1<<28+1, 2<<30
	well := store.Inspection{Schema: 4, Known: 4}
	for _, c := range []struct {
		name     string
		fs       []doctor.Finding
		severity doctor.Severity
		says     string
	}{
		{"private", file(doctor.Database, 0o600, nil), doctor.OK, "1 files"},
		{"plain configuration", file(doctor.Config, 0o644, nil), doctor.OK, ""},
		{"program", file(doctor.Program, 0o755, nil), doctor.OK, ""},
		{"open database", file(doctor.Database, 0o644, nil), doctor.Problem, "everybody may read the database (0644)"},
		{"open folder", file(doctor.Folder, 0o755, nil), doctor.Problem, "everybody may read the data folder"},
		{"open secret", file(doctor.Secret, 0o644, nil), doctor.Problem, "everybody may read the secret"},
		{"secrets spelt out", file(doctor.Config, 0o644, func(f *doctor.File) { f.Spelt = true }), doctor.Problem, "spelt out"},
		{"changeable", file(doctor.Program, 0o777, nil), doctor.Problem, "everybody may change the plugin"},
		{"changeable by the group", file(doctor.Program, 0o775, nil), doctor.Warning, "the group may change the plugin"},
		{"socket", file(doctor.Socket, 0o666|fs.ModeSocket, nil), doctor.Problem, "everybody may change the control socket"},
		{"not ours", file(doctor.Database, 0o600, func(f *doctor.File) { f.Owner = 0 }), doctor.Problem, "belongs to user 0, the data folder to 7"},
		{"read-only", file(doctor.Database, 0o400, func(f *doctor.File) { f.Writable = false }), doctor.Problem, "not writable"},
		{"hidden", file(doctor.Database, 0, func(f *doctor.File) { f.Err = bad }), doctor.Problem, "cannot be looked at: it broke"},
		{
			"somebody else looks", doctor.Permissions([]doctor.File{{Kind: doctor.Folder, Mode: 0o700, Owner: 7}}, 8, 7), doctor.Warning,
			"not to who looks",
		},

		{"room", doctor.CheckDisk(disk), doctor.OK, "100.0 GiB are free"},
		{"short", doctor.CheckDisk(short), doctor.Problem, "128.0 MiB are free, less than min_free (256.0 MiB)"},
		{"nearly short", doctor.CheckDisk(near), doctor.Warning, "refused below min_free"},
		{"too little for its retention", doctor.CheckDisk(grows), doctor.Warning, "grow by 6.5 GiB within storage.retention"},

		{"ext4", doctor.FileSystem("/x", 0xef53), doctor.OK, ""},
		{"NFS", doctor.FileSystem("/x", 0x6969), doctor.Problem, "(NFS)"},
		{"FUSE", doctor.FileSystem("/x", 0x65735546), doctor.Warning, "another machine's"},
		{"tmpfs", doctor.FileSystem("/x", 0x01021994), doctor.Warning, "in memory"},

		{"temporary folder", doctor.Temporary("/tmp", false, nil), doctor.OK, ""},
		{"noexec", doctor.Temporary("/tmp", true, nil), doctor.Problem, "noexec"},
		{"no temporary folder", doctor.Temporary("/tmp", false, bad), doctor.Problem, "it broke"},

		{"clock", doctor.CheckClock(doctor.Clock{Now: now, Newest: now, Far: "x", Skew: time.Second}), doctor.OK, "2026-05-01 12:00:00 +00:00"},
		{"clock behind", doctor.CheckClock(doctor.Clock{Now: now, Newest: now.Add(time.Hour)}), doctor.Problem, "received 1h0m0s from now"},
		{"clock forgotten", doctor.CheckClock(doctor.Clock{Now: time.Unix(0, 0)}), doctor.Problem, "1970"},
		{"clock off", doctor.CheckClock(doctor.Clock{Now: now, Far: "x", Skew: -2 * time.Minute}), doctor.Problem, "differs by -2m0s"},
		{"clock a little off", doctor.CheckClock(doctor.Clock{Now: now, Far: "x", Skew: 9 * time.Second}), doctor.Warning, "differs by 9s"},
		{"no clock", doctor.CheckClock(doctor.Clock{Now: now, Far: "x", FarErr: bad}), doctor.Warning, "it broke"},

		{"free port", doctor.Ports([]doctor.Port{{}}, false), doctor.OK, "free"},
		{"our port", doctor.Ports([]doctor.Port{{Err: bad, Ours: true}}, true), doctor.OK, "taken by the host that runs"},
		{"somebody's port", doctor.Ports([]doctor.Port{{Err: bad, Holder: "nginx (process 7)"}}, false), doctor.Problem, "nginx (process 7) listens there"},
		{"no port", doctor.Ports([]doctor.Port{{Err: bad}}, false), doctor.Problem, "cannot listen there: it broke"},
		{"deaf host", doctor.Ports([]doctor.Port{{}}, true), doctor.Problem, "does not listen there"},

		{"files", doctor.Descriptors(20000, 1000, 3), doctor.OK, "20000"},
		{"few files", doctor.Descriptors(1024, 1000, 3), doctor.Warning, "may need 1736"},

		{"database", doctor.CheckDatabase("/x", well, false), doctor.OK, "whole, schema 4"},
		{"damage", doctor.CheckDatabase("/x", store.Inspection{Damage: []string{"row 3 missing"}}, false), doctor.Problem, "row 3 missing"},
		{"foreign", doctor.CheckDatabase("/x", store.Inspection{Foreign: true}, false), doctor.Problem, "another program"},
		{"newer", doctor.CheckDatabase("/x", store.Inspection{Schema: 5, Known: 4}, false), doctor.Problem, "schema 5, this one knows 4"},
		{"older", doctor.CheckDatabase("/x", store.Inspection{Schema: 3, Known: 4}, false), doctor.Warning, "from schema 3 to 4"},
		{"older host", doctor.CheckDatabase("/x", store.Inspection{Schema: 3, Known: 4}, true), doctor.Warning, "older than this grapnel"},

		{"clean stop", doctor.CheckStop(well, false), doctor.OK, "clean"},
		{"runs", doctor.CheckStop(store.Inspection{Running: true}, true), doctor.OK, "clean"},
		{"unclean stop", doctor.CheckStop(store.Inspection{Running: true}, false), doctor.Warning, "without closing"},
		{"unclean once", doctor.CheckStop(store.Inspection{Suspect: true}, true), doctor.OK, "uncleanly"},

		{"nothing waits", doctor.CheckLetters(well), doctor.OK, ""},
		{"dead deliveries", doctor.CheckLetters(store.Inspection{Dead: map[string]int64{"crm": 3}}), doctor.Warning, "3 deliveries are dead"},
		{"dead requests", doctor.CheckLetters(store.Inspection{DeadRequests: 2}), doctor.Warning, "2 requests are dead"},

		{"working sink", doctor.CheckSinks([]doctor.Sink{{Name: "a", State: "working"}}, nil), doctor.OK, ""},
		{"paused sink", doctor.CheckSinks([]doctor.Sink{{Name: "a", State: "paused"}}, map[string]string{"a": "holidays"}), doctor.Warning, "paused: holidays"},
		{"suspended sink", doctor.CheckSinks([]doctor.Sink{{Name: "a", State: "suspended", Reason: "401"}}, nil), doctor.Warning, "it is suspended: 401"},

		{"some late", doctor.CheckLate(store.Inspection{Late: map[string]store.Late{"hr": {TooOld: 9}}}), doctor.OK, ""},
		{"many late", doctor.CheckLate(store.Inspection{Late: map[string]store.Late{"hr": {TooOld: 10}}}), doctor.Warning, "too old"},
		{"many early", doctor.CheckLate(store.Inspection{Late: map[string]store.Late{"hr": {TooNew: 10}}}), doctor.Warning, "from the future"},

		{"locked plugin", doctor.CheckPlugins([]doctor.Plugin{{Locked: true}}, "lock", nil), doctor.OK, "answer: 1"},
		{"broken plugin", doctor.CheckPlugins([]doctor.Plugin{{Err: bad}}, "lock", nil), doctor.Problem, "it broke"},
		{"development plugin", doctor.CheckPlugins([]doctor.Plugin{{Dev: true}}, "lock", nil), doctor.Warning, "development"},
		{"plugin without lock", doctor.CheckPlugins([]doctor.Plugin{{}}, "lock", nil), doctor.Warning, "not in lock"},
		{"no lock file", doctor.CheckPlugins([]doctor.Plugin{{}}, "", nil), doctor.Warning, "no lock file"},
		{"dead plugin", doctor.CheckPlugins(nil, "lock", map[string]string{"sink-x": "down"}), doctor.Problem, "not ready in the running host: down"},

		{"files of today", doctor.CheckStale("/x", []doctor.Stale{{Name: "b.db.1.partial"}, {Name: "g.db.v1-x.backup"}}), doctor.OK, ""},
		{"half a backup", doctor.CheckStale("/x", []doctor.Stale{{Name: "b.db.1.partial", Age: 25 * time.Hour}}), doctor.Warning, "did not end"},
		{"old copy", doctor.CheckStale("/x", []doctor.Stale{{Name: "g.db.v1-x.backup", Age: 31 * 24 * time.Hour}}), doctor.Warning, "31 days old"},

		{"no admin", doctor.CheckAdmin("", false, false, false), doctor.OK, ""},
		{"local admin", doctor.CheckAdmin("127.0.0.1:8081", true, false, false), doctor.OK, ""},
		{"open admin", doctor.CheckAdmin("0.0.0.0:8081", false, false, true), doctor.Warning, "unencrypted"},
		{"very open admin", doctor.CheckAdmin("0.0.0.0:8081", false, true, false), doctor.Problem, "may do everything"},

		{"certificate", doctor.CheckCertificates([]doctor.Certificate{{}}), doctor.OK, "1"},
		{"bad certificate", doctor.CheckCertificates([]doctor.Certificate{{Err: bad}}), doctor.Problem, "it broke"},
		{"old certificate", doctor.CheckCertificates([]doctor.Certificate{{Warning: "expires soon"}}), doctor.Warning, "expires soon"},

		{"reloaded", doctor.CheckReload(false, ""), doctor.OK, ""},
		{"failed reload", doctor.CheckReload(true, "1 error"), doctor.Problem, "1 error"},
	} {
		if got := doctor.Worst(c.fs); got != c.severity || len(c.fs) == 0 {
			t.Errorf("%s: %s, want %s: %+v", c.name, got, c.severity, c.fs)
			continue
		}
		said := false
		for _, f := range c.fs {
			said = said || strings.Contains(f.What, c.says)
			if f.Check == "" || (f.Advice == "") != (f.Severity == doctor.OK) {
				t.Errorf("%s: %+v", c.name, f)
			}
		}
		if !said {
			t.Errorf("%s: nothing says %q: %+v", c.name, c.says, c.fs)
		}
	}
}
