package sqlite

import (
	"context"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/grapnelhq/grapnel/core/auth"
	"github.com/grapnelhq/grapnel/core/store"
)

const inspectDamage = 5 // pieces of damage that are told

// Inspect looks at a database without a store, also while a host has it open, and changes nothing, neither its schema. A
// database that is damaged is no error. deep has the check of its pages compare indexes with tables, which takes longer.
// Meanwhile a host's log cannot start again from its beginning, as with a backup. now is the time of the inspection.
func Inspect(ctx context.Context, path string, deep bool, now time.Time) (store.Inspection, error) {
	live := func() bool {
		wal, err := os.Stat(path + "-wal")
		return err == nil && wal.Size() > 0
	}
	// Without a log nobody has it open, and an immutable database leaves no files beside it.
	immutable := !live()
	in, err := inspect(ctx, path, deep, immutable, now)
	if immutable && live() && ctx.Err() == nil && (err != nil || len(in.Damage) > 0) {
		return inspect(ctx, path, deep, false, now) // a host has started meanwhile
	}
	return in, err
}

func inspect(ctx context.Context, path string, deep, immutable bool, now time.Time) (in store.Inspection, err error) {
	full, err := filepath.Abs(path)
	if err != nil {
		return in, err
	}
	uri := url.URL{Scheme: "file", Path: filepath.ToSlash(full)}
	if immutable {
		uri.RawQuery = "immutable=1"
	}
	opened, err := sqlite.OpenConn(uri.String(), sqlite.OpenReadOnly, sqlite.OpenURI)
	if err != nil {
		return in, mapError(err)
	}
	c := &conn{opened}
	defer func() { err = errors.Join(err, c.Close()) }()
	c.SetInterrupt(ctx.Done())
	defer func() {
		if code := sqlite.ErrCode(err).ToPrimary(); code == sqlite.ResultNotADB || code == sqlite.ResultCorrupt {
			in.Damage, err = append(in.Damage, err.Error()), nil
		} else if err != nil && ctx.Err() != nil {
			err = ctx.Err()
		}
	}()
	app, err := pragma(c, "application_id")
	if err != nil {
		return in, err
	}
	if in.Schema, err = pragma(c, "user_version"); err != nil {
		return in, err
	}
	known, err := fs.Glob(migrationFiles, "migrations/*.sql")
	if err != nil {
		return in, err
	}
	in.Known = int64(len(known))
	if app != applicationID || in.Schema < 1 {
		in.Foreign = true
		return in, nil
	}
	if in.Damage, err = damage(c, deep); err != nil || len(in.Damage) > 0 || in.Schema > in.Known {
		return in, err
	}
	return in, c.inspectRows(&in, now)
}

// damage has SQLite look through all pages.
func damage(c *conn, deep bool) (found []string, err error) {
	check := "PRAGMA quick_check"
	if deep {
		check = "PRAGMA integrity_check"
	}
	st, err := c.stmt(check)
	if err != nil {
		return nil, err
	}
	err = st.rows(func() bool {
		if text := st.ColumnText(0); text != "ok" {
			found = append(found, text)
		}
		return len(found) < inspectDamage
	})
	return found, err
}

func (c *conn) inspectRows(in *store.Inspection, now time.Time) error {
	since := now.Add(-24 * time.Hour).UnixMicro()
	in.Dead, in.Paused, in.Late = map[string]int64{}, map[string]string{}, map[string]store.Late{}
	var last int64
	st, err := c.stmt(`SELECT (SELECT value FROM meta WHERE name = 'running'),
		(SELECT value FROM meta WHERE name = 'suspect_seq') >= (SELECT min(seq) FROM requests WHERE purged_at IS NULL),
		(SELECT received_at FROM requests ORDER BY seq LIMIT 1), (SELECT received_at FROM requests ORDER BY seq DESC LIMIT 1),
		(SELECT max(seq) FROM requests), (SELECT value FROM counters WHERE kind = 'requests.dead'),
		(SELECT coalesce(sum(value), 0) FROM counters WHERE kind LIKE 'requests.%')`)
	if err != nil {
		return err
	}
	if _, err := st.row(func() {
		in.Running, in.Suspect = st.ColumnInt64(0) != 0, st.ColumnInt64(1) != 0
		in.Oldest, in.Newest, last, in.DeadRequests = st.readTime(2), st.readTime(3), st.ColumnInt64(4), st.ColumnInt64(5)
		in.Requests = st.ColumnInt64(6)
	}); err != nil {
		return err
	}
	if in.LastDay, err = c.receivedSince(since, last); err != nil {
		return err
	}
	for query, read := range map[string]func(*stmt){
		"SELECT label, value FROM counters WHERE kind = 'deliveries.dead' AND value > 0": func(st *stmt) {
			in.Dead[st.ColumnText(0)] = st.ColumnInt64(1)
		},
		"SELECT sink, pause_reason FROM sinks WHERE paused_at IS NOT NULL": func(st *stmt) {
			in.Paused[st.ColumnText(0)] = st.ColumnText(1)
		},
	} {
		st, err := c.stmt(query)
		if err != nil {
			return err
		}
		if err := st.rows(func() bool { read(st); return true }); err != nil {
			return err
		}
	}
	st, err = c.stmt(`SELECT source, sum(cause = ?1), sum(cause = ?2) FROM rejections
		WHERE cause IN (?1, ?2) AND at > ?3 AND source IS NOT NULL GROUP BY source`)
	if err != nil {
		return err
	}
	st.BindText(1, auth.CauseTooOld)
	st.BindText(2, auth.CauseTooNew)
	st.BindInt64(3, since)
	return st.rows(func() bool {
		in.Late[st.ColumnText(0)] = store.Late{TooOld: st.ColumnInt64(1), TooNew: st.ColumnInt64(2)}
		return true
	})
}

// receivedSince counts requests by their sequences, which grow with their times, instead of reading all of them.
func (c *conn) receivedSince(since, last int64) (int64, error) {
	st, err := c.stmt("SELECT seq, received_at FROM requests WHERE seq >= ? ORDER BY seq LIMIT 1")
	if err != nil {
		return 0, err
	}
	low, high := int64(1), last+1 // the first one received since then is among them, or there is none
	for low < high {
		middle := low + (high-low)/2
		st.BindInt64(1, middle)
		var at int64
		if _, err := st.row(func() { at = st.ColumnInt64(1) }); err != nil {
			return 0, err
		}
		if at > since {
			high = middle
		} else {
			low = middle + 1
		}
	}
	return last + 1 - low, nil
}

// FreeBytes is what the host's user can still write to the file system of a folder; math.MaxInt64 where that is not known.
func FreeBytes(dir string) (int64, error) { return freeBytes(dir) }
