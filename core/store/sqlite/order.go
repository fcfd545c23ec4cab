package sqlite

import (
	"bytes"
	"context"
	"crypto/sha256"
	"slices"
	"strings"
	"time"

	"github.com/grapnelhq/grapnel/core/store"
)

// digest stands for a subject where the subject itself must not be.
type digest [sha256.Size]byte

func digestOf(text string) digest { return sha256.Sum256([]byte(text)) }

// order says what an erasure takes away. It stays, in memory and with its receipt in the database: it goes on being
// for what was received before it, and only now is decoded.
type order struct {
	id             int64   // of its receipt
	subject        *digest // nil: whole requests
	source, tenant string
	through        int64
	open           bool // it has not come to its end; the writer's
}

// is tells whether an event is the order's.
func (o *order) is(tenant, subject, partitionKey string) bool {
	if o.subject == nil {
		return true
	}
	if o.tenant != "" && o.tenant != tenant {
		return false
	}
	for _, name := range namesOf(tenant, subject, partitionKey) {
		if name != "" && digestOf(name) == *o.subject {
			return true
		}
	}
	return false
}

// namesOf returns the subjects that an event is about, empty ones among them: its own, its partition key, and that without
// the tenant before it.
func namesOf(tenant, subject, partitionKey string) (names [3]string) {
	names[0] = subject
	if partitionKey != subject {
		names[1] = partitionKey
	}
	if rest, ok := strings.CutPrefix(partitionKey, tenant+"/"); ok && tenant != "" && rest != subject {
		names[2] = rest
	}
	return names
}

// aboutBytes is how much of a digest is kept of each subject that keyed state is about.
const aboutBytes = 8

// aboutOf tells keyed state whom it is about.
func aboutOf(tenant, subject, partitionKey string) []byte {
	var about []byte
	for _, name := range namesOf(tenant, subject, partitionKey) {
		if name != "" {
			d := digestOf(name)
			about = append(about, d[:aboutBytes]...)
		}
	}
	return about
}

// isState tells whether keyed state is the order's.
func (o *order) isState(source, tenant string, about []byte) bool {
	if o.subject == nil || o.source != "" && o.source != source || o.tenant != "" && o.tenant != tenant {
		return false
	}
	for part := range slices.Chunk(about, aboutBytes) {
		if bytes.Equal(part, o.subject[:aboutBytes]) {
			return true
		}
	}
	return false
}

// ordersOf returns the orders that a decision meets, nil almost always.
func (w *writer) ordersOf(d *store.Decision) (met []*order) {
	if d.Request.Seq > w.ordered {
		return nil
	}
	for _, o := range w.orders {
		if o.subject == nil || d.Request.Seq > o.through || o.source != "" && o.source != d.Request.Source {
			continue
		}
		for i := range d.Events {
			if e := &d.Events[i]; o.is(e.Tenant, e.Subject, e.PartitionKey) {
				met = append(met, o)
				break
			}
		}
	}
	return met
}

// loadOrders reads the orders of all receipts.
func (w *writer) loadOrders() error {
	st, err := w.c.stmt("SELECT id, subject, source, tenant, through, done_at IS NULL FROM receipts ORDER BY id")
	if err != nil {
		return err
	}
	return st.rows(func() bool {
		o := &order{
			id: st.ColumnInt64(0), source: st.ColumnText(2), tenant: st.ColumnText(3), through: st.ColumnInt64(4),
			open: st.ColumnBool(5),
		}
		if !st.ColumnIsNull(1) {
			o.subject = new(digest)
			st.ColumnBytes(1, o.subject[:])
		}
		w.orders = append(w.orders, o)
		w.ordered = max(w.ordered, o.through)
		return true
	})
}

// beginErasure makes a receipt, or takes up an open one for the same.
func (s *Store) beginErasure(ctx context.Context, e store.Erasure, seqs []int64) (*order, error) {
	if (e.Subject == "") == (len(e.Requests) == 0) {
		return nil, store.ErrErasure
	}
	var o *order
	err := s.do(ctx, &op{durable: true, apply: func(w *writer) error {
		o = &order{source: e.Source, tenant: e.Tenant, through: w.lastSeq, open: true}
		if e.Subject != "" {
			d := digestOf(e.Subject)
			o.subject = &d
			for _, known := range w.orders {
				if known.open && known.subject != nil && *known.subject == d && known.source == e.Source && known.tenant == e.Tenant {
					o.id = known.id
				}
			}
		}
		return w.openReceipt(o, seqs)
	}, committed: func() {
		w := s.writer // in its goroutine
		for i, known := range w.orders {
			if known.id == o.id {
				w.orders[i] = o
				return
			}
		}
		w.orders = append(w.orders, o)
	}})
	return o, err
}

// openReceipt writes that an erasure begins, or goes on.
func (w *writer) openReceipt(o *order, seqs []int64) error {
	if err := w.setMeta("scrub", 1); err != nil {
		return err
	}
	w.ordered = max(w.ordered, o.through)
	if o.id != 0 {
		st, err := w.c.stmt("UPDATE receipts SET through = ? WHERE id = ?")
		if err != nil {
			return err
		}
		st.int(1, o.through)
		st.int(2, o.id)
		return st.run()
	}
	st, err := w.c.stmt(`INSERT INTO receipts (subject, source, tenant, through, begun_at) VALUES (?, ?, ?, ?, ?)
		RETURNING id`)
	if err != nil {
		return err
	}
	st.BindNull(1)
	if o.subject != nil {
		st.BindBytes(1, o.subject[:])
	}
	st.text(2, o.source)
	st.text(3, o.tenant)
	st.int(4, o.through)
	st.int(5, time.Now().UnixMicro())
	if err := st.rows(func() bool { o.id = st.ColumnInt64(0); return true }); err != nil {
		return err
	}
	if st, err = w.c.stmt("INSERT INTO receipt_requests (receipt, seq) VALUES (?, ?)"); err != nil {
		return err
	}
	for _, seq := range seqs {
		st.int(1, o.id)
		st.int(2, seq)
		if err := st.run(); err != nil {
			return err
		}
	}
	return nil
}

// orderedRequests are the requests that an order erases by id.
func (s *Store) orderedRequests(ctx context.Context, o *order) (seqs []int64, err error) {
	err = s.search(ctx, func(c *conn) error {
		st, err := c.stmt("SELECT seq FROM receipt_requests WHERE receipt = ?")
		if err != nil {
			return err
		}
		st.int(1, o.id)
		return st.rows(func() bool { seqs = append(seqs, st.ColumnInt64(0)); return true })
	})
	return seqs, err
}

// closeReceipt writes that an erasure has come to its end.
func (w *writer) closeReceipt(o *order, unread int64) error {
	st, err := w.c.stmt("DELETE FROM receipt_requests WHERE receipt = ?")
	if err != nil {
		return err
	}
	st.int(1, o.id)
	if err := st.run(); err != nil {
		return err
	}
	if st, err = w.c.stmt("UPDATE receipts SET done_at = ?, unread = ? WHERE id = ?"); err != nil {
		return err
	}
	st.int(1, time.Now().UnixMicro())
	st.int(2, unread)
	st.int(3, o.id)
	return st.run()
}

// unread counts the requests of an order that are not decoded yet, and dead ones, if they are asked for, which may be
// opened again: nobody knows whom they are about.
func (s *Store) unread(ctx context.Context, o *order, dead bool) (n int64, err error) {
	count := func(c *conn, state string) error {
		st, err := c.stmt("SELECT count(*) FROM requests AS r WHERE r.seq <= ?1 AND (?2 = '' OR r.source = ?2) AND " + state)
		if err != nil {
			return err
		}
		st.int(1, o.through)
		st.BindText(2, o.source)
		_, err = st.row(func() { n += st.ColumnInt64(0) })
		return err
	}
	err = s.search(ctx, func(c *conn) error {
		n = 0
		err := count(c, "r.state = 'received' AND r.seq > (SELECT value FROM meta WHERE name = 'routed_seq')")
		if err == nil && dead {
			err = count(c, "r.state = 'dead' AND r.purged_at IS NULL")
		}
		return err
	})
	return n, err
}
