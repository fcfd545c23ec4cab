package sqlite

import (
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/grapnelhq/grapnel/core/store"
	"github.com/grapnelhq/grapnel/core/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConformance(t *testing.T) {
	storetest.Run(t, storetest.Harness{
		Open: func(t *testing.T, o storetest.Options) store.Store {
			s, err := Open(t.Context(), Options{
				Path: filepath.Join(o.Dir, "grapnel.db"), DedupeWindow: o.DedupeWindow, OnAccepted: o.OnAccepted,
			})
			if err != nil {
				t.Fatal(err)
			}
			return s
		},
		Crash: func(t *testing.T, s store.Store) { s.(*Store).crash(t) },
	})
}

// crash ends a store without a word to the database.
func (s *Store) crash(t *testing.T) {
	s.closing.Lock()
	s.closed = true
	s.stop()
	close(s.writer.queue)
	s.closing.Unlock()
	s.work.Wait()
	for range readers {
		if err := (<-s.readers).Close(); err != nil {
			t.Error(err)
		}
	}
	if err := s.closeFiles(); err != nil {
		t.Error(err)
	}
}
