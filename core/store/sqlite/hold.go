package sqlite

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/store"
)

// A dead delivery may hold its order key. What comes later under the key is pending without a due time then, as if the
// dead one still were the key's head. Several may hold a key: one whose message could not be rendered does it although
// earlier ones still wait, and these may die as well.

// held is how many deliveries of a sink hold their order keys, the transaction under way included.
func (w *writer) held(sink string) int64 {
	c := counter{countHeld, sink}
	return w.s.totals[c] + w.effects.counts[c] // only the writer changes totals
}

// holder returns the first dead delivery that holds an order key, 0 if none does.
func (w *writer) holder(sink, order string) (key int64, err error) {
	if w.held(sink) == 0 {
		return 0, nil
	}
	st, err := w.c.stmt("SELECT delivery FROM held WHERE sink = ? AND order_key = ? ORDER BY delivery LIMIT 1")
	if err != nil {
		return 0, err
	}
	st.BindText(1, sink)
	st.BindText(2, order)
	_, err = st.row(func() { key = st.ColumnInt64(0) })
	return key, err
}

// hold makes a delivery that has died hold its order key.
func (w *writer) hold(sink, order string, key int64) error {
	if order == "" {
		return nil
	}
	st, err := w.c.stmt(`INSERT INTO held (sink, order_key, delivery) VALUES (?, ?, ?)
		ON CONFLICT DO NOTHING`)
	if err != nil {
		return err
	}
	st.BindText(1, sink)
	st.BindText(2, order)
	st.int(3, key)
	if err := st.run(); err != nil {
		return err
	}
	w.addCount(counter{countHeld, sink}, int64(w.c.Changes()))
	head, due, err := w.headOf(sink, order)
	if err != nil || !due || head < key {
		return err
	}
	w.setDue.BindNull(1)
	w.setDue.int(2, head)
	return w.setDue.run()
}

// unhold ends what a delivery holds. The caller places or promotes what comes next.
func (w *writer) unhold(sink string, key int64) error {
	if w.held(sink) == 0 {
		return nil
	}
	st, err := w.c.stmt("DELETE FROM held WHERE delivery = ?")
	if err != nil {
		return err
	}
	st.int(1, key)
	if err := st.run(); err != nil {
		return err
	}
	w.addCount(counter{countHeld, sink}, -int64(w.c.Changes()))
	return nil
}

// unholdFor ends what a delivery holds, because it, or its replay, is about to wait under an order key. What waits for it
// goes on waiting then: it is the key's head again. Only if its own key was another one, that key goes on.
func (w *writer) unholdFor(d *core.Delivery, order string, now int64) error {
	if err := w.unhold(d.Sink, int64(d.Key)); err != nil || order == d.OrderKey {
		return err
	}
	return w.promote(d.Sink, d.OrderKey, now)
}

// unholdBetween lets the order keys go on that deliveries from one key up to another hold.
func (w *writer) unholdBetween(from, to, now int64) error {
	st, err := w.c.stmt("SELECT sink, order_key, delivery FROM held WHERE delivery >= ? AND delivery < ?")
	if err != nil {
		return err
	}
	st.int(1, from)
	st.int(2, to)
	type heldKey struct {
		sink, order string
		delivery    int64
	}
	var all []heldKey
	if err := st.rows(func() bool {
		all = append(all, heldKey{st.ColumnText(0), st.ColumnText(1), st.ColumnInt64(2)})
		return true
	}); err != nil {
		return err
	}
	for _, h := range all {
		if err := w.unhold(h.sink, h.delivery); err != nil {
			return err
		}
		if err := w.promote(h.sink, h.order, now); err != nil {
			return err
		}
	}
	return nil
}

// free reports whether a delivery that is about to appear may be the next of its order key: no earlier one is pending or
// leased, and nothing holds the key.
func (w *writer) free(sink, order string) (bool, error) {
	if order == "" {
		return true, nil
	}
	w.s.mu.Lock()
	leased := w.s.queue(sink).orders[order] > 0
	w.s.mu.Unlock()
	if leased {
		return false, nil
	}
	if head, _, err := w.headOf(sink, order); err != nil || head != 0 {
		return false, err
	}
	holder, err := w.holder(sink, order)
	return holder == 0, err
}

// releaseStep is how many held keys one transaction lets go.
const releaseStep = 256

// ReleaseHeld implements store.Store.
func (s *Store) ReleaseHeld(ctx context.Context, sink string) error {
	for left := int64(1); left > 0; {
		err := s.do(ctx, &op{weight: releaseStep, apply: func(w *writer) error {
			left = 0
			if w.held(sink) == 0 {
				return nil
			}
			st, err := w.c.stmt("SELECT delivery FROM held WHERE sink = ? LIMIT ?")
			if err != nil {
				return err
			}
			st.BindText(1, sink)
			st.int(2, releaseStep)
			var keys []int64
			if err := st.rows(func() bool { keys = append(keys, st.ColumnInt64(0)); return true }); err != nil {
				return err
			}
			now := time.Now().UnixMicro()
			for _, k := range keys {
				if err := w.unholdBetween(k, k+1, now); err != nil {
					return err
				}
			}
			left = w.held(sink)
			return nil
		}})
		if err != nil {
			return fmt.Errorf("release the held keys of sink %q: %w", sink, err)
		}
	}
	return nil
}

// SkipDeliveries implements store.Store.
func (s *Store) SkipDeliveries(ctx context.Context, ids []string, reason string) ([]*core.Delivery, error) {
	var skipped []*core.Delivery
	err := s.do(ctx, &op{
		durable: true, // somebody was told so
		weight:  2 * len(ids),
		apply: func(w *writer) error {
			skipped = nil
			now := time.Now().UnixMicro()
			for _, id := range ids {
				d, err := w.skip(id, reason, now)
				if errors.Is(err, store.ErrNotFound) {
					continue
				}
				if err != nil {
					return err
				}
				if d != nil {
					skipped = append(skipped, d)
				}
			}
			return nil
		},
	})
	if err != nil {
		return nil, fmt.Errorf("skip deliveries: %w", err)
	}
	return skipped, nil
}

func (w *writer) skip(id, reason string, now int64) (*core.Delivery, error) {
	d, err := w.s.findDelivery(w.c, id)
	if err != nil || d.State != core.DeliveryDead {
		return nil, err
	}
	st, err := w.c.stmt("UPDATE deliveries SET state = 'skipped', settled_at = ?, reason = ? WHERE key = ? AND state = 'dead'")
	if err != nil {
		return nil, err
	}
	st.int(1, now)
	st.text(2, reason)
	st.int(3, int64(d.Key))
	if err := st.run(); err != nil {
		return nil, err
	}
	w.addCount(deliveryCounter(d.Sink, core.DeliveryDead), -1)
	w.addCount(deliveryCounter(d.Sink, core.DeliverySkipped), 1)
	if err := w.unholdBetween(int64(d.Key), int64(d.Key)+1, now); err != nil {
		return nil, err
	}
	return w.s.findDelivery(w.c, id)
}
