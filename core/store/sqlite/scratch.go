package sqlite

import "modernc.org/libc"

// scratch keeps memory mapped that SQLite takes and gives back whenever it balances a B-tree: a buffer of a page and some
// KiB. The allocator below SQLite serves it from blocks per size, and unmaps a block as soon as nothing in it is in use;
// without these neighbours every balancing costs system calls and fresh pages, a seventh of the store's CPU.
type scratch struct {
	tls  *libc.TLS
	held [3]uintptr
}

func newScratch() *scratch {
	tls := libc.NewTLS()
	return &scratch{tls, [...]uintptr{
		libc.Xmalloc(tls, pageSize), libc.Xmalloc(tls, 2*pageSize), libc.Xmalloc(tls, 4*pageSize),
	}}
}

func (s *scratch) close() {
	for _, p := range s.held {
		libc.Xfree(s.tls, p)
	}
	s.tls.Close()
}
