package storetest

import (
	"errors"
	"slices"
	"time"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/store"
)

func testRestart(k *kit) {
	r := k.mustAccept()
	backlog := k.add("a/x")[0]
	behind := k.add("a/x")[0]
	leased := k.decide(k.mustAccept(), "a/x", "a")
	leased.Lease = []store.Lease{store.LeaseAlways, store.LeaseAlways}
	k.route(leased)
	waits := k.add("b")[0]
	k.claims("a", leased.Deliveries[2:]...) // the key is leased
	k.claims("b", waits)
	k.settle(retried(waits, time.Now().Add(time.Hour)))
	for i := range 5 { // as often as it likes: these are clean stops
		k.stop()
		k.start()
		if i == 0 { // a start makes everything due, whatever the clock said before
			k.equal(keys(k.claim("b", time.Now().Add(time.Second), 10)...), keys(waits))
			k.settle(delivered(waits))
		}
		rs, err := k.s.ClaimRequests(k.Context(), "people", 0, 10)
		k.check(err)
		if len(rs) != 1 || rs[0].Seq != r.Seq || rs[0].Claims != 0 {
			k.Fatalf("claimed %v", rs)
		}
		now := time.Now().Add(time.Minute)
		ds := k.claim("a", now, 10)
		slices.SortFunc(ds, func(a, b *core.Delivery) int { return int(a.Key - b.Key) })
		k.equal(keys(ds...), keys(backlog, leased.Deliveries[1]))
		k.equal(ds[0].Claims, 0)
		k.equal(len(k.claim("a", now, 10)), 0)
	}
	now := time.Now().Add(time.Minute)
	k.settle(delivered(backlog))
	k.equal(keys(k.claim("a", now, 10)...), keys(behind))
	k.settle(delivered(behind))
	k.equal(keys(k.claim("a", now, 10)...), keys(leased.Deliveries[0]))
}

func testUncleanRestart(k *kit) {
	poison := k.add("a/x")[0]
	behind := k.add("a/x")[0]
	leased := k.decide(k.mustAccept(), "b")
	leased.Lease = []store.Lease{store.LeaseAlways}
	k.route(leased)
	k.crash()
	for i := range 3 {
		k.start()
		now := time.Now().Add(time.Minute)
		ds := k.claim("a", now, 10)
		k.equal(keys(ds...), keys(poison))
		k.equal(ds[0].Claims, i+1)
		k.equal(k.delivery(poison.ID).Delivery.Claims, i+1)
		// What was given back, or came to an outcome, was not what stopped the host.
		k.equal(keys(k.claim("b", now, 10)...), keys(leased.Deliveries[0]))
		if i%2 == 0 {
			k.check(k.s.Release(k.Context(), keys(leased.Deliveries...)))
		} else {
			k.settle(retried(leased.Deliveries[0], at))
		}
		young := k.add("c")
		k.equal(k.claims("c", young...)[0].Claims, 0)
		k.settle(delivered(young[0]))
		k.crash()
	}
	k.start()
	now := time.Now().Add(time.Minute)
	k.equal(keys(k.claim("a", now, 10)...), keys(behind)) // the poison is dead and frees its key
	got := k.delivery(poison.ID).Delivery
	k.equal(got.State, core.DeliveryDead)
	k.equal(got.Reason, "the host stopped 3 times while working on this")
	ds := k.claim("b", now, 10)
	k.equal(keys(ds...), keys(leased.Deliveries[0]))
	k.equal(ds[0].Claims, 1)
	retried := k.retry(poison.ID)
	k.equal(retried[0].Claims, 0)
	st, err := k.s.Stats(k.Context())
	k.check(err)
	k.equal(st.Deliveries["a"], map[core.DeliveryState]int64{core.DeliveryPending: 2})
	// A clean stop in between, of a maintenance command say, forgives nothing.
	k.crash()
	k.start()
	k.stop()
	k.start()
	ds = k.claim("b", now, 10)
	k.equal(ds[0].Claims, 2)
}

func testUncleanRequests(k *kit) {
	poison, good := k.mustAccept(), k.mustAccept()
	claim := func(want ...*core.Request) []*core.Request {
		k.Helper()
		rs, err := k.s.ClaimRequests(k.Context(), "people", 0, 1)
		k.check(err)
		var got, seqs []int64
		for _, r := range rs {
			got = append(got, r.Seq)
		}
		for _, r := range want {
			seqs = append(seqs, r.Seq)
		}
		k.equal(got, seqs)
		return rs
	}
	k.equal(claim(poison)[0].Claims, 0)
	k.crash()
	for i := range 3 {
		k.start()
		k.equal(claim(poison)[0].Claims, i+1)
		k.crash()
	}
	k.start()
	k.equal(claim(good)[0].Claims, 1)
	got := k.get(poison.ID()).Request
	k.equal(got.State, core.RequestDead)
	k.equal(got.Reason, "the host stopped 3 times while working on this")
	again := *poison
	k.equal(k.accept(&again), store.Reopened)
	k.equal(k.get(poison.ID()).Request.Claims, 0)
	k.equal(claim(poison)[0].Claims, 1)
}

func testClosed(k *kit) {
	d := k.add("a")[0]
	k.stop()
	ctx := k.Context()
	for name, err := range map[string]error{
		"accept":  second(k.s.Accept(ctx, k.request())),
		"route":   k.s.Route(ctx, nil),
		"settle":  k.s.Settle(ctx, nil),
		"get":     second(k.s.GetDelivery(ctx, d.ID)),
		"request": second(k.s.GetRequest(ctx, core.RequestID(key("1"), 0))),
		"claim":   second(k.s.ClaimRequests(ctx, "people", 0, 1)),
		"state":   second(k.s.KeyState(ctx, "a", "x")),
		"stats":   second(k.s.Stats(ctx)),
		"purge":   second(k.s.Purge(ctx, store.Retention{Before: later})),
		"close":   k.s.Close(),
	} {
		if !errors.Is(err, store.ErrClosed) {
			k.Errorf("%s on a closed store: %v", name, err)
		}
	}
	k.s.RecordRejection(core.Rejection{})
	if _, _, err := k.s.ClaimDeliveries(ctx, "a", later, 1, false); !errors.Is(err, store.ErrClosed) {
		k.Errorf("claim on a closed store: %v", err)
	}
}

// testTrace: the place of a request in a trace is there wherever it is worked on, however late.
func testTrace(k *kit) {
	const trace = core.Trace("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01 vendor=1")
	traced, waiting := k.request(), k.request()
	traced.Trace, waiting.Trace = trace, trace
	k.accept(traced)
	k.accept(waiting)
	k.route(k.decide(traced, "a"))
	plain := k.add("a")[0]
	k.crash()
	k.start()
	rs, err := k.s.ClaimRequests(k.Context(), "people", 0, 10)
	k.check(err)
	if len(rs) != 1 || rs[0].Trace != trace {
		k.Errorf("claimed requests %v", rs)
	}
	for _, d := range k.claim("a", time.Now().Add(time.Minute), 10) {
		if want := d.Key != plain.Key; (d.Trace == trace) != want || !want && d.Trace != "" {
			k.Errorf("the delivery %s has the trace %q", d.ID, d.Trace)
		}
	}
	k.equal(k.get(traced.ID()).Request.Trace, trace)
}
