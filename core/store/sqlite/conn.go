package sqlite

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
	"unsafe"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/grapnelhq/grapnel/core/store"
	"github.com/grapnelhq/grapnel/sdk"
)

// conn is one connection to the database, for one goroutine at a time.
type conn struct {
	*sqlite.Conn
}

// pageSize is what a new database gets.
const pageSize = 4096

func openConn(path string, cacheKiB int, pragmas ...string) (*conn, error) {
	c, err := sqlite.OpenConn(path, sqlite.OpenReadWrite, sqlite.OpenCreate)
	if err != nil {
		return nil, err
	}
	all := []string{
		fmt.Sprintf("PRAGMA page_size = %d", pageSize), // has an effect before the first table only
		"PRAGMA journal_mode = WAL",
		"PRAGMA wal_autocheckpoint = 0", // maintain does it, beside the writer
		"PRAGMA temp_store = MEMORY",
		"PRAGMA automatic_index = OFF", // an index that is made for one query is made of a whole table
		"PRAGMA fullfsync = ON",        // macOS: an fsync that reaches the disk
		fmt.Sprintf("PRAGMA cache_size = -%d", cacheKiB),
	}
	for _, p := range append(all, pragmas...) {
		if err := sqlitex.ExecuteTransient(c, p, nil); err != nil {
			_ = c.Close()
			return nil, fmt.Errorf("%s: %w", p, err)
		}
	}
	return &conn{c}, nil
}

// exec runs a statement that has no parameters and is not worth keeping.
func (c *conn) exec(query string) error { return sqlitex.ExecuteTransient(c.Conn, query, nil) }

// stmt prepares a statement, or finds it prepared; nothing is bound.
func (c *conn) stmt(query string) (*stmt, error) {
	s, err := c.Prepare(query)
	if err != nil {
		return nil, err
	}
	return &stmt{Stmt: s}, nil
}

// stmt is a prepared statement. Parameters keep their values from one run to the next.
type stmt struct {
	*sqlite.Stmt
	bound []string // what same bound last, by parameter
}

// run executes a statement that returns no rows.
func (s *stmt) run() error {
	if _, err := s.Step(); err != nil {
		return err
	}
	return s.Reset()
}

// row executes a statement that returns at most one row; read is called if there is one.
func (s *stmt) row(read func()) (bool, error) {
	ok, err := s.Step()
	if err != nil {
		return false, err
	}
	if ok {
		read()
	}
	return ok, s.Reset()
}

// rows executes a statement and calls read for every row until it returns false.
func (s *stmt) rows(read func() bool) error {
	for {
		ok, err := s.Step()
		if err != nil {
			return err
		}
		if !ok || !read() {
			return s.Reset()
		}
	}
}

func (s *stmt) int(i int, v int64) { s.BindInt64(i, v) }

// text binds a text, an empty one as NULL.
func (s *stmt) text(i int, v string) {
	if v == "" {
		s.BindNull(i)
		return
	}
	s.BindText(i, v)
}

// same is text for parameters that mostly have the value of the run before: that is still bound.
func (s *stmt) same(i int, v string) {
	for len(s.bound) <= i {
		s.bound = append(s.bound, "\x00unbound")
	}
	if s.bound[i] != v {
		s.bound[i] = v
		s.text(i, v)
	}
}

// json binds bytes that are text, none as NULL.
func (s *stmt) json(i int, v []byte) { s.text(i, unsafe.String(unsafe.SliceData(v), len(v))) }

// list binds texts as a JSON list, none as NULL.
func (s *stmt) list(i int, v []string) {
	if len(v) == 0 {
		s.BindNull(i)
		return
	}
	b, err := json.Marshal(v)
	if err != nil { // texts always marshal
		panic(err)
	}
	s.json(i, b)
}

func (s *stmt) readBytes(col int) []byte {
	if s.ColumnIsNull(col) {
		return nil
	}
	b := make([]byte, s.ColumnLen(col))
	s.ColumnBytes(col, b)
	return b
}

// bytesInto is readBytes into memory that is there, if it is large enough.
func (s *stmt) bytesInto(b []byte, col int) []byte {
	n := s.ColumnLen(col)
	b = slices.Grow(b[:0], n)[:n]
	return b[:s.ColumnBytes(col, b)]
}

func (s *stmt) readTime(col int) time.Time {
	if s.ColumnIsNull(col) {
		return time.Time{}
	}
	return time.UnixMicro(s.ColumnInt64(col)).UTC()
}

func (s *stmt) readList(col int) []string {
	if s.ColumnIsNull(col) {
		return nil
	}
	var v []string
	if json.Unmarshal(s.readBytes(col), &v) != nil {
		return []string{s.ColumnText(col)} // written by somebody else; show it as it is
	}
	return v
}

// appendHeaders writes header lines as HTTP does. Neither names nor values can hold line ends in HTTP; if they did,
// folding would bring them through.
func appendHeaders(b []byte, hs []sdk.Header) []byte {
	for _, h := range hs {
		b = append(b, h.Name...)
		b = append(b, ": "...)
		for {
			line, rest, more := strings.Cut(h.Value, "\n")
			b = append(b, line...)
			b = append(b, '\n')
			if !more {
				break
			}
			b = append(b, ' ')
			h.Value = rest
		}
	}
	return b
}

func parseHeaders(text string) []sdk.Header {
	var hs []sdk.Header
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if folded, ok := strings.CutPrefix(line, " "); ok && len(hs) > 0 {
			hs[len(hs)-1].Value += "\n" + folded
			continue
		}
		name, value, _ := strings.Cut(line, ": ")
		hs = append(hs, sdk.Header{Name: name, Value: value})
	}
	return hs
}

// mapError tells a full disk from other failures.
func mapError(err error) error {
	if err != nil && sqlite.ErrCode(err).ToPrimary() == sqlite.ResultFull {
		return fmt.Errorf("%w: %w", store.ErrFull, err)
	}
	return err
}
