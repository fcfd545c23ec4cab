package sqlite

import (
	"context"
	"fmt"
	"maps"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/store"
)

const (
	keptRejections  = 10_000 // in the database
	heldRejections  = 256    // in memory until maintain writes them; the oldest give way, but all are counted
	purgeRejections = 500    // so many more than kept may there be, so that they are deleted in bulk
)

// RecordRejection implements store.Store. In a flood only the newest of each moment are kept, but all are counted.
func (s *Store) RecordRejection(r core.Rejection) {
	s.rejectMu.Lock()
	if len(s.rejected) == heldRejections {
		s.rejected = append(s.rejected[:0], s.rejected[1:]...)
	}
	s.rejected = append(s.rejected, r)
	s.causes[r.Cause]++
	s.rejectMu.Unlock()
	s.signal()
}

// flushRejections commits what RecordRejection kept in memory.
func (s *Store) flushRejections(ctx context.Context) error {
	s.flushing.Lock() // one at a time, so that who lists them has all in the database afterwards
	defer s.flushing.Unlock()
	s.rejectMu.Lock()
	rejected, causes := s.rejected, maps.Clone(s.causes)
	s.rejected = nil
	s.rejectMu.Unlock()
	if len(causes) == 0 {
		return nil
	}
	err := s.do(ctx, &op{
		weight: len(rejected),
		apply: func(w *writer) error {
			for cause, n := range causes {
				w.addCount(counter{countRejections, cause}, n)
			}
			return w.reject(rejected)
		},
		committed: func() {
			s.rejectMu.Lock()
			defer s.rejectMu.Unlock()
			for cause, n := range causes {
				if s.causes[cause] -= n; s.causes[cause] == 0 {
					delete(s.causes, cause)
				}
			}
		},
	})
	if err != nil {
		s.rejectMu.Lock()
		s.rejected = append(rejected, s.rejected...)
		s.rejected = s.rejected[max(0, len(s.rejected)-heldRejections):]
		s.rejectMu.Unlock()
		return fmt.Errorf("store rejections: %w", err)
	}
	return nil
}

func (w *writer) reject(rs []core.Rejection) error {
	st, err := w.c.stmt(`INSERT INTO rejections (id, at, source, status, cause, detail, remote_addr, method, path)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`)
	if err != nil {
		return err
	}
	for i, r := range rs {
		st.int(1, w.lastRejection+int64(i)+1)
		st.int(2, r.At.UnixMicro())
		st.text(3, r.Source)
		st.int(4, int64(r.Status))
		st.BindText(5, r.Cause)
		st.text(6, r.Detail)
		st.text(7, r.RemoteAddr)
		st.text(8, r.Method)
		st.text(9, r.Path)
		if err := st.run(); err != nil {
			return err
		}
	}
	w.lastRejection += int64(len(rs))
	st, err = w.c.stmt(`DELETE FROM rejections WHERE id <= ?1
		AND (SELECT min(id) FROM rejections) <= ?1 - ?2`)
	if err != nil {
		return err
	}
	st.int(1, w.lastRejection-keptRejections)
	st.int(2, purgeRejections)
	return st.run()
}

// ListRejections implements store.Store.
func (s *Store) ListRejections(
	ctx context.Context, f store.RejectionFilter,
) (rs []core.Rejection, next string, err error) {
	before, limit, err := page(f.Cursor, f.Limit)
	if err != nil {
		return nil, "", err
	}
	if err := s.flushRejections(ctx); err != nil {
		return nil, "", err
	}
	err = s.search(ctx, func(c *conn) error {
		var q query
		q.where("id < ?", before)
		q.where("id > (SELECT max(id) FROM rejections) - ?", int64(keptRejections))
		q.equal("source", f.Source)
		q.equal("cause", f.Cause)
		if !f.Since.IsZero() {
			q.where("at >= ?", f.Since.UnixMicro())
		}
		if !f.Until.IsZero() {
			q.where("at < ?", f.Until.UnixMicro())
		}
		rs, err = c.rejections(&q, limit+1)
		return err
	})
	if err != nil {
		return nil, "", fmt.Errorf("list rejections: %w", err)
	}
	rs, next = cut(rs, limit, func(r core.Rejection) int64 { return r.ID })
	return rs, next, nil
}

// GetRejection implements store.Store.
func (s *Store) GetRejection(ctx context.Context, id int64) (core.Rejection, error) {
	if err := s.flushRejections(ctx); err != nil {
		return core.Rejection{}, err
	}
	var rs []core.Rejection
	err := s.search(ctx, func(c *conn) (err error) {
		var q query
		q.where("id = ?", id)
		rs, err = c.rejections(&q, 1)
		return err
	})
	if err == nil && len(rs) == 0 {
		err = store.ErrNotFound
	}
	if err != nil {
		return core.Rejection{}, fmt.Errorf("get rejection %d: %w", id, err)
	}
	return rs[0], nil
}

func (c *conn) rejections(q *query, limit int) ([]core.Rejection, error) {
	st, err := c.transient(`SELECT id, at, source, status, cause, detail, remote_addr, method, path FROM rejections
		WHERE ` + q.String() + ` ORDER BY id DESC LIMIT ?`)
	if err != nil {
		return nil, err
	}
	defer st.Finalize()
	q.values = append(q.values, limit)
	q.bind(st)
	var rs []core.Rejection
	err = st.rows(func() bool {
		rs = append(rs, core.Rejection{
			ID: st.ColumnInt64(0), At: st.readTime(1), Source: st.ColumnText(2), Status: st.ColumnInt(3),
			Cause: st.ColumnText(4), Detail: st.ColumnText(5), RemoteAddr: st.ColumnText(6), Method: st.ColumnText(7),
			Path: st.ColumnText(8),
		})
		return true
	})
	return rs, err
}
