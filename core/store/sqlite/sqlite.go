// Package sqlite is the embedded store: one SQLite file in WAL mode.
//
// One goroutine, the writer, owns the only connection that writes. It takes whatever operations have queued, runs
// them in one transaction, commits, and then wakes their callers: a group commit. Groups that carry a new request are
// committed with synchronous=FULL, which is an fsync of the log; others are synced together, at least every second. A
// second goroutine copies the log into the database file beside the writer. Reads run on a few connections of their
// own and see every commit that returned before they began.
//
// The newest dedupe keys are only in memory; the writer moves them into their index in batches, between groups.
// Leases of deliveries are kept in memory. That makes the store exclusive to one process: Open locks the folder.
package sqlite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/store"
)

var _ store.Store = (*Store)(nil)

// Options say where the database is and how it works.
type Options struct {
	Path string // of the database file; its folder is made if need be, and locked
	// DedupeWindow is how long a request's dedupe key is remembered after it was received. 0: 7 days.
	DedupeWindow time.Duration
	// OnAccepted gets what Accept and RetryRequests committed, in commit order, before they return. The writer calls it:
	// it must not block, and must not call the store. It must not keep the slice. nil: nobody wants to know.
	OnAccepted func([]*core.Request)
	// OnErased is called after deliveries of a sink were erased that were not settled. It gets those that were leased: their
	// leases have ended, whoever holds them is to forget them. Others of their order keys may have come due. The same holds
	// as for OnAccepted.
	OnErased func(sink string, keys []core.DeliveryKey)
	// Observer sees what is committed; nil: nobody looks.
	Observer Observer
	MinFree  int64        // bytes that a backup leaves free on the disk of the database
	Logger   hclog.Logger // nil: none

	indexBatch  int           // for tests; 0: the constant
	routedSlack int64         // likewise
	purgeLeft   int           // likewise
	waitReaders time.Duration // likewise
	listTime    time.Duration // likewise
}

// Observer sees what the store writes. Goroutines of the store call it; it must not block, and must not call the store.
type Observer interface {
	// Committed: a commit of so many operations, of which so many are new requests, took so long from begin to end.
	Committed(writes, accepted int, took time.Duration)
	// Synced: commits were brought to the disk, which took so long, with writing the last of them to the log.
	Synced(took time.Duration)
}

const (
	defaultDedupeWindow = 7 * 24 * time.Hour
	readers             = 4
	writerCacheKiB      = 24 << 10
	readerCacheKiB      = 4 << 10

	// maxClaims is how often hosts may stop uncleanly while working on one request or delivery.
	maxClaims = 3
)

// Store implements store.Store. Make it with Open.
type Store struct {
	opts Options
	log  hclog.Logger
	lock *os.File
	wal  *os.File
	warm *scratch

	readers chan *conn
	writer  *writer
	keys    *recentKeys
	live    context.Context // ends when Close begins
	stop    context.CancelFunc
	work    sync.WaitGroup // its goroutines
	commits atomic.Int64
	syncs   atomic.Int64
	accepts atomic.Int64

	closing sync.RWMutex // held for reading while something is being queued
	closed  bool

	newest atomic.Int64 // sequence of the last request
	routed atomic.Int64 // none of the requests up to this sequence is received; see routed.go

	suspect int64 // rows of requests up to this sequence may be what stopped a host

	mu         sync.Mutex // guards what follows, which changes with commits
	totals     map[counter]int64
	queues     map[string]*sinkQueue
	unreleased []core.DeliveryKey // leases that were given back, but not in the database yet

	purging    sync.Mutex            // one purge at a time; guards the two that follow
	purgeOwn   []string              // the sources with a retention of their own that the walks are for
	purgeWalks map[string]*purgeWalk // by source, "" for the others

	backing sync.Mutex // held while a backup is made

	erasing chan struct{} // holds one token: taken while something is erased

	flushing sync.Mutex       // one flush of rejections at a time
	rejectMu sync.Mutex       // guards the two that follow
	rejected []core.Rejection // not yet written
	causes   map[string]int64 // how many were not yet counted in the database, written or not

	raisedAt atomic.Int64 // commits when routed_seq was looked at last; maintain's

	unsynced atomic.Int64  // unix nanoseconds of the oldest commit that is not synced; 0: none
	kick     chan struct{} // wakes maintain
}

// Open opens the database at o.Path, making or migrating it where needed. It waits for no lock: a folder in use is
// store.ErrLocked, a database of a later version store.ErrNewer. ctx bounds opening only.
func Open(ctx context.Context, o Options) (_ *Store, err error) {
	if o.DedupeWindow == 0 {
		o.DedupeWindow = defaultDedupeWindow
	}
	if o.routedSlack == 0 {
		o.routedSlack = routedSlack
	}
	if o.indexBatch == 0 {
		o.indexBatch = indexBatch
	}
	if o.purgeLeft == 0 {
		o.purgeLeft = purgeLeft
	}
	if o.waitReaders == 0 {
		o.waitReaders = waitReaders
	}
	if o.listTime == 0 {
		o.listTime = listTime
	}
	if o.Logger == nil {
		o.Logger = hclog.NewNullLogger()
	}
	if strings.HasPrefix(o.Path, "file:") || o.Path == "" || o.Path == ":memory:" {
		return nil, fmt.Errorf("open database %q: not the path of a file", o.Path)
	}
	dir := filepath.Dir(o.Path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	lock, err := lockFolder(dir)
	if err != nil {
		return nil, err
	}
	s := &Store{
		opts: o, log: o.Logger, lock: lock, warm: newScratch(), keys: newRecentKeys(),
		readers: make(chan *conn, readers), kick: make(chan struct{}, 1),
		erasing: make(chan struct{}, 1),
		totals:  map[counter]int64{}, queues: map[string]*sinkQueue{}, causes: map[string]int64{},
	}
	s.live, s.stop = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			s.stop()
			_ = s.closeFiles() // err is the reason
			err = fmt.Errorf("open database %s: %w", o.Path, err)
		}
	}()
	// Made here, so that it is never readable by others, not even for a moment.
	f, err := os.OpenFile(o.Path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	// Closing it drops this process's POSIX locks on the file, so it has to be before the first connection.
	if err := f.Close(); err != nil {
		return nil, err
	}
	c, err := openConn(o.Path, writerCacheKiB, "PRAGMA synchronous = FULL",
		"PRAGMA secure_delete = ON") // what is deleted is overwritten: only then can a person be erased
	if err != nil {
		return nil, err
	}
	s.writer = newWriter(s, c)
	if err := migrate(ctx, c, o.Path, migrationFiles, s.log); err != nil {
		return nil, err
	}
	if mode, err := pragmaText(c, "journal_mode"); err != nil || mode != "wal" {
		return nil, errors.Join(err, fmt.Errorf("journal mode %q: the file system cannot share memory", mode))
	}
	if err := s.writer.prepare(); err != nil {
		return nil, err
	}
	if err := s.start(); err != nil {
		return nil, err
	}
	// The log file exists from the first transaction on, as long as a connection is open.
	if s.wal, err = os.OpenFile(o.Path+"-wal", os.O_RDWR, 0); err != nil {
		return nil, err
	}
	// What a killed host committed last may not be on the disk, and its duplicates are answered at once.
	if err := s.wal.Sync(); err != nil {
		return nil, err
	}
	for range readers {
		c, err := openConn(o.Path, readerCacheKiB, "PRAGMA query_only = ON")
		if err != nil {
			return nil, err
		}
		s.readers <- c
	}
	checkpointer, err := openConn(o.Path, readerCacheKiB)
	if err != nil {
		return nil, err
	}
	s.work.Go(s.writer.loop)
	s.work.Go(func() { s.maintain(checkpointer) })
	s.signal()
	return s, nil
}

// start reads what the store keeps in memory and marks the database as running.
func (s *Store) start() error {
	w := s.writer
	st, err := w.c.stmt("SELECT kind, label, value FROM counters")
	if err != nil {
		return err
	}
	err = st.rows(func() bool {
		s.totals[counter{st.ColumnText(0), st.ColumnText(1)}] = st.ColumnInt64(2)
		return true
	})
	if err != nil {
		return err
	}
	var running, suspect, last, lastRejection int64
	st, err = w.c.stmt(`SELECT (SELECT value FROM meta WHERE name = 'running'),
		(SELECT value FROM meta WHERE name = 'suspect_seq'),
		(SELECT max(seq) FROM requests), (SELECT max(id) FROM rejections),
		(SELECT value FROM meta WHERE name = 'routed_seq')`)
	if err != nil {
		return err
	}
	if _, err := st.row(func() {
		running, suspect = st.ColumnInt64(0), st.ColumnInt64(1)
		last, lastRejection = st.ColumnInt64(2), st.ColumnInt64(3)
		w.routedSeq = st.ColumnInt64(4)
	}); err != nil {
		return err
	}
	if running != 0 {
		suspect = last
		s.log.Warn("the last host on this database stopped without closing it", "path", s.opts.Path)
	}
	s.suspect = suspect
	s.routed.Store(w.routedSeq)
	s.newest.Store(last)
	w.lastSeq, w.lastRejection = last, lastRejection
	if err := w.loadKeys(); err != nil {
		return err
	}
	if err := w.loadStateful(); err != nil {
		return err
	}
	if err := w.loadOrders(); err != nil {
		return err
	}
	return w.mark(map[string]int64{"running": 1, "suspect_seq": suspect}, (*writer).hasten)
}

// Close commits what was queued, writes the log into the database file and closes. Leases end without an outcome.
// Whatever is called afterwards answers store.ErrClosed.
func (s *Store) Close() error {
	if err := s.flushRejections(context.Background()); err != nil && !errors.Is(err, store.ErrClosed) {
		s.log.Error("cannot store rejections", "error", err)
	}
	s.closing.Lock()
	if s.closed {
		s.closing.Unlock()
		return store.ErrClosed
	}
	s.closed = true
	s.stop()
	close(s.writer.queue)
	s.closing.Unlock()
	s.work.Wait()
	for range readers { // those lent out come back soon: they are asked to stop
		if err := (<-s.readers).Close(); err != nil {
			s.log.Warn("cannot close a connection", "error", err)
		}
	}
	err := s.writer.finish()
	return errors.Join(err, s.closeFiles())
}

// closeFiles closes what is open after the goroutines ended, or never began.
func (s *Store) closeFiles() error {
	var errs []error
	for {
		select {
		case c := <-s.readers:
			errs = append(errs, c.Close())
			continue
		default:
		}
		break
	}
	if s.writer != nil {
		errs = append(errs, s.writer.c.Close())
	}
	if s.wal != nil {
		errs = append(errs, s.wal.Close())
	}
	s.warm.close()
	errs = append(errs, s.lock.Close()) // ends the lock; the file stays, so that nobody locks a deleted one
	return errors.Join(errs...)
}

// lockFolder makes this process the only one that uses the folder.
func lockFolder(dir string) (*os.File, error) {
	path := filepath.Join(dir, "grapnel.lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the data folder: %w", err)
	}
	ok, err := tryLock(f)
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("lock the data folder: %s: %w", path, err)
	}
	if !ok {
		defer f.Close()
		holder := make([]byte, 20)
		n, _ := f.ReadAt(holder, 0)
		if pid := bytes.TrimSpace(holder[:n]); len(pid) > 0 {
			return nil, fmt.Errorf("%w: %s is held by process %s", store.ErrLocked, path, pid)
		}
		return nil, fmt.Errorf("%w: %s", store.ErrLocked, path)
	}
	err = f.Truncate(0)
	if err == nil {
		_, err = fmt.Fprintf(f, "%d\n", os.Getpid())
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("lock the data folder: %w", err)
	}
	return f, nil
}

// read runs fn on a connection of its own within one snapshot of the database. Readers must not write.
func (s *Store) read(ctx context.Context, fn func(c *conn) error) error {
	return s.borrow(ctx, func(c *conn) error {
		begin, err := c.stmt("BEGIN")
		if err != nil {
			return err
		}
		if err := begin.run(); err != nil {
			return err
		}
		err = fn(c)
		end, endErr := c.stmt("ROLLBACK")
		if endErr == nil {
			endErr = end.run()
		}
		return errors.Join(err, endErr)
	})
}

// borrow runs fn on a connection for reading, outside any transaction.
func (s *Store) borrow(ctx context.Context, fn func(c *conn) error) error {
	if s.live.Err() != nil {
		return store.ErrClosed
	}
	var c *conn
	select {
	case c = <-s.readers:
	case <-ctx.Done():
		return ctx.Err()
	case <-s.live.Done():
		return store.ErrClosed
	}
	defer func() { s.readers <- c }()
	return fn(c)
}

// search is read for work that may take long: it ends with ctx, or when the store closes.
func (s *Store) search(ctx context.Context, fn func(c *conn) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.live, cancel)()
	err := s.read(ctx, func(c *conn) error {
		c.SetInterrupt(ctx.Done())
		err := fn(c)
		c.SetInterrupt(nil)
		return err
	})
	switch {
	case err == nil || ctx.Err() == nil:
		return err
	case s.live.Err() != nil:
		return store.ErrClosed
	default:
		return ctx.Err()
	}
}
