package sqlite

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"sync"

	"github.com/grapnelhq/grapnel/core"
)

// Requests are found by dedupe key through the table dedupe. Keys are random: entered one by one, each would write a
// page of its own for its few bytes. So the newest are only in memory, and move into the table in batches, in the order
// of keys, which writes a page once for all of the batch that it takes. A batch goes in small transactions between
// groups, so that no group waits for all of it. The last of them raises the meta value indexed_seq: requests up to it
// are in the table, and a start reads the later ones back into memory. Before that a crash leaves entries in the table
// that are in memory as well, which is no harm.
const (
	indexBatch  = 16384 // keys; about 70 bytes each in memory
	indexSlices = 128   // at most so many transactions per batch, about a millisecond each; fewer when groups are large
)

// recentKeys are the dedupe keys that are not in the table yet. The writer is the only one to change them and holds mu
// while it does; others hold it to read. What a group under way has added is in it, what it has forgotten too.
type recentKeys struct {
	mu     sync.Mutex
	adding *keyBatch
	moving *keyBatch // its way into the table has begun; empty: there is none
	order  []int32   // what is left to move, as places in moving
}

// keyBatch is a list of keys, in the order of their requests.
type keyBatch struct {
	keys   []recentKey
	newest map[core.DedupeKey]int32 // the place of a key's last one
}

type recentKey struct {
	dedupe core.DedupeKey
	seq    int64
	repeat int32 // negative: forgotten
	before int32 // the place of the last one of the same key before it, -1: none
}

func newRecentKeys() *recentKeys {
	return &recentKeys{adding: newKeyBatch(), moving: newKeyBatch()}
}

func newKeyBatch() *keyBatch { return &keyBatch{newest: map[core.DedupeKey]int32{}} }

func (k *recentKeys) add(dedupe core.DedupeKey, repeat int, seq int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	b := k.adding
	before, ok := b.newest[dedupe]
	if !ok {
		before = -1
	}
	b.newest[dedupe] = int32(len(b.keys))
	b.keys = append(b.keys, recentKey{dedupe, seq, int32(repeat), before})
}

// undo takes back what was added after there were n to add.
func (k *recentKeys) undo(n int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	b := k.adding
	for i := len(b.keys) - 1; i >= n; i-- {
		if last := b.keys[i]; last.before >= 0 {
			b.newest[last.dedupe] = last.before
		} else {
			delete(b.newest, last.dedupe)
		}
	}
	b.keys = b.keys[:n]
}

// find returns the sequence of a request, 0 if it is not among them.
func (k *recentKeys) find(dedupe core.DedupeKey, repeat int) int64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, b := range []*keyBatch{k.adding, k.moving} {
		if r := b.last(dedupe, func(r *recentKey) bool { return r.repeat == int32(repeat) }); r != nil {
			return r.seq
		}
	}
	return 0
}

// last returns the newest of a key that matches.
func (b *keyBatch) last(dedupe core.DedupeKey, match func(*recentKey) bool) *recentKey {
	i, ok := b.newest[dedupe]
	if !ok {
		return nil
	}
	for ; i >= 0; i = b.keys[i].before {
		if match(&b.keys[i]) {
			return &b.keys[i]
		}
	}
	return nil
}

// forget drops the keys of deleted requests.
func (k *recentKeys) forget(seqs []int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, seq := range seqs {
		for _, b := range []*keyBatch{k.adding, k.moving} {
			i, ok := slices.BinarySearchFunc(b.keys, seq, func(r recentKey, seq int64) int { return cmp.Compare(r.seq, seq) })
			if ok {
				b.keys[i].repeat = -1
			}
		}
	}
}

// move begins to move what was added. Nothing is moving.
func (k *recentKeys) move() {
	k.mu.Lock()
	k.adding, k.moving = k.moving, k.adding
	k.mu.Unlock()
	keys := k.moving.keys
	for i := range keys {
		k.order = append(k.order, int32(i))
	}
	slices.SortFunc(k.order, func(i, j int32) int { return bytes.Compare(keys[i].dedupe[:], keys[j].dedupe[:]) })
}

// moved forgets what is in the table now.
func (k *recentKeys) moved() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.moving = newKeyBatch() // its memory is not needed before the next one is nearly full
}

// newest finds the last request of a dedupe key, by memory and table; seq 0: there is none.
func (w *writer) newest(dedupe core.DedupeKey) (seq int64, repeat int, err error) {
	for _, b := range []*keyBatch{w.keys.adding, w.keys.moving} {
		if r := b.last(dedupe, func(r *recentKey) bool { return r.repeat >= 0 }); r != nil {
			return r.seq, int(r.repeat), nil
		}
	}
	st := w.newestKey
	st.BindBytes(1, dedupe[:])
	_, err = st.row(func() { seq, repeat = st.ColumnInt64(0), st.ColumnInt(1) })
	return seq, repeat, err
}

// index moves some keys into the table, if there is a batch of them, after a group of n operations: twice as many as it
// can have added, so that the next batch is not full before this one has moved.
func (w *writer) index(n int) {
	if len(w.keys.order) == 0 {
		if len(w.keys.adding.keys) < w.s.opts.indexBatch {
			return
		}
		w.keys.move()
	}
	err := w.indexSlice(max(w.s.opts.indexBatch/indexSlices, 2*n))
	if err != nil && w.indexErr == nil {
		w.s.log.Error("cannot write the index of dedupe keys", "error", err)
	}
	w.indexErr = err
}

// indexSlice moves up to n keys into the table.
func (w *writer) indexSlice(n int) error {
	keys, slice := w.keys.moving.keys, w.keys.order
	last := len(slice) <= n
	if !last {
		slice = slice[:n]
	}
	err := w.transact([]*op{{apply: func(w *writer) error {
		for _, i := range slice {
			k := &keys[i]
			if k.repeat < 0 {
				continue
			}
			w.insertKey.BindBytes(1, k.dedupe[:])
			w.insertKey.int(2, int64(k.repeat))
			w.insertKey.int(3, k.seq)
			if err := w.insertKey.run(); err != nil {
				return err
			}
		}
		if last {
			return w.setMeta("indexed_seq", keys[len(keys)-1].seq)
		}
		return nil
	}}})
	if err != nil {
		return err
	}
	w.keys.order = w.keys.order[len(slice):]
	if last {
		w.keys.order = w.keys.order[:0]
		w.keys.moved()
	}
	return nil
}

// loadKeys reads the keys back that are not in the table, at a start, and moves those that are whole batches.
func (w *writer) loadKeys() error {
	var after int64
	st, err := w.c.stmt("SELECT value FROM meta WHERE name = 'indexed_seq'")
	if err != nil {
		return err
	}
	if _, err := st.row(func() { after = st.ColumnInt64(0) }); err != nil {
		return err
	}
	for {
		if st, err = w.c.stmt("SELECT seq, dedupe, repeat FROM requests WHERE seq > ? ORDER BY seq LIMIT ?"); err != nil {
			return err
		}
		st.int(1, after)
		st.int(2, int64(w.s.opts.indexBatch))
		if err := st.rows(func() bool {
			var dedupe core.DedupeKey
			st.ColumnBytes(1, dedupe[:])
			after = st.ColumnInt64(0)
			w.keys.add(dedupe, st.ColumnInt(2), after)
			return true
		}); err != nil {
			return err
		}
		if len(w.keys.adding.keys) < w.s.opts.indexBatch {
			return nil
		}
		w.keys.move()
		if err := w.indexSlice(len(w.keys.order)); err != nil {
			return fmt.Errorf("write the index of dedupe keys: %w", err)
		}
	}
}

// forgetRequests runs a statement that deletes requests and returns their seq, dedupe and repeat, and deletes their
// keys. It returns the deleted ones, for recentKeys.forget after the commit.
func (w *writer) forgetRequests(st *stmt) (seqs []int64, err error) {
	var gone []recentKey
	if err := st.rows(func() bool {
		k := recentKey{seq: st.ColumnInt64(0), repeat: st.ColumnInt32(2)}
		st.ColumnBytes(1, k.dedupe[:])
		gone = append(gone, k)
		return true
	}); err != nil {
		return nil, err
	}
	for _, k := range gone {
		st, err := w.c.stmt("DELETE FROM dedupe WHERE key = ? AND repeat = ? AND seq = ?")
		if err != nil {
			return nil, err
		}
		st.BindBytes(1, k.dedupe[:])
		st.int(2, int64(k.repeat))
		st.int(3, k.seq)
		if err := st.run(); err != nil {
			return nil, err
		}
		seqs = append(seqs, k.seq)
	}
	return seqs, nil
}
