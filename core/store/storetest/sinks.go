package storetest

import (
	"time"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/store"
)

func testSinks(k *kit) {
	sinks := func() map[string]store.SinkState {
		k.Helper()
		all, err := k.s.Sinks(k.Context())
		k.check(err)
		return all
	}
	k.equal(sinks(), map[string]store.SinkState{})
	k.check(k.s.SaveActive(k.Context(), "a", 90*time.Second))
	k.check(k.s.PauseSink(k.Context(), "a", "new token", at))
	k.check(k.s.PauseSink(k.Context(), "b", "", at))
	k.check(k.s.PauseSink(k.Context(), "b", "again", later))
	k.check(k.s.PauseSink(k.Context(), "b", "", later))
	k.check(k.s.SaveActive(k.Context(), "a", 2*time.Minute))
	want := map[string]store.SinkState{
		"a": {Active: 2 * time.Minute, PausedAt: at, PauseReason: "new token"},
		"b": {PausedAt: later, PauseReason: "again"},
	}
	k.equal(sinks(), want)
	k.crash()
	k.start()
	k.equal(sinks(), want)
	k.check(k.s.ResumeSink(k.Context(), "a"))
	k.check(k.s.ResumeSink(k.Context(), "nobody"))
	want["a"] = store.SinkState{Active: 2 * time.Minute}
	k.equal(sinks(), want)
	k.check(k.s.ResumeSink(k.Context(), "b"))
	k.check(k.s.PauseSink(k.Context(), "b", "", later))
	want["b"] = store.SinkState{PausedAt: later}
	k.equal(sinks(), want)
}

// testFirstActive follows what a delivery's age is counted from.
func testFirstActive(k *kit) {
	d := k.add("a")[0]
	active := func() time.Duration { k.Helper(); return k.delivery(d.ID).Delivery.FirstActive }
	for _, after := range []time.Duration{time.Hour, 2 * time.Hour} {
		k.claims("a", d)
		s := retried(d, at)
		s.Active = after
		k.settle(s)
		k.equal(active(), time.Hour)
	}
	k.claims("a", d)
	k.settle(dead(d))
	k.retry(d.ID)
	k.equal(active(), time.Duration(0))
}

// testLeaseIfFree makes deliveries whose order keys are free, pending, leased, and taken by the same commit.
func testLeaseIfFree(k *kit) {
	wish := func(sinks ...string) *store.Decision {
		k.Helper()
		d := k.decide(k.mustAccept(), sinks...)
		for range sinks {
			d.Lease = append(d.Lease, store.LeaseIfFree)
		}
		return d
	}
	pending := k.add("a/pending")[0]
	leased := k.add("a/leased")[0]
	k.settle(retried(pending, at))
	k.equal(len(k.claim("a", later, 100)), 2)
	k.check(k.s.Release(k.Context(), keys(pending)))
	first := wish("a/free", "a/pending", "a/leased", "a", "a/free")
	second := wish("a/free", "b/free")
	k.route(first, second)
	k.equal(first.Leased, []bool{true, false, false, true, false})
	k.equal(second.Leased, []bool{false, true})
	k.claims("a", pending) // the others wait for those before them
	k.settle(delivered(leased), delivered(pending), delivered(first.Deliveries[0]))
	now := time.Now().Add(time.Hour)
	k.equal(keys(k.claim("a", now, 100)...), keys(first.Deliveries[4], first.Deliveries[1], first.Deliveries[2]))
	k.settle(delivered(first.Deliveries[4]))
	k.equal(keys(k.claim("a", now, 100)...), keys(second.Deliveries[0]))
}

// testHold lets dead deliveries hold their order keys, and each way on.
func testHold(k *kit) {
	now := time.Now().Add(time.Hour)
	next := func(want ...*core.Delivery) {
		k.Helper()
		k.equal(keys(k.claim("a", now, 100)...), keys(want...))
	}
	hold := func(d *core.Delivery) {
		k.Helper()
		s := dead(d)
		s.Hold = true
		k.settle(s)
	}
	waitsFor := func(d, ahead *core.Delivery) {
		k.Helper()
		want := ""
		if ahead != nil {
			want = ahead.ID
		}
		k.equal(k.delivery(d.ID).WaitsFor, want)
	}
	held := func(want int64) {
		k.Helper()
		s, err := k.s.Stats(k.Context())
		k.check(err)
		k.equal(s.Held["a"], want)
	}
	one, two, other := k.add("a/x")[0], k.add("a/x")[0], k.add("a/y")[0]
	waitsFor(one, nil)
	waitsFor(two, one)
	next(one, other)
	held(0)
	hold(one)
	next()
	three := k.add("a/x")[0]
	held(1)
	waitsFor(one, nil)
	waitsFor(two, one)
	waitsFor(three, one)
	waitsFor(other, nil)
	free := k.decide(k.mustAccept(), "a/x", "a/z")
	free.Lease = []store.Lease{store.LeaseIfFree, store.LeaseIfFree}
	k.route(free)
	k.equal(free.Leased, []bool{false, true})
	k.crash()
	k.start()
	next(other, free.Deliveries[1])

	// A retry goes first, and may die again.
	k.retry(one.ID)
	next(one)
	hold(one)
	next()
	k.retry(one.ID)
	next(one)
	k.settle(delivered(one))
	held(0)
	waitsFor(two, nil)
	waitsFor(three, two)
	next(two)

	// Skipped: the key goes on.
	hold(two)
	next()
	skipped, err := k.s.SkipDeliveries(k.Context(), []string{two.ID, one.ID, "dlv_unknown"}, "given up")
	k.check(err)
	k.equal(keys(skipped...), keys(two))
	k.equal(k.delivery(two.ID).Delivery.State, core.DeliverySkipped)
	k.equal(k.delivery(two.ID).Delivery.Reason, "given up")
	next(three)

	// A fresh lease that dies holds what came behind it.
	k.settle(delivered(three))
	next(free.Deliveries[0])
	hold(free.Deliveries[0])
	behind := k.add("a/x")[0]
	next()
	k.check(k.s.ReleaseHeld(k.Context(), "b"))
	next()
	k.check(k.s.ReleaseHeld(k.Context(), "a"))
	next(behind)

	// Purging the dead one lets its key go on.
	hold(behind)
	last := k.add("a/x")[0]
	next()
	k.purge(at.Add(100 * time.Hour))
	next(last)
}

// testHoldUnrendered lets deliveries hold their order keys that are dead from the beginning: also behind one that waits, and
// together with it once that has died.
func testHoldUnrendered(k *kit) {
	now := time.Now().Add(time.Hour)
	next := func(want ...*core.Delivery) {
		k.Helper()
		k.equal(keys(k.claim("a", now, 100)...), keys(want...))
	}
	unrendered := func() *core.Delivery {
		k.Helper()
		d := k.decide(k.mustAccept(), "a/x", "a")
		for _, dl := range d.Deliveries {
			dl.State, dl.Message, dl.Reason = core.DeliveryDead, nil, "is null"
			d.Hold = append(d.Hold, dl.OrderKey != "")
		}
		k.route(d)
		return k.find(d.Deliveries[0].ID)[0].Delivery
	}
	rendered := func(order string) func(*core.Delivery) {
		return func(as *core.Delivery) { as.Message, as.OrderKey = []byte(`{}`), order }
	}
	one, two := k.add("a/x")[0], unrendered()
	free := k.decide(k.mustAccept(), "a/x")
	free.Lease = []store.Lease{store.LeaseIfFree}
	k.route(free)
	k.equal(free.Leased, []bool{false})
	three := free.Deliveries[0]
	next(one)
	s := dead(one)
	s.Hold = true
	k.settle(s)
	k.crash()
	k.start()
	next()
	k.equal(k.redo(two, false, rendered("x")).Done, true)
	next() // it waits behind the first
	k.retry(one.ID)
	next(one)
	k.settle(delivered(one))
	next(two)
	k.settle(delivered(two))
	next(three)
	k.settle(delivered(three))

	// The first dead one is given up; the second goes on holding.
	one, two, three = unrendered(), unrendered(), k.add("a/x")[0]
	_, err := k.s.SkipDeliveries(k.Context(), []string{one.ID}, "given up")
	k.check(err)
	next()
	_, err = k.s.SkipDeliveries(k.Context(), []string{two.ID}, "given up")
	k.check(err)
	next(three)
	k.settle(delivered(three))

	// Its order key is another one when it is rendered: the old one goes on.
	for _, replay := range []bool{false, true} {
		one, two = unrendered(), k.add("a/x")[0]
		next()
		r := k.redo(one, replay, rendered("y"))
		k.equal(r.Done, true)
		ds := k.claim("a", now, 100)
		k.equal(len(ds), 2)
		for _, d := range ds {
			if d.Key != two.Key && d.OrderKey != "y" {
				k.Errorf("replay %t: claimed %+v", replay, d)
			}
			k.settle(delivered(d))
		}
	}

	// Several of a key are let go together.
	unrendered()
	unrendered()
	last := k.add("a/x")[0]
	next()
	k.check(k.s.ReleaseHeld(k.Context(), "a"))
	next(last)
}

// testHoldStopped lets a delivery hold its order key that has stopped the host too often.
func testHoldStopped(k *kit) {
	poison, behind := k.add("a/x")[0], k.add("a/x")[0]
	k.crash()
	claim := func() []core.DeliveryKey {
		k.Helper()
		ds, _, err := k.s.ClaimDeliveries(k.Context(), "a", time.Now().Add(time.Minute), 10, true)
		k.check(err)
		return keys(ds...)
	}
	for range 3 {
		k.start()
		k.equal(claim(), keys(poison))
		k.crash()
	}
	k.start()
	k.equal(claim(), keys())
	k.equal(k.delivery(poison.ID).Delivery.State, core.DeliveryDead)
	k.crash()
	k.start()
	k.equal(claim(), keys())
	_, err := k.s.SkipDeliveries(k.Context(), []string{poison.ID}, "given up")
	k.check(err)
	k.equal(claim(), keys(behind))
}
