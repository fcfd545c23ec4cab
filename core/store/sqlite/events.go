package sqlite

import (
	"context"
	"fmt"
	"math"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/store"
)

// ListEvents implements store.Store.
func (s *Store) ListEvents(ctx context.Context, f store.EventFilter) (es []store.ListedEvent, next string, err error) {
	before, limit, err := page(f.Cursor, f.Limit)
	if err != nil {
		return nil, "", err
	}
	short := ""
	err = s.search(ctx, func(c *conn) error {
		var q query
		seqs := bounds{0, math.MaxInt64 >> 12}
		found, err := s.ofRequest(c, f.RequestID, &seqs)
		if err != nil || !found {
			return err
		}
		if err := q.timeBounds(c, &seqs, f.Since, f.Until); err != nil {
			return err
		}
		hashes := q.events(f.Type, f.Subject, f.Tenant)
		if q.equal("r.source", f.Source); f.Source != "" {
			hashes = append(hashes, hashOf(ofSource, f.Source))
		}
		const routed = "FROM deliveries AS d WHERE d.key >= e.key << 12 AND d.key < (e.key + 1) << 12"
		from, order := "events AS e CROSS JOIN requests AS r ON r.seq = e.key >> 12", "e.key DESC"
		within := "r.seq >= ? AND r.seq <= ? AND e.key >= ? AND e.key < ?"
		jump := "SELECT max(key) FROM events WHERE key < ?"
		if f.Unrouted {
			from = "requests AS r INDEXED BY requests_unrouted CROSS JOIN events AS e"
			order = "r.seq DESC, e.key DESC"
			within = "r.seq >= ? AND r.seq <= ? AND e.key >= max(?, r.seq << 12) AND e.key < min(?, (r.seq + 1) << 12)"
			q.where("r.unrouted > 0 AND NOT EXISTS (SELECT 1 " + routed + ")")
			// The events of the request that the place is in are looked at from there on.
			jump = `SELECT max(seq) << 12 | 4095 FROM requests INDEXED BY requests_unrouted
				WHERE unrouted > 0 AND seq <= (? - 1) >> 12`
		}
		q.where(within)
		st, err := c.transient("SELECT " + eventColumns + ", r.received_at, (SELECT count(*) " + routed + ") FROM " + from +
			" WHERE " + q.String() + " ORDER BY " + order)
		if err != nil {
			return err
		}
		defer st.Finalize()
		q.bind(st)
		w := walk{shift: 12, seqs: seqs, before: before, jump: jump, all: hashes}
		at, err := s.walk(c, w, func(from, to int64) (bool, error) {
			n := len(q.values)
			st.int(n+1, from>>12)
			st.int(n+2, (to-1)>>12)
			st.int(n+3, from)
			st.int(n+4, to)
			err := st.rows(func() bool {
				e, _ := st.event()
				es = append(es, store.ListedEvent{
					Event: *e, ReceivedAt: st.readTime(eventWidth), Deliveries: st.ColumnInt(eventWidth + 1),
				})
				return len(es) <= limit
			})
			return len(es) > limit, err
		})
		if err == nil && at != 0 {
			short, err = c.cursor(at, 12)
		}
		return err
	})
	if err != nil {
		return nil, "", fmt.Errorf("list events: %w", err)
	}
	if short != "" {
		return es, short, nil
	}
	es, next = cut(es, limit, func(e store.ListedEvent) int64 { return core.NewEventKey(e.Event.RequestSeq, e.Event.Index) })
	return es, next, nil
}
