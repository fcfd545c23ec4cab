package sqlite

import (
	"context"
	"fmt"
	"math"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/store"
)

// pageBytes ends a page of requests early.
const pageBytes = 4 << 20

// ReadRequests implements store.Store.
func (s *Store) ReadRequests(
	ctx context.Context, f store.RequestFilter, after int64, limit int,
) (page []*core.Request, next int64, err error) {
	err = s.search(ctx, func(c *conn) error {
		var q query
		page, next = nil, 0
		seqs := bounds{after + 1, math.MaxInt64}
		if err := q.timeBounds(c, &seqs, f.Since, f.Until); err != nil {
			return err
		}
		q.where("r.seq >= ? AND r.seq < ?", seqs.first, seqs.end)
		q.requests(&f)
		st, err := c.transient("SELECT " + requestColumns + ", b.headers, b.body FROM requests AS r" +
			" JOIN bodies AS b ON b.seq = r.seq WHERE " + q.String() + " ORDER BY r.seq")
		if err != nil {
			return err
		}
		defer st.Finalize()
		q.bind(st)
		bytes := 0
		return st.rows(func() bool {
			if len(page) == limit || bytes >= pageBytes {
				next = page[len(page)-1].Seq
				return false
			}
			r := st.request()
			r.Headers = parseHeaders(st.ColumnText(requestWidth))
			r.Body = st.readBytes(requestWidth + 1)
			bytes += len(r.Body)
			page = append(page, r)
			return true
		})
	})
	if err != nil {
		return nil, 0, fmt.Errorf("read requests: %w", err)
	}
	return page, next, nil
}
