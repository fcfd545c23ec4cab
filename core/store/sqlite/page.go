package sqlite

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// A page of a b-tree, as https://www.sqlite.org/fileformat2.html#b_tree_pages describes it. What is in no cell and no
// header is not used, and may hold what once was there: secure_delete overwrites what is deleted, but where SQLite moves
// cells to another page it leaves their bytes behind.

// The kinds of b-tree pages.
const (
	interiorIndex = 2
	interiorTable = 5
	leafIndex     = 10
	leafTable     = 13
)

const firstHeader = 100 // bytes of the file's header, which page 1 begins with

// errPage is what is wrong with a page that cannot be read.
type errPage struct {
	page uint32
	what string
}

func (e *errPage) Error() string { return fmt.Sprintf("page %d of the database: %s", e.page, e.what) }

// treePage is a b-tree page.
type treePage struct {
	number uint32
	data   []byte // all of it
	usable int    // bytes at its beginning that SQLite uses

	header int // where it begins
	kind   byte
	cells  int
	array  int // where the pointers to cells begin
}

// readPage checks a page's header. usable is the size of pages without what is reserved at their ends.
func readPage(number uint32, data []byte, usable int) (*treePage, error) {
	p := &treePage{number: number, data: data, usable: usable}
	if number == 1 {
		p.header = firstHeader
	}
	if usable < 480 || usable > maxPage || len(data) < usable {
		return nil, &errPage{number, "a wrong size"}
	}
	p.kind = data[p.header]
	p.array = p.header + 8
	switch p.kind {
	case interiorIndex, interiorTable:
		p.array += 4
	case leafIndex, leafTable:
	default:
		return nil, &errPage{number, "not of a table or index"}
	}
	p.cells = p.u16(p.header + 3)
	if p.array+2*p.cells > usable {
		return nil, &errPage{number, "too many cells"}
	}
	return p, nil
}

func (p *treePage) u16(at int) int { return int(binary.BigEndian.Uint16(p.data[at:])) }

func (p *treePage) interior() bool { return p.kind == interiorIndex || p.kind == interiorTable }

// cell returns where the i-th cell begins.
func (p *treePage) cell(i int) (int, error) {
	at := p.u16(p.array + 2*i)
	if at < p.array+2*p.cells || at+4 > p.usable {
		return 0, &errPage{p.number, "a cell outside of its page"}
	}
	return at, nil
}

// children lists the pages below an interior one.
func (p *treePage) children() ([]uint32, error) {
	if !p.interior() {
		return nil, nil
	}
	list := make([]uint32, 0, p.cells+1)
	for i := range p.cells {
		at, err := p.cell(i)
		if err != nil {
			return nil, err
		}
		list = append(list, binary.BigEndian.Uint32(p.data[at:]))
	}
	return append(list, binary.BigEndian.Uint32(p.data[p.header+8:])), nil
}

// cellSize is how many bytes of the page the cell at a place has.
func (p *treePage) cellSize(at int) (int, error) {
	end := at
	varint := func() (v uint64) {
		for i := range 9 {
			if end >= p.usable {
				end = p.usable + 1
				return 0
			}
			b := p.data[end]
			end++
			if i == 8 {
				return v<<8 | uint64(b)
			}
			v = v<<7 | uint64(b&0x7f)
			if b < 0x80 {
				break
			}
		}
		return v
	}
	if p.interior() {
		end += 4
	}
	if p.kind == interiorTable {
		varint()
	} else {
		payload := varint()
		if p.kind == leafTable {
			varint()
		}
		end += p.local(payload)
	}
	if end > p.usable {
		return 0, &errPage{p.number, "a cell that is longer than its page"}
	}
	return max(end-at, 4), nil // none is smaller, so that a deleted one has room for its place in the list of free blocks
}

// local is how many bytes of a payload are on the page itself, with the number of the page that has more.
func (p *treePage) local(payload uint64) int {
	usable := uint64(p.usable)
	most := (usable-12)*64/255 - 23
	if p.kind == leafTable {
		most = usable - 35
	}
	if payload <= most {
		return int(payload)
	}
	least := (usable-12)*32/255 - 23
	n := least + (payload-least)%(usable-4)
	if n > most {
		n = least
	}
	return int(n) + 4
}

// ones is what wipe marks used bytes with.
var ones = bytes.Repeat([]byte{0xff}, maxPage)

const maxPage = 1 << 16

// wipe overwrites with zeros what is not used. It tells whether anything was there. mark is memory for it, as large as the
// page.
func (p *treePage) wipe(mark []byte) (dirty bool, _ error) {
	used := mark[:p.usable]
	clear(used)
	use := func(from, to int) { copy(used[from:to], ones) }
	use(0, p.array+2*p.cells)
	for i := range p.cells {
		at, err := p.cell(i)
		if err != nil {
			return false, err
		}
		n, err := p.cellSize(at)
		if err != nil {
			return false, err
		}
		if at+n > p.usable {
			return false, &errPage{p.number, "a cell that is longer than its page"}
		}
		use(at, at+n)
	}
	// Of a free block only its place in their list is needed.
	for at := p.u16(p.header + 1); at != 0; {
		if at < p.array+2*p.cells || at+4 > p.usable || used[at] != 0 {
			return false, &errPage{p.number, "a free block where there is none"}
		}
		use(at, at+4)
		next := p.u16(at)
		if next != 0 && next <= at {
			return false, &errPage{p.number, "free blocks out of order"}
		}
		at = next
	}
	i := 0
	for ; i+8 <= len(used); i += 8 {
		had := binary.NativeEndian.Uint64(p.data[i:])
		if keeps := had & binary.NativeEndian.Uint64(used[i:]); keeps != had {
			binary.NativeEndian.PutUint64(p.data[i:], keeps)
			dirty = true
		}
	}
	for ; i < len(used); i++ {
		if keeps := p.data[i] & used[i]; keeps != p.data[i] {
			p.data[i] = keeps
			dirty = true
		}
	}
	return dirty, nil
}
