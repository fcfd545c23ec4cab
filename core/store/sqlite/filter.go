package sqlite

import (
	"slices"
	"strings"
)

// Requests, events and deliveries are found by source, tenant, type, subject, route and sink through filters: for every
// 4096 requests there is one Bloom filter of what they and theirs have. A search walks the filters from the newest, and
// looks through the rows only where one matches. An index would be exact, but subjects are all over it: each webhook would
// write a page of its own into the log and then into the database, which is more than all the rest it writes.
//
// The filters that something is being added to are in memory, and have no row while they are there. A stretch of requests
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

// The kinds of texts in filters; they are part of the database's format, as bytes of hash.
const (
	ofType   = iota
	ofPrefix // the first segment of a type, for patterns
	ofSubject
	ofTenant
	ofSource
	ofRoute
	ofSink
	kinds
)

const kindBytes = "kpstord"

func hashOf(kind int, text string) uint64 { return hash(kindBytes[kind], text) }

// openFilter is a filter that rows are added to.
type openFilter struct {
	block int64
	used  int64         // orders them by use
	last  [kinds]string // what was added last: most have the same
	filter
}

// noteType adds the type of an event.
func (f *openFilter) noteType(name string) {
	if name != f.last[ofType] {
		f.note(ofType, name)
		f.note(ofPrefix, firstSegment(name))
	}
}

// firstSegment cuts a type, or a pattern of types, at its first dot.
func firstSegment(name string) string {
	name, _, _ = strings.Cut(name, ".")
	return name
}

// note adds a text of a row.
func (f *openFilter) note(kind int, text string) {
	if text == "" || text == f.last[kind] {
		return
	}
	f.last[kind] = text
	f.add(hashOf(kind, text))
}

// filterOf returns the filter of a request's stretch, to add to it.
func (w *writer) filterOf(seq int64) (f *openFilter, err error) {
	block := seq >> filterShift
	for _, o := range w.filters {
		if o.block == block {
			f = o
		}
	}
	if f == nil {
		if f, err = w.openFilter(block); err != nil {
			return nil, err
		}
	}
	w.filterUse++
	f.used = w.filterUse
	return f, nil
}

// openFilter takes a filter from its row, or makes it of what is there.
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

// fillFilter adds what is there.
func (w *writer) fillFilter(f *openFilter) error {
	for _, q := range filtered {
		st, err := w.c.stmt(q.sql)
		if err != nil {
			return err
		}
		st.int(1, f.block<<filterShift<<q.shift)
		st.int(2, (f.block+1)<<filterShift<<q.shift)
		if err := st.rows(func() bool {
			for i, kind := range q.kinds {
				if text := st.ColumnText(i); kind == ofType {
					f.noteType(text)
				} else {
					f.note(kind, text)
				}
			}
			return true
		}); err != nil {
			return err
		}
	}
	return nil
}

// filtered is what filters are of.
var filtered = []struct {
	sql   string // the kinds, of keys from one up to another
	shift int    // of a request's sequence in a key
	kinds []int
}{
	{"SELECT source, tenant FROM requests WHERE seq >= ? AND seq < ?", 0, []int{ofSource, ofTenant}},
	{"SELECT type, subject, tenant FROM events WHERE key >= ? AND key < ?", 12, []int{ofType, ofSubject, ofTenant}},
	{"SELECT route, sink FROM deliveries WHERE key >= ? AND key < ?", 24, []int{ofRoute, ofSink}},
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

// mayHave asks the filter of a stretch of requests for all of some hashes, and for any of others if there are some.
func (c *conn) mayHave(block int64, all, any []uint64) (bool, error) {
	if len(all)+len(any) == 0 {
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
		for _, h := range all {
			match = match && f.has(h)
		}
		match = match && (len(any) == 0 || slices.ContainsFunc(any, f.has))
	})
	return match, err
}

// bounds is a range of keys.
type bounds struct{ first, end int64 }

func (b *bounds) within(first, end int64) {
	b.first, b.end = max(b.first, first), min(b.end, end)
}
