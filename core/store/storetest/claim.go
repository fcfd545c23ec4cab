package storetest

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/store"
)

func testLease(k *kit) {
	r := k.mustAccept()
	d := k.decide(r, "a", "a")
	d.Lease = []store.Lease{store.LeaseAlways, store.NoLease}
	k.route(d)
	k.claims("a", d.Deliveries[1])
	k.claims("a")
	k.equal(k.get(r.ID()).Deliveries[0].State, core.DeliveryPending)
	k.equal(k.backlog("a", later), store.Backlog{})
	k.settle(delivered(d.Deliveries[0]), retried(d.Deliveries[1], at))
	k.claims("a", d.Deliveries[1])
	k.equal(k.delivery(d.Deliveries[0].ID).Delivery.State, core.DeliveryDelivered)
	k.equal(k.delivery(d.Deliveries[1].ID).Delivery.State, core.DeliveryPending)
}

func testRelease(k *kit) {
	r := k.mustAccept()
	fresh := k.decide(r, "a/x")
	fresh.Lease = []store.Lease{store.LeaseAlways}
	k.route(fresh)
	old := k.add("a/y")
	k.claims("a", old...)
	all := []*core.Delivery{fresh.Deliveries[0], old[0]}
	k.check(k.s.Release(k.Context(), append(keys(all...), 77)))
	for _, d := range all {
		got := k.delivery(d.ID)
		k.equal(got.Delivery.State, core.DeliveryPending)
		k.equal(got.Delivery.Attempts, 0)
		k.equal(len(got.Attempts), 0)
	}
	now := time.Now().Add(time.Hour)
	if ds := k.claim("a", now, 10); len(ds) != 2 {
		k.Errorf("claimed %v", keys(ds...))
	}
	k.check(k.s.Release(k.Context(), keys(all...)))
	k.check(k.s.Release(k.Context(), keys(all...)))
	if ds := k.claim("a", now, 10); len(ds) != 2 {
		k.Errorf("claimed %v", keys(ds...))
	}
}

func testOrder(k *kit) {
	a1, a2, b1, a3 := k.add("s/a")[0], k.add("s/a")[0], k.add("s/b")[0], k.add("s/a")[0]
	other := k.add("t/a")[0]
	free := k.add("s")[0]
	free2 := k.add("s")[0]
	k.claims("s", a1, b1, free, free2)
	k.claims("s")
	k.claims("t", other)
	k.settle(delivered(b1))
	k.claims("s")
	k.settle(retried(a1, later.Add(time.Hour))) // parks its key alone
	k.claims("s")
	k.equal(k.backlog("s", later), store.Backlog{Left: true, Next: later.Add(time.Hour)})
	ds := k.claim("s", later.Add(2*time.Hour), 10)
	k.equal(keys(ds...), keys(a1))
	k.settle(dead(a1))
	now := time.Now().Add(time.Hour)
	k.equal(keys(k.claim("s", now, 10)...), keys(a2))
	b2 := k.add("s/b")[0]
	k.equal(keys(k.claim("s", now, 10)...), keys(b2))
	k.settle(delivered(a2))
	k.equal(keys(k.claim("s", now, 10)...), keys(a3))
	k.settle(delivered(a3), delivered(b2), delivered(free), delivered(free2))
	k.equal(k.backlog("s", now), store.Backlog{})
}

// An earlier delivery of a key can appear after a later one: a dead one is retried, or another source was slow to
// route.
func testOrderAcross(k *kit) {
	now := time.Now().Add(time.Hour)
	slow := k.mustAccept()
	second := k.add("s/a")[0]
	third := k.add("s/a")[0]
	d := k.decide(slow, "s/a")
	k.route(d)
	first := d.Deliveries[0]
	k.equal(keys(k.claim("s", now, 10)...), keys(first))
	k.settle(dead(first))
	k.equal(keys(k.claim("s", now, 10)...), keys(second))

	// While the second is leased, the first comes back: it has to wait for that lease, and then goes before the others.
	k.retry(first.ID)
	k.equal(len(k.claim("s", now, 10)), 0)
	k.settle(retried(second, now.Add(time.Hour)))
	k.equal(keys(k.claim("s", now.Add(2*time.Hour), 10)...), keys(first))
	k.settle(delivered(first))
	k.equal(keys(k.claim("s", now.Add(2*time.Hour), 10)...), keys(second))
	k.settle(delivered(second))
	k.equal(keys(k.claim("s", now.Add(2*time.Hour), 10)...), keys(third))
	k.settle(delivered(third))

	// A delivery leased at routing holds those behind it as well.
	r := k.mustAccept()
	leased := k.decide(r, "s/a")
	leased.Lease = []store.Lease{store.LeaseAlways}
	k.route(leased)
	behind := k.add("s/a")[0]
	k.equal(len(k.claim("s", now, 10)), 0)
	k.settle(delivered(leased.Deliveries[0]))
	k.equal(keys(k.claim("s", now, 10)...), keys(behind))
	k.settle(delivered(behind))

	leased = k.decide(k.mustAccept(), "s/a")
	leased.Lease = []store.Lease{store.LeaseAlways}
	k.route(leased)
	behind = k.add("s/a")[0]
	k.settle(retried(leased.Deliveries[0], at))
	k.equal(keys(k.claim("s", now, 10)...), keys(leased.Deliveries[0]))
	k.settle(delivered(leased.Deliveries[0]))
	k.equal(keys(k.claim("s", now, 10)...), keys(behind))
}

func testDue(k *kit) {
	var ds []*core.Delivery
	for range 4 {
		ds = append(ds, k.add("a")[0])
	}
	k.equal(keys(k.claim("a", at.Add(-time.Second), 10)...), keys()) // before any is due
	k.claims("a", ds...)
	far := time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)
	k.settle(
		retried(ds[0], later.Add(2*time.Minute)), retried(ds[1], later.Add(time.Minute)), retried(ds[2], time.Unix(0, 0)),
		retried(ds[3], far))
	k.equal(keys(k.claim("a", later, 10)...), keys(ds[2]))
	k.equal(k.backlog("a", later), store.Backlog{Left: true, Next: later.Add(time.Minute)})
	k.equal(keys(k.claim("a", later.Add(time.Minute), 10)...), keys(ds[1]))
	// A clock that went back.
	k.equal(k.backlog("a", at.Add(-24*time.Hour)), store.Backlog{Left: true, Next: later.Add(2 * time.Minute)})
	k.equal(keys(k.claim("a", later.Add(time.Hour), 10)...), keys(ds[0]))
	k.equal(k.backlog("a", later.Add(time.Hour)), store.Backlog{Left: true, Next: far})
	k.equal(keys(k.claim("a", far, 10)...), keys(ds[3]))
	k.settle(delivered(ds[3]))

	// The longest due first, not the oldest.
	k.settle(
		retried(ds[0], at.Add(3*time.Second)), retried(ds[1], at.Add(2*time.Second)), retried(ds[2], at.Add(time.Second)))
	k.equal(keys(k.claim("a", later, 2)...), keys(ds[2], ds[1]))
	k.equal(keys(k.claim("a", later, 2)...), keys(ds[0]))
}

func testBacklog(k *kit) {
	k.equal(k.backlog("a", later), store.Backlog{})
	var ds []*core.Delivery
	for range 10 {
		ds = append(ds, k.add("a")[0])
	}
	got, b, err := k.s.ClaimDeliveries(k.Context(), "a", later, 4, false)
	k.check(err)
	k.equal(keys(got...), keys(ds[:4]...))
	k.equal(b, store.Backlog{Left: true})
	got, b, err = k.s.ClaimDeliveries(k.Context(), "a", later, 6, false)
	k.check(err)
	k.equal(keys(got...), keys(ds[4:]...))
	k.equal(b, store.Backlog{})
	k.check(k.s.Release(k.Context(), keys(ds[2])))
	k.claims("a", ds[2])
	k.check(k.s.Release(k.Context(), keys(ds[9], ds[0])))
	k.claims("a", ds[0], ds[9])
}

// Claims, settlements and routing at once: nothing is given out twice, and nothing is forgotten.
func testNoDoubleClaims(k *kit) {
	const requests = 300
	now := time.Now().Add(time.Hour)
	var mu sync.Mutex
	holders, tries, inOrder := map[core.DeliveryKey]int{}, map[core.DeliveryKey]int{}, map[string]core.DeliveryKey{}
	done, total := 0, 0
	var adding, working sync.WaitGroup
	adding.Go(func() {
		for i := range requests {
			r := &core.Request{
				Dedupe: key("d", fmt.Sprint(i)), Source: "people", ReceivedAt: at, Body: []byte(`{"data":{"id":1}}`),
			}
			if _, err := k.s.Accept(context.Background(), r); err != nil {
				k.Error(err)
				return
			}
			d := k.decide(r, "s", fmt.Sprintf("s/%d", i%7))
			mu.Lock()
			total += 2
			mu.Unlock()
			if err := k.s.Route(context.Background(), []*store.Decision{d}); err != nil {
				k.Error(err)
				return
			}
		}
	})
	stop := make(chan struct{})
	for w := range 4 {
		working.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				ds, _, err := k.s.ClaimDeliveries(context.Background(), "s", now, 1+w*5, false)
				if err != nil {
					k.Error(err)
					return
				}
				var ss []store.Settlement
				var back []core.DeliveryKey
				mu.Lock()
				for _, d := range ds {
					if holders[d.Key]++; holders[d.Key] > 1 {
						k.Errorf("%d was claimed while it was leased", d.Key)
					}
					tries[d.Key]++
					switch {
					case tries[d.Key] == 1 && d.Key%3 == 0:
						back = append(back, d.Key)
					case tries[d.Key] <= 2 && d.Key%2 == 0:
						ss = append(ss, retried(d, now.Add(-time.Minute)))
					default:
						if d.OrderKey != "" {
							if d.Key < inOrder[d.OrderKey] {
								k.Errorf("%d of key %s came after %d", d.Key, d.OrderKey, inOrder[d.OrderKey])
							}
							inOrder[d.OrderKey] = d.Key
						}
						ss = append(ss, delivered(d))
						done++
					}
				}
				mu.Unlock()
				runtime.Gosched()
				mu.Lock()
				for _, d := range ds {
					holders[d.Key]--
				}
				mu.Unlock()
				if err := k.s.Settle(context.Background(), ss); err != nil {
					k.Error(err)
				}
				if err := k.s.Release(context.Background(), back); err != nil {
					k.Error(err)
				}
			}
		})
	}
	adding.Wait()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		mu.Lock()
		finished := done == total
		mu.Unlock()
		if finished || time.Now().After(deadline) {
			break
		}
	}
	close(stop)
	working.Wait()
	k.equal(done, total)
	k.equal(k.backlog("s", now), store.Backlog{})
}
