package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/grapnelhq/grapnel/core/store"
)

// A backup copies the pages of one snapshot of the database, some at a time, on a connection of its own: the writer goes
// on as if nothing was. Until its end the log cannot start again from its beginning, so it grows by what is written
// meanwhile.
const (
	backupPages    = 256 // that are copied in one go
	backupRest     = 1   // then it leaves the machine to others, in the time that took
	backupCacheKiB = 1 << 10
)

// Backup implements store.Store.
func (s *Store) Backup(
	ctx context.Context, o store.BackupOrder, progress func(store.BackupProgress),
) (b store.Backup, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("back up to %s: %w", o.Path, err)
		}
	}()
	s.closing.RLock()
	if s.closed {
		s.closing.RUnlock()
		return b, store.ErrClosed
	}
	s.work.Add(1) // Close waits until the connections here are closed
	s.closing.RUnlock()
	defer s.work.Done()
	if !s.backing.TryLock() {
		return b, store.ErrBackupBusy
	}
	defer s.backing.Unlock()
	live := ctx
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.live, cancel)()
	defer func() {
		if err != nil && live.Err() == nil && s.live.Err() != nil {
			err = store.ErrClosed
		}
	}()

	if _, err := os.Lstat(o.Path); err == nil {
		return b, store.ErrBackupThere
	} else if !errors.Is(err, fs.ErrNotExist) {
		return b, err
	}
	dir := filepath.Dir(o.Path)
	f, err := os.CreateTemp(dir, filepath.Base(o.Path)+".*.partial") // 0600
	if err != nil {
		return b, err
	}
	partial := f.Name()
	if err := f.Close(); err != nil {
		return b, err
	}
	defer func() {
		for _, name := range []string{partial, partial + "-journal", partial + "-wal", partial + "-shm"} {
			if rmErr := os.Remove(name); rmErr != nil && !errors.Is(rmErr, fs.ErrNotExist) {
				s.log.Error("cannot remove the file of a backup", "path", name, "error", rmErr)
			}
		}
	}()
	if b.At, err = s.copyTo(ctx, partial, progress); err != nil {
		return b, mapError(err)
	}
	at := b.At
	if !o.NoCheck && progress != nil {
		progress(store.BackupProgress{Stage: store.BackupChecking})
	}
	if b, err = lookThrough(ctx, partial, !o.NoCheck); err != nil {
		return b, err
	}
	b.Path, b.At = o.Path, at
	if err := syncFile(partial); err != nil {
		return b, err
	}
	// A link never takes another file's place; where there are no links, nothing else can be done than to look before.
	if err := os.Link(partial, o.Path); errors.Is(err, fs.ErrExist) {
		return b, store.ErrBackupThere
	} else if err != nil {
		if _, err := os.Lstat(o.Path); err == nil {
			return b, store.ErrBackupThere
		}
		if err := os.Rename(partial, o.Path); err != nil {
			return b, err
		}
	}
	return b, syncFolder(dir)
}

// copyTo copies the database into a file that is empty, and marks the copy as one of a host that has stopped.
func (s *Store) copyTo(ctx context.Context, path string, progress func(store.BackupProgress)) (at time.Time, err error) {
	from, err := openConn(s.opts.Path, backupCacheKiB, "PRAGMA query_only = ON")
	if err != nil {
		return at, err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	to, err := sqlite.OpenConn(path, sqlite.OpenReadWrite)
	if err != nil {
		return at, err
	}
	dst := &conn{to}
	defer func() { err = errors.Join(err, dst.Close()) }()
	// Nobody needs half of it: it is synced when it is whole.
	for _, p := range []string{"PRAGMA journal_mode = OFF", "PRAGMA synchronous = OFF"} {
		if err := dst.exec(p); err != nil {
			return at, err
		}
	}
	at = time.Now().UTC() // what was committed by now is in the snapshot
	if err := from.exec("BEGIN"); err != nil {
		return at, err
	}
	size, err := pragma(from, "page_size")
	if err != nil {
		return at, err
	}
	count, err := pragma(from, "page_count")
	if err != nil {
		return at, err
	}
	if err := s.haveRoom(filepath.Dir(path), size*count); err != nil {
		return at, err
	}
	copying, err := sqlite.NewBackup(dst.Conn, "main", from.Conn, "main")
	if err != nil {
		return at, err
	}
	for more := true; more; {
		began := time.Now()
		if more, err = copying.Step(backupPages); err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return at, errors.Join(err, copying.Close())
		}
		if progress != nil {
			done := int64(copying.PageCount() - copying.Remaining())
			progress(store.BackupProgress{Stage: store.BackupCopying, Done: done * size, Total: count * size})
		}
		if more {
			s.rest(ctx, backupRest*time.Since(began))
		}
	}
	if err := copying.Close(); err != nil {
		return at, err
	}
	// One file that can be read wherever it lies, and that no host left without a word.
	for _, q := range []string{"PRAGMA journal_mode = DELETE", "UPDATE meta SET value = 0 WHERE name = 'running'"} {
		if err := dst.exec(q); err != nil {
			return at, err
		}
	}
	return at, nil
}

// haveRoom checks that so many bytes fit into a folder, and leave the host enough to accept webhooks if it is on the same
// disk.
func (s *Store) haveRoom(dir string, need int64) error {
	free, err := freeBytes(dir)
	if err != nil {
		return fmt.Errorf("see how much disk is free: %w", err)
	}
	if sameDisk(dir, filepath.Dir(s.opts.Path)) {
		need += s.opts.MinFree
	}
	if free < need {
		return fmt.Errorf("%w: it takes %d bytes, with what is to stay free, and there are %d", store.ErrBackupRoom, need, free)
	}
	return nil
}

// FreeBytes is what an unprivileged user can still write to the disk of the database. Where the system does not tell, it is
// more than there can be.
func (s *Store) FreeBytes() (int64, error) { return freeBytes(filepath.Dir(s.opts.Path)) }

// CheckBackup looks a backup through that no host uses: whether it is whole, and what it holds. It changes nothing, and
// needs no write permission.
func CheckBackup(ctx context.Context, path string) (store.Backup, error) {
	b, err := lookThrough(ctx, path, true)
	if err != nil {
		return b, fmt.Errorf("check %s: %w", path, err)
	}
	return b, nil
}

func lookThrough(ctx context.Context, path string, whole bool) (b store.Backup, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return b, err
	}
	full, err := filepath.EvalSymlinks(path) // what a database has beside it is beside the file, not beside a link to it
	if err != nil {
		return b, err
	}
	for _, beside := range []string{"-wal", "-journal"} { // without it the newest, or all, would be missing
		if extra, err := os.Stat(full + beside); err == nil && extra.Size() > 0 {
			return b, fmt.Errorf("%w: it has a %s file beside it, as the database of a host does", store.ErrNoBackup, beside)
		}
	}
	if full, err = filepath.Abs(full); err != nil {
		return b, err
	}
	// Immutable: it is only read, and leaves no files beside it.
	uri := url.URL{Scheme: "file", Path: filepath.ToSlash(full), RawQuery: "immutable=1"}
	opened, err := sqlite.OpenConn(uri.String(), sqlite.OpenReadOnly, sqlite.OpenURI)
	if err != nil {
		return b, err
	}
	c := &conn{opened}
	defer func() { err = errors.Join(err, c.Close()) }()
	c.SetInterrupt(ctx.Done())
	defer func() {
		if err != nil && ctx.Err() != nil {
			err = ctx.Err()
		} else if code := sqlite.ErrCode(err).ToPrimary(); code == sqlite.ResultNotADB || code == sqlite.ResultCorrupt {
			err = fmt.Errorf("%w: %w", store.ErrNoBackup, err)
		}
	}()
	app, err := pragma(c, "application_id")
	if err != nil {
		return b, err
	}
	version, err := pragma(c, "user_version")
	if err != nil {
		return b, err
	}
	known, err := fs.Glob(migrationFiles, "migrations/*.sql")
	switch {
	case err != nil:
		return b, err
	case app != applicationID || version < 1:
		return b, fmt.Errorf("%w: it is of another program, or empty", store.ErrNoBackup)
	case version > int64(len(known)):
		return b, fmt.Errorf("%w: schema version %d, this grapnel knows %d", store.ErrNewer, version, len(known))
	}
	if whole {
		if err := c.integrity(); err != nil {
			return b, err
		}
	}
	b = store.Backup{Path: path, Bytes: info.Size(), Checked: whole}
	st, err := c.stmt(`SELECT (SELECT coalesce(sum(value), 0) FROM counters WHERE kind LIKE 'requests.%'),
		(SELECT received_at FROM requests ORDER BY seq DESC LIMIT 1)`)
	if err != nil {
		return b, err
	}
	_, err = st.row(func() { b.Requests, b.Newest = st.ColumnInt64(0), st.readTime(1) })
	return b, err
}

// integrity has SQLite look at every page, row and index entry.
func (c *conn) integrity() error {
	st, err := c.stmt("PRAGMA integrity_check(5)")
	if err != nil {
		return err
	}
	var found []string
	if err := st.rows(func() bool { found = append(found, st.ColumnText(0)); return true }); err != nil {
		return err
	}
	if len(found) != 1 || found[0] != "ok" {
		return fmt.Errorf("%w: %s", store.ErrNoBackup, strings.Join(found, "; "))
	}
	return nil
}

func syncFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// syncFolder makes a new name in a folder last.
func syncFolder(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = f.Sync()
	if errors.Is(err, errors.ErrUnsupported) || errors.Is(err, fs.ErrInvalid) || errors.Is(err, fs.ErrPermission) {
		err = nil // not every system can
	}
	return errors.Join(err, f.Close())
}
