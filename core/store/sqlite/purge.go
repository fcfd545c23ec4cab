package sqlite

import (
	"context"
	"fmt"
	"time"

	"github.com/grapnelhq/grapnel/core"
)

// purgeStep is how many requests one transaction deletes: accepts wait for it.
const purgeStep = 32

// Purge implements store.Store. A request goes in two steps if its dedupe window is longer than its retention: its row
// stays, empty, as dedupe memory.
func (s *Store) Purge(ctx context.Context, before time.Time, limit int) (int, error) {
	purged := 0
	for purged < limit {
		seqs, end, err := s.purgeable(ctx, before, min(limit-purged, purgeStep))
		if err != nil {
			return purged, fmt.Errorf("purge: %w", err)
		}
		if len(seqs) > 0 {
			n, err := s.purgeRequests(ctx, seqs)
			if err != nil {
				return purged, fmt.Errorf("purge: %w", err)
			}
			purged += n
		}
		if end {
			break
		}
	}
	if err := s.forget(ctx, max(limit, purgeStep)); err != nil {
		return purged, fmt.Errorf("purge: %w", err)
	}
	return purged, nil
}

// purgeable finds settled requests, going on where it stopped, so that what is not settled is not looked at again by
// each call. end: there are no more, and it is back at the start.
func (s *Store) purgeable(ctx context.Context, before time.Time, limit int) (seqs []int64, end bool, err error) {
	s.mu.Lock()
	at := s.purged
	s.mu.Unlock()
	end = true
	now := time.Now().UnixMicro()
	err = s.search(ctx, func(c *conn) error {
		// The newest stays: the next sequence is counted from it.
		st, err := c.stmt(`SELECT r.seq, r.received_at, r.purged_at IS NULL AND r.state IN ('routed', 'dead') AND NOT EXISTS (
				SELECT 1 FROM deliveries AS d
				WHERE d.key >= r.seq << 24 AND d.key < (r.seq + 1) << 24 AND d.state IN ('pending', 'leased'))
			FROM requests AS r WHERE r.seq > ? AND r.seq < (SELECT max(seq) FROM requests) ORDER BY r.seq`)
		if err != nil {
			return err
		}
		st.int(1, at)
		return st.rows(func() bool {
			received := st.ColumnInt64(1)
			if received >= before.UnixMicro() && received <= now { // not now: the clock was wrong then
				return false
			}
			at = st.ColumnInt64(0)
			if received < before.UnixMicro() && st.ColumnBool(2) {
				seqs = append(seqs, at)
			}
			end = len(seqs) < limit
			return end
		})
	})
	if end {
		at = 0
	}
	s.mu.Lock()
	s.purged = at
	s.mu.Unlock()
	return seqs, end, err
}

func (s *Store) purgeRequests(ctx context.Context, seqs []int64) (purged int, err error) {
	var forgotten []int64
	o := &op{weight: 8 * len(seqs), apply: func(w *writer) error {
		purged, forgotten = 0, nil
		now := time.Now()
		for _, seq := range seqs {
			ok, gone, err := w.purge(seq, now)
			if err != nil {
				return err
			}
			if ok {
				purged++
			}
			forgotten = append(forgotten, gone...)
		}
		return nil
	}}
	o.committed = func() { s.keys.forget(forgotten) }
	err = s.do(ctx, o)
	return purged, err
}

// purge deletes a request and all that hangs on it, unless it is unsettled. forgotten is its sequence, if nothing of it
// is left.
func (w *writer) purge(seq int64, now time.Time) (ok bool, forgotten []int64, err error) {
	var state core.RequestState
	st, err := w.c.stmt(`SELECT state FROM requests AS r WHERE seq = ? AND state <> 'received' AND purged_at IS NULL
		AND NOT EXISTS (SELECT 1 FROM deliveries AS d
			WHERE d.key >= r.seq << 24 AND d.key < (r.seq + 1) << 24 AND d.state IN ('pending', 'leased'))`)
	if err != nil {
		return false, nil, err
	}
	st.int(1, seq)
	if ok, err := st.row(func() { state = core.RequestState(st.ColumnText(0)) }); err != nil || !ok {
		return false, nil, err
	}
	w.addCount(requestCounter(state), -1)
	counts := []struct {
		sql   string
		count func(st *stmt)
	}{
		{`SELECT sink, state, count(*) FROM deliveries WHERE key >= ?1 << 24 AND key < (?1 + 1) << 24 GROUP BY sink, state`,
			func(st *stmt) {
				w.addCount(deliveryCounter(st.ColumnText(0), core.DeliveryState(st.ColumnText(1))), -st.ColumnInt64(2))
			}},
		{`SELECT type FROM events AS e WHERE key >= ?1 << 12 AND key < (?1 + 1) << 12
			AND NOT EXISTS (SELECT 1 FROM deliveries AS d WHERE d.key >= e.key << 12 AND d.key < (e.key + 1) << 12)`,
			func(st *stmt) { w.addCount(counter{countUnrouted, st.ColumnText(0)}, -1) }},
	}
	for _, q := range counts {
		st, err := w.c.stmt(q.sql)
		if err != nil {
			return false, nil, err
		}
		st.int(1, seq)
		if err := st.rows(func() bool { q.count(st); return true }); err != nil {
			return false, nil, err
		}
	}
	if err := w.unholdBetween(seq<<24, (seq+1)<<24, now.UnixMicro()); err != nil {
		return false, nil, err
	}
	for _, sql := range []string{
		"DELETE FROM attempts WHERE delivery >= ?1 << 24 AND delivery < (?1 + 1) << 24",
		"DELETE FROM deliveries WHERE key >= ?1 << 24 AND key < (?1 + 1) << 24",
		"DELETE FROM events WHERE key >= ?1 << 12 AND key < (?1 + 1) << 12",
		"DELETE FROM bodies WHERE seq = ?1",
	} {
		st, err := w.c.stmt(sql)
		if err != nil {
			return false, nil, err
		}
		st.int(1, seq)
		if err := st.run(); err != nil {
			return false, nil, err
		}
	}
	if st, err = w.c.stmt(`DELETE FROM requests WHERE seq = ? AND received_at < ?
		RETURNING seq, dedupe, repeat`); err != nil {
		return false, nil, err
	}
	st.int(1, seq)
	st.int(2, now.Add(-w.s.opts.DedupeWindow).UnixMicro())
	if forgotten, err = w.forgetRequests(st); err != nil || len(forgotten) > 0 {
		return true, forgotten, err
	}
	if st, err = w.c.stmt(`UPDATE requests SET purged_at = ?, reason = NULL, notes = NULL, remote_addr = NULL,
		method = NULL, query = NULL, unrouted = 0 WHERE seq = ?`); err != nil {
		return false, nil, err
	}
	st.int(1, now.UnixMicro())
	st.int(2, seq)
	return true, nil, st.run()
}

// forget deletes dedupe memory that is past its window.
func (s *Store) forget(ctx context.Context, limit int) error {
	for limit > 0 {
		var forgotten []int64
		o := &op{weight: 2 * purgeStep, apply: func(w *writer) error {
			st, err := w.c.stmt(`DELETE FROM requests WHERE seq IN (SELECT seq FROM requests INDEXED BY requests_purged
				WHERE purged_at IS NOT NULL AND received_at < ? ORDER BY received_at LIMIT ?)
				RETURNING seq, dedupe, repeat`)
			if err != nil {
				return err
			}
			st.int(1, time.Now().Add(-s.opts.DedupeWindow).UnixMicro())
			st.int(2, purgeStep)
			if forgotten, err = w.forgetRequests(st); err != nil {
				return err
			}
			if st, err = w.c.stmt("DELETE FROM event_filters WHERE block < (SELECT min(key) >> 24 FROM events)"); err != nil {
				return err
			}
			return st.run()
		}}
		o.committed = func() { s.keys.forget(forgotten) }
		if err := s.do(ctx, o); err != nil || len(forgotten) < purgeStep {
			return err
		}
		limit -= len(forgotten)
	}
	return nil
}
