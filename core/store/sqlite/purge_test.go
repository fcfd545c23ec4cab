package sqlite

import (
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/store"
)

// However many requests are past their retention and have to stay, all others go, and these too when they are settled.
func TestPurgeLeavesManyBehind(t *testing.T) {
	path := filepath.Join(t.TempDir(), "grapnel.db")
	s := open(t, Options{Path: path, purgeLeft: 5, DedupeWindow: time.Minute})
	old := time.Now().Add(-time.Hour)
	var received, routed []*core.Request
	for i := range uint64(60) {
		r := sampleRequest(i)
		r.ReceivedAt = old
		if i == 59 {
			r.ReceivedAt = time.Now()
		}
		if _, err := s.Accept(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		if i%3 != 0 {
			received = append(received, r)
			continue
		}
		routed = append(routed, r)
		if err := s.Route(t.Context(), []*store.Decision{{Request: r, Dead: "x"}}); err != nil {
			t.Fatal(err)
		}
	}
	for round := 0; len(received) > 1; round++ {
		n, err := s.Purge(t.Context(), store.Retention{Before: time.Now().Add(-time.Minute)})
		if err != nil || n != len(routed) {
			t.Fatalf("round %d: %d purged of %d, %v", round, n, len(routed), err)
		}
		routed = slices.Clone(received[len(received)/2 : len(received)-1]) // those that are not remembered are among them
		received = slices.Concat(received[:len(received)/2], received[len(received)-1:])
		for _, r := range routed {
			if err := s.Route(t.Context(), []*store.Decision{{Request: r, Dead: "x"}}); err != nil {
				t.Fatal(err)
			}
		}
		if len(routed) == 0 {
			break
		}
	}
	closeStore(t, s)
	verify(t, path)
}

// A request from a time when the clock was ahead does not keep those behind it, and goes when its time comes.
func TestPurgeAndTheClock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "grapnel.db")
	synctest.Test(t, func(t *testing.T) {
		s := open(t, Options{Path: path, DedupeWindow: time.Minute})
		for i, age := range []time.Duration{time.Hour, -48 * time.Hour, time.Hour, 0} {
			r := sampleRequest(uint64(i))
			r.ReceivedAt = time.Now().Add(-age)
			if _, err := s.Accept(t.Context(), r); err != nil {
				t.Fatal(err)
			}
			if err := s.Route(t.Context(), []*store.Decision{{Request: r, Dead: "x"}}); err != nil {
				t.Fatal(err)
			}
		}
		for _, step := range []struct {
			pass time.Duration
			want int
		}{{0, 2}, {24 * time.Hour, 0}, {24 * time.Hour, 0}, {time.Hour, 1}} {
			time.Sleep(step.pass)
			n, err := s.Purge(t.Context(), store.Retention{Before: time.Now().Add(-30 * time.Minute)})
			if err != nil || n != step.want {
				t.Errorf("%d purged, want %d; %v", n, step.want, err)
			}
		}
		closeStore(t, s)
	})
	verify(t, path)
}

// Keyed state is in use as long as deliveries of its key settle, whether they write it or not.
func TestStatesInUseStay(t *testing.T) {
	path := filepath.Join(t.TempDir(), "grapnel.db")
	synctest.Test(t, func(t *testing.T) {
		s := open(t, Options{Path: path})
		n := uint64(0)
		settle := func(order string, set bool) {
			t.Helper()
			n++
			r := sampleRequest(n)
			if _, err := s.Accept(t.Context(), r); err != nil {
				t.Fatal(err)
			}
			d := oneDelivery(r, "crm", order)
			if err := s.Route(t.Context(), []*store.Decision{d}); err != nil {
				t.Fatal(err)
			}
			x := delivered(d.Deliveries[0].Key)
			if set {
				x.StateSet, x.KeyState = true, []byte("x")
			}
			if err := s.Settle(t.Context(), []store.Settlement{x}); err != nil {
				t.Fatal(err)
			}
		}
		purge := func(want ...string) {
			t.Helper()
			if _, err := s.Purge(t.Context(), store.Retention{StateBefore: time.Now().Add(-10 * 24 * time.Hour)}); err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, order := range []string{"idle", "used"} {
				if state, err := s.KeyState(t.Context(), "crm", order); err != nil {
					t.Fatal(err)
				} else if state != nil {
					got = append(got, order)
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("left: %q, want %q", got, want)
			}
		}
		settle("idle", true)
		settle("used", true)
		time.Sleep(5 * 24 * time.Hour)
		settle("used", false)
		settle("neither", false)
		purge("idle", "used")
		closeStore(t, s) // what sinks have state is found again by the next start
		s = open(t, Options{Path: path})
		time.Sleep(6 * 24 * time.Hour)
		settle("used", false)
		purge("used")
		time.Sleep(9 * 24 * time.Hour)
		purge("used")
		time.Sleep(2 * 24 * time.Hour)
		purge()
		closeStore(t, s)
	})
	verify(t, path)
}
