package sqlite

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/store"
)

// The queries of claims.
const (
	waitingQuery = "SELECT " + requestColumns + `, b.headers, b.body
		FROM requests AS r NOT INDEXED JOIN bodies AS b ON b.seq = r.seq
		WHERE r.source = ? AND r.state = 'received' AND r.seq > ? ORDER BY r.seq LIMIT ?`
	dueAtQuery = `SELECT due, key FROM deliveries INDEXED BY deliveries_due
		WHERE sink = ? AND due = ? AND key > ? AND state = 'pending' AND due <= ? ORDER BY key LIMIT ?`
	dueQuery = `SELECT due, key FROM deliveries INDEXED BY deliveries_due
		WHERE sink = ? AND due > ? AND due <= ? AND state = 'pending' ORDER BY due, key LIMIT ?`
	nextDueQuery = `SELECT due, key FROM deliveries INDEXED BY deliveries_due
		WHERE sink = ? AND due > ? AND state = 'pending' ORDER BY due, key`
	claimedQuery = "SELECT " + deliveryColumns + ", e.data, k.state FROM deliveries AS d" + deliveryJoins + `
		LEFT JOIN keyed_state AS k ON k.sink = d.sink AND k.order_key = d.order_key WHERE d.key = ?`
)

// ClaimRequests implements store.Store.
func (s *Store) ClaimRequests(ctx context.Context, source string, after int64, limit int) ([]*core.Request, error) {
	var rs []*core.Request
	for len(rs) == 0 { // again only if all that was found has died
		found, err := s.waitingRequests(ctx, source, after, limit)
		if err != nil {
			return nil, fmt.Errorf("claim requests: %w", err)
		}
		if len(found) == 0 {
			return nil, nil
		}
		after = found[len(found)-1].Seq
		if rs, err = s.chargeRequests(ctx, found); err != nil {
			return nil, fmt.Errorf("claim requests: %w", err)
		}
	}
	return rs, nil
}

func (s *Store) waitingRequests(ctx context.Context, source string, after int64, limit int) ([]*core.Request, error) {
	var rs []*core.Request
	after = max(after, s.routed.Load()) // before the snapshot: what is reopened meanwhile is claimed by the next call
	err := s.read(ctx, func(c *conn) error {
		st, err := c.stmt(waitingQuery)
		if err != nil {
			return err
		}
		st.BindText(1, source)
		st.int(2, after)
		st.int(3, int64(limit))
		size := 0
		return st.rows(func() bool {
			r := st.request()
			r.Headers, r.Body = parseHeaders(st.ColumnText(requestWidth)), st.readBytes(requestWidth+1)
			rs = append(rs, r)
			size += len(r.Body)
			return size < claimBytes
		})
	})
	return rs, err
}

// claimBytes ends a claim early, so that large bodies do not fill the memory.
const claimBytes = 32 << 20

// chargeRequests records the claims of requests that may have stopped a host. Those that did it too often die.
func (s *Store) chargeRequests(ctx context.Context, found []*core.Request) ([]*core.Request, error) {
	var charge, bury []*core.Request
	live := found[:0:0]
	for _, r := range found {
		switch {
		case r.Seq > s.suspect:
			live = append(live, r)
		case r.Claims >= maxClaims:
			bury = append(bury, r)
		default:
			charge = append(charge, r)
			live = append(live, r)
		}
	}
	if len(charge)+len(bury) == 0 {
		return found, nil
	}
	err := s.do(ctx, &op{weight: len(charge) + len(bury), apply: func(w *writer) error {
		st, err := w.c.stmt("UPDATE requests SET claims = claims + 1 WHERE seq = ? AND state = 'received'")
		if err != nil {
			return err
		}
		for _, r := range charge {
			st.int(1, r.Seq)
			if err := st.run(); err != nil {
				return err
			}
		}
		st, err = w.c.stmt("UPDATE requests SET state = 'dead', reason = ? WHERE seq = ? AND state = 'received'")
		if err != nil {
			return err
		}
		for _, r := range bury {
			st.BindText(1, stoppedReason(r.Claims))
			st.int(2, r.Seq)
			if err := st.run(); err != nil {
				return err
			}
			if w.c.Changes() > 0 {
				w.addCount(requestCounter(core.RequestReceived), -1)
				w.addCount(requestCounter(core.RequestDead), 1)
			}
		}
		return nil
	}})
	if err != nil {
		return nil, err
	}
	for _, r := range charge {
		r.Claims++
	}
	for _, r := range bury {
		s.log.Error("a request stopped the host too often, it is dead", "request_id", r.ID(), "claims", r.Claims)
	}
	return live, nil
}

func stoppedReason(n int) string {
	return fmt.Sprintf("the host stopped %d times while working on this", n)
}

// ClaimDeliveries implements store.Store.
func (s *Store) ClaimDeliveries(
	ctx context.Context, sink string, now time.Time, limit int, hold bool,
) ([]*core.Delivery, store.Backlog, error) {
	s.mu.Lock()
	q := s.queue(sink)
	s.mu.Unlock()
	select {
	case q.claiming <- struct{}{}:
	case <-ctx.Done():
		return nil, store.Backlog{}, ctx.Err()
	}
	defer func() { <-q.claiming }()

	for {
		ds, next, err := s.lease(ctx, q, sink, now.UnixMicro(), limit)
		if err == nil {
			var live []*core.Delivery
			if live, err = s.chargeDeliveries(ctx, ds, hold); err == nil && len(live) == 0 && len(ds) > 0 {
				continue // all that was found has died
			}
			ds = live
		}
		if err != nil {
			return nil, store.Backlog{}, fmt.Errorf("claim deliveries: %w", err)
		}
		s.mu.Lock()
		b := store.Backlog{Left: s.totals[deliveryCounter(sink, core.DeliveryPending)] > int64(q.held)}
		s.mu.Unlock()
		if next != math.MaxInt64 {
			b.Next = time.UnixMicro(next).UTC()
		}
		return ds, b, nil
	}
}

// lease finds due deliveries and leases them. next is the first due time after now, MaxInt64 if there is none.
func (s *Store) lease(
	ctx context.Context, q *sinkQueue, sink string, now int64, limit int,
) (ds []*core.Delivery, next int64, err error) {
	s.mu.Lock()
	at := q.from
	q.running, q.back = true, endPlace
	s.mu.Unlock()
	next = math.MaxInt64
	err = s.read(ctx, func(c *conn) error {
		r := newDeliveryReader(c)
		size := 0
		for len(ds) < limit && size+r.bytes < claimBytes {
			page, err := dueAfter(c, sink, at, now, limit-len(ds))
			if err != nil {
				return err
			}
			if len(page) == 0 {
				break
			}
			for _, p := range page {
				if s.isTaken(q, core.DeliveryKey(p.key)) {
					at = p
					continue
				}
				d, err := r.read(p.key)
				if err != nil {
					return err
				}
				if s.take(q, d, p.due) {
					ds = append(ds, d)
					size += len(d.Message)
				}
				at = p
				if len(ds) == limit || size+r.bytes >= claimBytes {
					break
				}
			}
		}
		next, err = s.nextDue(c, q, sink, now)
		return err
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		for _, d := range ds {
			q.release(d.Key)
		}
		ds = nil
	}
	q.from = at
	if q.back.before(q.from) {
		q.from = q.back
	}
	q.running = false
	clear(q.ended)
	clear(q.endedOf)
	return ds, next, err
}

// dueAfter reads a page of the index of due times: what comes after a place and is due. It reads the index only.
func dueAfter(c *conn, sink string, after place, now int64, limit int) ([]place, error) {
	limit = max(limit, 64)
	var page []place
	st, err := c.stmt(dueAtQuery)
	if err != nil {
		return nil, err
	}
	st.BindText(1, sink)
	st.int(2, after.due)
	st.int(3, after.key)
	st.int(4, now)
	st.int(5, int64(limit))
	collect := func() bool {
		page = append(page, place{st.ColumnInt64(0), st.ColumnInt64(1)})
		return true
	}
	if err := st.rows(collect); err != nil || len(page) == limit {
		return page, err
	}
	st, err = c.stmt(dueQuery)
	if err != nil {
		return nil, err
	}
	st.BindText(1, sink)
	st.int(2, after.due)
	st.int(3, now)
	st.int(4, int64(limit-len(page)))
	return page, st.rows(collect)
}

// nextDue is the earliest due time after now of what nobody has leased. What is leased was due before, unless the clock
// went back.
func (s *Store) nextDue(c *conn, q *sinkQueue, sink string, now int64) (int64, error) {
	next := int64(math.MaxInt64)
	st, err := c.stmt(nextDueQuery)
	if err != nil {
		return next, err
	}
	st.BindText(1, sink)
	st.int(2, now)
	err = st.rows(func() bool {
		if s.isTaken(q, core.DeliveryKey(st.ColumnInt64(1))) {
			return true
		}
		next = st.ColumnInt64(0)
		return false
	})
	return next, err
}

// isTaken reports whether a row seen pending is leased, or was until after the snapshot.
func (s *Store) isTaken(q *sinkQueue, k core.DeliveryKey) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, leased := q.leases[k]
	_, ended := q.ended[k]
	return leased || ended
}

// take leases a delivery unless another of its order key is leased.
func (s *Store) take(q *sinkQueue, d *core.Delivery, due int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ended := q.ended[d.Key]; ended {
		return false
	}
	if _, leased := q.leases[d.Key]; leased {
		return false
	}
	if d.OrderKey != "" && q.orders[d.OrderKey] > 0 {
		q.passed[d.OrderKey] = due
		return false
	}
	if _, ended := q.endedOf[d.OrderKey]; ended {
		q.lower(due) // the next claim sees what became of it
		return false
	}
	q.begin(d.Key, lease{order: d.OrderKey, due: due})
	q.held++
	return true
}

// chargeDeliveries records the claims of leased deliveries that may have stopped a host. Those that did it too often
// die, and hold their order keys if they are to.
func (s *Store) chargeDeliveries(ctx context.Context, ds []*core.Delivery, hold bool) ([]*core.Delivery, error) {
	var charge, bury []*core.Delivery
	live := ds[:0:0]
	for _, d := range ds {
		switch {
		case d.Key.RequestSeq() > s.suspect:
			live = append(live, d)
		case d.Claims >= maxClaims:
			bury = append(bury, d)
		default:
			charge = append(charge, d)
			live = append(live, d)
		}
	}
	if len(charge)+len(bury) == 0 {
		return ds, nil
	}
	apply := func(w *writer) error {
		st, err := w.c.stmt("UPDATE deliveries SET claims = claims + 1 WHERE key = ? AND state = 'pending'")
		if err != nil {
			return err
		}
		for _, d := range charge {
			st.int(1, int64(d.Key))
			if err := st.run(); err != nil {
				return err
			}
		}
		now := time.Now().UnixMicro()
		for _, d := range bury {
			st, err := w.c.stmt(`UPDATE deliveries SET state = 'dead', due = NULL, reason = ?, settled_at = ?
				WHERE key = ? AND state = 'pending'`)
			if err != nil {
				return err
			}
			st.BindText(1, stoppedReason(d.Claims))
			st.int(2, now)
			st.int(3, int64(d.Key))
			if err := st.run(); err != nil {
				return err
			}
			if w.c.Changes() == 0 {
				continue
			}
			w.addCount(deliveryCounter(d.Sink, core.DeliveryPending), -1)
			w.addCount(deliveryCounter(d.Sink, core.DeliveryDead), 1)
			if hold {
				err = w.hold(d.Sink, d.OrderKey, int64(d.Key))
			} else {
				err = w.promote(d.Sink, d.OrderKey, now)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	committed := func() {
		for _, d := range charge {
			if q, l, ok := s.leaseOf(d.Key); ok {
				l.charged = true
				q.leases[d.Key] = l
			}
		}
		for _, d := range bury {
			if q, _, ok := s.leaseOf(d.Key); ok {
				q.end(d.Key)
			}
		}
	}
	if err := s.do(ctx, &op{weight: len(ds), apply: apply, committed: committed}); err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, d := range ds {
			if q, _, ok := s.leaseOf(d.Key); ok {
				q.release(d.Key)
			}
		}
		return nil, err
	}
	for _, d := range charge {
		d.Claims++
	}
	for _, d := range bury {
		s.log.Error("a delivery stopped the host too often, it is dead", "delivery_id", d.ID, "claims", d.Claims)
	}
	return live, nil
}

// KeyState implements store.Store.
func (s *Store) KeyState(ctx context.Context, sink, orderKey string) (state []byte, err error) {
	err = s.read(ctx, func(c *conn) error {
		st, err := c.stmt("SELECT state FROM keyed_state WHERE sink = ? AND order_key = ?")
		if err != nil {
			return err
		}
		st.BindText(1, sink)
		st.BindText(2, orderKey)
		_, err = st.row(func() { state = st.readBytes(0) })
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read keyed state: %w", err)
	}
	return state, nil
}
