package sqlite

import (
	"context"
	"fmt"
	"time"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/store"
	"github.com/grapnelhq/grapnel/sdk"
)

// Settle implements store.Store.
func (s *Store) Settle(ctx context.Context, ss []store.Settlement) error {
	err := s.do(ctx, &op{
		weight: len(ss),
		apply: func(w *writer) error {
			now := time.Now().UnixMicro()
			for i := range ss {
				if err := w.settleOne(&ss[i], now); err != nil {
					return err
				}
			}
			return nil
		},
		committed: func() {
			for i := range ss {
				if q, _, ok := s.leaseOf(ss[i].Key); ok {
					q.end(ss[i].Key)
				}
			}
		},
	})
	if err != nil {
		return fmt.Errorf("store outcomes: %w", err)
	}
	return nil
}

func (w *writer) settleOne(x *store.Settlement, now int64) error {
	sink, order, fresh, err := w.settling(x.Key)
	if err != nil || sink == "" {
		return err
	}
	final := x.State.Settled()
	due, isDue := x.Due.UnixMicro(), false
	if !final && x.Due.IsZero() {
		due = now
	}
	st := w.settle
	st.same(1, string(x.State))
	st.BindNull(2)
	if !final {
		if isDue, err = w.place(sink, order, int64(x.Key)); err != nil {
			return err
		}
		if isDue {
			st.int(2, due)
		}
	}
	charge := int64(0)
	if x.Charge {
		charge = 1
	}
	st.int(3, charge)
	st.int(4, int64(x.Crashes))
	st.BindNull(5)
	st.BindNull(6)
	st.BindNull(7)
	if a := x.Attempt; a != nil {
		st.int(5, x.Active.Microseconds())
		st.int(6, a.At.UnixMicro())
		st.int(7, a.Took.Microseconds())
	}
	st.BindNull(8)
	if final {
		st.int(8, now)
	}
	st.text(9, x.Reason)
	st.text(10, x.Reference)
	st.list(11, x.AttributePath)
	st.text(12, x.RouteRange)
	st.int(13, int64(x.Key))
	if err := st.run(); err != nil {
		return err
	}
	if w.c.Changes() == 0 {
		return nil
	}
	if final {
		w.addCount(deliveryCounter(sink, core.DeliveryPending), -1)
		w.addCount(deliveryCounter(sink, x.State), 1)
		switch {
		case x.Hold && x.State == core.DeliveryDead:
			err = w.hold(sink, order, int64(x.Key))
		case !fresh:
			err = w.promote(sink, order, now)
		}
		if err != nil {
			return err
		}
	} else if isDue {
		w.becomesDue(sink, int64(x.Key), due)
	}
	if err := w.attempt(x); err != nil {
		return err
	}
	if x.Renewed {
		if err := w.renew(x.Key, x.Message, x.ConfigDigest, x.SchemaDigest); err != nil {
			return err
		}
	}
	return w.keyState(x, sink, order, now)
}

// renew replaces a delivery's message by one that was rendered later.
func (w *writer) renew(k core.DeliveryKey, message []byte, configDigest, schemaDigest string) error {
	st, err := w.c.stmt("UPDATE deliveries SET message = ?, config_digest = ?, schema_digest = ? WHERE key = ?")
	if err != nil {
		return err
	}
	st.json(1, message)
	st.text(2, configDigest)
	st.text(3, schemaDigest)
	st.int(4, int64(k))
	return st.run()
}

// settling returns where a delivery stands, from its lease if it has one. fresh: its row says leased, so that nothing
// of its order key waits behind it in the index.
func (w *writer) settling(k core.DeliveryKey) (sink, order string, fresh bool, err error) {
	w.s.mu.Lock()
	q, l, ok := w.s.leaseOf(k)
	w.s.mu.Unlock()
	if ok {
		return q.sink, l.order, l.fresh, nil
	}
	sink, order, state, err := w.placeOf(k)
	return sink, order, state == core.DeliveryLeased, err
}

// attempt stores an attempt, unless the delivery's row tells all of it.
func (w *writer) attempt(x *store.Settlement) error {
	a := x.Attempt
	if a == nil || x.State == core.DeliveryDelivered && a.Outcome == sdk.Delivered && a.Number == 1 && len(a.Notes) == 0 {
		return nil
	}
	st := w.insertAttempt
	st.int(1, int64(x.Key))
	st.int(2, a.At.UnixMicro())
	st.int(3, int64(a.Number))
	st.BindText(4, string(a.Outcome))
	st.int(5, a.Took.Microseconds())
	st.text(6, a.Reason)
	st.list(7, a.Notes)
	return st.run()
}

func (w *writer) keyState(x *store.Settlement, sink, order string, now int64) error {
	if !x.StateSet {
		return w.useState(sink, order, now)
	}
	if x.Sink != "" {
		sink = x.Sink
	}
	if x.OrderKey != "" {
		order = x.OrderKey
	}
	if order == "" {
		return nil // there is nothing it could be about
	}
	if x.KeyState != nil {
		return w.writeState(sink, order, x.KeyState, x.Key, now)
	}
	st := w.deleteState
	st.same(1, sink)
	st.BindText(2, order)
	return st.run()
}
