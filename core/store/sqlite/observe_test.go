package sqlite

import (
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/grapnelhq/grapnel/core/store"
)

type watched struct {
	mu                               sync.Mutex
	commits, writes, accepted, syncs int
	wrong                            bool
}

func (w *watched) Committed(writes, accepted int, took time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.commits++
	w.writes += writes
	w.accepted += accepted
	w.wrong = w.wrong || took <= 0 || writes == 0
}

func (w *watched) Synced(took time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.syncs++
	w.wrong = w.wrong || took <= 0
}

// TestObserver sees every commit that the store counts, and every sync.
func TestObserver(t *testing.T) {
	seen := &watched{}
	s := open(t, Options{Path: filepath.Join(t.TempDir(), "o.db"), Observer: seen})
	var wg sync.WaitGroup
	for i := range uint64(20) {
		wg.Go(func() {
			if _, err := s.Accept(t.Context(), sampleRequest(i)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	r := sampleRequest(100)
	if _, err := s.Accept(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if err := s.Route(t.Context(), []*store.Decision{oneDelivery(r, "crm", "k")}); err != nil { // without a sync of its own
		t.Fatal(err)
	}
	var st store.Stats
	for range 1000 { // it is synced by itself in time
		var err error
		if st, err = s.Stats(t.Context()); err != nil {
			t.Fatal(err)
		}
		if s.unsynced.Load() == 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	seen.mu.Lock()
	defer seen.mu.Unlock()
	if seen.wrong || seen.accepted != 21 || seen.writes < 22 || seen.syncs < int(st.Syncs) || seen.commits < int(st.Commits) {
		t.Errorf("%+v, the store counts %+v", seen, st)
	}
}
