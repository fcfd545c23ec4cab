package sqlite

import (
	"context"
	"errors"
	"time"

	"github.com/grapnelhq/grapnel/core/store"
)

const (
	maintainEvery = 250 * time.Millisecond
	syncAfter     = 500 * time.Millisecond // commits that nobody waits for are synced within this and maintainEvery

	// checkpointPages is how long the log gets before it is copied into the database. The more there is, the more often a
	// page is in it several times and is copied once; a start after a crash has to read it all.
	checkpointPages = 64 << 20 / pageSize
)

// signal tells maintain that there is something to do.
func (s *Store) signal() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// maintain syncs what nobody waits for, writes rejections, and copies the log into the database file, beside the
// writer. It sleeps while nothing is written.
func (s *Store) maintain(c *conn) {
	defer func() {
		if err := c.Close(); err != nil {
			s.log.Warn("cannot close a connection", "error", err)
		}
	}()
	for {
		select {
		case <-s.kick:
		case <-s.live.Done():
			return
		}
		timer := time.NewTimer(maintainEvery)
		select {
		case <-timer.C:
		case <-s.live.Done():
			timer.Stop()
			return
		}
		if err := s.flushRejections(s.live); err != nil && !errors.Is(err, store.ErrClosed) && s.live.Err() == nil {
			s.log.Error("cannot store rejections", "error", err)
		}
		s.releaseAgain(s.live)
		if err := s.raiseRouted(); err != nil {
			s.log.Error("cannot note which requests are routed", "error", err)
		}
		if err := s.checkpoint(c); err != nil {
			s.log.Error("cannot copy the log into the database", "error", err)
		}
		if err := s.sync(); err != nil {
			s.log.Error("cannot sync the log", "error", err)
		}
	}
}

// sync brings commits to the disk that were not synced by themselves, once they are old enough.
func (s *Store) sync() error {
	oldest := s.unsynced.Load()
	if oldest == 0 {
		return nil
	}
	if time.Since(time.Unix(0, oldest)) < syncAfter {
		s.signal() // look again
		return nil
	}
	s.unsynced.CompareAndSwap(oldest, 0) // before: a commit during the sync may not be in it
	began := time.Now()
	if err := s.wal.Sync(); err != nil {
		s.unsynced.CompareAndSwap(0, oldest)
		s.signal()
		return err
	}
	s.syncs.Add(1)
	if s.opts.Observer != nil {
		s.opts.Observer.Synced(time.Since(began))
	}
	return nil
}

// checkpoint copies the log into the database when it is long. That needs no writer to wait, but while the writer
// goes on it never comes to the log's end, where the log could start again from its beginning. So the writer copies
// the little that is left by then, between two groups.
func (s *Store) checkpoint(c *conn) error {
	length, err := c.checkpoint("NOOP")
	if err != nil || length < checkpointPages {
		return err
	}
	if _, err := c.checkpoint("PASSIVE"); err != nil {
		return err
	}
	err = s.do(context.Background(), &op{alone: true, apply: func(w *writer) error {
		_, err := w.c.checkpoint("RESTART") // if readers are in the way, the next time will do
		return err
	}})
	if errors.Is(err, store.ErrClosed) {
		return nil
	}
	return err
}

// checkpoint runs a checkpoint, and returns how many pages are in the log.
func (c *conn) checkpoint(mode string) (length int, err error) {
	st, err := c.stmt("PRAGMA wal_checkpoint(" + mode + ")")
	if err != nil {
		return 0, err
	}
	_, err = st.row(func() { length = st.ColumnInt(1) })
	return length, err
}
