package sqlite

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/store"
)

// TestRoutedSeq accepts, routes, buries and reopens requests at random, stops and kills the store between, and looks
// whether a claim finds all that are received.
func TestRoutedSeq(t *testing.T) {
	path := filepath.Join(t.TempDir(), "grapnel.db")
	o := Options{Path: path, routedSlack: 1}
	s := open(t, o)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	received, dead := map[int64]*core.Request{}, map[int64]*core.Request{}
	pick := func(of map[int64]*core.Request) *core.Request {
		seqs := make([]int64, 0, len(of))
		for seq := range of {
			seqs = append(seqs, seq)
		}
		slices.Sort(seqs)
		return of[seqs[random.IntN(len(seqs))]]
	}
	for n := range uint64(600) {
		switch p := random.IntN(100); {
		case p < 2:
			closeStore(t, s)
			verify(t, path)
			s = open(t, o)
		case p < 4:
			s.crash(t)
			s = open(t, o)
		case p < 8:
			time.Sleep(time.Millisecond)
			if err := s.raiseRouted(); err != nil {
				t.Fatal(err)
			}
		case p < 40:
			r := sampleRequest(n)
			if a, err := s.Accept(t.Context(), r); err != nil || a != store.Accepted {
				t.Fatal(a, err)
			}
			received[r.Seq] = r
		case p < 55 && len(dead) > 0:
			r := pick(dead)
			if rs, err := s.RetryRequests(t.Context(), []string{r.ID()}); err != nil || len(rs) != 1 {
				t.Fatal(rs, err)
			}
			delete(dead, r.Seq)
			received[r.Seq] = r
		case len(received) > 0:
			r := pick(received)
			d := &store.Decision{Request: r}
			if random.IntN(2) == 0 {
				d.Dead = "refused"
				dead[r.Seq] = r
			}
			if err := s.Route(t.Context(), []*store.Decision{d}); err != nil {
				t.Fatal(err)
			}
			delete(received, r.Seq)
		}
		found, err := s.waitingRequests(t.Context(), sampleRequest(0).Source, 0, 1000)
		if err != nil {
			t.Fatal(err)
		}
		got := map[int64]bool{}
		for _, r := range found {
			got[r.Seq] = true
		}
		for seq := range received {
			if !got[seq] {
				t.Fatalf("request %d is received and not found; routed_seq is %d", seq, s.routed.Load())
			}
		}
		if len(got) != len(received) {
			t.Fatal(fmt.Sprint("found ", len(got), " of ", len(received)))
		}
	}
	if s.routed.Load() == 0 {
		t.Error("routed_seq never moved")
	}
	closeStore(t, s)
	verify(t, path)
}
