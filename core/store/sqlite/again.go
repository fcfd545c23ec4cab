package sqlite

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/store"
)

const (
	// selectTime is about how long one read of a selection takes: while it lasts, the log cannot start again.
	selectTime  = 100 * time.Millisecond
	countAtOnce = 20_000
)

// Mark implements store.Store. What was settled before is committed when the writer comes to it.
func (s *Store) Mark(ctx context.Context) (time.Time, error) {
	var at int64
	err := s.do(ctx, &op{weight: 1, apply: func(*writer) error { at = time.Now().UnixMicro(); return nil }})
	if err != nil {
		return time.Time{}, fmt.Errorf("mark a time: %w", err)
	}
	return time.UnixMicro(at).UTC(), nil
}

// SelectDeliveries implements store.Store.
func (s *Store) SelectDeliveries(
	ctx context.Context, sel store.Selection, after core.DeliveryKey, limit int,
) (page []store.Selected, next core.DeliveryKey, err error) {
	err = s.search(ctx, func(c *conn) error {
		page = nil
		var keys []int64
		if keys, next, err = s.selected(c, sel, after, limit); err != nil {
			return err
		}
		r := newDeliveryReader(c)
		size := 0
		for i, key := range keys {
			d, err := r.readSelected(key)
			if err != nil {
				return err
			}
			page = append(page, d)
			if size += len(d.Delivery.Message); size+r.bytes >= claimBytes && i+1 < len(keys) {
				next = core.DeliveryKey(key)
				break
			}
		}
		return nil
	})
	if err != nil {
		return nil, 0, fmt.Errorf("select deliveries: %w", err)
	}
	return page, next, nil
}

// CountDeliveries implements store.Store.
func (s *Store) CountDeliveries(
	ctx context.Context, sel store.Selection, after core.DeliveryKey,
) (n int, next core.DeliveryKey, err error) {
	err = s.search(ctx, func(c *conn) error {
		keys, to, err := s.selected(c, sel, after, countAtOnce)
		n, next = len(keys), to
		return err
	})
	if err != nil {
		return 0, 0, fmt.Errorf("count deliveries: %w", err)
	}
	return n, next, nil
}

// FindDeliveries implements store.Store. Each id has a snapshot of its own, as findDelivery needs.
func (s *Store) FindDeliveries(ctx context.Context, ids []string) ([]store.Selected, error) {
	var found []store.Selected
	for _, id := range ids {
		err := s.search(ctx, func(c *conn) error {
			d, err := s.findDelivery(c, id)
			if err != nil {
				return err
			}
			one, err := newDeliveryReader(c).readSelected(int64(d.Key))
			if err == nil {
				found = append(found, one)
			}
			return err
		})
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return nil, fmt.Errorf("find deliveries: %w", err)
		}
	}
	return found, nil
}

// SelectRequests implements store.Store.
func (s *Store) SelectRequests(
	ctx context.Context, f store.RequestFilter, after int64, limit int,
) (page []*core.Request, next int64, err error) {
	if f.State != "" && f.State != core.RequestDead {
		return nil, 0, nil
	}
	err = s.search(ctx, func(c *conn) error {
		var q query
		seqs := bounds{after + 1, math.MaxInt64}
		if err := q.timeBounds(c, &seqs, f.Since, f.Until); err != nil {
			return err
		}
		q.where("r.state = 'dead' AND r.purged_at IS NULL AND r.seq >= ? AND r.seq < ?", seqs.first, seqs.end)
		q.equal("r.source", f.Source)
		q.equal("r.tenant", f.Tenant)
		st, err := c.transient("SELECT " + requestColumns + " FROM requests AS r INDEXED BY requests_dead WHERE " +
			q.String() + " ORDER BY r.seq")
		if err != nil {
			return err
		}
		defer st.Finalize()
		q.bind(st)
		return st.rows(func() bool {
			if len(page) == limit {
				next = page[limit-1].Seq
				return false
			}
			page = append(page, st.request())
			return true
		})
	})
	if err != nil {
		return nil, 0, fmt.Errorf("select requests: %w", err)
	}
	return page, next, nil
}

// RequestOf implements store.Store.
func (s *Store) RequestOf(ctx context.Context, k core.DeliveryKey) (r *core.Request, err error) {
	err = s.read(ctx, func(c *conn) error {
		r, err = c.request(k.RequestSeq(), false)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read a delivery's request: %w", err)
	}
	return r, nil
}

func (r *deliveryReader) readSelected(key int64) (store.Selected, error) {
	d, err := r.read(key)
	if err != nil {
		return store.Selected{}, err
	}
	req, err := r.c.request(d.Key.RequestSeq(), false)
	return store.Selected{Delivery: d, Request: req}, err
}

// selected finds keys of what a selection has behind a key, in their order. next is where it stopped, 0 at the end.
func (s *Store) selected(
	c *conn, sel store.Selection, after core.DeliveryKey, limit int,
) (keys []int64, next core.DeliveryKey, err error) {
	var q query
	seqs := bounds{0, math.MaxInt64 >> 24}
	hashes, ofEvents, found, err := s.deliveryConditions(c, &sel.DeliveryFilter, &q, &seqs)
	if err != nil || !found {
		return nil, 0, err
	}
	state := core.DeliveryDead
	if sel.Replay {
		if sel.State != "" {
			state = sel.State
		}
		q.where("d.replayed_by IS NULL")
	} else if sel.State != "" && sel.State != state {
		return nil, 0, nil
	}
	if !sel.By.IsZero() {
		// Not what was settled since; but a time that is not reached yet came from a clock that was wrong.
		q.where("(d.settled_at <= ? OR d.settled_at > ?)", sel.By.UnixMicro(), time.Now().UnixMicro())
	}
	from := "deliveries AS d" + deliveryJoins
	first := "SELECT key FROM deliveries WHERE key > ?"
	eventsFirst := false
	switch {
	case !state.Settled():
		return nil, 0, nil
	case state == core.DeliveryDead || state == core.DeliverySkipped:
		from = "deliveries AS d INDEXED BY deliveries_ended" + deliveryJoins
		first = "SELECT key FROM deliveries INDEXED BY deliveries_ended WHERE " + ended("", state) + " AND key > ?"
		q.where(ended("d.", state))
	default:
		q.equal("d.state", string(state))
		if eventsFirst = ofEvents; eventsFirst {
			from = "events AS e CROSS JOIN deliveries AS d JOIN requests AS r ON r.seq = e.key >> 12"
			q.where("e.key >= ? AND e.key < ? AND d.key >= max(e.key << 12, ?) AND d.key < (e.key + 1) << 12")
		}
	}
	if !eventsFirst {
		q.where("d.key >= ? AND d.key < ?")
	}
	st, err := c.transient("SELECT d.key FROM " + from + " WHERE " + q.String() + " ORDER BY " +
		map[bool]string{true: "e.key, d.key", false: "d.key"}[eventsFirst])
	if err != nil {
		return nil, 0, err
	}
	defer st.Finalize()
	q.bind(st)
	jump, err := c.stmt(first + " ORDER BY key LIMIT 1")
	if err != nil {
		return nil, 0, err
	}

	begun := time.Now()
	at := max(int64(after), seqs.first<<24-1) // looked at up to here
	for {
		jump.int(1, at)
		head := int64(math.MaxInt64)
		if _, err := jump.row(func() { head = jump.ColumnInt64(0) }); err != nil {
			return nil, 0, err
		}
		if head >= seqs.end<<24 || head == math.MaxInt64 {
			return keys, 0, nil
		}
		block := head >> 24 >> filterShift
		end := min((block+1)<<filterShift, seqs.end)
		may, err := c.mayHave(block, hashes, nil)
		if err != nil {
			return nil, 0, err
		}
		if may {
			if n := len(q.values); eventsFirst {
				st.int(n+1, head>>12)
				st.int(n+2, end<<12)
				st.int(n+3, head)
			} else {
				st.int(n+1, head)
				st.int(n+2, end<<24)
			}
			if err := st.rows(func() bool { keys = append(keys, st.ColumnInt64(0)); return len(keys) < limit }); err != nil {
				return nil, 0, err
			}
		}
		if len(keys) >= limit {
			return keys, core.DeliveryKey(keys[len(keys)-1]), nil
		}
		if at = end<<24 - 1; time.Since(begun) > selectTime {
			return keys, core.DeliveryKey(at), nil
		}
	}
}

// ended is a condition by which the index of dead and skipped deliveries is found: it has to hold the index's own words.
func ended(of string, state core.DeliveryState) string {
	return of + "state IN ('dead', 'skipped') AND " + of + "state = '" + string(state) + "'"
}

// deliveryConditions turns a filter, but for its state, into conditions, bounds of sequences, and hashes for the filters.
// ofEvents: some conditions are of events. found is false if nothing can match.
func (s *Store) deliveryConditions(
	c *conn, f *store.DeliveryFilter, q *query, seqs *bounds,
) (hashes []uint64, ofEvents, found bool, err error) {
	if found, err = s.ofRequest(c, f.RequestID, seqs); err != nil || !found {
		return nil, false, false, err
	}
	if err := q.timeBounds(c, seqs, f.Since, f.Until); err != nil {
		return nil, false, false, err
	}
	hashes = q.events(f.Type, f.Subject, f.Tenant)
	ofEvents = f.Type != "" || f.Subject != "" || f.Tenant != ""
	for _, part := range []struct {
		column, value string
		kind          int
	}{{"d.sink", f.Sink, ofSink}, {"d.route", f.Route, ofRoute}, {"r.source", f.Source, ofSource}} {
		if q.equal(part.column, part.value); part.value != "" {
			hashes = append(hashes, hashOf(part.kind, part.value))
		}
	}
	if f.RequestID != "" {
		return nil, false, true, nil // one request is found without
	}
	return hashes, ofEvents, true, nil
}

// ofRequest narrows bounds to a request, if one is named. found is false if there is no such request.
func (s *Store) ofRequest(c *conn, id string, seqs *bounds) (found bool, err error) {
	if id == "" {
		return true, nil
	}
	seq, err := s.findRequest(c, id)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	seqs.within(seq, seq+1)
	return err == nil, err
}

// events adds conditions on events, and returns the hashes for the filters. A * in a type stands for any text.
func (q *query) events(kind, subject, tenant string) (hashes []uint64) {
	if strings.Contains(kind, "*") {
		q.where("e.type GLOB ?", strings.NewReplacer("[", "[[]", "?", "[?]").Replace(kind))
		if first := firstSegment(kind); !strings.Contains(first, "*") {
			hashes = append(hashes, hashOf(ofPrefix, first))
		}
		kind = ""
	}
	for _, part := range []struct {
		column, value string
		kind          int
	}{{"e.type", kind, ofType}, {"e.subject", subject, ofSubject}, {"e.tenant", tenant, ofTenant}} {
		if q.equal(part.column, part.value); part.value != "" {
			hashes = append(hashes, hashOf(part.kind, part.value))
		}
	}
	return hashes
}

// Redo implements store.Store.
func (s *Store) Redo(ctx context.Context, rs []*store.Redo) error {
	if len(rs) == 0 {
		return nil
	}
	o := &op{
		durable: true, // somebody is told so
		weight:  4 * len(rs),
		apply: func(w *writer) error {
			now := time.Now().UnixMicro()
			for _, r := range rs {
				r.Done, r.ReplayID, r.Refused = false, "", ""
				if err := w.redo(r, now); err != nil {
					return err
				}
			}
			return nil
		},
	}
	for _, r := range rs {
		o.bytes += len(r.As.Message)
	}
	if err := s.do(ctx, o); err != nil {
		return fmt.Errorf("store retries and replays: %w", err)
	}
	return nil
}

func (w *writer) redo(r *store.Redo, now int64) error {
	st, err := w.c.stmt("SELECT state, settled_at, replayed_by, message IS NULL FROM deliveries WHERE key = ?")
	if err != nil {
		return err
	}
	st.int(1, int64(r.Of.Key))
	same, bare := false, false
	if _, err := st.row(func() {
		same = core.DeliveryState(st.ColumnText(0)) == r.Of.State && st.readTime(1).Equal(r.Of.SettledAt) &&
			(!r.Replay || st.ColumnIsNull(2))
		bare = st.ColumnBool(3)
	}); err != nil {
		return err
	}
	wasDead := r.Of.State == core.DeliveryDead
	switch {
	case !same:
		r.Refused = "it has changed meanwhile"
		return nil
	case r.As.State == core.DeliveryPending && !wasDead && !r.Replay:
		r.Refused = "it is not dead"
		return nil
	case r.As.State == core.DeliveryPending && r.As.Message == nil:
		r.Refused = "it has no message"
		return nil
	case r.As.State != core.DeliveryPending && !wasDead: // what it was, it is
		r.Refused = r.As.Reason
		return nil
	}
	switch {
	case r.As.State == core.DeliveryDead:
		err = w.blame(r)
	case r.As.State == core.DeliverySkipped:
		if err = w.supersede(r.Of, r.As.Reason, nil, now); err == nil {
			err = w.unholdBetween(int64(r.Of.Key), int64(r.Of.Key)+1, now)
		}
	case r.Replay:
		return w.replay(r, bare, now) // it may refuse
	default:
		err = w.retry(r, bare, now)
	}
	r.Done = err == nil
	return err
}

// blame gives a dead delivery another reason.
func (w *writer) blame(r *store.Redo) error {
	st, err := w.c.stmt("UPDATE deliveries SET reason = ?, route_range = ?, attribute_path = NULL WHERE key = ?")
	if err != nil {
		return err
	}
	st.text(1, r.As.Reason)
	st.text(2, r.As.RouteRange)
	st.int(3, int64(r.Of.Key))
	return st.run()
}

// supersede makes a dead delivery skipped; the reason goes on with why it was dead. by is the number of the replay that takes
// its place, if one does.
func (w *writer) supersede(d *core.Delivery, reason string, by *int, now int64) error {
	st, err := w.c.stmt(`UPDATE deliveries SET state = 'skipped', reason = ?, settled_at = ?, replayed_by = ?
		WHERE key = ? AND state = 'dead'`)
	if err != nil {
		return err
	}
	if d.Reason != "" {
		reason += "; it was dead: " + d.Reason
	}
	st.text(1, reason)
	st.int(2, now)
	st.BindNull(3)
	if by != nil {
		st.int(3, int64(*by))
	}
	st.int(4, int64(d.Key))
	if err := st.run(); err != nil {
		return err
	}
	w.addCount(deliveryCounter(d.Sink, core.DeliveryDead), -1)
	w.addCount(deliveryCounter(d.Sink, core.DeliverySkipped), 1)
	return nil
}

// retry makes a dead delivery pending. bare: it has no message, and so no order key yet.
func (w *writer) retry(r *store.Redo, bare bool, now int64) error {
	d, as := r.Of, r.As
	order := d.OrderKey
	if bare {
		order = as.OrderKey
	}
	if err := w.unholdFor(d, order, now); err != nil {
		return err
	}
	isDue, err := w.place(d.Sink, order, int64(d.Key))
	if err != nil {
		return err
	}
	st, err := w.c.stmt(`UPDATE deliveries SET state = 'pending', due = ?, order_key = ?, attempts = 0, crashes = 0, claims = 0,
		first_attempt = NULL, first_active = NULL, took = NULL, settled_at = NULL, reason = NULL, attribute_path = NULL, route_range = NULL,
		as_is = ?, config_digest = ?, schema_digest = ?, message = ? WHERE key = ? AND state = 'dead'`)
	if err != nil {
		return err
	}
	st.BindNull(1)
	if isDue {
		st.int(1, now)
	}
	st.text(2, order)
	st.flag(3, as.AsIs)
	st.text(4, as.ConfigDigest)
	st.text(5, as.SchemaDigest)
	st.json(6, as.Message)
	st.int(7, int64(d.Key))
	if err := st.run(); err != nil {
		return err
	}
	w.addCount(deliveryCounter(d.Sink, core.DeliveryDead), -1)
	w.addCount(deliveryCounter(d.Sink, core.DeliveryPending), 1)
	if isDue {
		w.becomesDue(d.Sink, int64(d.Key), now)
	}
	return nil
}

// replay makes a new delivery of the same event, route and sink. Its key is behind all others of the event, and before
// those of later events, so that its order key has it in the event's place.
func (w *writer) replay(r *store.Redo, bare bool, now int64) error {
	d, as := r.Of, r.As
	st, err := w.c.stmt(`SELECT max(key), max(CASE WHEN route = ?1 AND sink = ?2 THEN replay END) FROM deliveries
		WHERE key >= ?3 << 12 AND key < (?3 + 1) << 12`)
	if err != nil {
		return err
	}
	st.BindText(1, d.Route)
	st.BindText(2, d.Sink)
	st.int(3, d.Key.EventKey())
	var key int64
	var replay int
	if _, err := st.row(func() { key, replay = st.ColumnInt64(0)+1, st.ColumnInt(1)+1 }); err != nil {
		return err
	}
	if key>>12 != d.Key.EventKey() {
		r.Refused = fmt.Sprintf("its event has %d deliveries, which is all there can be", core.MaxDeliveries)
		return nil
	}
	id := core.DeliveryID(d.Event.ID, d.Route, d.Sink, replay)
	order := d.OrderKey
	if bare {
		order = as.OrderKey
	}
	if d.State == core.DeliveryDead {
		if err = w.supersede(d, "replayed as "+id, &replay, now); err == nil {
			err = w.unholdFor(d, order, now)
		}
	} else if st, err = w.c.stmt("UPDATE deliveries SET replayed_by = ? WHERE key = ?"); err == nil {
		st.int(1, int64(replay))
		st.int(2, int64(d.Key))
		err = st.run()
	}
	if err != nil {
		return err
	}

	isDue, err := w.place(d.Sink, order, key)
	if err != nil {
		return err
	}
	if st, err = w.c.stmt(`INSERT INTO deliveries (key, sink, order_key, state, due, route, replay, replay_of, forced, as_is,
		attempts, crashes, claims, config_digest, schema_digest, message)
		VALUES (?, ?, ?, 'pending', ?, ?, ?, ?, ?, ?, 0, 0, 0, ?, ?, ?)`); err != nil {
		return err
	}
	st.int(1, key)
	st.BindText(2, d.Sink)
	st.text(3, order)
	st.BindNull(4)
	if isDue {
		st.int(4, now)
	}
	st.BindText(5, d.Route)
	st.int(6, int64(replay))
	st.int(7, int64(d.Replay))
	st.flag(8, as.Force)
	st.flag(9, as.AsIs)
	st.text(10, as.ConfigDigest)
	st.text(11, as.SchemaDigest)
	st.json(12, as.Message)
	if err := st.run(); err != nil {
		return err
	}
	w.addCount(deliveryCounter(d.Sink, core.DeliveryPending), 1)
	if isDue {
		w.becomesDue(d.Sink, key, now)
	}
	r.Done, r.ReplayID = true, id
	return nil
}

// flag binds true as 1 and false as NULL.
func (s *stmt) flag(i int, v bool) {
	if v {
		s.int(i, 1)
		return
	}
	s.BindNull(i)
}
