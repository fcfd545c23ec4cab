package sqlite

import (
	"context"
	"encoding/hex"
	"fmt"

	"github.com/grapnelhq/grapnel/core/store"
)

const receiptColumns = `id, subject, source, tenant, through, begun_at, done_at, unread, requests, shared, events,
	deliveries, attempts, states, rejections`

func (s *stmt) receipt() store.Receipt {
	return store.Receipt{
		ID: s.ColumnInt64(0), Subject: hex.EncodeToString(s.readBytes(1)), Source: s.ColumnText(2), Tenant: s.ColumnText(3),
		Through: s.ColumnInt64(4), BegunAt: s.readTime(5), DoneAt: s.readTime(6), Unread: s.ColumnInt64(7),
		Removed: store.Removed{
			Requests: s.ColumnInt64(8), Shared: s.ColumnInt64(9), Events: s.ColumnInt64(10), Deliveries: s.ColumnInt64(11),
			Attempts: s.ColumnInt64(12), States: s.ColumnInt64(13), Rejections: s.ColumnInt64(14),
		},
	}
}

// ListReceipts implements store.Store.
func (s *Store) ListReceipts(ctx context.Context, cursor string, limit int) (rs []store.Receipt, next string, err error) {
	before, limit, err := page(cursor, limit)
	if err != nil {
		return nil, "", err
	}
	err = s.search(ctx, func(c *conn) error {
		st, err := c.stmt("SELECT " + receiptColumns + " FROM receipts WHERE id < ? ORDER BY id DESC LIMIT ?")
		if err != nil {
			return err
		}
		st.int(1, before)
		st.int(2, int64(limit)+1)
		return st.rows(func() bool { rs = append(rs, st.receipt()); return true })
	})
	if err != nil {
		return nil, "", fmt.Errorf("list receipts: %w", err)
	}
	rs, next = cut(rs, limit, func(r store.Receipt) int64 { return r.ID })
	return rs, next, nil
}

// GetReceipt implements store.Store.
func (s *Store) GetReceipt(ctx context.Context, id int64) (r store.Receipt, err error) {
	err = s.search(ctx, func(c *conn) error {
		st, err := c.stmt("SELECT " + receiptColumns + " FROM receipts WHERE id = ?")
		if err != nil {
			return err
		}
		st.int(1, id)
		ok, err := st.row(func() { r = st.receipt() })
		if err == nil && !ok {
			err = store.ErrNotFound
		}
		if err != nil {
			return err
		}
		if st, err = c.stmt(`SELECT delivery, sink, state, at FROM receipt_deliveries WHERE receipt = ?
			ORDER BY at, delivery`); err != nil {
			return err
		}
		st.int(1, id)
		return st.rows(func() bool {
			r.Sent = append(r.Sent, store.SentDelivery{
				ID: st.ColumnText(0), Sink: st.ColumnText(1), State: st.ColumnText(2), At: st.readTime(3),
			})
			return true
		})
	})
	if err != nil {
		return store.Receipt{}, fmt.Errorf("get receipt %d: %w", id, err)
	}
	return r, nil
}
