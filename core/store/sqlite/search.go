package sqlite

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/store"
)

// searchRest is how long a search leaves the machine to others after a step, in the time that the step took.
const searchRest = 1

// SearchRequests implements store.Store.
func (s *Store) SearchRequests(
	ctx context.Context, f store.RequestFilter, text *store.Text,
) (found []*core.Request, looked int, next string, err error) {
	before, limit, err := page(f.Cursor, f.Limit)
	if err != nil {
		return nil, 0, "", err
	}
	began := time.Now()
	err = s.search(ctx, func(c *conn) error {
		q, from, w, err := s.requestWalk(c, &f, before)
		if err != nil {
			return err
		}
		st, err := c.transient("SELECT " + requestColumns + ", b.headers, b.body FROM " + from +
			" CROSS JOIN bodies AS b ON b.seq = r.seq WHERE " + q.String() + " ORDER BY r.seq DESC")
		if err != nil {
			return err
		}
		defer st.Finalize()
		q.bind(st)
		var body []byte
		stopped := int64(0) // at this request, which was looked at
		at, err := s.walk(c, w, func(from, to int64) (bool, error) {
			n := len(q.values)
			st.int(n+1, from)
			st.int(n+2, to)
			var failed error
			err := st.rows(func() bool {
				looked++
				body = st.bytesInto(body, requestWidth+1)
				has := text.In(body)
				if !has && !isJSON(body) {
					has, failed = c.dataHas(st.ColumnInt64(0), text)
				}
				if has {
					r := st.request()
					r.Headers = parseHeaders(st.ColumnText(requestWidth))
					found = append(found, r)
				}
				if len(found) == limit || time.Since(began) > s.opts.listTime {
					stopped = st.ColumnInt64(0)
				}
				return stopped == 0 && failed == nil
			})
			if err == nil {
				err = failed
			}
			return stopped != 0, err
		})
		if stopped != 0 {
			at = stopped
		}
		if err == nil && at != 0 {
			next, err = c.cursor(at, 0)
		}
		return err
	})
	if err != nil {
		return nil, 0, "", fmt.Errorf("search requests: %w", err)
	}
	if next != "" {
		s.rest(ctx, searchRest*time.Since(began))
	}
	return found, looked, next, nil
}

// isJSON guesses from a body's first byte whether it is an object or list.
func isJSON(body []byte) bool {
	body = bytes.TrimLeft(body, " \t\r\n")
	return len(body) > 0 && (body[0] == '{' || body[0] == '[')
}

// dataHas looks for a text in what a decoder made of a body.
func (c *conn) dataHas(seq int64, text *store.Text) (has bool, err error) {
	st, err := c.stmt("SELECT data FROM events WHERE key >= ? AND key < ? AND data IS NOT NULL")
	if err != nil {
		return false, err
	}
	st.int(1, core.NewEventKey(seq, 0))
	st.int(2, core.NewEventKey(seq+1, 0))
	err = st.rows(func() bool { has = text.In(st.readBytes(0)); return !has })
	return has, err
}
