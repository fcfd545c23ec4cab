package metrics

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/store"
	"github.com/grapnelhq/grapnel/sdk"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestRates counts for more than an hour, on fake time.
func TestRates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(3 * time.Second) // not where a bucket begins
		m := New(Options{})
		var accepted, pending atomic.Int64
		m.Read(func(r *Reading) {
			n := uint64(accepted.Load())
			r.Sources = []SourceReading{{
				Source: "hr", Accepted: n, Duplicates: n / 2, Reopened: 1,
				Rejected: map[string]uint64{"bad_json": n, "too_large": 1},
			}}
			r.Nowhere = map[string]uint64{"unknown_path": n}
			r.Stored = store.Stats{Deliveries: map[string]map[core.DeliveryState]int64{"out": {core.DeliveryPending: pending.Load()}}}
		})
		ctx, cancel := context.WithCancel(t.Context())
		go m.Run(ctx)
		sink, source := m.Sink("out"), m.Source("hr")

		accepted.Store(10)
		source.Matched("all", 4)
		source.Matched("all", 1)
		sink.Attempted(sdk.Delivered)
		sink.Attempted(sdk.Retried)
		sink.Attempted("of the future")
		sink.Attempted(sdk.Skipped)
		pending.Store(7)
		r := m.Rates() // the bucket that has begun
		last := func(list []int64) []int64 { return list[len(list)-3:] }
		check := func(what string, got []int64, want ...int64) {
			t.Helper()
			if len(got) != Buckets || !cmp.Equal(last(got), want) {
				t.Errorf("%s: %d buckets, the last are %v, want %v", what, len(got), last(got), want)
			}
		}
		check("accepted", r.Sources[0].Accepted, 0, 0, 11)
		check("duplicates", r.Sources[0].Duplicates, 0, 0, 5)
		check("rejected", r.Sources[0].Rejected, 0, 0, 11)
		check("nowhere", r.Nowhere, 0, 0, 10)
		check("matched", r.Routes[0].Matched, 0, 0, 5)
		check("delivered", r.Sinks[0].Delivered, 0, 0, 1)
		check("failed", r.Sinks[0].Failed, 0, 0, 2)
		check("backlog", r.Sinks[0].Backlog, 0, 0, 7)
		if at := r.Start.Add((Buckets - 1) * Step); at.After(time.Now()) || !at.Add(Step).After(time.Now()) {
			t.Errorf("the last bucket starts at %s, it is %s", at, time.Now())
		}

		time.Sleep(4 * time.Second)
		accepted.Store(13) // in the same bucket, seen at its end
		time.Sleep(4 * time.Second)
		accepted.Store(20) // in the next one
		pending.Store(3)
		r = m.Rates()
		check("accepted", r.Sources[0].Accepted, 0, 14, 7)
		check("backlog", r.Sinks[0].Backlog, 0, 7, 3)

		time.Sleep(time.Hour - 2*Step)
		r = m.Rates()
		if got := r.Sources[0].Accepted[:3]; !cmp.Equal(got, []int64{14, 7, 0}) {
			t.Errorf("nearly an hour later the first are %v", got)
		}
		check("backlog", r.Sinks[0].Backlog, 3, 3, 3)
		time.Sleep(Step)
		accepted.Store(2) // the counts began anew
		r = m.Rates()
		if got := r.Sources[0].Accepted[:2]; !cmp.Equal(got, []int64{7, 0}) {
			t.Errorf("an hour later the first are %v", got)
		}
		check("accepted", r.Sources[0].Accepted, 0, 0, 3)

		cancel()
		synctest.Wait()
		time.Sleep(10 * time.Hour) // nobody looked
		r = m.Rates()
		for _, n := range r.Sources[0].Accepted {
			if n != 0 {
				t.Fatalf("ten hours later: %v", r.Sources[0].Accepted)
			}
		}
		check("backlog", r.Sinks[0].Backlog, 3, 3, 3)
	})
}
