package sqlite

import "github.com/grapnelhq/grapnel/core"

// Events are found by subject, type and tenant through filters: for every 4096 requests there is one Bloom filter of
// what their events have. A search walks the filters from the newest, and looks through the events only where one
// matches. An index would be exact, but subjects are all over it: each webhook would write a page of its own into the
// log and then into the database, which is more than all the rest it writes.
//
// The filters that events are being added to are in memory, and have no row while they are there. A stretch of requests
// without a row, as a crash leaves it, is looked through as if its filter matched.
const (
	filterShift = 12      // requests per filter, as a power of two
	filterBytes = 8 << 10 // 1 false match in 400 for 4096 subjects
	openFilters = 4       // sources that are routed at different places have each their own
)

// filter is a Bloom filter with four bits per text.
type filter [filterBytes]byte

// hash is FNV-1a with an end that mixes; it is part of the database's format.
func hash(kind byte, text string) uint64 {
	h := uint64(14695981039346656037)
	h = (h ^ uint64(kind)) * 1099511628211
	for i := range len(text) {
		h = (h ^ uint64(text[i])) * 1099511628211
	}
	h ^= h >> 32
	h *= 0x9fb21c651e98df25
	return h ^ h>>28
}

func (f *filter) add(h uint64) {
	for range 4 {
		f[h>>3%filterBytes] |= 1 << (h & 7)
		h >>= 16
	}
}

func (f *filter) has(h uint64) bool {
	for range 4 {
		if f[h>>3%filterBytes]&(1<<(h&7)) == 0 {
			return false
		}
		h >>= 16
	}
	return true
}

func (f *filter) addEvent(kind, subject, tenant string) {
	f.add(hash('k', kind))
	if subject != "" {
		f.add(hash('s', subject))
	}
	if tenant != "" {
		f.add(hash('t', tenant))
	}
}

// openFilter is a filter that events are added to.
type openFilter struct {
	block int64
	used  int64 // orders them by use
	filter
}

// filterEvent adds a new event to the filter of its stretch of requests.
func (w *writer) filterEvent(e *core.Event, seq int64) error {
	block := seq >> filterShift
	var f *openFilter
	for _, o := range w.filters {
		if o.block == block {
			f = o
		}
	}
	if f == nil {
		var err error
		if f, err = w.openFilter(block); err != nil {
			return err
		}
	}
	w.filterUse++
	f.used = w.filterUse
	f.addEvent(e.Type, e.Subject, e.Tenant)
	return nil
}

// openFilter takes a filter from its row, or makes it of the events that are there.
func (w *writer) openFilter(block int64) (*openFilter, error) {
	if len(w.filters) == openFilters {
		oldest := 0
		for i, o := range w.filters {
			if o.used < w.filters[oldest].used {
				oldest = i
			}
		}
		if err := w.writeFilter(w.filters[oldest]); err != nil {
			return nil, err
		}
		w.filters = append(w.filters[:oldest], w.filters[oldest+1:]...)
	}
	f := &openFilter{block: block}
	st, err := w.c.stmt("DELETE FROM event_filters WHERE block = ? RETURNING filter")
	if err != nil {
		return nil, err
	}
	st.int(1, block)
	found := false
	if err := st.rows(func() bool { found = st.ColumnBytes(0, f.filter[:]) == filterBytes; return true }); err != nil {
		return nil, err
	}
	if !found {
		if err := w.fillFilter(f); err != nil {
			return nil, err
		}
	}
	w.filters = append(w.filters, f)
	return f, nil
}

// fillFilter adds the events that are there.
func (w *writer) fillFilter(f *openFilter) error {
	st, err := w.c.stmt("SELECT type, subject, tenant FROM events WHERE key >= ? AND key < ?")
	if err != nil {
		return err
	}
	st.int(1, core.NewEventKey(f.block<<filterShift, 0))
	st.int(2, core.NewEventKey((f.block+1)<<filterShift, 0))
	return st.rows(func() bool {
		f.addEvent(st.ColumnText(0), st.ColumnText(1), st.ColumnText(2))
		return true
	})
}

func (w *writer) writeFilter(f *openFilter) error {
	st, err := w.c.stmt("INSERT OR REPLACE INTO event_filters (block, filter) VALUES (?, ?)")
	if err != nil {
		return err
	}
	st.int(1, f.block)
	st.BindBytes(2, f.filter[:])
	return st.run()
}

// writeFilters gives all filters their rows: at a clean stop.
func (w *writer) writeFilters() error {
	for _, f := range w.filters {
		if err := w.writeFilter(f); err != nil {
			return err
		}
	}
	return nil
}

// mayHave asks the filter of a stretch of requests for all the given hashes.
func (c *conn) mayHave(block int64, hashes []uint64) (bool, error) {
	if len(hashes) == 0 {
		return true, nil
	}
	st, err := c.stmt("SELECT filter FROM event_filters WHERE block = ?")
	if err != nil {
		return false, err
	}
	st.int(1, block)
	match := true
	_, err = st.row(func() {
		var f filter
		st.ColumnBytes(0, f[:])
		for _, h := range hashes {
			match = match && f.has(h)
		}
	})
	return match, err
}

// stretches calls look with the ranges of requests in which there may be events with all the given hashes, newest
// first, beginning at most at the sequence before, until look returns false.
func (c *conn) stretches(hashes []uint64, before int64, look func(first, end int64) (bool, error)) error {
	var oldest, newest int64
	st, err := c.stmt("SELECT min(key) >> 12, max(key) >> 12 FROM events")
	if err != nil {
		return err
	}
	empty := false
	if _, err := st.row(func() {
		oldest, newest, empty = st.ColumnInt64(0), st.ColumnInt64(1), st.ColumnIsNull(0)
	}); err != nil {
		return err
	}
	if empty {
		return nil
	}
	for block := min(newest, before) >> filterShift; block >= oldest>>filterShift; block-- {
		match, err := c.mayHave(block, hashes)
		if err != nil {
			return err
		}
		if !match {
			continue
		}
		if more, err := look(block<<filterShift, (block+1)<<filterShift); err != nil || !more {
			return err
		}
	}
	return nil
}

// bounds is a range of keys.
type bounds struct{ first, end int64 }

func (b *bounds) within(first, end int64) {
	b.first, b.end = max(b.first, first), min(b.end, end)
}
