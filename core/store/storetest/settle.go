package storetest

import (
	"time"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/store"
	"github.com/grapnelhq/grapnel/sdk"
)

func testSettle(k *kit) {
	d := k.add("a")[0]
	k.claims("a", d)
	k.settle(store.Settlement{
		Key: d.Key, State: core.DeliveryDead, Charge: true, Crashes: 3, Reason: "why", AttributePath: []string{"fields", "0"},
		RouteRange: "config.hcl:7,3",
		Attempt: &core.Attempt{
			Number: 1, At: later, Took: 1500 * time.Microsecond, Outcome: sdk.Rejected, Reason: "why", Notes: []string{"x"},
		},
	})
	got := k.delivery(d.ID)
	want := *d
	want.State, want.Due, want.Attempts, want.Crashes, want.Reason = core.DeliveryDead, time.Time{}, 1, 3, "why"
	want.AttributePath, want.RouteRange, want.FirstAttempt = []string{"fields", "0"}, "config.hcl:7,3", later
	want.SettledAt, want.StateRead = got.Delivery.SettledAt, true
	k.equal(got.Delivery, &want)
	if got.Delivery.SettledAt.IsZero() {
		k.Error("no time of settlement")
	}
	k.equal(got.Request.Seq, d.Key.RequestSeq())

	skipped := k.add("a")[0]
	k.claims("a", skipped)
	k.settle(store.Settlement{
		Key: skipped.Key, State: core.DeliverySkipped, Charge: true, Reason: "stale",
		Attempt: &core.Attempt{Number: 1, At: later, Outcome: sdk.Skipped, Reason: "stale"},
	})
	k.equal(k.delivery(skipped.ID).Delivery.State, core.DeliverySkipped)

	given := k.add("a")[0]
	k.claims("a", given)
	k.settle(store.Settlement{Key: given.Key, State: core.DeliveryPending, Due: later.Add(time.Minute)})
	back := k.delivery(given.ID)
	k.equal(back.Delivery.State, core.DeliveryPending)
	k.equal(back.Delivery.Due, later.Add(time.Minute))
	k.equal(back.Delivery.Attempts, 0)
	k.equal(back.Delivery.FirstAttempt, time.Time{})
	k.equal(len(back.Attempts), 0)
}

func testSettleTwice(k *kit) {
	d := k.add("a")[0]
	k.claims("a", d)
	k.settle(delivered(d))
	k.settle(dead(d))
	k.settle(retried(d, at))
	k.settle(store.Settlement{Key: 12345, State: core.DeliveryDead})
	got := k.delivery(d.ID)
	k.equal(got.Delivery.State, core.DeliveryDelivered)
	k.equal(got.Delivery.Attempts, 1)
	k.equal(len(got.Attempts), 1)
	k.equal(k.backlog("a", later), store.Backlog{})
}

func testKeyedState(k *kit) {
	state := func() []byte {
		k.Helper()
		b, err := k.s.KeyState(k.Context(), "a", "x")
		k.check(err)
		return b
	}
	k.equal(state(), []byte(nil))
	d := k.add("a/x")[0]
	set := func(d *core.Delivery, v []byte) store.Settlement {
		s := delivered(d)
		s.Sink, s.OrderKey, s.KeyState, s.StateSet = "a", "x", v, true
		return s
	}
	k.equal(k.claims("a", d)[0].KeyState, []byte(nil))
	k.settle(set(d, []byte("\x00one")))
	k.equal(state(), []byte("\x00one"))
	d = k.add("a/x")[0]
	k.equal(k.claims("a", d)[0].KeyState, []byte("\x00one"))
	s := set(d, []byte("two"))
	s.State, s.Due = core.DeliveryPending, at
	k.settle(s)
	k.equal(state(), []byte("two"))
	k.claims("a", d)
	k.settle(delivered(d)) // says nothing about the state
	k.equal(state(), []byte("two"))
	k.settle(set(d, []byte("late"))) // settled already: ignored
	k.equal(state(), []byte("two"))
	d = k.add("a/x")[0]
	k.claims("a", d)
	k.settle(set(d, nil))
	k.equal(state(), []byte(nil))
	k.stop()
	k.start()
	k.equal(state(), []byte(nil))
}

func testRetryDeliveries(k *kit) {
	d, alive := k.add("a")[0], k.add("b")[0]
	k.claims("a", d)
	s := dead(d)
	s.Crashes = 2
	k.settle(s)
	ids := []string{d.ID, alive.ID, "dlv_x", core.DeliveryID(core.EventID(key("none"), 0, 0), "r", "s", 0), d.ID}
	got := k.retry(ids...)
	k.equal(len(got), 1)
	want := *d
	want.Due, want.StateRead = got[0].Due, true
	k.equal(got[0], &want)
	now := time.Now().Add(time.Minute)
	k.equal(keys(k.claim("a", now, 10)...), keys(d))
	k.settle(delivered(d))
	detail := k.delivery(d.ID)
	k.equal(detail.Delivery.Attempts, 1)
	if n := len(detail.Attempts); n == 0 || detail.Attempts[0].Outcome != sdk.Rejected {
		k.Errorf("the first attempts are forgotten: %+v", detail.Attempts)
	}
}

// A delivery whose route failed has no message: there is nothing to deliver, so it stays dead, and says why.
func testRetryWithoutMessage(k *kit) {
	d := k.decide(k.mustAccept(), "a", "a/x", "a")
	failed, alive := d.Deliveries[:2], d.Deliveries[2]
	for _, f := range failed {
		f.State, f.Message, f.Due = core.DeliveryDead, nil, time.Time{}
		f.Reason, f.RouteRange = "no such attribute", "config.hcl:3,4"
	}
	k.route(d)
	k.claims("a", alive)
	k.settle(dead(alive))
	before := k.delivery(failed[0].ID)
	got := k.retry(failed[0].ID, alive.ID, failed[1].ID)
	if len(got) != 1 || got[0].ID != alive.ID {
		k.Errorf("retried %v", got)
	}
	k.equal(k.delivery(failed[0].ID), before)
	k.equal(before.Delivery.State, core.DeliveryDead)
	k.equal(before.Delivery.Reason, "no such attribute")
	k.equal(before.Delivery.RouteRange, "config.hcl:3,4")
	k.equal(keys(k.claim("a", time.Now().Add(time.Minute), 10)...), keys(alive))
	st, err := k.s.Stats(k.Context())
	k.check(err)
	k.equal(st.Deliveries["a"], map[core.DeliveryState]int64{core.DeliveryDead: 2, core.DeliveryPending: 1})
}

func testAttempts(k *kit) {
	once := k.add("a")[0]
	k.claims("a", once)
	k.settle(delivered(once))
	k.equal(k.delivery(once.ID).Attempts, []core.Attempt{
		{Number: 1, At: later, Took: 12 * time.Millisecond, Outcome: sdk.Delivered},
	})
	noted := k.add("a")[0]
	k.claims("a", noted)
	s := delivered(noted)
	s.Attempt.Notes = []string{"slow"}
	k.settle(s)
	k.equal(k.delivery(noted.ID).Attempts, []core.Attempt{*s.Attempt})

	many := k.add("a")[0]
	var want []core.Attempt
	for i := range 4 {
		k.equal(keys(k.claim("a", later.Add(time.Hour), 5)...), keys(many))
		s := retried(many, at)
		if i == 3 {
			s = delivered(many)
		}
		s.Attempt.Number, s.Attempt.At = i+1, later.Add(time.Duration(i)*time.Minute)
		want = append(want, *s.Attempt)
		k.settle(s)
	}
	got := k.delivery(many.ID)
	k.equal(got.Attempts, want)
	k.equal(got.Delivery.Attempts, 4)
	k.equal(got.Delivery.FirstAttempt, later)
	k.equal(got.Delivery.Reference, "ref")
}
