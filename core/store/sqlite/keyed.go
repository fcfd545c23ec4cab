package sqlite

import (
	"context"
	"time"

	"github.com/grapnelhq/grapnel/core"
)

// Keyed state that nobody uses is deleted after a time. Used means written, or part of a delivery that settled; the time
// of use is exact to a day, so that it costs a write per key and day at most.
const (
	stateDay   = 24 * time.Hour
	statesPage = 2000 // that are looked at in one read
)

// stateKey names a row of keyed_state.
type stateKey struct{ sink, order string }

// loadStateful finds the sinks that have keyed state.
func (w *writer) loadStateful() error {
	st, err := w.c.stmt("SELECT min(sink) FROM keyed_state WHERE sink > ?")
	if err != nil {
		return err
	}
	for sink, more := "", true; more; {
		st.BindText(1, sink)
		if _, err := st.row(func() { sink, more = st.ColumnText(0), !st.ColumnIsNull(0) }); err != nil {
			return err
		}
		if more {
			w.stateful[sink] = true
		}
	}
	return nil
}

// writeState stores what a sink remembers about an order key, and whom it is about: the state may outlive the delivery.
func (w *writer) writeState(sink, order string, state []byte, k core.DeliveryKey, now int64) error {
	var source, tenant string
	var about []byte
	st, err := w.c.stmt(`SELECT r.source, e.tenant, e.subject, e.partition_key FROM events AS e
		JOIN requests AS r ON r.seq = e.key >> 12 WHERE e.key = ?`)
	if err != nil {
		return err
	}
	st.int(1, k.EventKey())
	if _, err := st.row(func() {
		source, tenant = st.ColumnText(0), st.ColumnText(1)
		about = aboutOf(tenant, st.ColumnText(2), st.ColumnText(3))
	}); err != nil {
		return err
	}
	w.stateful[sink] = true
	st = w.setState
	st.same(1, sink)
	st.BindText(2, order)
	st.BindBytes(3, state)
	st.int(4, now)
	st.same(5, source)
	st.same(6, tenant)
	st.BindBytes(7, about)
	return st.run()
}

// useState notes that the state of an order key was used, if there is one.
func (w *writer) useState(sink, order string, now int64) error {
	if order == "" || !w.stateful[sink] {
		return nil
	}
	st, err := w.c.stmt("UPDATE keyed_state SET updated_at = ?1 WHERE sink = ?2 AND order_key = ?3 AND updated_at < ?1 - ?4")
	if err != nil {
		return err
	}
	st.int(1, now)
	st.BindText(2, sink)
	st.BindText(3, order)
	st.int(4, stateDay.Microseconds())
	return st.run()
}

// purgeStates deletes the keyed state that was not used since a time and whose key nothing waits for.
func (s *Store) purgeStates(ctx context.Context, before time.Time) error {
	if before.IsZero() {
		return nil
	}
	for at, end := (stateKey{}), false; !end; {
		old, next, err := s.someStates(ctx, at, func(st *stmt) bool { return st.ColumnInt64(2) < before.UnixMicro() })
		if err != nil {
			return err
		}
		at, end = next, next == stateKey{}
		for len(old) > 0 {
			done := 0
			err := s.stepped(ctx, &op{}, func(w *writer, until time.Time) error {
				done = 0
				st, err := w.c.stmt(`DELETE FROM keyed_state WHERE sink = ?1 AND order_key = ?2 AND updated_at < ?3
					AND NOT EXISTS (SELECT 1 FROM deliveries INDEXED BY deliveries_queue
						WHERE sink = ?1 AND order_key = ?2 AND state = 'pending')`)
				if err != nil {
					return err
				}
				for _, k := range old {
					st.BindText(1, k.sink)
					st.BindText(2, k.order)
					st.int(3, before.UnixMicro())
					if err := st.run(); err != nil {
						return err
					}
					if done++; time.Now().After(until) {
						break
					}
				}
				return nil
			})
			if err != nil {
				return err
			}
			old = old[done:]
		}
	}
	return nil
}

// isStateRow is isState of a row that someStates reads.
func (o *order) isStateRow(st *stmt) bool {
	return o.isState(st.ColumnText(3), st.ColumnText(4), st.readBytes(5))
}

// someStates looks at a page of keyed states after a key, and returns those that match: of a row with sink, order key,
// time, and whom it is about. next is where the following page begins, zero at the end.
func (s *Store) someStates(
	ctx context.Context, after stateKey, match func(st *stmt) bool,
) (some []stateKey, next stateKey, err error) {
	err = s.search(ctx, func(c *conn) error {
		st, err := c.stmt(`SELECT sink, order_key, updated_at, source, tenant, about FROM keyed_state
			WHERE (sink, order_key) > (?, ?) ORDER BY sink, order_key LIMIT ?`)
		if err != nil {
			return err
		}
		st.BindText(1, after.sink)
		st.BindText(2, after.order)
		st.int(3, statesPage)
		seen := 0
		var last stateKey
		err = st.rows(func() bool {
			last = stateKey{st.ColumnText(0), st.ColumnText(1)}
			if match(st) {
				some = append(some, last)
			}
			seen++
			return true
		})
		if seen == statesPage {
			next = last
		}
		return err
	})
	return some, next, err
}
