package sqlite

import (
	"fmt"
	"slices"
	"time"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/store"
)

// removal is what one transaction takes away for an order.
type removal struct {
	store.Removed
	sent      []store.SentDelivery
	touched   []int64 // sequences of requests that lost events
	forgotten []int64 // of those of which nothing is left
}

// erasedRequest is what decides about a request that something is erased of.
type erasedRequest struct {
	dedupe core.DedupeKey
	repeat int
	state  core.RequestState
	mine   []erasedEvent
	others []erasedEvent
}

type erasedEvent struct {
	key            int64
	kind, tenant   string
	offset, length int // of its data in the body; length -1: it is not there
}

// erased reads a request and tells its events apart, nil: it is not there, or gone.
func (c *conn) erased(o *order, seq int64) (*erasedRequest, error) {
	st, err := c.stmt("SELECT dedupe, repeat, state FROM requests WHERE seq = ? AND purged_at IS NULL")
	if err != nil {
		return nil, err
	}
	st.int(1, seq)
	r := &erasedRequest{}
	ok, err := st.row(func() {
		st.ColumnBytes(0, r.dedupe[:])
		r.repeat, r.state = st.ColumnInt(1), core.RequestState(st.ColumnText(2))
	})
	if err != nil || !ok {
		return nil, err
	}
	if st, err = c.stmt(`SELECT key, type, tenant, subject, partition_key, data_offset, data_length FROM events
		WHERE key >= ? AND key < ? ORDER BY key DESC`); err != nil {
		return nil, err
	}
	st.int(1, core.NewEventKey(seq, 0))
	st.int(2, core.NewEventKey(seq+1, 0))
	err = st.rows(func() bool {
		e := erasedEvent{st.ColumnInt64(0), st.ColumnText(1), st.ColumnText(2), 0, -1}
		if !st.ColumnIsNull(5) {
			e.offset, e.length = st.ColumnInt(5), st.ColumnInt(6)
		}
		if o.is(e.tenant, st.ColumnText(3), st.ColumnText(4)) {
			r.mine = append(r.mine, e)
		} else {
			r.others = append(r.others, e)
		}
		return true
	})
	return r, err
}

// erasedDelivery is a delivery of an event that is erased.
type erasedDelivery struct {
	key         core.DeliveryKey
	sink, order string
	state       core.DeliveryState
	attempts    int64               // rows
	sent        *store.SentDelivery // nil: its sink cannot know of it
}

func (s *Store) erasedDeliveries(c *conn, r *erasedRequest, e *erasedEvent) (ds []erasedDelivery, err error) {
	st, err := c.stmt(`SELECT key, sink, order_key, state, first_attempt, settled_at, route, replay, reference,
		(SELECT count(*) FROM attempts WHERE delivery = d.key) FROM deliveries AS d WHERE key >= ? AND key < ?`)
	if err != nil {
		return nil, err
	}
	st.int(1, e.key<<12)
	st.int(2, (e.key+1)<<12)
	event := core.EventID(r.dedupe, r.repeat, int(e.key&(core.MaxEvents-1)))
	err = st.rows(func() bool {
		d := erasedDelivery{
			key: core.DeliveryKey(st.ColumnInt64(0)), sink: st.ColumnText(1), order: st.ColumnText(2),
			state: core.DeliveryState(st.ColumnText(3)), attempts: st.ColumnInt64(9),
		}
		s.mu.Lock()
		_, _, leased := s.leaseOf(d.key)
		s.mu.Unlock()
		first, settled := st.readTime(4), st.readTime(5)
		sent := store.SentDelivery{
			ID: core.DeliveryID(event, st.ColumnText(6), d.sink, st.ColumnInt(7)), Sink: d.sink, Reference: st.ColumnText(8),
		}
		switch {
		case leased || d.state == core.DeliveryLeased:
			sent.State, sent.At = store.SentInFlight, first
		case d.state == core.DeliveryDelivered:
			sent.State, sent.At = store.SentDelivered, settled
		case !first.IsZero() || d.attempts > 0:
			sent.State, sent.At = store.SentTried, first
			if sent.At.IsZero() {
				sent.At = settled
			}
		}
		if sent.State != "" {
			d.sent = &sent
		}
		ds = append(ds, d)
		return true
	})
	return ds, err
}

// eraseRequest takes away what is an order's in a request. It may not come to an end within its time: more.
//
// If other events are in the request, too, they stay, with their data beside them, and the body goes: nobody can say which
// parts of it are whose. Otherwise the request goes as in a purge, but that its repetitions are recognized as such whatever
// became of it: a provider that repeats it does not bring the person back.
func (w *writer) eraseRequest(o *order, seq int64, until time.Time, x *removal) (more bool, err error) {
	r, err := w.c.erased(o, seq)
	if err != nil || r == nil || len(r.mine) == 0 && o.subject != nil {
		return false, err
	}
	if len(r.others) > 0 {
		if more, err := w.keepData(seq, r.others, until); err != nil || more {
			return more, err
		}
	}
	now := time.Now()
	x.touched = append(x.touched, seq)
	if err := w.dropFilter(seq >> filterShift); err != nil {
		return false, err
	}
	unrouted := 0
	for i := range r.mine {
		if i > 0 && time.Now().After(until) {
			return true, w.lessUnrouted(seq, unrouted)
		}
		n, err := w.eraseEvent(r, &r.mine[i], now.UnixMicro(), x)
		if err != nil {
			return false, err
		}
		if n == 0 {
			unrouted++
		}
	}
	if len(r.others) > 0 {
		x.Shared++
		if err := w.lessUnrouted(seq, unrouted); err != nil {
			return false, err
		}
		return false, w.blank(o, seq)
	}
	x.Requests++
	w.addCount(requestCounter(r.state), -1)
	st, err := w.c.stmt("UPDATE requests SET state = 'routed' WHERE seq = ? AND state <> 'routed'")
	if err != nil {
		return false, err
	}
	st.int(1, seq)
	if err := st.run(); err != nil {
		return false, err
	}
	return false, w.vacate(seq, now, &x.forgotten)
}

// eraseEvent deletes an event with its deliveries, and what they left, and returns how many deliveries it had.
func (w *writer) eraseEvent(r *erasedRequest, e *erasedEvent, now int64, x *removal) (int, error) {
	ds, err := w.s.erasedDeliveries(w.c, r, e)
	if err != nil {
		return 0, err
	}
	if len(ds) == 0 {
		w.addCount(counter{countUnrouted, e.kind}, -1)
	}
	if err := w.unholdBetween(e.key<<12, (e.key+1)<<12, now); err != nil {
		return 0, err
	}
	for _, sql := range []string{
		"DELETE FROM attempts WHERE delivery >= ?1 << 12 AND delivery < (?1 + 1) << 12",
		"DELETE FROM deliveries WHERE key >= ?1 << 12 AND key < (?1 + 1) << 12",
		"DELETE FROM events WHERE key = ?1",
	} {
		st, err := w.c.stmt(sql)
		if err != nil {
			return 0, err
		}
		st.int(1, e.key)
		if err := st.run(); err != nil {
			return 0, err
		}
	}
	x.Events++
	x.Deliveries += int64(len(ds))
	for _, d := range ds {
		x.Attempts += d.attempts
		if d.sent != nil {
			x.sent = append(x.sent, *d.sent)
		}
		if d.state.Settled() {
			w.addCount(deliveryCounter(d.sink, d.state), -1)
		} else {
			w.addCount(deliveryCounter(d.sink, core.DeliveryPending), -1)
			if w.effects.erased == nil {
				w.effects.erased = map[string][]core.DeliveryKey{}
			}
			w.effects.erased[d.sink] = append(w.effects.erased[d.sink], d.key)
			if err := w.promote(d.sink, d.order, now); err != nil {
				return 0, err
			}
		}
		if d.order != "" {
			if err := w.eraseState(stateKey{d.sink, d.order}, x); err != nil {
				return 0, err
			}
		}
	}
	return len(ds), nil
}

func (w *writer) eraseState(k stateKey, x *removal) error {
	w.deleteState.same(1, k.sink)
	w.deleteState.BindText(2, k.order)
	if err := w.deleteState.run(); err != nil {
		return err
	}
	x.States += int64(w.c.Changes())
	return nil
}

// lessUnrouted notes that a request has lost some events without deliveries.
func (w *writer) lessUnrouted(seq int64, n int) error {
	if n == 0 {
		return nil
	}
	st, err := w.c.stmt("UPDATE requests SET unrouted = unrouted - ? WHERE seq = ?")
	if err != nil {
		return err
	}
	st.int(1, int64(n))
	st.int(2, seq)
	return st.run()
}

// keepData gives events their data that is in their request's body.
func (w *writer) keepData(seq int64, events []erasedEvent, until time.Time) (more bool, err error) {
	var body []byte
	st, err := w.c.stmt("UPDATE events SET data = ?, data_offset = NULL, data_length = NULL WHERE key = ?")
	if err != nil {
		return false, err
	}
	for i := range events {
		e := &events[i]
		if e.length < 0 {
			continue
		}
		if body == nil {
			if body, err = w.c.body(seq); err != nil {
				return false, err
			}
		} else if time.Now().After(until) {
			return true, nil
		}
		st.BindNull(1)
		if data := (span{e.offset, e.length}).in(body); data != nil {
			st.BindBytes(1, data)
		}
		st.int(2, e.key)
		if err := st.run(); err != nil {
			return false, err
		}
	}
	return false, nil
}

// blank empties a request that stays for the events of others.
func (w *writer) blank(o *order, seq int64) error {
	st, err := w.c.stmt("UPDATE bodies SET headers = NULL, body = x'' WHERE seq = ?")
	if err != nil {
		return err
	}
	st.int(1, seq)
	if err := st.run(); err != nil {
		return err
	}
	if st, err = w.c.stmt(`UPDATE requests SET reason = NULL, notes = ?, query = NULL, trace = substr(trace, 1, 55)
		WHERE seq = ?`); err != nil {
		return err
	}
	st.list(1, []string{fmt.Sprintf("the body was erased, since somebody was in it: receipt %d", o.id)})
	st.int(2, seq)
	return st.run()
}

// record adds what was removed to the order's receipt.
func (w *writer) record(o *order, x *removal) error {
	w.scrubs++
	st, err := w.c.stmt(`UPDATE receipts SET requests = requests + ?, shared = shared + ?, events = events + ?,
		deliveries = deliveries + ?, attempts = attempts + ?, states = states + ?, rejections = rejections + ? WHERE id = ?`)
	if err != nil {
		return err
	}
	for i, n := range []int64{x.Requests, x.Shared, x.Events, x.Deliveries, x.Attempts, x.States, x.Rejections, o.id} {
		st.int(i+1, n)
	}
	if err := st.run(); err != nil {
		return err
	}
	if st, err = w.c.stmt(`INSERT OR REPLACE INTO receipt_deliveries (receipt, delivery, sink, state, at)
		VALUES (?, ?, ?, ?, ?)`); err != nil {
		return err
	}
	for _, d := range x.sent {
		st.int(1, o.id)
		st.BindText(2, d.ID)
		st.BindText(3, d.Sink)
		st.BindText(4, d.State)
		st.BindNull(5)
		if !d.At.IsZero() {
			st.int(5, d.At.UnixMicro())
		}
		if err := st.run(); err != nil {
			return err
		}
	}
	return nil
}

// eraseLate takes away what a request that was just routed has of an order. None of its deliveries is leased.
func (w *writer) eraseLate(o *order, seq int64) error {
	var x removal
	w.s.log.Info("a request is about somebody who was erased after it had been received", "receipt", o.id)
	if _, err := w.eraseRequest(o, seq, time.Now().Add(time.Hour), &x); err != nil {
		return err
	}
	for _, seq := range x.touched {
		if err := w.refilter(seq >> filterShift); err != nil {
			return err
		}
	}
	if err := w.record(o, &x); err != nil {
		return err
	}
	return w.setMeta("scrub", 1)
}

// endErased ends the leases of deliveries that were erased, and leaves of each sink's those that had one; s.mu is held.
func (s *Store) endErased(erased map[string][]core.DeliveryKey) {
	for sink, keys := range erased {
		q := s.queue(sink)
		erased[sink] = slices.DeleteFunc(keys, func(k core.DeliveryKey) bool {
			_, leased := q.end(k)
			if !leased && q.running { // the claim may just have seen it
				q.ended[k] = struct{}{}
			}
			return !leased
		})
	}
}

// refilter makes the filter of a stretch of requests of the events that are there.
func (w *writer) refilter(block int64) error {
	f := &openFilter{block: block}
	if err := w.fillFilter(f); err != nil {
		return err
	}
	for i, o := range w.filters {
		if o.block == block {
			f.used = o.used
			w.filters[i] = f // not into o: a rollback needs that
			return nil
		}
	}
	if f.filter == (filter{}) {
		return nil // there are no events
	}
	return w.writeFilter(f)
}

// dropFilter deletes the filter of a stretch of requests that loses events, until refilter makes it anew: one that a crash
// leaves away is no harm, one that knows of erased events is.
func (w *writer) dropFilter(block int64) error {
	st, err := w.c.stmt("DELETE FROM event_filters WHERE block = ?")
	if err != nil {
		return err
	}
	st.int(1, block)
	return st.run()
}
