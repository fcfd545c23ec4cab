package sqlite

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/grapnelhq/grapnel/core"
)

// oldestLook is how many entries of an index are looked at for the oldest delivery of a sink: a few milliseconds' worth.
const oldestLook = 10_000

// The queries for the oldest. None reads more than index entries, and none more than oldestLook of them.
const (
	// What nobody has tried yet became due when its request came, so it is in order of age; so is what a start made due.
	oldestDueQuery = `SELECT key FROM deliveries INDEXED BY deliveries_due
		WHERE sink = ? AND due <= ? AND state = 'pending' ORDER BY due LIMIT ?`
	// What waits for another attempt.
	oldestRetryQuery = `SELECT key FROM deliveries INDEXED BY deliveries_due
		WHERE sink = ? AND due > ? AND state = 'pending' ORDER BY due LIMIT ?`
	// What waits behind a dead one.
	oldestHeldQuery = `SELECT d.key FROM (SELECT DISTINCT order_key FROM held WHERE sink = ?1 LIMIT ?2 / 10) AS h
		JOIN deliveries AS d INDEXED BY deliveries_queue
			ON d.sink = ?1 AND d.order_key = h.order_key AND d.state = 'pending' LIMIT ?2`
	// What its sink has been given as soon as it was made; the window in memory bounds it.
	oldestLeasedQuery = `SELECT d.key, d.sink FROM deliveries AS d INDEXED BY deliveries_leased WHERE d.state = 'leased'`
	oldestOfQuery     = "SELECT source, received_at FROM requests WHERE seq = ?"
)

// OldestWaiting implements store.Store. It looks at a bounded number of index entries for each sink that has a backlog, so
// that it costs the same with ten thousand deliveries as with a million.
func (s *Store) OldestWaiting(ctx context.Context, except string) (map[string]time.Time, error) {
	var sinks []string
	s.mu.Lock()
	for c, n := range s.totals {
		if n > 0 && c == deliveryCounter(c.label, core.DeliveryPending) {
			sinks = append(sinks, c.label)
		}
	}
	s.mu.Unlock()
	oldest := map[string]time.Time{}
	if len(sinks) == 0 {
		return oldest, nil
	}
	err := s.read(ctx, func(c *conn) error {
		keys := map[string][]int64{}
		if err := leasedKeys(c, keys); err != nil {
			return err
		}
		for _, sink := range sinks {
			waiting := keys[sink]
			if err := waitingKeys(c, sink, time.Now().UnixMicro(), &waiting); err != nil {
				return err
			}
			at, ok, err := oldestOf(c, waiting, except)
			if err != nil {
				return err
			}
			if ok {
				oldest[sink] = at
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("find the oldest waiting deliveries: %w", err)
	}
	return oldest, nil
}

// leasedKeys adds what the sinks have been given, by sink.
func leasedKeys(c *conn, keys map[string][]int64) error {
	st, err := c.stmt(oldestLeasedQuery)
	if err != nil {
		return err
	}
	return st.rows(func() bool {
		sink := st.ColumnText(1)
		keys[sink] = append(keys[sink], st.ColumnInt64(0))
		return true
	})
}

// waitingKeys adds what waits for a sink.
func waitingKeys(c *conn, sink string, now int64, keys *[]int64) error {
	for _, query := range []string{oldestDueQuery, oldestRetryQuery, oldestHeldQuery} {
		st, err := c.stmt(query)
		if err != nil {
			return err
		}
		st.BindText(1, sink)
		if query == oldestHeldQuery {
			st.int(2, oldestLook)
		} else {
			st.int(2, now)
			st.int(3, oldestLook)
		}
		if err := st.rows(func() bool { *keys = append(*keys, st.ColumnInt64(0)); return true }); err != nil {
			return err
		}
	}
	return nil
}

// oldestOf is when the request of the first of some deliveries was received, other than those of a source.
func oldestOf(c *conn, keys []int64, except string) (at time.Time, ok bool, err error) {
	if len(keys) == 0 {
		return at, false, nil
	}
	slices.Sort(keys)
	st, err := c.stmt(oldestOfQuery)
	if err != nil {
		return at, false, err
	}
	last := int64(-1)
	for _, k := range keys {
		seq := core.DeliveryKey(k).RequestSeq()
		if seq == last {
			continue
		}
		last = seq
		st.int(1, seq)
		source := ""
		found, err := st.row(func() { source, at = st.ColumnText(0), st.readTime(1) })
		if err != nil {
			return at, false, err
		}
		if found && (except == "" || source != except) {
			return at, true, nil
		}
	}
	return time.Time{}, false, nil
}
