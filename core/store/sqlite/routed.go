package sqlite

import (
	"context"
	"errors"

	"github.com/grapnelhq/grapnel/core/store"
)

// Received requests are found without an index, which every request would enter and leave: meta routed_seq says up to
// which sequence none is received, and a claim looks from there on. maintain raises it, some rows at a time; a request that
// is reopened below it lowers it, in the same transaction. Only the writer moves it, so that it is never above a received
// request in any commit.

const (
	routedStep  = 20_000 // rows that are looked at in one go
	routedSlack = 500    // requests that may be routed before it is worth a write
)

// raisedQuery finds the first received request after a sequence, or else how far it looked.
const raisedQuery = `SELECT coalesce((SELECT seq - 1 FROM requests NOT INDEXED WHERE seq > ?1 AND seq <= ?2 AND state = 'received'
	ORDER BY seq LIMIT 1), min(?2, (SELECT max(seq) FROM requests)))`

// raiseRouted moves routed_seq on.
func (s *Store) raiseRouted() error {
	if s.newest.Load()-s.routed.Load() < s.opts.routedSlack || s.commits.Load() == s.raisedAt.Load() {
		return nil
	}
	err := s.do(context.Background(), &op{weight: routedStep / 100, apply: func(w *writer) error {
		st, err := w.c.stmt(raisedQuery)
		if err != nil {
			return err
		}
		st.int(1, w.routedSeq)
		st.int(2, w.routedSeq+routedStep)
		to := w.routedSeq
		if _, err := st.row(func() { to = st.ColumnInt64(0) }); err != nil || to <= w.routedSeq {
			return err
		}
		return w.setRouted(to)
	}})
	s.raisedAt.Store(s.commits.Load()) // its own commit included: alone it is no reason to look again
	if errors.Is(err, store.ErrClosed) {
		return nil
	}
	return err
}

func (w *writer) setRouted(seq int64) error {
	w.routedSeq = seq
	return w.setMeta("routed_seq", seq)
}
