package sqlite

import (
	"context"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/store"
)

// sourceURN and the name of a request's source are the source of its events; only others are stored.
const sourceURN = "urn:grapnel:source:"

// Route implements store.Store.
func (s *Store) Route(ctx context.Context, ds []*store.Decision) error {
	o := &op{apply: func(w *writer) error {
		now := time.Now().UnixMicro()
		for _, d := range ds {
			d.Stale, d.Leased = false, nil
			if err := w.route(d, now); err != nil {
				return fmt.Errorf("request %s: %w", d.Request.ID(), err)
			}
		}
		return nil
	}}
	for _, d := range ds {
		o.weight += 1 + len(d.Events) + len(d.Deliveries)
		for _, dl := range d.Deliveries {
			o.bytes += len(dl.Message)
		}
		for i := range d.Events {
			if e := &d.Events[i]; e.DataOffset < 0 {
				o.bytes += len(e.Data)
			}
		}
	}
	if err := s.do(ctx, o); err != nil {
		return fmt.Errorf("store decoded requests: %w", err)
	}
	return nil
}

func (w *writer) route(d *store.Decision, now int64) error {
	if d.Retry {
		st := w.retryRequest
		st.list(1, d.Notes)
		st.int(2, int64(d.Crashes))
		st.int(3, d.Request.Seq)
		err := st.run()
		d.Stale = err == nil && w.c.Changes() == 0
		return err
	}
	state := core.RequestRouted
	unrouted := 0
	if d.Dead != "" {
		state = core.RequestDead
	} else {
		unrouted = w.findUnrouted(d)
	}
	st := w.routeRequest
	st.same(1, string(state))
	st.text(2, d.Dead)
	st.list(3, d.Notes)
	st.int(4, int64(d.Crashes))
	st.int(5, int64(unrouted))
	st.int(6, d.Request.Seq)
	if err := st.run(); err != nil {
		return err
	}
	if w.c.Changes() == 0 {
		d.Stale = true
		return nil
	}
	w.addCount(requestCounter(core.RequestReceived), -1)
	w.addCount(requestCounter(state), 1)
	if state == core.RequestDead {
		return nil
	}
	for i := range d.Events {
		e := &d.Events[i]
		if err := w.event(d.Request, e); err != nil {
			return err
		}
		if unrouted > 0 && !w.routed[i] {
			w.addCount(counter{countUnrouted, e.Type}, 1)
		}
	}
	d.Leased = make([]bool, len(d.Deliveries))
	orders := w.ordersOf(d)
	for i, dl := range d.Deliveries {
		if i < len(d.Lease) && dl.State == core.DeliveryPending && orders == nil {
			d.Leased[i] = d.Lease[i] == store.LeaseAlways
			if d.Lease[i] == store.LeaseIfFree {
				var err error
				if d.Leased[i], err = w.free(dl.Sink, dl.OrderKey); err != nil {
					return err
				}
			}
		}
		if err := w.delivery(dl, now, d.Leased[i]); err != nil {
			return err
		}
		if i < len(d.Hold) && d.Hold[i] && dl.State == core.DeliveryDead {
			if err := w.hold(dl.Sink, dl.OrderKey, int64(dl.Key)); err != nil {
				return err
			}
		}
	}
	for _, o := range orders {
		if err := w.eraseLate(o, d.Request.Seq); err != nil {
			return err
		}
	}
	return nil
}

// findUnrouted counts the events that have no delivery, and fills w.routed.
func (w *writer) findUnrouted(d *store.Decision) int {
	w.routed = w.routed[:0]
	for range d.Events {
		w.routed = append(w.routed, false)
	}
	left := len(d.Events)
	for _, dl := range d.Deliveries {
		i := dl.Key.EventKey() - core.NewEventKey(d.Request.Seq, 0)
		if i >= 0 && i < int64(len(w.routed)) && !w.routed[i] {
			w.routed[i] = true
			left--
		}
	}
	return left
}

func (w *writer) event(r *core.Request, e *core.Event) error {
	st := w.insertEvent
	st.int(1, core.NewEventKey(r.Seq, e.Index))
	st.same(2, e.Type)
	st.text(3, e.Subject)
	st.text(4, e.PartitionKey)
	st.same(5, e.Operation)
	st.same(6, e.Provider)
	st.same(7, e.Tenant)
	st.text(8, e.Time)
	if name, ok := strings.CutPrefix(e.Source, sourceURN); ok && name == r.Source {
		st.BindNull(9)
	} else {
		st.text(9, e.Source)
	}
	st.BindNull(10)
	st.BindNull(11)
	st.BindNull(12)
	switch {
	case e.Data == nil:
	case e.DataOffset >= 0:
		st.int(10, int64(e.DataOffset))
		st.int(11, int64(len(e.Data)))
	default:
		st.BindBytes(12, e.Data)
	}
	st.json(13, e.Changes)
	if err := st.run(); err != nil {
		return err
	}
	f, err := w.filterOf(r.Seq)
	if err != nil {
		return err
	}
	f.noteType(e.Type)
	f.note(ofSubject, e.Subject)
	f.note(ofTenant, e.Tenant)
	return nil
}

func (w *writer) delivery(d *core.Delivery, now int64, leaseIt bool) error {
	pending := d.State == core.DeliveryPending
	state := d.State
	if leaseIt {
		state = core.DeliveryLeased
	}
	st := w.insertDelivery
	st.int(1, int64(d.Key))
	st.same(2, d.Sink)
	st.text(3, d.OrderKey)
	st.same(4, string(state))
	st.BindNull(5)
	var due int64
	isDue := false
	if pending && !leaseIt {
		due = now
		if !d.Due.IsZero() {
			due = d.Due.UnixMicro()
		}
		var err error
		if isDue, err = w.place(d.Sink, d.OrderKey, int64(d.Key)); err != nil {
			return err
		}
		if isDue {
			st.int(5, due)
		}
	}
	st.same(6, d.Route)
	st.int(7, int64(d.Replay))
	st.int(8, int64(d.Attempts))
	st.int(9, int64(d.Crashes))
	st.BindNull(10)
	if !pending {
		settled := now
		if !d.SettledAt.IsZero() {
			settled = d.SettledAt.UnixMicro()
		}
		st.int(10, settled)
	}
	st.text(11, d.Reason)
	st.list(12, d.AttributePath)
	st.text(13, d.RouteRange)
	st.same(14, d.ConfigDigest)
	st.same(15, d.SchemaDigest)
	st.json(16, d.Message)
	if err := st.run(); err != nil {
		return err
	}
	f, err := w.filterOf(d.Key.RequestSeq())
	if err != nil {
		return err
	}
	f.note(ofRoute, d.Route)
	f.note(ofSink, d.Sink)
	w.addCount(deliveryCounter(d.Sink, d.State), 1)
	switch {
	case leaseIt:
		// It has to stand before a claim can see the row's order key free.
		l := newLease{key: d.Key, lease: lease{order: d.OrderKey, due: math.MaxInt64, fresh: true}}
		w.s.mu.Lock()
		l.queue = w.s.queue(d.Sink)
		l.queue.begin(d.Key, l.lease)
		w.s.mu.Unlock()
		w.effects.leased = append(w.effects.leased, l)
	case isDue:
		w.becomesDue(d.Sink, int64(d.Key), due)
	}
	return nil
}

// place says whether a pending delivery that is about to appear is the head of its order key, and so may have a due
// time. If it goes before the head of now, that one waits from here on.
func (w *writer) place(sink, order string, key int64) (bool, error) {
	if order == "" {
		return true, nil
	}
	if holder, err := w.holder(sink, order); err != nil || holder != 0 && holder < key {
		return false, err
	}
	first, _, err := w.headOf(sink, order)
	if err != nil || first != 0 && first < key {
		return false, err
	}
	if first > key {
		w.setDue.BindNull(1)
		w.setDue.int(2, first)
		if err := w.setDue.run(); err != nil {
			return false, err
		}
	}
	return true, nil
}

// headOf returns the first pending delivery of an order key, 0 if there is none, and whether it has a due time.
func (w *writer) headOf(sink, order string) (key int64, due bool, err error) {
	w.head.same(1, sink)
	w.head.text(2, order)
	_, err = w.head.row(func() { key, due = w.head.ColumnInt64(0), !w.head.ColumnIsNull(1) })
	return key, due, err
}

// promote lets the next delivery of an order key come due after the one before it was settled.
func (w *writer) promote(sink, order string, now int64) error {
	if order == "" {
		return nil
	}
	key, due, err := w.headOf(sink, order)
	if err != nil || key == 0 || due {
		return err
	}
	if holder, err := w.holder(sink, order); err != nil || holder != 0 && holder < key {
		return err
	}
	w.setDue.int(1, now)
	w.setDue.int(2, key)
	if err := w.setDue.run(); err != nil {
		return err
	}
	w.becomesDue(sink, key, now)
	return nil
}
