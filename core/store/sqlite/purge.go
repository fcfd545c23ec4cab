package sqlite

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/store"
)

const (
	purgePage = 256    // requests that are found before they are deleted
	purgeScan = 20_000 // sequences that are looked at in one read
	purgeLeft = 10_000 // requests that are remembered because they were not settled

	clearEvents = 8 // events of one request that are deleted together
)

// settledCondition is true for a settled request r.
const settledCondition = `(r.state IN ('routed', 'dead') AND NOT EXISTS (SELECT 1 FROM deliveries AS d
	WHERE d.key >= r.seq << 24 AND d.key < (r.seq + 1) << 24 AND d.state IN ('pending', 'leased')))`

// purgeWalk is how far the purge of some sources has come. It is in memory only: a start looks at everything once.
type purgeWalk struct {
	most int     // that are remembered in left
	from int64   // requests up to this sequence are deleted, or among left
	left []int64 // requests that are past their retention, but were not settled
}

// keep remembers a request that has to stay. When there are too many, the next purge looks at all from there on again.
func (k *purgeWalk) keep(seq int64, next *int64) {
	switch {
	case len(k.left) < k.most:
		k.left = append(k.left, seq)
	case *next == 0:
		*next = seq
	}
}

// purgeGroup is some sources that have the same retention.
type purgeGroup struct {
	walk   *purgeWalk
	before int64
	in     string // condition on r.source
	names  []any  // its parameters
}

// Purge implements store.Store. A request goes in two steps if its dedupe window is longer than its retention: its row
// stays, empty, as dedupe memory.
func (s *Store) Purge(ctx context.Context, r store.Retention) (purged int, err error) {
	s.purging.Lock()
	defer s.purging.Unlock()
	for _, g := range s.purgeGroups(r) {
		n, err := s.purgeSources(ctx, g)
		if purged += n; err != nil {
			g.walk.from, g.walk.left = 0, nil // what it had found is to be found again
			return purged, fmt.Errorf("purge: %w", err)
		}
	}
	if err := s.forget(ctx); err != nil {
		return purged, fmt.Errorf("purge: %w", err)
	}
	if err := s.purgeStates(ctx, r.StateBefore); err != nil {
		return purged, fmt.Errorf("purge: %w", err)
	}
	if err := s.finishErasures(ctx); err != nil {
		return purged, fmt.Errorf("purge: %w", err)
	}
	return purged, nil
}

// purgeGroups splits the sources by what retention they have; s.purging is held.
func (s *Store) purgeGroups(r store.Retention) (groups []purgeGroup) {
	own := slices.Sorted(maps.Keys(r.BeforeOf))
	if s.purgeWalks == nil || !slices.Equal(own, s.purgeOwn) {
		s.purgeOwn, s.purgeWalks = own, map[string]*purgeWalk{}
	}
	add := func(source string, before time.Time, in string, names ...any) {
		if before.IsZero() {
			return
		}
		walk := s.purgeWalks[source]
		if walk == nil {
			walk = &purgeWalk{most: s.opts.purgeLeft}
			s.purgeWalks[source] = walk
		}
		groups = append(groups, purgeGroup{walk, before.UnixMicro(), in, names})
	}
	var names []any
	for _, name := range own {
		names = append(names, name)
		add(name, r.BeforeOf[name], "r.source = ?", name)
	}
	add("", r.Before, "r.source NOT IN (?"+strings.Repeat(", ?", len(own))+")", append(names, "")...) // no source is ""
	return groups
}

// purgeSources deletes what is past its retention in a group.
func (s *Store) purgeSources(ctx context.Context, g purgeGroup) (purged int, err error) {
	var next int64 // where the next purge has to begin; 0: where this one ends
	left := g.walk.left
	g.walk.left = nil
	for page := range slices.Chunk(left, purgePage) {
		seqs, err := s.nowSettled(ctx, g, page, &next)
		if err != nil {
			return purged, err
		}
		n, err := s.purgeRequests(ctx, g, seqs, &next)
		if purged += n; err != nil {
			return purged, err
		}
	}
	at := g.walk.from
	for end := false; !end; {
		var seqs []int64
		if seqs, end, err = s.purgeable(ctx, g, &at, &next); err != nil {
			return purged, err
		}
		n, err := s.purgeRequests(ctx, g, seqs, &next)
		if purged += n; err != nil {
			return purged, err
		}
	}
	if next != 0 {
		at = next - 1
	}
	g.walk.from = at
	return purged, nil
}

// nowSettled tells which of the requests that were left behind can go, and leaves the others behind again.
func (s *Store) nowSettled(ctx context.Context, g purgeGroup, left []int64, next *int64) (seqs []int64, err error) {
	err = s.search(ctx, func(c *conn) error {
		st, err := c.stmt("SELECT r.received_at < ? AND " + settledCondition + `
			FROM requests AS r WHERE r.seq = ? AND r.purged_at IS NULL`)
		if err != nil {
			return err
		}
		for _, seq := range left {
			st.int(1, g.before)
			st.int(2, seq)
			if _, err := st.row(func() {
				if st.ColumnBool(0) {
					seqs = append(seqs, seq)
				} else {
					g.walk.keep(seq, next)
				}
			}); err != nil {
				return err
			}
		}
		return nil
	})
	return seqs, err
}

// purgeable finds settled requests after a sequence, which it moves on. end: there are no more.
func (s *Store) purgeable(
	ctx context.Context, g purgeGroup, at, next *int64,
) (seqs []int64, end bool, err error) {
	now := time.Now().UnixMicro()
	err = s.search(ctx, func(c *conn) error {
		// The newest stays: the next sequence is counted from it.
		var newest int64
		st, err := c.stmt("SELECT max(seq) FROM requests")
		if err != nil {
			return err
		}
		if _, err := st.row(func() { newest = st.ColumnInt64(0) }); err != nil {
			return err
		}
		last := min(newest-1, *at+purgeScan)
		st, err = c.transient("SELECT r.seq, r.received_at, r.received_at < ? AND " + settledCondition + `
			FROM requests AS r WHERE r.seq > ? AND r.seq <= ? AND r.purged_at IS NULL AND ` + g.in + " ORDER BY r.seq")
		if err != nil {
			return err
		}
		defer st.Finalize()
		q := query{values: append([]any{g.before, *at, last}, g.names...)}
		q.bind(st)
		full := false
		err = st.rows(func() bool {
			seq, received := st.ColumnInt64(0), st.ColumnInt64(1)
			switch {
			case st.ColumnBool(2):
				seqs = append(seqs, seq)
			case received >= g.before && received <= now:
				end = true // those that come after are younger
				return false
			default: // not settled, or of a time when the clock was wrong
				g.walk.keep(seq, next)
			}
			*at = seq
			full = len(seqs) == purgePage
			return !full
		})
		if !end && !full {
			*at = max(*at, last)
			end = last == newest-1
		}
		return err
	})
	return seqs, end, err
}

// purgeRequests deletes requests, in steps.
func (s *Store) purgeRequests(ctx context.Context, g purgeGroup, seqs []int64, next *int64) (purged int, err error) {
	for len(seqs) > 0 {
		var done, gone int
		var left, forgotten []int64
		o := &op{committed: func() { s.keys.forget(forgotten) }}
		err := s.stepped(ctx, o, func(w *writer, until time.Time) error {
			done, gone, left, forgotten = 0, 0, nil, nil
			now := time.Now()
			for _, seq := range seqs {
				more, settled, err := w.purge(seq, now, until, &forgotten)
				switch {
				case err != nil:
					return err
				case more:
					return nil
				case settled:
					gone++
				default: // it was opened again meanwhile
					left = append(left, seq)
				}
				if done++; time.Now().After(until) {
					return nil
				}
			}
			return nil
		})
		if err != nil {
			return purged, err
		}
		for _, seq := range left {
			g.walk.keep(seq, next)
		}
		purged += gone
		seqs = seqs[done:]
	}
	return purged, nil
}

// purge deletes a request and all that hangs on it, unless it is unsettled. It may not come to an end within its time:
// more. forgotten gets its sequence, if nothing of it is left.
func (w *writer) purge(seq int64, now, until time.Time, forgotten *[]int64) (more, settled bool, err error) {
	var state core.RequestState
	st, err := w.c.stmt("SELECT r.state FROM requests AS r WHERE r.seq = ? AND r.purged_at IS NULL AND " + settledCondition)
	if err != nil {
		return false, false, err
	}
	st.int(1, seq)
	settled, err = st.row(func() { state = core.RequestState(st.ColumnText(0)) })
	if err != nil || !settled {
		return false, settled, err
	}
	for left := true; left; {
		if left, err = w.clearEvents(seq, now); err != nil {
			return false, true, err
		}
		if left && time.Now().After(until) {
			return true, true, nil
		}
	}
	w.addCount(requestCounter(state), -1)
	return false, true, w.vacate(seq, now, forgotten)
}

// clearEvents deletes some events of a settled request, the last ones first, with their deliveries. more: there are
// others.
func (w *writer) clearEvents(seq int64, now time.Time) (more bool, err error) {
	first, end := core.NewEventKey(seq, 0), core.NewEventKey(seq+1, 0)
	st, err := w.c.stmt("SELECT key FROM events WHERE key >= ? AND key < ? ORDER BY key DESC LIMIT 1 OFFSET ?")
	if err != nil {
		return false, err
	}
	st.int(1, first)
	st.int(2, end)
	st.int(3, clearEvents)
	if more, err = st.row(func() { first = st.ColumnInt64(0) + 1 }); err != nil {
		return false, err
	}
	if err := w.unholdBetween(first<<12, end<<12, now.UnixMicro()); err != nil {
		return false, err
	}
	for _, q := range []struct {
		sql  string
		read func(st *stmt)
	}{
		{"SELECT sink, state, count(*) FROM deliveries WHERE key >= ?1 << 12 AND key < ?2 << 12 GROUP BY sink, state", func(st *stmt) {
			w.addCount(deliveryCounter(st.ColumnText(0), core.DeliveryState(st.ColumnText(1))), -st.ColumnInt64(2))
		}},
		{`SELECT type FROM events AS e WHERE key >= ?1 AND key < ?2
			AND NOT EXISTS (SELECT 1 FROM deliveries AS d WHERE d.key >= e.key << 12 AND d.key < (e.key + 1) << 12)`, func(st *stmt) {
			w.addCount(counter{countUnrouted, st.ColumnText(0)}, -1)
		}},
		{"DELETE FROM attempts WHERE delivery >= ?1 << 12 AND delivery < ?2 << 12", nil},
		{"DELETE FROM deliveries WHERE key >= ?1 << 12 AND key < ?2 << 12", nil},
		{"DELETE FROM events WHERE key >= ?1 AND key < ?2", nil},
	} {
		st, err := w.c.stmt(q.sql)
		if err != nil {
			return false, err
		}
		st.int(1, first)
		st.int(2, end)
		if err := st.rows(func() bool { q.read(st); return true }); err != nil {
			return false, err
		}
	}
	return more, nil
}

// vacate deletes the body of a request that has no events any more, and the request itself, unless it is needed as
// dedupe memory: then its row stays, empty. forgotten gets its sequence, if nothing of it is left.
func (w *writer) vacate(seq int64, now time.Time, forgotten *[]int64) error {
	st, err := w.c.stmt("DELETE FROM bodies WHERE seq = ?")
	if err != nil {
		return err
	}
	st.int(1, seq)
	if err := st.run(); err != nil {
		return err
	}
	// The newest stays, as for purgeable.
	if st, err = w.c.stmt(`DELETE FROM requests WHERE seq = ?1 AND received_at < ?2 AND seq < (SELECT max(seq) FROM requests)
		RETURNING seq, dedupe, repeat`); err != nil {
		return err
	}
	st.int(1, seq)
	st.int(2, now.Add(-w.s.opts.DedupeWindow).UnixMicro())
	gone, err := w.forgetRequests(st)
	if *forgotten = append(*forgotten, gone...); err != nil || len(gone) > 0 {
		return err
	}
	if st, err = w.c.stmt(`UPDATE requests SET purged_at = ?, tenant = NULL, reason = NULL, notes = NULL, remote_addr = NULL,
		method = NULL, query = NULL, trace = NULL, unrouted = 0 WHERE seq = ?`); err != nil {
		return err
	}
	st.int(1, now.UnixMicro())
	st.int(2, seq)
	return st.run()
}

// forgetPage is how much dedupe memory one transaction deletes.
const forgetPage = 64

// forget deletes dedupe memory that is past its window, and the filters of stretches without events.
func (s *Store) forget(ctx context.Context) error {
	for {
		var forgotten []int64
		o := &op{committed: func() { s.keys.forget(forgotten) }}
		err := s.stepped(ctx, o, func(w *writer, _ time.Time) error {
			st, err := w.c.stmt(`DELETE FROM requests WHERE seq IN (SELECT seq FROM requests INDEXED BY requests_purged
				WHERE purged_at IS NOT NULL AND received_at < ? AND seq < (SELECT max(seq) FROM requests)
				ORDER BY received_at LIMIT ?)
				RETURNING seq, dedupe, repeat`)
			if err != nil {
				return err
			}
			st.int(1, time.Now().Add(-s.opts.DedupeWindow).UnixMicro())
			st.int(2, forgetPage)
			if forgotten, err = w.forgetRequests(st); err != nil {
				return err
			}
			if st, err = w.c.stmt("DELETE FROM event_filters WHERE block < (SELECT min(key) >> 24 FROM events)"); err != nil {
				return err
			}
			return st.run()
		})
		if err != nil || len(forgotten) < forgetPage {
			return err
		}
	}
}
