package sqlite

import (
	"context"
	"errors"
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
	err = s.search(ctx, func(c *conn) error {
		var q query
		seqs := bounds{0, math.MaxInt64 >> 12}
		if f.RequestID != "" {
			seq, err := s.findRequest(c, f.RequestID)
			if errors.Is(err, store.ErrNotFound) {
				return nil
			}
			if err != nil {
				return err
			}
			seqs.within(seq, seq+1)
		}
		if err := q.timeBounds(c, &seqs, f.Since, f.Until); err != nil {
			return err
		}
		q.equal("r.source", f.Source)
		hashes := q.events(f.Type, f.Subject, f.Tenant)
		const routed = "FROM deliveries AS d WHERE d.key >= e.key << 12 AND d.key < (e.key + 1) << 12"
		from, order := "events AS e JOIN requests AS r ON r.seq = e.key >> 12", "e.key DESC"
		if f.Unrouted {
			from = `requests AS r INDEXED BY requests_unrouted CROSS JOIN events AS e
				ON e.key >= r.seq << 12 AND e.key < (r.seq + 1) << 12`
			order = "r.seq DESC, e.key DESC"
			q.where("r.unrouted > 0 AND NOT EXISTS (SELECT 1 " + routed + ")")
			hashes = nil // there are few, or all are looked through
		}
		q.where("r.seq >= ? AND r.seq < ? AND e.key >= ? AND e.key < ?")
		st, err := c.transient("SELECT " + eventColumns + ", r.received_at, (SELECT count(*) " + routed + ") FROM " + from +
			" WHERE " + q.String() + " ORDER BY " + order)
		if err != nil {
			return err
		}
		defer st.Finalize()
		q.bind(st)
		look := func(in bounds) error {
			n := len(q.values)
			st.int(n+1, in.first)
			st.int(n+2, in.end)
			st.int(n+3, in.first<<12)
			st.int(n+4, min(in.end<<12, before))
			return st.rows(func() bool {
				e, _ := st.event()
				es = append(es, store.ListedEvent{
					Event: *e, ReceivedAt: st.readTime(eventWidth), Deliveries: st.ColumnInt(eventWidth + 1),
				})
				return len(es) <= limit
			})
		}
		if len(hashes) == 0 || f.RequestID != "" {
			return look(seqs)
		}
		return c.stretches(hashes, min(before>>12, seqs.end-1), func(first, end int64) (bool, error) {
			in := seqs
			in.within(first, end)
			err := look(in)
			return len(es) <= limit && in.first > seqs.first, err
		})
	})
	if err != nil {
		return nil, "", fmt.Errorf("list events: %w", err)
	}
	es, next = cut(es, limit, func(e store.ListedEvent) int64 { return core.NewEventKey(e.Event.RequestSeq, e.Event.Index) })
	return es, next, nil
}
