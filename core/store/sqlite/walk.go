package sqlite

import (
	"math"
	"strconv"
	"time"

	"github.com/grapnelhq/grapnel/core/store"
)

// Lists go back through the requests, newest first, in steps: stretches of requests whose filter has nothing of what is
// looked for are passed over, and so are those without a row in the index of the state that is looked for. What is left
// is looked at some requests at a time. After listTime a list ends with what it has, and a cursor to go on from.
const (
	listTime  = 100 * time.Millisecond
	firstLook = 256 // requests, in one go; then as many as listTime allows for
	mostLook  = 1 << filterShift
)

// walk is a way back through a table.
type walk struct {
	shift  int    // how far a request's sequence is shifted in its keys
	seqs   bounds // of requests
	before int64  // only keys below
	// jump finds the largest key below its only parameter that may match, NULL if there is none.
	jump     string
	all, any []uint64 // for the filters: all of these, and any of those if there are some
}

// walk calls look with ranges of keys that may hold what is looked for, newest first, until look has enough. It returns
// the cursor to go on from if the time was over before, and 0 otherwise.
func (s *Store) walk(c *conn, w walk, look func(from, to int64) (enough bool, err error)) (next int64, err error) {
	jump, err := c.stmt(w.jump)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	bottom := max(w.seqs.first, 0) << w.shift
	at := min(w.before, min(w.seqs.end, math.MaxInt64>>w.shift)<<w.shift) // what is there or above was looked at
	top, width := at, int64(firstLook)
	matched := int64(-1) // the block whose filter was asked last, and matched
	for {
		jump.int(1, at)
		head := int64(-1)
		if _, err := jump.row(func() {
			if !jump.ColumnIsNull(0) {
				head = jump.ColumnInt64(0)
			}
		}); err != nil {
			return 0, err
		}
		if head < bottom {
			return 0, nil
		}
		if time.Since(began) > s.opts.listTime && at < top {
			return at, nil
		}
		seq := head >> w.shift
		block := seq >> filterShift
		from := block << filterShift
		may := block == matched
		if !may {
			if may, err = c.mayHave(block, w.all, w.any); err != nil {
				return 0, err
			}
		}
		if may {
			matched = block
			from = max(from, seq+1-width, w.seqs.first)
			begun := time.Now()
			enough, err := look(from<<w.shift, min(at, (seq+1)<<w.shift))
			if err != nil || enough {
				return 0, err
			}
			switch took := time.Since(begun); {
			case took < s.opts.listTime/32:
				width = min(2*width, mostLook)
			case took > s.opts.listTime/8:
				width = max(width/4, 1)
			}
		}
		at = max(from<<w.shift, bottom)
	}
}

// cursor makes the cursor of a list that came back short at a key, which tells what time it has come to.
func (c *conn) cursor(key int64, shift int) (string, error) {
	st, err := c.stmt("SELECT received_at FROM requests WHERE seq >= ? ORDER BY seq LIMIT 1")
	if err != nil {
		return "", err
	}
	st.int(1, key>>shift)
	at := time.Time{}
	_, err = st.row(func() { at = st.readTime(0) })
	return store.ShortCursor(strconv.FormatInt(key, 10), at), err
}
