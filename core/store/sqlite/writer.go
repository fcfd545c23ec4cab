package sqlite

import (
	"context"
	"fmt"
	"time"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/store"
)

const (
	queuedOps   = 1024
	groupOps    = 512     // operations per commit
	groupWeight = 2048    // rows, roughly, per commit: how long the next group may have to wait
	groupBytes  = 8 << 20 // likewise
)

// op is one operation of the writer: all of it is committed, or nothing.
type op struct {
	// apply writes. It runs inside a transaction, on the writer goroutine, and may run again after a rollback, so what it
	// sets it must set from scratch. What is to happen with the commit it leaves in w.effects.
	apply func(w *writer) error
	// committed runs after the commit under Store.mu, in the writer goroutine, before the caller goes on; may be nil.
	committed func()
	durable   bool // the commit is to be on disk before the caller goes on
	alone     bool // apply runs outside any transaction
	single    bool // in a transaction of its own
	weight    int  // rows
	bytes     int
	err       error
	done      chan struct{}
}

// effects are what a transaction means for memory, if it commits.
type effects struct {
	accepted []*core.Request
	counts   map[counter]int64
	leased   []newLease
	due      []sinkDue
	erased   map[string][]core.DeliveryKey // that were not settled, by sink
}

// newLease is a lease taken inside a transaction: it stands from then on, and counts from the commit on.
type newLease struct {
	queue *sinkQueue
	key   core.DeliveryKey
	lease lease
}

// sinkDue tells that a delivery has a new due time.
type sinkDue struct {
	sink string
	key  core.DeliveryKey
	due  int64
}

// counter names a row of counters.
type counter struct{ kind, label string }

// Kinds of counters that have one label for all.
const (
	countUnrouted   = "unrouted"
	countRejections = "rejections"
	countHeld       = "held" // by sink
)

func requestCounter(st core.RequestState) counter {
	switch st {
	case core.RequestReceived:
		return counter{"requests.received", ""}
	case core.RequestRouted:
		return counter{"requests.routed", ""}
	default:
		return counter{"requests.dead", ""}
	}
}

func deliveryCounter(sink string, st core.DeliveryState) counter {
	switch st {
	case core.DeliveryPending:
		return counter{"deliveries.pending", sink}
	case core.DeliveryDelivered:
		return counter{"deliveries.delivered", sink}
	case core.DeliverySkipped:
		return counter{"deliveries.skipped", sink}
	default:
		return counter{"deliveries.dead", sink}
	}
}

// writer owns the connection that writes.
type writer struct {
	s     *Store
	c     *conn
	queue chan *op

	full          bool // synchronous=FULL is set, as openConn does
	lastSeq       int64
	routedSeq     int64 // meta routed_seq, of the transaction under way
	lastRejection int64
	effects       effects
	headers       []byte // scratch
	routed        []bool // likewise
	filters       []*openFilter
	filtersBefore []*openFilter // the transaction
	filterUse     int64
	keys          *recentKeys
	indexErr      error           // why keys cannot be moved into their table
	stateful      map[string]bool // sinks that have, or had, keyed state
	orders        []*order        // all there were; see erase.go
	ordered       int64           // the last request that one of them is about
	scrubs        int64           // grows when something is erased

	begin, commit, newestKey, insertKey                     *stmt
	insertRequest, insertBody, knownRequest, reopenRequest  *stmt
	routeRequest, retryRequest, insertEvent, insertDelivery *stmt
	head, setDue, settle, insertAttempt                     *stmt
	count, setState, deleteState, find                      *stmt
}

func newWriter(s *Store, c *conn) *writer {
	// Nothing but a checkpoint ever waits for another connection.
	c.SetBusyTimeout(20 * time.Millisecond)
	return &writer{
		s: s, c: c, full: true, queue: make(chan *op, queuedOps), effects: effects{counts: map[counter]int64{}}, keys: s.keys,
		stateful: map[string]bool{},
	}
}

const (
	newestQuery = "SELECT seq, repeat FROM dedupe WHERE key = ? ORDER BY repeat DESC LIMIT 1"
	headQuery   = `SELECT key, due FROM deliveries INDEXED BY deliveries_queue
		WHERE sink = ? AND order_key = ? AND state = 'pending' ORDER BY key LIMIT 1`
)

// prepare prepares the statements of the path that every webhook takes.
func (w *writer) prepare() error {
	for _, p := range []struct {
		to  **stmt
		sql string
	}{
		{&w.begin, "BEGIN IMMEDIATE"},
		{&w.commit, "COMMIT"},
		{&w.insertRequest, `INSERT INTO requests (seq, dedupe, repeat, source, tenant, received_at, state, remote_addr,
			method, query, trace) VALUES (?, ?, ?, ?, ?, ?, 'received', ?, ?, ?, ?)`},
		{&w.insertBody, "INSERT INTO bodies (seq, headers, body) VALUES (?, ?, ?)"},
		{&w.newestKey, newestQuery},
		{&w.insertKey, "INSERT OR REPLACE INTO dedupe (key, repeat, seq) VALUES (?, ?, ?)"},
		{&w.knownRequest, "SELECT received_at, state, purged_at IS NOT NULL FROM requests WHERE seq = ?"},
		{&w.reopenRequest, `UPDATE requests SET state = 'received', reason = NULL, notes = NULL, crashes = 0, claims = 0
			WHERE seq = ? AND state = 'dead' AND purged_at IS NULL`},
		{&w.routeRequest, `UPDATE requests SET state = ?, reason = ?, notes = ?, crashes = ?, unrouted = ?
			WHERE seq = ? AND state = 'received'`},
		{&w.retryRequest, `UPDATE requests SET notes = ?, crashes = ?, claims = 0 WHERE seq = ? AND state = 'received'`},
		{&w.insertEvent, `INSERT INTO events (key, type, subject, partition_key, operation, provider, tenant, time, source,
			data_offset, data_length, data, changes) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`},
		{&w.insertDelivery, `INSERT INTO deliveries (key, sink, order_key, state, due, route, replay, attempts, crashes,
			claims, settled_at, reason, attribute_path, route_range, config_digest, schema_digest, message)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?, ?, ?, ?, ?, ?)`},
		{&w.head, headQuery},
		{&w.setDue, "UPDATE deliveries SET due = ? WHERE key = ? AND state = 'pending'"},
		{&w.settle, `UPDATE deliveries SET state = ?, due = ?, attempts = attempts + ?, crashes = ?, claims = 0,
			first_active = CASE WHEN first_attempt IS NULL THEN ? ELSE first_active END,
			first_attempt = coalesce(first_attempt, ?), took = ?, settled_at = ?, reason = ?, reference = ?,
			attribute_path = ?, route_range = coalesce(?, route_range) WHERE key = ? AND state IN ('pending', 'leased')`},
		{&w.insertAttempt, `INSERT OR REPLACE INTO attempts (delivery, at, number, outcome, took, reason, notes)
			VALUES (?, ?, ?, ?, ?, ?, ?)`},
		{&w.count, `INSERT INTO counters (kind, label, value) VALUES (?, ?, ?)
			ON CONFLICT (kind, label) DO UPDATE SET value = value + excluded.value`},
		{&w.setState, `INSERT OR REPLACE INTO keyed_state (sink, order_key, state, updated_at, source, tenant, about)
			VALUES (?, ?, ?, ?, ?, ?, ?)`},
		{&w.deleteState, "DELETE FROM keyed_state WHERE sink = ? AND order_key = ?"},
		{&w.find, "SELECT sink, order_key, state FROM deliveries WHERE key = ?"},
	} {
		st, err := w.c.stmt(p.sql)
		if err != nil {
			return err
		}
		*p.to = st
	}
	return nil
}

// do queues an operation and waits until it is committed, or has failed. ctx only bounds the wait for a place in the
// queue: what is queued is committed, and until then its memory is the writer's.
func (s *Store) do(ctx context.Context, o *op) error {
	o.done = make(chan struct{})
	s.closing.RLock()
	if s.closed {
		s.closing.RUnlock()
		return store.ErrClosed
	}
	select {
	case s.writer.queue <- o:
		s.closing.RUnlock()
	default:
		select {
		case s.writer.queue <- o:
			s.closing.RUnlock()
		case <-ctx.Done():
			s.closing.RUnlock()
			return ctx.Err()
		}
	}
	<-o.done
	return o.err
}

// loop runs until the queue is closed and empty.
func (w *writer) loop() {
	group := make([]*op, 0, groupOps)
	var held *op // taken from the queue, but for the next group
	for {
		first := held
		held = nil
		if first == nil {
			var ok bool
			if first, ok = <-w.queue; !ok {
				return
			}
		}
		group = append(group[:0], first)
		weight, bytes := first.weight, first.bytes
	more:
		for !first.alone && !first.single && len(group) < groupOps {
			select {
			case o, ok := <-w.queue:
				if !ok {
					break more
				}
				if o.alone || o.single || weight+o.weight > groupWeight || bytes+o.bytes > groupBytes {
					held = o
					break more
				}
				group = append(group, o)
				weight, bytes = weight+o.weight, bytes+o.bytes
			default:
				break more
			}
		}
		w.run(group)
		w.index(len(group))
		clear(group) // let go of bodies
	}
}

// run commits a group; if it fails, each operation on its own, so that each caller gets its own error.
func (w *writer) run(group []*op) {
	switch err := w.transact(group); {
	case err == nil:
	case len(group) == 1:
		group[0].err = err
	default:
		w.s.log.Warn("a group of writes failed, trying them one by one", "writes", len(group), "error", err)
		for i, o := range group {
			o.err = w.transact(group[i : i+1])
		}
	}
	for _, o := range group {
		close(o.done)
	}
}

// transact applies operations in one transaction. After an error nothing of it is left, in the database or in memory.
func (w *writer) transact(group []*op) (err error) {
	if group[0].alone {
		return mapError(group[0].apply(w))
	}
	durable := false
	for _, o := range group {
		durable = durable || o.durable
	}
	if err := w.setSync(durable); err != nil {
		return mapError(err)
	}
	w.effects.accepted = w.effects.accepted[:0]
	w.effects.leased = w.effects.leased[:0]
	w.effects.due = w.effects.due[:0]
	w.effects.erased = nil
	clear(w.effects.counts)
	lastSeq, keys := w.lastSeq, len(w.keys.adding.keys)
	w.filtersBefore = append(w.filtersBefore[:0], w.filters...)
	defer func() {
		if err != nil {
			w.undo()
			w.lastSeq = lastSeq
			w.keys.undo(keys)
			// Those that were open have no rows, and may hold too much, which is no harm; others have their rows back.
			w.filters = append(w.filters[:0], w.filtersBefore...)
			err = mapError(err)
		}
	}()
	began := time.Now()
	if err := w.begin.run(); err != nil {
		return err
	}
	for _, o := range group {
		if err := o.apply(w); err != nil {
			return err
		}
	}
	for c, n := range w.effects.counts {
		if n == 0 {
			continue
		}
		w.count.BindText(1, c.kind)
		w.count.BindText(2, c.label)
		w.count.int(3, n)
		if err := w.count.run(); err != nil {
			return err
		}
	}
	committing := time.Now()
	if err := w.commit.run(); err != nil {
		return err
	}
	if o := w.s.opts.Observer; o != nil {
		now := time.Now()
		accepted := len(w.effects.accepted)
		o.Committed(len(group), accepted, now.Sub(began))
		if durable && accepted > 0 { // else it may have written nothing
			o.Synced(now.Sub(committing))
		}
	}
	w.publish(group, durable)
	return nil
}

// undo ends a failed transaction.
func (w *writer) undo() {
	w.routedSeq = w.s.routed.Load()
	if !w.c.AutocommitEnabled() {
		if err := w.c.exec("ROLLBACK"); err != nil && !w.c.AutocommitEnabled() {
			w.s.log.Error("cannot roll back", "error", err)
		}
	}
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	for _, l := range w.effects.leased {
		delete(l.queue.leases, l.key)
		l.queue.endOrder(l.lease.order)
	}
}

// publish makes a commit count in memory.
func (w *writer) publish(group []*op, durable bool) {
	s := w.s
	s.commits.Add(1)
	s.routed.Store(w.routedSeq)
	s.newest.Store(w.lastSeq)
	if durable && len(w.effects.accepted) > 0 { // it wrote, so it synced, and all before it too
		s.syncs.Add(1)
		s.unsynced.Store(0)
	} else {
		s.unsynced.CompareAndSwap(0, time.Now().UnixNano())
	}
	s.signal()
	s.mu.Lock()
	for c, n := range w.effects.counts {
		if n != 0 {
			s.totals[c] += n
		}
	}
	for _, l := range w.effects.leased {
		l.queue.held++
	}
	for _, o := range group {
		if o.committed != nil {
			o.committed()
		}
	}
	for _, d := range w.effects.due {
		s.queue(d.sink).becomesDue(d.key, d.due)
	}
	s.endErased(w.effects.erased)
	s.mu.Unlock()
	if s.opts.OnErased != nil {
		for sink, keys := range w.effects.erased {
			s.opts.OnErased(sink, keys)
		}
	}
	if len(w.effects.accepted) > 0 {
		s.accepts.Add(int64(len(w.effects.accepted)))
		if s.opts.OnAccepted != nil {
			s.opts.OnAccepted(w.effects.accepted)
		}
		clear(w.effects.accepted)
	}
}

// setSync says whether the next commit is an fsync. The pragma takes effect when it is prepared, so it never is kept.
func (w *writer) setSync(full bool) error {
	if full == w.full {
		return nil
	}
	query := "PRAGMA synchronous = NORMAL"
	if full {
		query = "PRAGMA synchronous = FULL"
	}
	if err := w.c.exec(query); err != nil {
		return err
	}
	w.full = full
	return nil
}

func (w *writer) addCount(c counter, n int64) { w.effects.counts[c] += n }

// becomesDue remembers that a delivery got a due time, for claims.
func (w *writer) becomesDue(sink string, key, due int64) {
	w.effects.due = append(w.effects.due, sinkDue{sink, core.DeliveryKey(key), due})
}

// mark notes a start or a stop; at both nobody holds a lease. The writer's goroutine is not running.
func (w *writer) mark(values map[string]int64, then func(*writer) error) error {
	o := &op{durable: true, apply: func(w *writer) error {
		for name, v := range values {
			if err := w.setMeta(name, v); err != nil {
				return err
			}
		}
		if err := w.parkLeased(); err != nil {
			return err
		}
		return then(w)
	}}
	return w.transact([]*op{o})
}

func (w *writer) setMeta(name string, value int64) error {
	st, err := w.c.stmt("UPDATE meta SET value = ? WHERE name = ?")
	if err != nil {
		return err
	}
	st.int(1, value)
	st.BindText(2, name)
	return st.run()
}

// finish marks a clean stop and empties the log. The writer's goroutine has ended.
func (w *writer) finish() error {
	if err := w.mark(map[string]int64{"running": 0}, (*writer).writeFilters); err != nil {
		return fmt.Errorf("mark the clean stop: %w", err)
	}
	// Not for safety: a database that was closed is one file.
	if err := w.c.exec("PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
		return fmt.Errorf("write the log into the database: %w", mapError(err))
	}
	return nil
}
