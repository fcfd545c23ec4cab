package sqlite

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/grapnelhq/grapnel/core/store"
)

// dump digests all rows of all tables, and what indexes hold of them.
func dump(t *testing.T, c *conn) map[string]string {
	t.Helper()
	var names []string
	st, err := c.stmt("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
	if err != nil {
		t.Fatal(err)
	}
	if err := st.rows(func() bool { names = append(names, st.ColumnText(0)); return true }); err != nil {
		t.Fatal(err)
	}
	sums := map[string]string{}
	for _, name := range names {
		h := sha256.New()
		st, err := c.transient("SELECT * FROM " + name)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		if err := st.rows(func() bool {
			n++
			for i := range st.ColumnCount() {
				fmt.Fprintf(h, "%d %q\n", st.ColumnType(i), st.readBytes(i))
			}
			return true
		}); err != nil {
			t.Fatal(err)
		}
		if err := st.Finalize(); err != nil {
			t.Fatal(err)
		}
		sums[name] = fmt.Sprintf("%d rows, %s", n, hex.EncodeToString(h.Sum(nil)[:8]))
	}
	return sums
}

// garbage counts the pages of trees that have something in unused parts.
func garbage(t *testing.T, s *Store) int {
	t.Helper()
	n := 0
	if err := s.search(t.Context(), func(c *conn) error {
		var roots []uint32
		st, err := c.stmt("SELECT rootpage FROM sqlite_schema WHERE rootpage > 0 UNION SELECT 1")
		if err != nil {
			return err
		}
		if err := st.rows(func() bool { roots = append(roots, uint32(st.ColumnInt64(0))); return true }); err != nil {
			return err
		}
		p, err := c.pages()
		if err != nil {
			return err
		}
		for todo := roots; len(todo) > 0; {
			pg, err := p.tree(todo[0])
			if err != nil {
				return err
			}
			below, err := pg.children()
			if err != nil {
				return err
			}
			todo = append(todo[1:], below...)
			if dirty, err := pg.wipe(p.mark); err != nil {
				return err
			} else if dirty {
				n++
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return n
}

// Scrubbing changes nothing but what is not used, and leaves nothing there.
func TestScrub(t *testing.T) {
	path := filepath.Join(t.TempDir(), "grapnel.db")
	s := open(t, Options{Path: path})
	h := newTraffic(t, s, 20)
	h.run(90)
	if err := s.flushRejections(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := garbage(t, s)
	if before == 0 {
		t.Error("there was nothing to overwrite")
	}
	rows := func() (sums map[string]string) {
		if err := s.search(t.Context(), func(c *conn) error { sums = dump(t, c); return nil }); err != nil {
			t.Fatal(err)
		}
		return sums
	}
	want := rows()
	var last, of int64
	if err := s.scrub(t.Context(), func(done, total int64) {
		if done < last || done > total {
			t.Errorf("progress %d after %d of %d", done, last, total)
		}
		last, of = done, total
	}); err != nil {
		t.Fatal(err)
	}
	if last == 0 || of == 0 {
		t.Errorf("looked at %d pages of %d", last, of)
	}
	if diff := cmp.Diff(want, rows()); diff != "" {
		t.Errorf("rows changed (-before +after):\n%s", diff)
	}
	if after := garbage(t, s); after != 0 {
		t.Errorf("%d pages are left of %d", after, before)
	}
	h.run(50)
	closeStore(t, s)
	verify(t, path)
}

// Pages that hold no tree have nothing in unused parts: that is why nobody scrubs them.
func TestNothingInFreePages(t *testing.T) {
	path := filepath.Join(t.TempDir(), "grapnel.db")
	s := open(t, Options{Path: path, DedupeWindow: time.Minute})
	h := newTraffic(t, s, 20)
	h.run(90)
	for _, p := range h.people[:8] {
		if _, err := s.Erase(t.Context(), store.Erasure{Subject: p.subject}, nil); err != nil {
			t.Fatal(err)
		}
	}
	closeStore(t, s)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	free := 0
	u32 := func(at int) int { return int(b[at])<<24 | int(b[at+1])<<16 | int(b[at+2])<<8 | int(b[at+3]) }
	for trunk := u32(32); trunk != 0; {
		at := (trunk - 1) * pageSize
		leaves := u32(at + 4)
		for i := range leaves {
			leaf := (u32(at+8+4*i) - 1) * pageSize
			if !bytes.Equal(b[leaf:leaf+pageSize], make([]byte, pageSize)) {
				t.Errorf("free page %d is not empty", leaf/pageSize+1)
			}
			free++
		}
		// Behind the list of leaves there may be numbers of former ones, and no more.
		rest := b[at+8+4*leaves : at+pageSize]
		for i := 0; i+4 <= len(rest); i += 4 {
			if rest[i] != 0 {
				t.Errorf("trunk page %d has %q", trunk, strings.Trim(string(rest), "\x00"))
				break
			}
		}
		trunk = u32(at)
	}
	if free < 10 {
		t.Errorf("only %d free pages", free)
	}
}

// FuzzPage reads pages of any content: whatever is no page is refused, and what is one is wiped at once.
func FuzzPage(f *testing.F) {
	path := filepath.Join(f.TempDir(), "grapnel.db")
	s := open(f, Options{Path: path})
	if err := s.do(f.Context(), &op{apply: func(w *writer) error {
		for _, sql := range []string{
			`WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 300)
				INSERT INTO keyed_state SELECT 'crm', 'k' || n, zeroblob(n * 7 % 900), 1, 'people', NULL, x'' FROM n`,
			"INSERT INTO bodies VALUES (1, 'a: b', zeroblob(20000)), (2, NULL, x'01')",
			"DELETE FROM keyed_state WHERE order_key < 'k3'",
		} {
			if err := w.c.exec(sql); err != nil {
				return err
			}
		}
		return nil
	}}); err != nil {
		f.Fatal(err)
	}
	closeStore(f, s)
	b, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	for at := 0; at < len(b); at += pageSize {
		f.Add(b[at:at+pageSize], at == 0)
	}
	f.Fuzz(func(t *testing.T, data []byte, first bool) {
		number := uint32(2)
		if first {
			number = 1
		}
		pg, err := readPage(number, bytes.Clone(data), len(data))
		if err != nil {
			return
		}
		below, err := pg.children()
		if err == nil && pg.interior() != (len(below) > 0) {
			t.Errorf("kind %d has %d children", pg.kind, len(below))
		}
		mark := make([]byte, len(data))
		if _, err := pg.wipe(mark); err != nil {
			return
		}
		for i := range pg.cells {
			at, err := pg.cell(i)
			if err != nil {
				t.Fatal(err)
			}
			n, err := pg.cellSize(at)
			if err != nil || !bytes.Equal(pg.data[at:at+n], data[at:at+n]) {
				t.Errorf("cell %d at %d is another, %v", i, at, err)
			}
		}
		if again, err := pg.wipe(mark); again || err != nil {
			t.Errorf("wiped twice: %t, %v", again, err)
		}
	})
}
