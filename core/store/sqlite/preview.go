package sqlite

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/grapnelhq/grapnel/core/store"
)

const (
	mostMentions = 100
	mostSimilar  = 5
)

// PreviewErase implements store.Store.
func (s *Store) PreviewErase(ctx context.Context, e store.Erasure) (p store.ErasePreview, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("preview an erasure: %w", err)
		}
	}()
	o := &order{source: e.Source, tenant: e.Tenant, through: s.newest.Load()}
	if (e.Subject == "") == (len(e.Requests) == 0) {
		return p, store.ErrErasure
	}
	origins := map[store.EraseOrigin]int64{}
	states := map[stateKey]struct{}{}
	look := func(seqs []int64, _ int64) error {
		for _, seq := range seqs {
			if err := s.previewRequest(ctx, o, seq, &p, origins, states); err != nil {
				return err
			}
		}
		return nil
	}
	if e.Subject == "" {
		seqs, err := s.findRequests(ctx, e.Requests)
		if err == nil {
			err = look(seqs, 0)
		}
		return p, err
	}
	d := digestOf(e.Subject)
	o.subject = &d
	if err := s.searchEvents(ctx, o, look); err != nil {
		return p, err
	}
	for origin, n := range origins {
		origin.Events = n
		p.Origins = append(p.Origins, origin)
	}
	slices.SortFunc(p.Origins, func(a, b store.EraseOrigin) int {
		return cmp.Or(cmp.Compare(a.Source, b.Source), cmp.Compare(a.Tenant, b.Tenant))
	})
	if err := s.previewStates(ctx, o, &p, states); err != nil {
		return p, err
	}
	rejected, err := s.rejectionsOf(ctx, e.Subject)
	if err != nil {
		return p, err
	}
	p.Removed.Rejections = int64(len(rejected))
	if p.Unread, err = s.unread(ctx, o, true); err != nil {
		return p, err
	}
	if err := s.deadMentions(ctx, o, e.Subject, &p); err != nil {
		return p, err
	}
	if p.CutShort, err = s.cutShort(ctx, o); err != nil {
		return p, err
	}
	if p.Removed == (store.Removed{}) {
		p.Similar, err = s.similar(ctx, o, e.Subject)
	}
	return p, err
}

// cutShort finds the receipt of an order that was begun before and has not come to its end, 0 if there is none.
func (s *Store) cutShort(ctx context.Context, o *order) (id int64, err error) {
	err = s.search(ctx, func(c *conn) error {
		st, err := c.stmt(`SELECT id FROM receipts WHERE done_at IS NULL AND subject = ? AND coalesce(source, '') = ?
			AND coalesce(tenant, '') = ?`)
		if err != nil {
			return err
		}
		st.BindBytes(1, o.subject[:])
		st.BindText(2, o.source)
		st.BindText(3, o.tenant)
		_, err = st.row(func() { id = st.ColumnInt64(0) })
		return err
	})
	return id, err
}

func (s *Store) previewRequest(
	ctx context.Context, o *order, seq int64, p *store.ErasePreview, origins map[store.EraseOrigin]int64,
	states map[stateKey]struct{},
) error {
	return s.search(ctx, func(c *conn) error {
		r, err := c.erased(o, seq)
		if err != nil || r == nil || len(r.mine) == 0 && o.subject != nil {
			return err
		}
		if len(r.others) > 0 {
			p.Removed.Shared++
		} else {
			p.Removed.Requests++
		}
		source := ""
		st, err := c.stmt("SELECT source FROM requests WHERE seq = ?")
		if err != nil {
			return err
		}
		st.int(1, seq)
		if _, err := st.row(func() { source = st.ColumnText(0) }); err != nil {
			return err
		}
		for i := range r.mine {
			e := &r.mine[i]
			origins[store.EraseOrigin{Source: source, Tenant: e.tenant}]++
			p.Removed.Events++
			ds, err := s.erasedDeliveries(c, r, e)
			if err != nil {
				return err
			}
			p.Removed.Deliveries += int64(len(ds))
			for _, d := range ds {
				p.Removed.Attempts += d.attempts
				if d.sent != nil {
					p.Sent = append(p.Sent, *d.sent)
				}
				if d.order == "" {
					continue
				}
				k := stateKey{d.sink, d.order}
				if _, seen := states[k]; seen {
					continue
				}
				states[k] = struct{}{}
				if st, err = c.stmt("SELECT 1 FROM keyed_state WHERE sink = ? AND order_key = ?"); err != nil {
					return err
				}
				st.BindText(1, k.sink)
				st.BindText(2, k.order)
				if _, err := st.row(func() { p.Removed.States++ }); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// previewStates counts keyed state of deliveries that are gone already.
func (s *Store) previewStates(ctx context.Context, o *order, p *store.ErasePreview, seen map[stateKey]struct{}) error {
	for at, end := (stateKey{}), false; !end; {
		mine, next, err := s.someStates(ctx, at, o.isStateRow)
		if err != nil {
			return err
		}
		at, end = next, next == stateKey{}
		for _, k := range mine {
			if _, known := seen[k]; !known {
				p.Removed.States++
			}
		}
	}
	return nil
}

// deadMentions looks into dead requests for the last part of a subject: mostly the provider's id.
func (s *Store) deadMentions(ctx context.Context, o *order, subject string, p *store.ErasePreview) error {
	last := []byte(subject[strings.LastIndexByte(subject, '/')+1:])
	if len(last) == 0 {
		return nil
	}
	for before, more := o.through+1, true; more && len(p.DeadMentions) < mostMentions; {
		err := s.search(ctx, func(c *conn) error {
			st, err := c.stmt("SELECT " + requestColumns + `, b.headers, b.body FROM requests AS r INDEXED BY requests_dead
				JOIN bodies AS b ON b.seq = r.seq WHERE r.state = 'dead' AND r.seq < ?1 AND (?2 = '' OR r.source = ?2)
				ORDER BY r.seq DESC LIMIT 100`)
			if err != nil {
				return err
			}
			st.int(1, before)
			st.BindText(2, o.source)
			more = false
			return st.rows(func() bool {
				r := st.request()
				before, more = r.Seq, true
				if bytes.Contains(st.readBytes(requestWidth+1), last) || bytes.Contains(st.readBytes(requestWidth), last) ||
					strings.Contains(r.Query, string(last)) {
					p.DeadMentions = append(p.DeadMentions, r.ID())
				}
				return len(p.DeadMentions) < mostMentions
			})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// similar finds subjects and partition keys that somebody may have meant: those with the same last part, and those that
// differ in case or spaces.
func (s *Store) similar(ctx context.Context, o *order, subject string) (list []string, err error) {
	plain := func(text string) string { return strings.ToLower(strings.ReplaceAll(text, " ", "")) }
	want := plain(subject)
	last := want[strings.LastIndexByte(want, '/')+1:]
	for after, more := int64(-1), true; more && len(list) < mostSimilar; {
		n := 0
		err := s.search(ctx, func(c *conn) error {
			st, err := c.stmt("SELECT key, subject, partition_key FROM events WHERE key > ? ORDER BY key LIMIT ?")
			if err != nil {
				return err
			}
			st.int(1, after)
			st.int(2, searchPage)
			return st.rows(func() bool {
				n++
				after = st.ColumnInt64(0)
				for _, text := range []string{st.ColumnText(1), st.ColumnText(2)} {
					have := plain(text)
					if have == "" || have != want && !strings.HasSuffix(have, "/"+last) && !strings.HasSuffix(want, "/"+have) {
						continue
					}
					if text != subject && !slices.Contains(list, text) {
						list = append(list, text)
					}
				}
				return len(list) < mostSimilar
			})
		})
		if err != nil {
			return nil, err
		}
		more = n == searchPage
	}
	slices.Sort(list)
	return list, nil
}
