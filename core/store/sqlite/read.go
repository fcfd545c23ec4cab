package sqlite

import (
	"context"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/store"
	"github.com/grapnelhq/grapnel/sdk"
)

const (
	defaultLimit = 50
	maxLimit     = 1000
)

// requestColumns are read by stmt.request, in this order; r is requests.
const (
	requestColumns = `r.seq, r.dedupe, r.repeat, r.source, r.tenant, r.received_at, r.remote_addr, r.method, r.query,
		r.state, r.reason, r.notes, r.crashes, r.claims, r.trace`
	requestWidth = 15
)

func (s *stmt) request() *core.Request {
	r := &core.Request{
		Seq: s.ColumnInt64(0), Repeat: s.ColumnInt(2), Source: s.ColumnText(3), Tenant: s.ColumnText(4),
		ReceivedAt: s.readTime(5), RemoteAddr: s.ColumnText(6), Method: s.ColumnText(7), Query: s.ColumnText(8),
		State: core.RequestState(s.ColumnText(9)), Reason: s.ColumnText(10), Notes: s.readList(11),
		Crashes: s.ColumnInt(12), Claims: s.ColumnInt(13), Trace: core.Trace(s.ColumnText(14)),
	}
	s.ColumnBytes(1, r.Dedupe[:])
	return r
}

// request reads a request that is there.
func (c *conn) request(seq int64, withBody bool) (*core.Request, error) {
	st, err := c.stmt("SELECT " + requestColumns + `, b.headers FROM requests AS r JOIN bodies AS b ON b.seq = r.seq
		WHERE r.seq = ?`)
	if err != nil {
		return nil, err
	}
	st.int(1, seq)
	var r *core.Request
	if _, err := st.row(func() {
		r = st.request()
		r.Headers = parseHeaders(st.ColumnText(requestWidth))
	}); err != nil {
		return nil, err
	}
	if r == nil {
		return nil, store.ErrNotFound
	}
	if withBody {
		r.Body, err = c.body(seq)
	}
	return r, err
}

func (c *conn) body(seq int64) (body []byte, err error) {
	st, err := c.stmt("SELECT body FROM bodies WHERE seq = ?")
	if err != nil {
		return nil, err
	}
	st.int(1, seq)
	_, err = st.row(func() { body = st.readBytes(0) })
	return body, err
}

// findRequest returns the sequence of a request by its public id. It has to be the first read of its transaction: what
// is no longer in memory then is in the table.
func (s *Store) findRequest(c *conn, id string) (int64, error) {
	dedupe, repeat, err := core.ParseRequestID(id)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", store.ErrNotFound, err)
	}
	return s.findDedupe(c, dedupe, repeat, id)
}

func (s *Store) findDedupe(c *conn, dedupe core.DedupeKey, repeat int, id string) (int64, error) {
	st, err := c.stmt(dedupeQuery)
	if err != nil {
		return 0, err
	}
	if seq := s.keys.find(dedupe, repeat); seq != 0 {
		st.int(1, seq)
	}
	st.BindBytes(2, dedupe[:])
	st.int(3, int64(repeat))
	var seq int64
	if _, err := st.row(func() { seq = st.ColumnInt64(0) }); err != nil {
		return 0, err
	}
	if seq == 0 {
		return 0, fmt.Errorf("%s: %w", id, store.ErrNotFound)
	}
	return seq, nil
}

// dedupeQuery compares key and repeat as well: what memory said may have been rolled back since.
const dedupeQuery = `SELECT seq FROM requests
	WHERE seq = coalesce(?1, (SELECT seq FROM dedupe WHERE key = ?2 AND repeat = ?3))
	AND dedupe = ?2 AND repeat = ?3 AND purged_at IS NULL`

// deliveryColumns are read by stmt.delivery, in this order; d, e and r are deliveries, events and requests.
const (
	eventColumns = `e.key, e.type, e.subject, e.partition_key, e.operation, e.provider, e.tenant, e.time, e.source,
		e.data_offset, e.data_length, e.changes, r.dedupe, r.repeat, r.source`
	eventWidth      = 15
	deliveryColumns = eventColumns + `, d.key, d.sink, d.order_key,
		iif(d.state = 'leased', 'pending', d.state), d.due, d.route, d.replay, d.attempts,
		d.crashes, d.claims, d.first_attempt, d.settled_at, d.reason, d.reference, d.attribute_path, d.route_range,
		d.config_digest, d.schema_digest, d.message, d.first_active, d.replay_of, d.replayed_by, d.forced, d.as_is,
		r.received_at, r.trace`
	deliveryWidth = eventWidth + 26
	deliveryJoins = ` JOIN events AS e ON e.key = d.key >> 12 JOIN requests AS r ON r.seq = d.key >> 24`
)

// span says where an event's data stands in the body; length -1: it does not.
type span struct{ offset, length int }

func (s *stmt) event() (*core.Event, span) {
	key := s.ColumnInt64(0)
	e := &core.Event{RequestSeq: key >> 12, Index: int(key & (core.MaxEvents - 1)), DataOffset: -1}
	var dedupe core.DedupeKey
	s.ColumnBytes(12, dedupe[:])
	e.ID = core.EventID(dedupe, s.ColumnInt(13), e.Index)
	e.Type, e.Subject, e.PartitionKey = s.ColumnText(1), s.ColumnText(2), s.ColumnText(3)
	e.Operation, e.Provider, e.Tenant, e.Time = s.ColumnText(4), s.ColumnText(5), s.ColumnText(6), s.ColumnText(7)
	if e.Source = s.ColumnText(8); e.Source == "" {
		e.Source = sourceURN + s.ColumnText(14)
	}
	at := span{-1, -1}
	if !s.ColumnIsNull(9) {
		at = span{s.ColumnInt(9), s.ColumnInt(10)}
		e.DataOffset = at.offset
	}
	e.Changes = s.readBytes(11)
	return e, at
}

// in cuts an event's data out of a body, nil if it is not there.
func (a span) in(body []byte) []byte {
	if a.length < 0 || a.offset+a.length > len(body) {
		return nil
	}
	return body[a.offset : a.offset+a.length : a.offset+a.length]
}

func (s *stmt) delivery() (*core.Delivery, span) {
	e, at := s.event()
	const c = eventWidth
	d := &core.Delivery{
		Key: core.DeliveryKey(s.ColumnInt64(c)), Sink: s.ColumnText(c + 1), OrderKey: s.ColumnText(c + 2),
		State: core.DeliveryState(s.ColumnText(c + 3)), Due: s.readTime(c + 4), Route: s.ColumnText(c + 5),
		Replay: s.ColumnInt(c + 6), Attempts: s.ColumnInt(c + 7), Crashes: s.ColumnInt(c + 8), Claims: s.ColumnInt(c + 9),
		FirstAttempt: s.readTime(c + 10), SettledAt: s.readTime(c + 11), Reason: s.ColumnText(c + 12),
		Reference: s.ColumnText(c + 13), AttributePath: s.readList(c + 14), RouteRange: s.ColumnText(c + 15),
		ConfigDigest: s.ColumnText(c + 16), SchemaDigest: s.ColumnText(c + 17), Message: s.readBytes(c + 18),
		FirstActive: time.Duration(s.ColumnInt64(c+19)) * time.Microsecond, Event: e,
	}
	d.ID = core.DeliveryID(e.ID, d.Route, d.Sink, d.Replay)
	if !s.ColumnIsNull(c + 20) {
		d.ReplayOf = core.DeliveryID(e.ID, d.Route, d.Sink, s.ColumnInt(c+20))
	}
	if !s.ColumnIsNull(c + 21) {
		d.ReplayedBy = core.DeliveryID(e.ID, d.Route, d.Sink, s.ColumnInt(c+21))
	}
	d.Force, d.AsIs, d.ReceivedAt = s.ColumnBool(c+22), s.ColumnBool(c+23), s.readTime(c+24)
	d.Trace = core.Trace(s.ColumnText(c + 25))
	return d, at
}

// deliveryReader reads deliveries ready for dispatch. Deliveries of one request share its body.
type deliveryReader struct {
	c      *conn
	bodies map[int64][]byte
	bytes  int // of bodies and other data read so far
}

func newDeliveryReader(c *conn) *deliveryReader {
	return &deliveryReader{c: c, bodies: map[int64][]byte{}}
}

func (r *deliveryReader) read(key int64) (*core.Delivery, error) {
	st, err := r.c.stmt(claimedQuery)
	if err != nil {
		return nil, err
	}
	st.int(1, key)
	var d *core.Delivery
	var at span
	if _, err := st.row(func() {
		d, at = st.delivery()
		d.Event.Data = st.readBytes(deliveryWidth)
		d.KeyState, d.StateRead = st.readBytes(deliveryWidth+1), true
	}); err != nil {
		return nil, err
	}
	if d == nil {
		return nil, fmt.Errorf("delivery %d has no event or no request", key)
	}
	r.bytes += len(d.Event.Data)
	if at.length >= 0 {
		seq := d.Event.RequestSeq
		body, ok := r.bodies[seq]
		if !ok {
			if body, err = r.c.body(seq); err != nil {
				return nil, err
			}
			r.bodies[seq] = body
			r.bytes += len(body)
		}
		d.Event.Data = at.in(body)
	}
	return d, nil
}

// findDelivery returns a delivery by its public id, with its event but without data. As with findRequest, it has to be
// the first read.
func (s *Store) findDelivery(c *conn, id string) (*core.Delivery, error) {
	dedupe, repeat, index, err := core.ParseDeliveryID(id)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", store.ErrNotFound, err)
	}
	seq, err := s.findDedupe(c, dedupe, repeat, id)
	if err != nil {
		return nil, err
	}
	ds, err := c.deliveriesBetween(core.NewDeliveryKey(seq, index, 0), core.NewDeliveryKey(seq, index+1, 0))
	if err != nil {
		return nil, err
	}
	for _, d := range ds {
		if d.ID == id {
			return d, nil
		}
	}
	return nil, fmt.Errorf("%s: %w", id, store.ErrNotFound)
}

// deliveriesBetween reads the deliveries with keys from first up to but without end, oldest first.
func (c *conn) deliveriesBetween(first, end core.DeliveryKey) ([]*core.Delivery, error) {
	st, err := c.stmt("SELECT " + deliveryColumns + " FROM deliveries AS d" + deliveryJoins + `
		WHERE d.key >= ? AND d.key < ? ORDER BY d.key`)
	if err != nil {
		return nil, err
	}
	st.int(1, int64(first))
	st.int(2, int64(end))
	var ds []*core.Delivery
	err = st.rows(func() bool {
		d, _ := st.delivery()
		ds = append(ds, d)
		return true
	})
	return ds, err
}

// page is a list's place and length.
func page(cursor string, limit int) (before int64, _ int, err error) {
	before = math.MaxInt64
	if cursor != "" {
		place, _, _ := strings.Cut(cursor, "@")
		if before, err = strconv.ParseInt(place, 10, 64); err != nil || before < 0 {
			return 0, 0, fmt.Errorf("%q is %w", cursor, store.ErrCursor)
		}
	}
	if limit <= 0 {
		limit = defaultLimit
	}
	return before, min(limit, maxLimit), nil
}

// cut shortens a list that was read one too long, and returns the cursor of what is behind it.
func cut[T any](list []T, limit int, key func(T) int64) ([]T, string) {
	if len(list) <= limit {
		return list, ""
	}
	list = list[:limit]
	return list, strconv.FormatInt(key(list[limit-1]), 10)
}

// query collects conditions and their values.
type query struct {
	conditions []string
	values     []any
}

func (q *query) where(condition string, values ...any) {
	q.conditions = append(q.conditions, condition)
	q.values = append(q.values, values...)
}

func (q *query) equal(column, value string) {
	if value != "" {
		q.where(column+" = ?", value)
	}
}

func (q *query) bind(st *stmt) {
	for i, v := range q.values {
		switch v := v.(type) {
		case string:
			st.BindText(i+1, v)
		case int64:
			st.int(i+1, v)
		case int:
			st.int(i+1, int64(v))
		}
	}
}

func (q *query) String() string { return strings.Join(q.conditions, " AND ") }

// timeBounds adds conditions on received_at, and narrows the range of sequences to what these times had as long as
// the clock did not jump: a walk in accept order then needs to go no further.
func (q *query) timeBounds(c *conn, seqs *bounds, since, until time.Time) error {
	if !since.IsZero() {
		seq, err := c.firstSince(since)
		if err != nil {
			return err
		}
		q.where("r.received_at >= ?", since.UnixMicro())
		seqs.within(seq, math.MaxInt64)
	}
	if !until.IsZero() {
		seq, err := c.firstSince(until)
		if err != nil {
			return err
		}
		q.where("r.received_at < ?", until.UnixMicro())
		seqs.within(math.MinInt64, seq)
	}
	return nil
}

// firstSince finds by halving the first request that was received at or after a time.
func (c *conn) firstSince(t time.Time) (int64, error) {
	st, err := c.stmt("SELECT (SELECT min(seq) FROM requests), (SELECT max(seq) FROM requests)")
	if err != nil {
		return 0, err
	}
	var low, high int64 // the one looked for is in [low, high]
	if _, err := st.row(func() { low, high = st.ColumnInt64(0), st.ColumnInt64(1)+1 }); err != nil {
		return 0, err
	}
	if st, err = c.stmt("SELECT seq, received_at FROM requests WHERE seq >= ? ORDER BY seq LIMIT 1"); err != nil {
		return 0, err
	}
	for low < high {
		middle := low + (high-low)/2
		st.int(1, middle)
		var seq, received int64
		if _, err := st.row(func() { seq, received = st.ColumnInt64(0), st.ColumnInt64(1) }); err != nil {
			return 0, err
		}
		if received >= t.UnixMicro() {
			high = middle
		} else {
			low = seq + 1
		}
	}
	return low, nil
}

// ListRequests implements store.Store.
func (s *Store) ListRequests(ctx context.Context, f store.RequestFilter) (rs []*core.Request, next string, err error) {
	before, limit, err := page(f.Cursor, f.Limit)
	if err != nil {
		return nil, "", err
	}
	short := ""
	err = s.search(ctx, func(c *conn) error {
		q, from, w, err := s.requestWalk(c, &f, before)
		if err != nil {
			return err
		}
		st, err := c.transient("SELECT " + requestColumns + ", b.headers FROM " + from +
			" LEFT JOIN bodies AS b ON b.seq = r.seq WHERE " + q.String() + " ORDER BY r.seq DESC")
		if err != nil {
			return err
		}
		defer st.Finalize()
		q.bind(st)
		at, err := s.walk(c, w, func(from, to int64) (bool, error) {
			n := len(q.values)
			st.int(n+1, from)
			st.int(n+2, to)
			err := st.rows(func() bool {
				r := st.request()
				r.Headers = parseHeaders(st.ColumnText(requestWidth))
				rs = append(rs, r)
				return len(rs) <= limit
			})
			return len(rs) > limit, err
		})
		if err == nil && at != 0 {
			short, err = c.cursor(at, 0)
		}
		return err
	})
	if err != nil {
		return nil, "", fmt.Errorf("list requests: %w", err)
	}
	if short != "" {
		return rs, short, nil
	}
	rs, next = cut(rs, limit, func(r *core.Request) int64 { return r.Seq })
	return rs, next, nil
}

// requestWalk makes of a filter conditions, the last two on the sequence, the table with its index, and a walk.
func (s *Store) requestWalk(c *conn, f *store.RequestFilter, before int64) (q query, from string, w walk, err error) {
	w = walk{seqs: bounds{0, before}, before: before, jump: "SELECT max(seq) FROM requests WHERE seq < ?"}
	if err := q.timeBounds(c, &w.seqs, f.Since, f.Until); err != nil {
		return q, "", w, err
	}
	w.all = q.requests(f)
	from = "requests AS r"
	switch {
	case f.State == core.RequestDead:
		from += " INDEXED BY requests_dead"
		w.jump = "SELECT max(seq) FROM requests INDEXED BY requests_dead WHERE state = 'dead' AND seq < ?"
	case f.Unrouted:
		from += " INDEXED BY requests_unrouted"
		w.jump = "SELECT max(seq) FROM requests INDEXED BY requests_unrouted WHERE unrouted > 0 AND seq < ?"
	case f.State == core.RequestReceived:
		w.seqs.within(s.routed.Load()+1, math.MaxInt64)
	}
	q.where("r.seq >= ? AND r.seq < ?")
	return q, from, w, nil
}

// requests adds the conditions of a filter, but for its times, and returns the hashes for the filters.
func (q *query) requests(f *store.RequestFilter) (hashes []uint64) {
	q.where("r.purged_at IS NULL")
	for _, part := range []struct {
		column, value string
		kind          int
	}{{"r.source", f.Source, ofSource}, {"r.tenant", f.Tenant, ofTenant}} {
		if q.equal(part.column, part.value); part.value != "" {
			hashes = append(hashes, hashOf(part.kind, part.value))
		}
	}
	if f.Unrouted {
		q.where("r.unrouted > 0")
	}
	switch f.State {
	case "":
	case core.RequestDead: // written out, so that its index is found
		q.where("r.state = 'dead'")
	default:
		q.equal("r.state", string(f.State))
	}
	if f.Type != "" || f.Subject != "" {
		var of query
		hashes = append(hashes, of.events(f.Type, f.Subject, "")...)
		q.where("EXISTS (SELECT 1 FROM events AS e WHERE e.key >= r.seq << 12 AND e.key < (r.seq + 1) << 12 AND "+
			of.String()+")", of.values...)
	}
	return hashes
}

// GetRequest implements store.Store.
func (s *Store) GetRequest(ctx context.Context, id string) (*store.RequestDetail, error) {
	var rd store.RequestDetail
	err := s.search(ctx, func(c *conn) error {
		seq, err := s.findRequest(c, id)
		if err != nil {
			return err
		}
		if rd.Request, err = c.request(seq, true); err != nil {
			return err
		}
		st, err := c.stmt("SELECT " + eventColumns + `, e.data FROM events AS e JOIN requests AS r ON r.seq = e.key >> 12
			WHERE e.key >= ? AND e.key < ? ORDER BY e.key`)
		if err != nil {
			return err
		}
		st.int(1, core.NewEventKey(seq, 0))
		st.int(2, core.NewEventKey(seq+1, 0))
		if err := st.rows(func() bool {
			e, at := st.event()
			if e.Data = st.readBytes(eventWidth); at.length >= 0 {
				e.Data = at.in(rd.Request.Body)
			}
			rd.Events = append(rd.Events, *e)
			return true
		}); err != nil {
			return err
		}
		rd.Deliveries, err = c.deliveriesBetween(core.NewDeliveryKey(seq, 0, 0), core.NewDeliveryKey(seq+1, 0, 0))
		for _, d := range rd.Deliveries {
			d.Event = &rd.Events[slices.IndexFunc(rd.Events, func(e core.Event) bool { return e.Index == d.Event.Index })]
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("get request: %w", err)
	}
	return &rd, nil
}

// fewPending is how many pending deliveries are sorted for a list of the newest, rather than looked for among all.
const fewPending = 30_000

// ListDeliveries implements store.Store.
func (s *Store) ListDeliveries(
	ctx context.Context, f store.DeliveryFilter,
) (ds []*core.Delivery, next string, err error) {
	before, limit, err := page(f.Cursor, f.Limit)
	if err != nil {
		return nil, "", err
	}
	short := ""
	err = s.search(ctx, func(c *conn) error {
		l := &deliveryList{s: s, c: c, filter: &f, limit: limit, before: before, seqs: bounds{0, math.MaxInt64 >> 24}}
		var found bool
		var err error
		if l.hashes, l.ofEvents, found, err = s.deliveryConditions(c, &f, &l.query, &l.seqs); err != nil || !found {
			return err
		}
		at := int64(0)
		if sinks, n := s.pending(f.Sink); f.State == core.DeliveryPending && n <= fewPending {
			at, err = l.fewPending()
		} else {
			at, err = l.walk(sinks)
		}
		if ds = l.found; err == nil && at != 0 {
			short, err = c.cursor(at, 24)
		}
		return err
	})
	if err != nil {
		return nil, "", fmt.Errorf("list deliveries: %w", err)
	}
	if short != "" {
		return ds, short, nil
	}
	ds, next = cut(ds, limit, func(d *core.Delivery) int64 { return int64(d.Key) })
	return ds, next, nil
}

// deliveryList is a list of deliveries under way.
type deliveryList struct {
	s        *Store
	c        *conn
	filter   *store.DeliveryFilter
	query    query // conditions
	seqs     bounds
	hashes   []uint64
	ofEvents bool // some conditions are of events
	limit    int
	before   int64
	found    []*core.Delivery
}

const (
	deliveriesFirst = "deliveries AS d CROSS JOIN requests AS r ON r.seq = d.key >> 24 CROSS JOIN events AS e ON e.key = d.key >> 12"
	eventsFirst     = "events AS e CROSS JOIN deliveries AS d CROSS JOIN requests AS r ON r.seq = e.key >> 12"
)

// walk looks for deliveries from the newest on. sinks are those that have pending ones.
func (l *deliveryList) walk(sinks []string) (at int64, err error) {
	q := &l.query
	w := walk{
		shift: 24, seqs: l.seqs, before: l.before, all: l.hashes, jump: "SELECT max(key) FROM deliveries WHERE key < ?",
	}
	from, order := deliveriesFirst, "d.key DESC"
	byEvents := false
	switch state := l.filter.State; state {
	case core.DeliveryDead, core.DeliverySkipped:
		q.where(ended("d.", state))
		from = strings.Replace(from, "deliveries AS d", "deliveries AS d INDEXED BY deliveries_ended", 1)
		w.jump = "SELECT max(key) FROM deliveries INDEXED BY deliveries_ended WHERE " + ended("", state) + " AND key < ?"
	case core.DeliveryPending:
		q.where("d.state IN ('pending', 'leased')")
		for _, sink := range sinks {
			w.any = append(w.any, hashOf(ofSink, sink))
		}
		byEvents = l.ofEvents
	case "":
		byEvents = l.ofEvents
	default:
		q.equal("d.state", string(state))
		byEvents = l.ofEvents
	}
	if byEvents { // the few that match come first, and the order of the tables is written out
		from, order = eventsFirst, "e.key DESC, d.key DESC"
		q.where("e.key >= ? AND e.key <= ? AND d.key >= e.key << 12 AND d.key < min((e.key + 1) << 12, ?)")
	} else {
		q.where("d.key >= ? AND d.key < ?")
	}
	st, err := l.c.transient("SELECT " + deliveryColumns + " FROM " + from + " WHERE " + q.String() + " ORDER BY " + order)
	if err != nil {
		return 0, err
	}
	defer st.Finalize()
	q.bind(st)
	return l.s.walk(l.c, w, func(from, to int64) (bool, error) {
		n := len(q.values)
		if byEvents {
			st.int(n+1, from>>12)
			st.int(n+2, (to-1)>>12)
			st.int(n+3, to)
		} else {
			st.int(n+1, from)
			st.int(n+2, to)
		}
		err := st.rows(func() bool {
			d, _ := st.delivery()
			l.found = append(l.found, d)
			return len(l.found) <= l.limit
		})
		return len(l.found) > l.limit, err
	})
}

// fewPending takes the pending deliveries from their indexes, sorts them, and looks at each.
func (l *deliveryList) fewPending() (at int64, err error) {
	q := &l.query
	keys, err := l.pendingKeys()
	if err != nil {
		return 0, err
	}
	q.where("d.state IN ('pending', 'leased') AND d.key = ?")
	st, err := l.c.transient("SELECT " + deliveryColumns + " FROM " + deliveriesFirst + " WHERE " + q.String())
	if err != nil {
		return 0, err
	}
	defer st.Finalize()
	q.bind(st)
	began := time.Now()
	block, may := int64(-1), false
	for _, key := range slices.Backward(keys) {
		if b := key >> 24 >> filterShift; b != block {
			if may, err = l.c.mayHave(b, l.hashes, nil); err != nil {
				return 0, err
			}
			block = b
		}
		if !may {
			continue
		}
		st.int(len(q.values)+1, key)
		if _, err := st.row(func() {
			d, _ := st.delivery()
			l.found = append(l.found, d)
		}); err != nil {
			return 0, err
		}
		if len(l.found) > l.limit {
			return 0, nil
		}
		if time.Since(began) > l.s.opts.listTime {
			return key, nil
		}
	}
	return 0, nil
}

// pendingKeys returns the keys of pending deliveries in the bounds of the list, in their order.
func (l *deliveryList) pendingKeys() ([]int64, error) {
	first, end := l.seqs.first<<24, min(l.before, l.seqs.end<<24)
	var keys []int64
	// Those with a due time are in one index, those that may wait for others in the next.
	for _, sql := range []string{
		"SELECT key FROM deliveries INDEXED BY deliveries_due WHERE state = 'pending' AND due IS NOT NULL",
		"SELECT key FROM deliveries INDEXED BY deliveries_queue WHERE state = 'pending' AND order_key IS NOT NULL",
		"SELECT key FROM deliveries INDEXED BY deliveries_leased WHERE state = 'leased'",
	} {
		sink := l.filter.Sink
		if sink != "" && !strings.Contains(sql, "leased") { // that one has no sinks in it
			sql += " AND sink = ?"
		} else {
			sink = ""
		}
		st, err := l.c.stmt(sql)
		if err != nil {
			return nil, err
		}
		if sink != "" {
			st.BindText(1, sink)
		}
		if err := st.rows(func() bool {
			if key := st.ColumnInt64(0); key >= first && key < end {
				keys = append(keys, key)
			}
			return true
		}); err != nil {
			return nil, err
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys), nil
}

// pending returns the sinks that have deliveries that are not settled, and how many there are, of one sink if it is
// named.
func (s *Store) pending(sink string) (sinks []string, n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c, of := range s.totals {
		if c.kind == "deliveries.pending" && of > 0 && (sink == "" || c.label == sink) {
			sinks = append(sinks, c.label)
			n += of
		}
	}
	return sinks, n
}

// transient prepares a statement for one use; it is to be finalized.
func (c *conn) transient(sql string) (*stmt, error) {
	st, _, err := c.PrepareTransient(sql)
	if err != nil {
		return nil, err
	}
	return &stmt{Stmt: st}, nil
}

// GetDelivery implements store.Store.
func (s *Store) GetDelivery(ctx context.Context, id string) (*store.DeliveryDetail, error) {
	var dd store.DeliveryDetail
	err := s.search(ctx, func(c *conn) error {
		d, err := s.findDelivery(c, id)
		if err != nil {
			return err
		}
		if dd.Delivery, err = newDeliveryReader(c).read(int64(d.Key)); err != nil {
			return err
		}
		if dd.Request, err = c.request(d.Key.RequestSeq(), false); err != nil {
			return err
		}
		if dd.Attempts, err = c.attempts(dd.Delivery); err != nil {
			return err
		}
		dd.WaitsFor, err = c.waitsFor(dd.Delivery)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("get delivery: %w", err)
	}
	return &dd, nil
}

// waitsFor finds what a delivery without a due time is behind. Empty: that is in a call.
func (c *conn) waitsFor(d *core.Delivery) (string, error) {
	if d.State != core.DeliveryPending || !d.Due.IsZero() {
		return "", nil
	}
	for _, sql := range []string{
		"SELECT min(delivery) FROM held WHERE sink = ? AND order_key = ? AND delivery < ?",
		"SELECT min(key) FROM deliveries WHERE sink = ? AND order_key = ? AND state = 'pending' AND key < ?",
	} {
		st, err := c.stmt(sql)
		if err != nil {
			return "", err
		}
		st.BindText(1, d.Sink)
		st.BindText(2, d.OrderKey)
		st.int(3, int64(d.Key))
		var first int64
		if _, err := st.row(func() { first = st.ColumnInt64(0) }); err != nil {
			return "", err
		}
		if first == 0 {
			continue
		}
		ahead, err := newDeliveryReader(c).read(first)
		if err != nil {
			return "", err
		}
		return ahead.ID, nil
	}
	return "", nil
}

// attempts lists what was tried, oldest first.
func (c *conn) attempts(d *core.Delivery) ([]core.Attempt, error) {
	var as []core.Attempt
	st, err := c.stmt(`SELECT at, number, outcome, took, reason, notes FROM attempts
		WHERE delivery = ? ORDER BY at, number`)
	if err != nil {
		return nil, err
	}
	st.int(1, int64(d.Key))
	known := false
	if err := st.rows(func() bool {
		a := core.Attempt{
			At: st.readTime(0), Number: st.ColumnInt(1), Outcome: sdk.OutcomeKind(st.ColumnText(2)),
			Took: time.Duration(st.ColumnInt64(3)) * time.Microsecond, Reason: st.ColumnText(4), Notes: st.readList(5),
		}
		known = known || a.At.Equal(d.FirstAttempt)
		as = append(as, a)
		return true
	}); err != nil {
		return nil, err
	}
	if known || d.FirstAttempt.IsZero() || d.State != core.DeliveryDelivered {
		return as, nil
	}
	// A first attempt that delivered is told by the delivery.
	st, err = c.stmt("SELECT took FROM deliveries WHERE key = ?")
	if err != nil {
		return nil, err
	}
	st.int(1, int64(d.Key))
	first := core.Attempt{Number: 1, At: d.FirstAttempt, Outcome: sdk.Delivered}
	if _, err := st.row(func() { first.Took = time.Duration(st.ColumnInt64(0)) * time.Microsecond }); err != nil {
		return nil, err
	}
	return append(as, first), nil
}

// Stats implements store.Store.
func (s *Store) Stats(ctx context.Context) (store.Stats, error) {
	if s.live.Err() != nil {
		return store.Stats{}, store.ErrClosed
	}
	st := store.Stats{
		Requests:   map[core.RequestState]int64{},
		Deliveries: map[string]map[core.DeliveryState]int64{},
		Unrouted:   map[string]int64{},
		Held:       map[string]int64{},
		Rejections: map[string]int64{},
		Commits:    s.commits.Load(), Syncs: s.syncs.Load(), Accepted: s.accepts.Load(),
	}
	s.mu.Lock()
	for c, n := range s.totals {
		if n == 0 {
			continue
		}
		switch kind, state, _ := strings.Cut(c.kind, "."); kind {
		case "requests":
			st.Requests[core.RequestState(state)] = n
		case "deliveries":
			of := st.Deliveries[c.label]
			if of == nil {
				of = map[core.DeliveryState]int64{}
				st.Deliveries[c.label] = of
			}
			of[core.DeliveryState(state)] = n
		case countUnrouted:
			st.Unrouted[c.label] = n
		case countHeld:
			st.Held[c.label] = n
		case countRejections:
			st.Rejections[c.label] = n
		}
	}
	s.mu.Unlock()
	s.rejectMu.Lock()
	for cause, n := range s.causes {
		st.Rejections[cause] += n
	}
	s.rejectMu.Unlock()
	for _, suffix := range []string{"", "-wal"} {
		info, err := os.Stat(s.opts.Path + suffix)
		if err != nil {
			return store.Stats{}, fmt.Errorf("read the database's size: %w", err)
		}
		st.SizeBytes += info.Size()
	}
	return st, nil
}
