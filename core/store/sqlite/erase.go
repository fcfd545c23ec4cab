package sqlite

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/store"
)

// An erasure has a receipt in the database before it removes anything, and an order in memory. It looks through all events
// that were there when it began, removes what is the order's, request by request, and then overwrites what that left in
// the files (scrub.go, emptyLog). A request that was received before and is decoded only later meets the order in route.
//
// Deliveries go whatever their states. Whoever has leased one is told, and its outcome will be one of an unknown delivery.

const (
	searchPage  = 4096 // events that are looked at in one read
	waitDecoded = 30 * time.Second
	waitReaders = 30 * time.Second
)

// errReaders says that something reads the database and keeps an old snapshot of it alive.
var errReaders = errors.New("what was erased is still in the log, which cannot be emptied while something reads the " +
	"database: end it (sqlite3?) and erase again")

// Erase implements store.Store.
func (s *Store) Erase(
	ctx context.Context, e store.Erasure, progress func(store.EraseProgress),
) (_ store.Receipt, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("erase: %w", err)
		}
	}()
	if progress == nil {
		progress = func(store.EraseProgress) {}
	}
	select {
	case s.erasing <- struct{}{}:
	case <-ctx.Done():
		return store.Receipt{}, ctx.Err()
	}
	defer func() { <-s.erasing }()

	seqs, err := s.findRequests(ctx, e.Requests)
	if err != nil {
		return store.Receipt{}, err
	}
	o, err := s.beginErasure(ctx, e, seqs)
	if err != nil {
		return store.Receipt{}, err
	}
	x := &erasure{s: s, order: o, progress: progress}
	if e.Subject != "" {
		if err := x.rejections(ctx, e.Subject); err != nil {
			return store.Receipt{}, err
		}
	}
	if err := x.finish(ctx); err != nil {
		return store.Receipt{}, err
	}
	return s.GetReceipt(ctx, o.id)
}

// finishErasures goes on with what was cut short, and overwrites what was erased since it was done last.
func (s *Store) finishErasures(ctx context.Context) error {
	select {
	case s.erasing <- struct{}{}:
	default:
		return nil // somebody does it
	}
	defer func() { <-s.erasing }()
	var open []*order
	var scrub bool
	// The writer reads it: orders are its own.
	if err := s.do(ctx, &op{alone: true, apply: func(w *writer) error {
		open = nil
		for _, o := range w.orders {
			if o.open {
				open = append(open, o)
			}
		}
		st, err := w.c.stmt("SELECT value FROM meta WHERE name = 'scrub'")
		if err != nil {
			return err
		}
		_, err = st.row(func() { scrub = st.ColumnInt64(0) != 0 })
		return err
	}}); err != nil {
		return err
	}
	for _, o := range open {
		s.log.Info("going on with an erasure that was cut short", "receipt", o.id)
		x := &erasure{s: s, order: o, progress: func(store.EraseProgress) {}}
		if err := x.finish(ctx); err != nil {
			return err
		}
	}
	if len(open) > 0 || !scrub {
		return nil
	}
	x := &erasure{s: s, progress: func(store.EraseProgress) {}}
	return x.overwrite(ctx, func(*writer) error { return nil })
}

// erasure is the work on one order.
type erasure struct {
	s        *Store
	order    *order // nil: there is nothing to remove, only to overwrite
	progress func(store.EraseProgress)
	removed  store.Removed // so far
	blocks   map[int64]struct{}
}

func (x *erasure) tell(stage string, done, total int64) {
	x.progress(store.EraseProgress{Stage: stage, Done: done, Total: total, Removed: x.removed})
}

// finish does all that can be done again: it looks for what is still there of the order's subject, or requests.
func (x *erasure) finish(ctx context.Context) error {
	o := x.order
	if o.subject == nil {
		seqs, err := x.s.orderedRequests(ctx, o)
		if err != nil {
			return err
		}
		if err := x.remove(ctx, seqs); err != nil {
			return err
		}
	} else {
		err := x.s.searchEvents(ctx, o, func(seqs []int64, at int64) error {
			x.tell(store.EraseSearching, at, o.through)
			return x.remove(ctx, seqs)
		})
		if err != nil {
			return err
		}
		if err := x.states(ctx); err != nil {
			return err
		}
		if err := x.wait(ctx); err != nil {
			return err
		}
	}
	if err := x.refilter(ctx); err != nil {
		return err
	}
	var unread int64
	if o.subject != nil {
		var err error
		if unread, err = x.s.unread(ctx, o, true); err != nil {
			return err
		}
	}
	return x.overwrite(ctx, func(w *writer) error {
		o.open = false // a rollback leaves it so, which only means that nobody goes on with it before a restart
		return w.closeReceipt(o, unread)
	})
}

// remove takes away what is the order's in some requests.
func (x *erasure) remove(ctx context.Context, seqs []int64) error {
	for len(seqs) > 0 {
		var done int
		var r removal
		o := &op{single: true, committed: func() { x.s.keys.forget(r.forgotten) }}
		if err := x.s.stepped(ctx, o, func(w *writer, until time.Time) error {
			done, r = 0, removal{}
			for _, seq := range seqs {
				more, err := w.eraseRequest(x.order, seq, until, &r)
				if err != nil {
					return err
				}
				if more {
					break
				}
				if done++; time.Now().After(until) {
					break
				}
			}
			return w.record(x.order, &r)
		}); err != nil {
			return err
		}
		x.count(&r)
		seqs = seqs[done:]
	}
	return nil
}

func (x *erasure) count(r *removal) {
	for _, n := range []struct {
		to *int64
		by int64
	}{
		{&x.removed.Requests, r.Requests},
		{&x.removed.Shared, r.Shared},
		{&x.removed.Events, r.Events},
		{&x.removed.Deliveries, r.Deliveries},
		{&x.removed.Attempts, r.Attempts},
		{&x.removed.States, r.States},
		{&x.removed.Rejections, r.Rejections},
	} {
		*n.to += n.by
	}
	if x.blocks == nil {
		x.blocks = map[int64]struct{}{}
	}
	for _, seq := range r.touched {
		x.blocks[seq>>filterShift] = struct{}{}
	}
}

// rejections removes those that name the subject: in a path, mostly.
func (x *erasure) rejections(ctx context.Context, subject string) error {
	ids, err := x.s.rejectionsOf(ctx, subject)
	if err != nil || len(ids) == 0 {
		return err
	}
	var r removal
	err = x.s.stepped(ctx, &op{}, func(w *writer, _ time.Time) error {
		r = removal{}
		st, err := w.c.stmt("DELETE FROM rejections WHERE id = ?")
		if err != nil {
			return err
		}
		for _, id := range ids {
			st.int(1, id)
			if err := st.run(); err != nil {
				return err
			}
			r.Rejections += int64(w.c.Changes())
		}
		return w.record(x.order, &r)
	})
	x.count(&r)
	return err
}

// rejectionsOf finds the rejections that name a subject.
func (s *Store) rejectionsOf(ctx context.Context, subject string) (ids []int64, err error) {
	if err := s.flushRejections(ctx); err != nil {
		return nil, err
	}
	err = s.search(ctx, func(c *conn) error {
		st, err := c.stmt("SELECT id FROM rejections WHERE instr(detail, ?1) OR instr(path, ?1)")
		if err != nil {
			return err
		}
		st.BindText(1, subject)
		return st.rows(func() bool { ids = append(ids, st.ColumnInt64(0)); return true })
	})
	return ids, err
}

// states removes the keyed state of the subject whose deliveries are gone already.
func (x *erasure) states(ctx context.Context) error {
	o := x.order
	for at, end := (stateKey{}), false; !end; {
		mine, next, err := x.s.someStates(ctx, at, o.isStateRow)
		if err != nil {
			return err
		}
		at, end = next, next == stateKey{}
		if len(mine) == 0 {
			continue
		}
		var r removal
		if err := x.s.stepped(ctx, &op{}, func(w *writer, _ time.Time) error {
			r = removal{}
			for _, k := range mine {
				if err := w.eraseState(k, &r); err != nil {
					return err
				}
			}
			return w.record(o, &r)
		}); err != nil {
			return err
		}
		x.count(&r)
	}
	return nil
}

// wait gives the host time to decode what it had received when the erasure began.
func (x *erasure) wait(ctx context.Context) error {
	if x.s.opts.OnAccepted == nil {
		return nil // there is no host
	}
	var first int64
	for began := time.Now(); ; {
		n, err := x.s.unread(ctx, x.order, false)
		if err != nil || n == 0 {
			return err
		}
		first = max(first, n)
		x.tell(store.EraseWaiting, first-n, first)
		if time.Since(began) > waitDecoded {
			return nil // the order stands
		}
		x.s.rest(ctx, 100*time.Millisecond)
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// refilter makes the filters anew that had something of the removed events.
func (x *erasure) refilter(ctx context.Context) error {
	for block := range x.blocks {
		if err := x.s.stepped(ctx, &op{}, func(w *writer, _ time.Time) error { return w.refilter(block) }); err != nil {
			return err
		}
	}
	return nil
}

// overwrite removes from the files what is in the database no longer, and then runs done in a transaction.
func (x *erasure) overwrite(ctx context.Context, done func(w *writer) error) error {
	var scrubs int64
	if err := x.s.do(ctx, &op{alone: true, apply: func(w *writer) error { scrubs = w.scrubs; return nil }}); err != nil {
		return err
	}
	if err := x.s.scrub(ctx, func(done, of int64) { x.tell(store.EraseOverwriting, done, of) }); err != nil {
		return err
	}
	if err := x.s.emptyLog(ctx); err != nil {
		return err
	}
	return x.s.do(ctx, &op{durable: true, apply: func(w *writer) error {
		if err := done(w); err != nil {
			return err
		}
		if w.scrubs != scrubs { // something met an order meanwhile
			return nil
		}
		return w.setMeta("scrub", 0)
	}})
}

// emptyLog copies the log into the database and cuts it to nothing.
func (s *Store) emptyLog(ctx context.Context) error {
	for began := time.Now(); ; s.rest(ctx, 100*time.Millisecond) {
		if err := ctx.Err(); err != nil {
			return err
		}
		// Most of it beside the writer.
		if err := s.borrow(ctx, func(c *conn) error { _, err := c.checkpoint("PASSIVE"); return err }); err != nil {
			return err
		}
		var busy bool
		if err := s.do(ctx, &op{alone: true, apply: func(w *writer) error {
			st, err := w.c.stmt("PRAGMA wal_checkpoint(TRUNCATE)")
			if err != nil {
				return err
			}
			_, err = st.row(func() { busy = st.ColumnInt64(0) != 0 || st.ColumnInt64(1) != 0 })
			return err
		}}); err != nil {
			return err
		}
		if !busy {
			return nil
		}
		if time.Since(began) > s.opts.waitReaders {
			return errReaders
		}
	}
}

// searchEvents looks through the events of an order's requests, and calls found now and then with the requests in which
// some are the order's, and with the sequence it has come to.
func (s *Store) searchEvents(ctx context.Context, o *order, found func(seqs []int64, at int64) error) error {
	after, end := int64(-1), core.NewEventKey(o.through+1, 0)
	for more := true; more; {
		began := time.Now()
		var seqs []int64
		n := 0
		err := s.search(ctx, func(c *conn) error {
			st, err := c.stmt(`SELECT key, subject, partition_key, tenant FROM events WHERE key > ? AND key < ?
				ORDER BY key LIMIT ?`)
			if err != nil {
				return err
			}
			st.int(1, after)
			st.int(2, end)
			st.int(3, searchPage)
			if err := st.rows(func() bool {
				n++
				after = st.ColumnInt64(0)
				seq := after >> 12
				if o.is(st.ColumnText(3), st.ColumnText(1), st.ColumnText(2)) && (len(seqs) == 0 || seqs[len(seqs)-1] != seq) {
					seqs = append(seqs, seq)
				}
				return true
			}); err != nil || o.source == "" {
				return err
			}
			if st, err = c.stmt("SELECT source FROM requests WHERE seq = ?"); err != nil {
				return err
			}
			all := seqs
			seqs = nil
			for _, seq := range all {
				st.int(1, seq)
				if _, err := st.row(func() {
					if st.ColumnText(0) == o.source {
						seqs = append(seqs, seq)
					}
				}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		if more = n == searchPage; !more {
			after = end - 1
		}
		if err := found(seqs, after>>12); err != nil {
			return err
		}
		s.rest(ctx, time.Since(began))
	}
	return nil
}

// findRequests finds requests by their ids.
func (s *Store) findRequests(ctx context.Context, ids []string) (seqs []int64, err error) {
	for _, id := range ids {
		err := s.search(ctx, func(c *conn) error {
			seq, err := s.findRequest(c, id)
			if err == nil {
				seqs = append(seqs, seq)
			}
			return err
		})
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return nil, err
		}
	}
	slices.Sort(seqs)
	return slices.Compact(seqs), nil
}
