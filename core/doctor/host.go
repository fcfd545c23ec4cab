package doctor

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/grapnelhq/grapnel/core/store"
)

// CheckDatabase judges an inspection. running: a host runs on it.
func CheckDatabase(path string, in store.Inspection, running bool) []Finding {
	f := findings{check: "database"}
	switch {
	case len(in.Damage) > 0:
		f.problem(path, "the database is damaged: "+strings.Join(in.Damage, "; "),
			"stop the host, keep a copy of the folder, and restore a backup (docs/operations.md)")
	case in.Foreign:
		f.problem(path, "this is a database of another program", "set storage.path to another file")
	case in.Schema > in.Known:
		f.problem(path, fmt.Sprintf("the database was written by a newer grapnel: schema %d, this one knows %d", in.Schema, in.Known),
			"use the newer grapnel, or restore the copy that it made before its migration")
	case in.Schema < in.Known && running:
		f.warn(path, fmt.Sprintf("the host that runs is older than this grapnel: schema %d of %d", in.Schema, in.Known),
			"restart the host when it suits; it copies the database and migrates it")
	case in.Schema < in.Known:
		f.warn(path, fmt.Sprintf("the next start migrates the database from schema %d to %d, after a copy", in.Schema, in.Known),
			fmt.Sprintf("have as much room again as %s takes", path))
	}
	return f.orOK(path, fmt.Sprintf("whole, schema %d", in.Schema))
}

// CheckStop tells of the last unclean stop.
func CheckStop(in store.Inspection, running bool) []Finding {
	f := findings{check: "stop"}
	switch {
	case in.Running && !running:
		f.warn("", "the last host stopped without closing its database: it was killed, it crashed, or the machine did",
			"look into its log or the journal; the next start goes on where it was")
	case in.Suspect:
		f.add(OK, "", "a host stopped uncleanly on requests that are still stored; nothing is to be done", "")
	}
	return f.orOK("", "the last stop was clean")
}

// CheckLetters tells what waits for people.
func CheckLetters(in store.Inspection) []Finding {
	f := findings{check: "waiting"}
	for _, sink := range slices.Sorted(maps.Keys(in.Dead)) {
		f.warn("sink "+sink, fmt.Sprintf("%d deliveries are dead", in.Dead[sink]),
			fmt.Sprintf("grapnel deliveries list --sink %s --state dead; then grapnel deliveries retry", sink))
	}
	if in.DeadRequests > 0 {
		f.warn("", fmt.Sprintf("%d requests are dead", in.DeadRequests),
			"grapnel requests list --state dead; then grapnel requests retry")
	}
	return f.orOK("", "nothing is dead")
}

// Sink is how a sink of a running host is.
type Sink struct{ Name, State, Reason string }

// CheckSinks tells of sinks that get nothing. paused are those that somebody has paused, with the reasons.
func CheckSinks(sinks []Sink, paused map[string]string) []Finding {
	f := findings{check: "sinks"}
	for _, name := range slices.Sorted(maps.Keys(paused)) {
		f.warn("sink "+name, "it is paused: "+or(paused[name], "no reason was given"), "grapnel sinks resume "+name)
	}
	for _, s := range sinks {
		if _, is := paused[s.Name]; is || s.State == "working" {
			continue
		}
		what := "it is " + s.State
		if s.Reason != "" {
			what += ": " + s.Reason
		}
		f.warn("sink "+s.Name, what, "grapnel status; once it is mended: grapnel sinks resume "+s.Name)
	}
	return f.orOK("", "no sink is paused or left alone")
}

func or(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

// CheckLate tells of providers whose clock, or ours, is wrong.
func CheckLate(in store.Inspection) []Finding {
	f := findings{check: "timestamps"}
	const many = 10 // fewer are late repeats or somebody's try
	for _, source := range slices.Sorted(maps.Keys(in.Late)) {
		l := in.Late[source]
		if l.TooOld >= many {
			f.warn("source "+source, fmt.Sprintf("%d requests of the last day were rejected as too old", l.TooOld),
				"compare the clock with the provider's; grapnel rejections list --source "+source)
		}
		if l.TooNew >= many {
			f.warn("source "+source, fmt.Sprintf("%d requests of the last day were rejected as from the future", l.TooNew),
				"set the clock; grapnel rejections list --source "+source)
		}
	}
	return f.orOK("", "no source's timestamps are off")
}

// Plugin is a plugin that the configuration names.
type Plugin struct {
	Label, Path string
	Err         error // it was not found, may not run, or did not answer; nil: it did
	Version     string
	Protocol    int
	Dev         bool
	Locked      bool // the lock file has it
}

// CheckPlugins tells which plugins cannot run, and which could be exchanged without anybody noticing. lock is the lock
// file; empty: there is none. running are those of the running host that are not ready, with the reasons.
func CheckPlugins(plugins []Plugin, lock string, running map[string]string) []Finding {
	f := findings{check: "plugins"}
	open := 0
	for _, p := range plugins {
		where := p.Label
		if p.Path != "" {
			where += " " + p.Path
		}
		switch {
		case p.Err != nil:
			f.problem(where, p.Err.Error(), "grapnel plugin list; grapnel plugin install gets it, grapnel plugin lock --check compares")
		case p.Dev:
			f.warn(where, "it is run from a development path", "take dev out of the plugins block")
		case lock != "" && !p.Locked:
			f.warn(where, "it is not in "+lock, "grapnel plugin lock "+p.Label)
		case !p.Locked:
			open++
		}
	}
	for _, label := range slices.Sorted(maps.Keys(running)) {
		f.problem(label, "it is not ready in the running host: "+running[label], "grapnel status; the host's log has its last words")
	}
	if lock == "" && open > 0 {
		f.warn("", "there is no lock file: whatever program the plugins' folder holds is run", "grapnel plugin lock")
	}
	return f.orOK("", fmt.Sprintf("all start and answer: %d", len(plugins)))
}

// Stale is a file in the data folder that nobody may need any more.
type Stale struct {
	Name string
	Age  time.Duration
	Size int64
}

// CheckStale tells of copies from before migrations, and of what a backup left that was killed.
func CheckStale(dir string, files []Stale) []Finding {
	f := findings{check: "leftovers"}
	for _, s := range files {
		partial := strings.Contains(s.Name, ".partial")
		copied := strings.HasSuffix(s.Name, ".backup")
		switch {
		case partial && s.Age > 24*time.Hour:
			f.warn(s.Name, fmt.Sprintf("a backup that did not end left %s", size(s.Size)), "remove it")
		case copied && s.Age > 30*24*time.Hour:
			f.warn(s.Name, fmt.Sprintf("a copy from before a migration, %d days old, takes %s and has what was erased since",
				int(s.Age.Hours()/24), size(s.Size)), "remove it")
		}
	}
	return f.orOK(dir, "nothing is left over")
}

// CheckAdmin tells who can reach the admin listener; listen empty: there is none.
func CheckAdmin(listen string, loopback, encrypted, token bool) []Finding {
	f := findings{check: "admin"}
	if listen != "" && !loopback && !encrypted {
		f.warn("admin.listen "+listen, "other machines reach the admin listener, and its token goes there unencrypted",
			"use tls {} in the admin block, or a loopback address and a proxy with TLS")
	}
	if listen != "" && !loopback && !token {
		f.problem("admin.listen "+listen, "whoever reaches it may do everything", "set admin.token")
	}
	return f.orOK("", "the admin listener is not open to others")
}

// Certificate is a pair of files, and what is wrong with it.
type Certificate struct {
	Setting, File, Warning string
	Err                    error
}

// CheckCertificates tells of certificates that cannot be used or expire soon.
func CheckCertificates(list []Certificate) []Finding {
	f := findings{check: "certificates"}
	for _, c := range list {
		where := c.Setting + " " + c.File
		switch {
		case c.Err != nil:
			f.problem(where, c.Err.Error(), "put a valid certificate and its key there: the host takes it up by itself")
		case c.Warning != "":
			f.warn(where, c.Warning, "renew it: the host takes the new one up by itself")
		}
	}
	return f.orOK("", fmt.Sprintf("certificates are good: %d", len(list)))
}

// CheckReload tells whether the running host works by the configuration as it is. failed: the newest reload did not come to
// be, and why.
func CheckReload(failed bool, why string) []Finding {
	f := findings{check: "reload"}
	if failed {
		f.problem("", "the newest reload failed, the configuration before it runs: "+why, "mend it (grapnel validate), then grapnel reload")
	}
	return f.orOK("", "the newest reload came to be")
}
