//go:build unix

package sqlite

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/store"
	"github.com/grapnelhq/grapnel/core/store/storetest"
)

// The suite again, with keys moving into their table all the time.
func TestConformanceSmallBatches(t *testing.T) {
	storetest.Run(t, storetest.Harness{
		Open: func(t *testing.T, o storetest.Options) store.Store {
			path := filepath.Join(o.Dir, "grapnel.db")
			t.Cleanup(func() { verify(t, path) })
			return open(t, Options{
				Path: path, DedupeWindow: o.DedupeWindow, OnAccepted: o.OnAccepted, OnErased: o.OnErased,
				indexBatch: 2,
			})
		},
		Crash: func(t *testing.T, s store.Store) { s.(*Store).crash(t) },
	})
}

// model is what Accept has to answer: per key, when its last request was received, and what became of it.
type model struct {
	received time.Time
	repeat   int
	dead     bool
}

// Keys are known wherever they are: added by the group under way, in memory, on the way into the table, in the table;
// after a rollback, a purge, a crash.
func TestDedupeIndex(t *testing.T) {
	const window = time.Hour
	for _, batch := range []int{1, 3, 64} {
		t.Run(fmt.Sprint(batch), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "grapnel.db")
			o := Options{Path: path, DedupeWindow: window, indexBatch: batch}
			s := open(t, o)
			seed := uint64(time.Now().UnixNano())
			t.Logf("seed %d", seed)
			random := rand.New(rand.NewPCG(seed, 0))
			known := map[uint64]*model{}
			ids := map[string]int64{}
			now := time.Now().Add(-1000 * time.Hour).Truncate(time.Microsecond)
			route := func(d *store.Decision) {
				t.Helper()
				if err := s.Route(t.Context(), []*store.Decision{d}); err != nil {
					t.Fatal(err)
				}
			}
			for range 500 {
				now = now.Add(time.Duration(random.IntN(120)) * time.Second)
				switch n := random.IntN(100); {
				case n < 1:
					closeStore(t, s)
					verify(t, path)
					s = open(t, o)
					continue
				case n < 2:
					s.crash(t)
					s = open(t, o)
					continue
				case n < 8: // a group that is rolled back has added keys of its own
					key := random.Uint64N(100)
					bad := sampleRequest(key)
					bad.ReceivedAt = now
					err := s.do(t.Context(), &op{apply: func(w *writer) error {
						if _, err := w.accept(bad); err != nil {
							return err
						}
						return errors.New("no")
					}})
					if err == nil {
						t.Fatal("no error")
					}
					_, err = s.GetRequest(t.Context(), core.RequestID(bad.Dedupe, 0))
					if known[key] == nil && !errors.Is(err, store.ErrNotFound) {
						t.Errorf("rolled back: %v", err)
					}
					continue
				}
				key := random.Uint64N(100)
				r := sampleRequest(key)
				r.ReceivedAt = now
				a, err := s.Accept(t.Context(), r)
				if err != nil {
					t.Fatal(err)
				}
				m := known[key]
				switch {
				case m == nil:
					m = &model{received: now, dead: random.IntN(5) == 0}
					known[key] = m
				case now.Sub(m.received) > window:
					m.received, m.repeat, m.dead = now, m.repeat+1, random.IntN(5) == 0
				case m.dead:
					if a != store.Reopened {
						t.Errorf("%s of a dead request", a)
					}
					m.dead = false
					detail, err := s.GetRequest(t.Context(), core.RequestID(r.Dedupe, m.repeat))
					if err != nil {
						t.Fatal(err)
					}
					route(oneDelivery(detail.Request, "crm", ""))
					continue
				default:
					if a != store.Duplicate {
						t.Errorf("%s of a duplicate", a)
					}
					continue
				}
				if a != store.Accepted || r.Repeat != m.repeat {
					t.Errorf("%s with repeat %d, want %d", a, r.Repeat, m.repeat)
				}
				ids[r.ID()] = r.Seq
				d := oneDelivery(r, "crm", "")
				if m.dead {
					d = &store.Decision{Request: r, Dead: "x"}
				}
				route(d)
			}
			for id, seq := range ids {
				if rd, err := s.GetRequest(t.Context(), id); err != nil || rd.Request.Seq != seq {
					t.Errorf("%s: %v", id, err)
				}
			}
			// All that is settled goes, with its keys, wherever they are: in the end nobody remembers them.
			ds, _, err := s.ClaimDeliveries(t.Context(), "crm", time.Now(), len(ids), false)
			if err != nil {
				t.Fatal(err)
			}
			var ss []store.Settlement
			for _, d := range ds {
				ss = append(ss, delivered(d.Key))
			}
			// Those that were leased when they were routed, and dead ones, which stay so.
			for _, seq := range ids {
				ss = append(ss, delivered(core.NewDeliveryKey(seq, 0, 0)))
			}
			if err := s.Settle(t.Context(), ss); err != nil {
				t.Fatal(err)
			}
			last := sampleRequest(1 << 40) // the newest stays
			if _, err := s.Accept(t.Context(), last); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Purge(t.Context(), store.Retention{Before: time.Now()}); err != nil {
				t.Fatal(err)
			}
			for key := range known {
				r := sampleRequest(key)
				if a, err := s.Accept(t.Context(), r); err != nil || a != store.Accepted || r.Repeat != 0 {
					t.Fatalf("%s with repeat %d after the key was forgotten: %v", a, r.Repeat, err)
				}
			}
			closeStore(t, s)
			verify(t, path)
		})
	}
}

// A key may be forgotten and come again in one group.
func TestForgottenInGroup(t *testing.T) {
	path := filepath.Join(t.TempDir(), "grapnel.db")
	s := open(t, Options{Path: path, DedupeWindow: time.Hour})
	old := sampleRequest(1)
	old.ReceivedAt = time.Now().Add(-10 * time.Hour)
	for _, r := range []*core.Request{old, sampleRequest(2)} {
		if _, err := s.Accept(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Route(t.Context(), []*store.Decision{{Request: old, Dead: "x"}}); err != nil {
		t.Fatal(err)
	}
	again, third := sampleRequest(1), sampleRequest(1)
	for i, err := range group(t, s,
		func() error {
			_, err := s.purgeRequests(context.Background(), purgeGroup{walk: &purgeWalk{}}, []int64{old.Seq}, new(int64))
			return err
		},
		func() error { _, err := s.Accept(context.Background(), again); return err },
		func() error {
			if a, err := s.Accept(context.Background(), third); err != nil || a != store.Duplicate {
				return fmt.Errorf("%s %w", a, err)
			}
			return nil
		},
	) {
		if err != nil {
			t.Errorf("operation %d: %v", i, err)
		}
	}
	rd, err := s.GetRequest(t.Context(), again.ID())
	if err != nil || rd.Request.Seq != again.Seq || again.Repeat != 0 {
		t.Errorf("%+v, %v", again, err)
	}
	closeStore(t, s)
	verify(t, path)
}

// Ids that Accept has answered are found at once and at any time, while keys move from memory to table.
func TestLookupsWhileKeysMove(t *testing.T) {
	path := filepath.Join(t.TempDir(), "grapnel.db")
	s := open(t, Options{Path: path, indexBatch: 8})
	var wg sync.WaitGroup
	for g := range uint64(4) {
		wg.Go(func() {
			var ids []string
			for i := range uint64(150) {
				r := sampleRequest(g<<32 + i)
				if _, err := s.Accept(context.Background(), r); err != nil {
					t.Error(err)
				}
				ids = append(ids, r.ID())
				for _, id := range ids[max(0, len(ids)-12):] {
					if _, err := s.GetRequest(context.Background(), id); err != nil {
						t.Error(err)
					}
				}
				ds, _, err := s.ListDeliveries(context.Background(), store.DeliveryFilter{RequestID: r.ID()})
				if err != nil || len(ds) != 0 {
					t.Error(ds, err)
				}
			}
		})
	}
	wg.Wait()
	closeStore(t, s)
	verify(t, path)
}

// Memory is bounded while the table cannot be written, and what was known stays known.
func TestIndexFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "grapnel.db")
	s := open(t, Options{Path: path, indexBatch: 4})
	trigger := func(sql string) {
		t.Helper()
		if err := s.do(t.Context(), &op{alone: true, apply: func(w *writer) error { return w.c.exec(sql) }}); err != nil {
			t.Fatal(err)
		}
	}
	trigger("CREATE TRIGGER no BEFORE INSERT ON dedupe BEGIN SELECT raise(ABORT, 'no'); END")
	accept := func(n uint64, want store.Acceptance) error {
		a, err := s.Accept(t.Context(), sampleRequest(n))
		if err == nil && a != want {
			t.Errorf("%s, want %s", a, want)
		}
		return err
	}
	n := uint64(0)
	for n < 10*groupOps && accept(n, store.Accepted) == nil {
		n++
	}
	if n < groupOps || n > 3*groupOps {
		t.Errorf("%d accepted while keys cannot be moved", n)
	}
	if err := accept(7, store.Duplicate); err != nil {
		t.Error(err)
	}
	trigger("DROP TRIGGER no")
	if err := accept(n+1, store.Accepted); err == nil { // it still was full; what comes after makes room
		t.Error("accepted")
	}
	for range 2 * groupOps {
		_ = accept(7, store.Duplicate)
	}
	for i := range n {
		if err := accept(i, store.Duplicate); err != nil {
			t.Error(err)
		}
	}
	if err := accept(n+2, store.Accepted); err != nil {
		t.Error(err)
	}
	closeStore(t, s)
	verify(t, path)
	// The table can be made again of the requests.
	script(t, path, "DELETE FROM dedupe", "UPDATE meta SET value = 0 WHERE name = 'indexed_seq'")
	s = open(t, Options{Path: path, indexBatch: 10})
	if got := len(s.keys.adding.keys); got >= 10 {
		t.Errorf("%d keys in memory after a start", got)
	}
	for i := range n {
		if err := accept(i, store.Duplicate); err != nil {
			t.Error(err)
		}
	}
	closeStore(t, s)
	verify(t, path)
}
