package sqlite

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/store"
)

// sinkQueue is what the store knows in memory of one sink's pending deliveries. Store.mu guards it, but for claiming.
//
// Claims walk the index of due times in the order (due, key). Rows at or before from need no look: each is leased, or
// waits for a lease of its order key. Whatever makes a row claimable again moves from back before it.
type sinkQueue struct {
	sink   string
	leases map[core.DeliveryKey]lease
	held   int            // leases of committed rows
	orders map[string]int // leases by order key

	from   place
	passed map[string]int64 // order keys whose head was passed over for a lease, and its due time

	claiming chan struct{} // holds one token: taken while a claim runs
	running  bool          // a claim runs
	back     place         // running: the earliest place that from was moved back to since
	ended    map[core.DeliveryKey]struct{}
	endedOf  map[string]struct{} // likewise, the order keys
}

// lease says that a delivery is in the hands of a caller.
type lease struct {
	order   string
	due     int64 // at the latest where the row stands in the index, if it is there
	fresh   bool  // its row says leased, so it has no due time
	charged bool  // its claim was recorded, and is taken back if it is released
}

// place is a position in the index of due times.
type place struct{ due, key int64 }

func (p place) before(q place) bool { return p.due < q.due || p.due == q.due && p.key < q.key }

var (
	startPlace = place{math.MinInt64, math.MinInt64}
	endPlace   = place{math.MaxInt64, math.MaxInt64}
)

// queue returns a sink's queue; s.mu is held.
func (s *Store) queue(sink string) *sinkQueue {
	q := s.queues[sink]
	if q == nil {
		q = &sinkQueue{
			sink:   sink,
			leases: map[core.DeliveryKey]lease{}, orders: map[string]int{}, passed: map[string]int64{},
			ended: map[core.DeliveryKey]struct{}{}, endedOf: map[string]struct{}{}, from: startPlace, claiming: make(chan struct{}, 1),
		}
		s.queues[sink] = q
	}
	return q
}

// begin enters a lease.
func (q *sinkQueue) begin(k core.DeliveryKey, l lease) {
	q.leases[k] = l
	if l.order != "" {
		q.orders[l.order]++
	}
}

// end removes the lease of a committed row.
func (q *sinkQueue) end(k core.DeliveryKey) (lease, bool) {
	l, ok := q.leases[k]
	if !ok {
		return l, false
	}
	delete(q.leases, k)
	q.held--
	if q.running {
		// The running claim's snapshot may be older than what ended the lease: there, a later delivery of the order key may
		// be due that has to wait for this one by now.
		q.ended[k] = struct{}{}
		if l.order != "" {
			q.endedOf[l.order] = struct{}{}
		}
	}
	q.endOrder(l.order)
	return l, true
}

func (q *sinkQueue) endOrder(order string) {
	if order == "" {
		return
	}
	if q.orders[order]--; q.orders[order] > 0 {
		return
	}
	delete(q.orders, order)
	if due, ok := q.passed[order]; ok {
		delete(q.passed, order)
		q.lower(due)
	}
}

// becomesDue makes claims find a row that has a new due time.
func (q *sinkQueue) becomesDue(k core.DeliveryKey, due int64) {
	if l, ok := q.leases[k]; ok {
		l.due = min(l.due, due)
		q.leases[k] = l
	}
	q.lower(due)
}

// lower makes claims look again from a due time on.
func (q *sinkQueue) lower(due int64) {
	p := place{due, math.MinInt64}
	if p.before(q.from) {
		q.from = p
	}
	if q.running && p.before(q.back) {
		q.back = p
	}
}

// Release implements store.Store. Leases that only memory knows of end at once. Those that rows know of end with a
// commit, and if that fails, with a later one: nobody else would give these deliveries back.
func (s *Store) Release(ctx context.Context, keys []core.DeliveryKey) error {
	var written []core.DeliveryKey
	s.mu.Lock()
	for _, k := range keys {
		if q, l, ok := s.leaseOf(k); ok && (l.fresh || l.charged) {
			written = append(written, k)
		} else if ok {
			q.release(k)
		}
	}
	s.mu.Unlock()
	if len(written) == 0 {
		return nil
	}
	err := s.release(ctx, written)
	if err == nil || errors.Is(err, store.ErrClosed) {
		return err
	}
	s.log.Warn("cannot give leases back yet", "deliveries", len(written), "error", err)
	s.mu.Lock()
	s.unreleased = append(s.unreleased, written...)
	s.mu.Unlock()
	s.signal()
	return nil
}

func (s *Store) release(ctx context.Context, keys []core.DeliveryKey) error {
	return s.do(ctx, &op{
		weight: 2 * len(keys),
		apply: func(w *writer) error {
			now := time.Now().UnixMicro()
			for _, k := range keys {
				if err := w.release(k, now); err != nil {
					return err
				}
			}
			return nil
		},
		committed: func() {
			for _, k := range keys {
				if q, _, ok := s.leaseOf(k); ok {
					q.release(k)
				}
			}
		},
	})
}

// releaseAgain tries again what Release could not commit.
func (s *Store) releaseAgain(ctx context.Context) {
	s.mu.Lock()
	keys := s.unreleased
	s.unreleased = nil
	s.mu.Unlock()
	if len(keys) == 0 || s.release(ctx, keys) == nil {
		return
	}
	s.mu.Lock()
	s.unreleased = append(s.unreleased, keys...)
	s.mu.Unlock()
	s.signal()
}

// release undoes what a lease wrote into a row.
func (w *writer) release(k core.DeliveryKey, now int64) error {
	w.s.mu.Lock()
	_, l, ok := w.s.leaseOf(k)
	w.s.mu.Unlock()
	switch {
	case !ok:
		return nil
	case l.fresh:
		return w.park(k, now)
	}
	st, err := w.c.stmt("UPDATE deliveries SET claims = claims - 1 WHERE key = ? AND state = 'pending' AND claims > 0")
	if err != nil {
		return err
	}
	st.int(1, int64(k))
	return st.run()
}

// park makes a row that says leased pending, and due unless it has to wait for its order key.
func (w *writer) park(k core.DeliveryKey, now int64) error {
	sink, order, state, err := w.placeOf(k)
	if err != nil || state != core.DeliveryLeased {
		return err
	}
	isDue, err := w.place(sink, order, int64(k))
	if err != nil {
		return err
	}
	st, err := w.c.stmt("UPDATE deliveries SET state = 'pending', due = ? WHERE key = ? AND state = 'leased'")
	if err != nil {
		return err
	}
	if isDue {
		st.int(1, now)
		w.becomesDue(sink, int64(k), now)
	}
	st.int(2, int64(k))
	return st.run()
}

// placeOf returns what decides where a delivery stands in its sink's queue; no sink: it is gone.
func (w *writer) placeOf(k core.DeliveryKey) (sink, order string, state core.DeliveryState, err error) {
	st := w.find
	st.int(1, int64(k))
	_, err = st.row(func() {
		sink, order, state = st.ColumnText(0), st.ColumnText(1), core.DeliveryState(st.ColumnText(2))
	})
	return sink, order, state, err
}

// parkLeased makes all rows that say leased pending: at a start, when nobody holds leases, and at a clean stop.
func (w *writer) parkLeased() error {
	var keys []core.DeliveryKey
	st, err := w.c.stmt("SELECT key FROM deliveries INDEXED BY deliveries_leased WHERE state = 'leased' ORDER BY key")
	if err != nil {
		return err
	}
	if err := st.rows(func() bool { keys = append(keys, core.DeliveryKey(st.ColumnInt64(0))); return true }); err != nil {
		return err
	}
	now := time.Now().UnixMicro()
	for _, k := range keys {
		if err := w.park(k, now); err != nil {
			return err
		}
	}
	return nil
}

// hastened is how many due times a start brings forward: a tenth of a second's work.
const hastened = 20_000

// hasten makes what waits for a later time due at a start. Those times came from a clock that may have been wrong,
// and what a sink asked for may be over: one try tells. The furthest come first.
func (w *writer) hasten() error {
	now := time.Now().UnixMicro()
	left := hastened
	for c, n := range w.s.totals {
		if c.kind != deliveryCounter("", core.DeliveryPending).kind || n == 0 {
			continue
		}
		st, err := w.c.stmt(`SELECT key FROM deliveries INDEXED BY deliveries_due
			WHERE sink = ? AND due > ? AND state = 'pending' ORDER BY due DESC LIMIT ?`)
		if err != nil {
			return err
		}
		st.BindText(1, c.label)
		st.int(2, now)
		st.int(3, int64(left))
		var keys []int64
		if err := st.rows(func() bool { keys = append(keys, st.ColumnInt64(0)); return true }); err != nil {
			return err
		}
		for _, k := range keys {
			w.setDue.int(1, now)
			w.setDue.int(2, k)
			if err := w.setDue.run(); err != nil {
				return err
			}
		}
		left -= len(keys)
	}
	return nil
}

func (q *sinkQueue) release(k core.DeliveryKey) {
	if l, ok := q.end(k); ok {
		q.lower(l.due)
	}
}

// leaseOf finds a lease; s.mu is held. There are few sinks.
func (s *Store) leaseOf(k core.DeliveryKey) (*sinkQueue, lease, bool) {
	for _, q := range s.queues {
		if l, ok := q.leases[k]; ok {
			return q, l, true
		}
	}
	return nil, lease{}, false
}
