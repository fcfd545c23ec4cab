package sqlite

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Scrubbing overwrites what deleted and moved content has left in the parts of pages that nothing uses. It looks at every
// page of every table and index on a reading connection, some at a time, and has the writer overwrite those that need it.
// Both find a page only by the way to it from the root of its tree, in their own snapshot: so nothing but a page of a
// table or index is ever touched, whatever happened to the tree in between. Pages that hold no tree need no scrubbing:
// those that are free were overwritten when they were freed, and the rest of the last page of a long value was free
// before.

const (
	scrubPages  = 32 // that are overwritten in one transaction
	scrubRounds = 20
)

// errMoving says that pages went elsewhere again and again while they were looked at.
var errMoving = errors.New("the database changes too much to be scrubbed: try again")

// way leads to a page: the pages from the root of its tree to it.
type way []uint32

func (w way) to(child uint32) way { return append(w[:len(w):len(w)], child) }

// pages reads pages of the database in one snapshot, and remembers the children of interior ones.
type pages struct {
	c        *conn
	usable   int
	mark     []byte
	buffer   []byte // of the page that was read last
	children map[uint32][]uint32
}

func (c *conn) pages() (*pages, error) {
	p := &pages{c: c, children: map[uint32][]uint32{}}
	first, err := p.read(1)
	if err != nil {
		return nil, err
	}
	if len(first) < firstHeader {
		return nil, &errPage{1, "a wrong size"}
	}
	p.usable = len(first) - int(first[20]) // what is reserved
	p.mark = make([]byte, len(first))
	return p, nil
}

// read reads a page; it stays as it is until the next one is read.
func (p *pages) read(number uint32) (data []byte, err error) {
	st, err := p.c.stmt("SELECT data FROM sqlite_dbpage WHERE pgno = ?")
	if err != nil {
		return nil, err
	}
	st.int(1, int64(number))
	if _, err := st.row(func() {
		if n := st.ColumnLen(0); cap(p.buffer) < n {
			p.buffer = make([]byte, n)
		}
		data = p.buffer[:st.ColumnBytes(0, p.buffer[:cap(p.buffer)])]
	}); err != nil {
		return nil, err
	}
	if data == nil {
		return nil, &errPage{number, "it is not there"}
	}
	return data, nil
}

// tree reads a page of a tree.
func (p *pages) tree(number uint32) (*treePage, error) {
	data, err := p.read(number)
	if err != nil {
		return nil, err
	}
	return readPage(number, data, p.usable)
}

// leads tells whether a way still leads to its page.
func (p *pages) leads(w way) (bool, error) {
	for i, number := range w[:len(w)-1] {
		below, ok := p.children[number]
		if !ok {
			pg, err := p.tree(number)
			if err != nil {
				return false, err
			}
			if below, err = pg.children(); err != nil {
				return false, err
			}
			p.children[number] = below
		}
		if !slices.Contains(below, w[i+1]) {
			return false, nil
		}
	}
	return true, nil
}

// scrub overwrites what is not used in all trees. progress gets how many pages of how many were looked at.
func (s *Store) scrub(ctx context.Context, progress func(done, of int64)) error {
	var roots []uint32
	var total int64
	err := s.search(ctx, func(c *conn) error {
		st, err := c.stmt("SELECT rootpage FROM sqlite_schema WHERE rootpage > 0 UNION SELECT 1")
		if err != nil {
			return err
		}
		if err := st.rows(func() bool { roots = append(roots, uint32(st.ColumnInt64(0))); return true }); err != nil {
			return err
		}
		total, err = pragma(c, "page_count")
		return err
	})
	if err != nil {
		return err
	}
	var done int64
	for _, root := range roots {
		for round, again := 0, true; again; round++ {
			if round == scrubRounds {
				return errMoving
			}
			var looked int64
			if again, err = s.scrubTree(ctx, root, func(n int64) {
				looked += n
				progress(min(done+looked, total), total)
			}); err != nil {
				return err
			}
			if !again {
				done += looked
			}
		}
	}
	return nil
}

// scrubTree goes through the interior pages of a tree, and looks at each with the leaves below it. again: something was
// moved meanwhile that may not have been looked at.
func (s *Store) scrubTree(ctx context.Context, root uint32, looked func(n int64)) (again bool, err error) {
	before, err := s.depth(ctx, root)
	if err != nil {
		return false, err
	}
	for todo := []way{{root}}; len(todo) > 0; {
		at := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		began := time.Now()
		dirty, below, ok, n, err := s.unused(ctx, at)
		if err != nil {
			return false, err
		}
		looked(n)
		todo = append(todo, below...)
		again = again || !ok
		s.rest(ctx, time.Since(began)) // leave others half of a processor
		for page := range slices.Chunk(dirty, scrubPages) {
			lost := false
			if err := s.stepped(ctx, &op{}, func(w *writer, _ time.Time) (err error) {
				lost, err = w.wipe(page)
				return err
			}); err != nil {
				return false, err
			}
			again = again || lost
		}
	}
	// Where a tree grows or shrinks by a level, whole pages are copied, with what is not used in them.
	after, err := s.depth(ctx, root)
	return again || before != after, err
}

// depth is how many levels a tree has.
func (s *Store) depth(ctx context.Context, root uint32) (levels int, err error) {
	err = s.search(ctx, func(c *conn) error {
		p, err := c.pages()
		if err != nil {
			return err
		}
		for number := root; ; levels++ {
			pg, err := p.tree(number)
			if err != nil {
				return err
			}
			below, err := pg.children()
			if err != nil || len(below) == 0 {
				return err
			}
			number = below[0]
		}
	})
	return levels, err
}

// unused looks at a page and, where it is an interior one, at the leaves below it. dirty are the ways to pages with
// something in unused parts, below those to interior pages. ok: the way still led to the page.
func (s *Store) unused(ctx context.Context, at way) (dirty, below []way, ok bool, n int64, err error) {
	err = s.search(ctx, func(c *conn) error {
		p, err := c.pages()
		if err != nil {
			return err
		}
		if ok, err = p.leads(at); err != nil || !ok {
			return err
		}
		pg, err := p.tree(at[len(at)-1])
		if err != nil {
			return err
		}
		look := func(pg *treePage, w way) error {
			n++
			d, err := pg.wipe(p.mark)
			if d {
				dirty = append(dirty, w)
			}
			return err
		}
		children, err := pg.children()
		if err != nil {
			return err
		}
		if err := look(pg, at); err != nil {
			return err
		}
		for _, number := range children {
			child, err := p.tree(number)
			if err != nil {
				return err
			}
			if child.interior() {
				below = append(below, at.to(number))
			} else if err := look(child, at.to(number)); err != nil {
				return err
			}
		}
		return nil
	})
	return dirty, below, ok, n, err
}

// wipe overwrites what is not used in pages. lost: the way to one leads nowhere now, and it is not free.
func (w *writer) wipe(list []way) (lost bool, err error) {
	p, err := w.c.pages()
	if err != nil {
		return false, err
	}
	st, err := w.c.stmt("UPDATE sqlite_dbpage SET data = ? WHERE pgno = ?")
	if err != nil {
		return false, err
	}
	for _, at := range list {
		number := at[len(at)-1]
		ok, err := p.leads(at)
		if err != nil {
			return false, err
		}
		if !ok {
			data, err := p.read(number)
			if err != nil {
				return false, err
			}
			lost = lost || slices.ContainsFunc(data, func(b byte) bool { return b != 0 })
			continue
		}
		pg, err := p.tree(number)
		if err != nil {
			return false, err
		}
		dirty, err := pg.wipe(p.mark)
		if err != nil {
			return false, err
		}
		if !dirty { // SQLite has used it all since
			continue
		}
		st.BindBytes(1, pg.data)
		st.int(2, int64(number))
		if err := st.run(); err != nil {
			return false, fmt.Errorf("overwrite page %d: %w", number, err)
		}
	}
	return lost, nil
}
