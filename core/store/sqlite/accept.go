package sqlite

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/store"
)

// Accept implements store.Store.
func (s *Store) Accept(ctx context.Context, r *core.Request) (store.Acceptance, error) {
	var acceptance store.Acceptance
	err := s.do(ctx, &op{
		durable: true,
		weight:  2,
		bytes:   len(r.Body) + 512,
		apply: func(w *writer) (err error) {
			acceptance, err = w.accept(r)
			return err
		},
	})
	if err != nil {
		return "", fmt.Errorf("store request: %w", err)
	}
	return acceptance, nil
}

func (w *writer) accept(r *core.Request) (store.Acceptance, error) {
	seq, repeat, err := w.newest(r.Dedupe)
	if err != nil {
		return "", err
	}
	if seq == 0 {
		return store.Accepted, w.insert(r, 0)
	}
	var (
		received time.Time
		state    core.RequestState
		purged   bool
	)
	st := w.knownRequest
	st.int(1, seq)
	ok, err := st.row(func() {
		received, state, purged = st.readTime(0), core.RequestState(st.ColumnText(1)), st.ColumnBool(2)
	})
	if err != nil {
		return "", err
	}
	if !ok { // forgotten by this very group
		return store.Accepted, w.insert(r, repeat)
	}
	// The distance, either way: after a jump of the clock a new webhook must not be taken for one from the future.
	inWindow := r.ReceivedAt.Sub(received).Abs() <= w.s.opts.DedupeWindow
	switch {
	case inWindow && state == core.RequestDead && !purged:
		_, err := w.reopen(seq)
		return store.Reopened, err
	case inWindow && state != core.RequestDead:
		return store.Duplicate, nil
	}
	return store.Accepted, w.insert(r, repeat+1)
}

// insert stores a request whose dedupe key and repeat are new.
func (w *writer) insert(r *core.Request, repeat int) error {
	if len(w.keys.adding.keys) >= w.s.opts.indexBatch+groupOps { // not before a whole batch could not be moved
		return fmt.Errorf("too many dedupe keys in memory: %w", w.indexErr)
	}
	st := w.insertRequest
	st.int(1, w.lastSeq+1)
	st.BindBytes(2, r.Dedupe[:])
	st.int(3, int64(repeat))
	st.same(4, r.Source)
	st.same(5, r.Tenant)
	st.int(6, r.ReceivedAt.UnixMicro())
	st.text(7, r.RemoteAddr)
	st.same(8, r.Method)
	st.text(9, r.Query)
	st.text(10, string(r.Trace))
	if err := st.run(); err != nil {
		return err
	}
	w.lastSeq++
	w.headers = appendHeaders(w.headers[:0], r.Headers)
	st = w.insertBody
	st.int(1, w.lastSeq)
	st.json(2, w.headers)
	st.BindBytes(3, r.Body)
	if err := st.run(); err != nil {
		return err
	}
	f, err := w.filterOf(w.lastSeq)
	if err != nil {
		return err
	}
	f.note(ofSource, r.Source)
	f.note(ofTenant, r.Tenant)
	w.keys.add(r.Dedupe, repeat, w.lastSeq)
	r.Seq, r.Repeat, r.State, r.Reopened = w.lastSeq, repeat, core.RequestReceived, false
	r.ReceivedAt = time.UnixMicro(r.ReceivedAt.UnixMicro()).UTC() // so that who gets it now sees what others get later
	w.addCount(requestCounter(core.RequestReceived), 1)
	w.effects.accepted = append(w.effects.accepted, r)
	return nil
}

// reopen makes a dead request received again; nil: it is not dead, or its body is gone.
func (w *writer) reopen(seq int64) (*core.Request, error) {
	w.reopenRequest.int(1, seq)
	if err := w.reopenRequest.run(); err != nil {
		return nil, err
	}
	if w.c.Changes() == 0 {
		return nil, nil
	}
	r, err := w.c.request(seq, true)
	if err != nil {
		return nil, err
	}
	r.Reopened = true
	if seq <= w.routedSeq {
		if err := w.setRouted(seq - 1); err != nil {
			return nil, err
		}
	}
	w.addCount(requestCounter(core.RequestDead), -1)
	w.addCount(requestCounter(core.RequestReceived), 1)
	w.effects.accepted = append(w.effects.accepted, r)
	return r, nil
}

// RetryRequests implements store.Store.
func (s *Store) RetryRequests(ctx context.Context, ids []string) ([]*core.Request, error) {
	var reopened []*core.Request
	err := s.do(ctx, &op{
		durable: true,
		weight:  2 * len(ids),
		apply: func(w *writer) error {
			reopened = nil
			for _, id := range ids {
				seq, err := w.s.findRequest(w.c, id)
				if errors.Is(err, store.ErrNotFound) {
					continue
				}
				if err != nil {
					return err
				}
				r, err := w.reopen(seq)
				if err != nil {
					return err
				}
				if r != nil {
					reopened = append(reopened, r)
				}
			}
			return nil
		},
	})
	if err != nil {
		return nil, fmt.Errorf("retry requests: %w", err)
	}
	return reopened, nil
}
