// Package storetest is what every implementation of store.Store has to pass.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/store"
	"github.com/grapnelhq/grapnel/sdk"
)

// Options are what a test asks of a store.
type Options struct {
	Dir          string // names the database: opened again, it holds what it held
	DedupeWindow time.Duration
	OnAccepted   func([]*core.Request)
	OnErased     func(sink string, keys []core.DeliveryKey)
}

// Harness makes stores.
type Harness struct {
	Open func(t *testing.T, o Options) store.Store
	// Crash ends a store as the death of its process would: nothing more is written, leases end.
	Crash func(t *testing.T, s store.Store)
}

// Run runs the suite.
func Run(t *testing.T, h Harness) {
	for name, test := range map[string]func(*kit){
		"accept":            testAccept,
		"bytes":             testBytes,
		"big body":          testBigBody,
		"duplicates":        testDuplicates,
		"dedupe window":     testWindow,
		"reopen":            testReopen,
		"concurrent accept": testConcurrentAccept,
		"claim requests":    testClaimRequests,
		"route":             testRoute,
		"route stale":       testRouteStale,
		"route retry":       testRouteRetry,
		"route fails":       testRouteFails,
		"lease":             testLease,
		"release":           testRelease,
		"order":             testOrder,
		"order across":      testOrderAcross,
		"settle":            testSettle,
		"settle twice":      testSettleTwice,
		"settle renewed":    testSettleRenewed,
		"due":               testDue,
		"backlog":           testBacklog,
		"no double claims":  testNoDoubleClaims,
		"keyed state":       testKeyedState,
		"retry deliveries":  testRetryDeliveries,
		"retry no message":  testRetryWithoutMessage,
		"select":            testSelect,
		"select requests":   testSelectRequests,
		"select by mark":    testSelectByMark,
		"redo retry":        testRedoRetry,
		"redo not rendered": testRedoNotRendered,
		"replay":            testReplay,
		"replay order":      testReplayOrder,
		"replay room":       testReplayRoom,
		"replay held":       testReplayHeld,
		"attempts":          testAttempts,
		"lists":             testLists,
		"list events":       testListEvents,
		"list deliveries":   testListDeliveries,
		"rejections":        testRejections,
		"stats":             testStats,
		"purge":             testPurge,
		"purge memory":      testPurgeMemory,
		"purge of sources":  testPurgeSources,
		"purge large":       testPurgeLarge,
		"purge states":      testPurgeStates,
		"erase":             testErase,
		"erase who":         testEraseWho,
		"erase shared":      testEraseShared,
		"erase in flight":   testEraseInFlight,
		"erase late":        testEraseLate,
		"erase requests":    testEraseRequests,
		"erase states":      testEraseStates,
		"receipts":          testReceipts,
		"sinks":             testSinks,
		"first active":      testFirstActive,
		"lease if free":     testLeaseIfFree,
		"hold":              testHold,
		"clean restart":     testRestart,
		"unclean restart":   testUncleanRestart,
		"unclean requests":  testUncleanRequests,
		"not found":         testNotFound,
		"closed":            testClosed,
	} {
		t.Run(name, func(t *testing.T) { test(newKit(t, h)) })
	}
}

// kit is a store under test.
type kit struct {
	*testing.T
	h    Harness
	o    Options
	s    store.Store
	open bool
	n    int

	mu       sync.Mutex
	accepted []*core.Request
	erased   map[string][]core.DeliveryKey // leased ones, by sink
}

func newKit(t *testing.T, h Harness) *kit {
	k := &kit{T: t, h: h, erased: map[string][]core.DeliveryKey{}}
	k.o = Options{Dir: t.TempDir(), OnAccepted: func(rs []*core.Request) {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.accepted = append(k.accepted, rs...)
	}, OnErased: func(sink string, keys []core.DeliveryKey) {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.erased[sink] = append(k.erased[sink], keys...)
	}}
	k.start()
	t.Cleanup(func() {
		if k.open {
			k.stop()
		}
	})
	return k
}

func (k *kit) start() { k.s, k.open = k.h.Open(k.T, k.o), true }

func (k *kit) stop() {
	k.Helper()
	k.open = false
	k.check(k.s.Close())
}

func (k *kit) crash() {
	k.open = false
	k.h.Crash(k.T, k.s)
}

func (k *kit) check(err error) {
	k.Helper()
	if err != nil {
		k.Fatal(err)
	}
}

func (k *kit) equal(got, want any) {
	k.Helper()
	if d := cmp.Diff(want, got); d != "" {
		k.Fatalf("(-want +got)\n%s", d)
	}
}

var at = time.Date(2026, 3, 1, 10, 0, 0, 123456000, time.UTC)

func key(parts ...string) core.DedupeKey {
	return core.NewDedupeKey("people", []byte(strings.Join(parts, "\x00")))
}

// request makes one that no other is the same as.
func (k *kit) request() *core.Request {
	k.n++
	body := fmt.Sprintf(`{"n":%d,"data":{"id":%d}}`, k.n, 4100+k.n)
	return &core.Request{
		Dedupe: key(fmt.Sprint(k.n)), Source: "people", Tenant: "acme", ReceivedAt: at.Add(time.Duration(k.n) * time.Second),
		RemoteAddr: "203.0.113.7", Method: "POST", Query: "a=1&b=%20",
		Headers: []sdk.Header{{Name: "content-type", Value: "application/json"}, {Name: "x-empty", Value: ""}},
		Body:    []byte(body),
	}
}

func (k *kit) accept(r *core.Request) store.Acceptance {
	k.Helper()
	a, err := k.s.Accept(k.Context(), r)
	k.check(err)
	return a
}

// decide routes a request: one event, and one delivery for each of the sinks, "sink" or "sink/order key".
func (k *kit) decide(r *core.Request, sinks ...string) *store.Decision {
	i := bytes.Index(r.Body, []byte(`{"id"`))
	e := core.Event{
		RequestSeq: r.Seq, DataOffset: i, Data: r.Body[i : len(r.Body)-1],
		Envelope: sdk.Envelope{
			ID: core.EventID(r.Dedupe, r.Repeat, 0), Source: "urn:grapnel:source:" + r.Source,
			Type:    "peopleforce.employee.updated",
			Subject: "employee/4101", PartitionKey: "employee/4101", Time: "2026-03-01T10:00:00+02:00", Operation: "updated",
			Provider: "peopleforce", Tenant: r.Tenant,
		},
		Changes: []byte(`{"a":{"new":1}}`),
	}
	d := &store.Decision{Request: r, Events: []core.Event{e}}
	for i, name := range sinks {
		sink, order, _ := strings.Cut(name, "/")
		d.Deliveries = append(d.Deliveries, &core.Delivery{
			Key: core.NewDeliveryKey(r.Seq, 0, i), ID: core.DeliveryID(e.ID, fmt.Sprintf("route_%d", i), sink, 0),
			Route: fmt.Sprintf("route_%d", i), Sink: sink, OrderKey: order,
			Message: []byte(`{"text":"é"}`), ConfigDigest: "c0", SchemaDigest: "s0",
			State: core.DeliveryPending, Due: at, ReceivedAt: r.ReceivedAt, Event: &e,
		})
	}
	return d
}

// add accepts and routes a request without leasing anything, and returns its deliveries.
func (k *kit) add(sinks ...string) []*core.Delivery {
	k.Helper()
	d := k.decide(k.mustAccept(), sinks...)
	k.route(d)
	return d.Deliveries
}

func (k *kit) mustAccept() *core.Request {
	k.Helper()
	r := k.request()
	k.equal(k.accept(r), store.Accepted)
	return r
}

func (k *kit) route(ds ...*store.Decision) {
	k.Helper()
	k.check(k.s.Route(k.Context(), ds))
}

var later = at.Add(time.Hour)

func (k *kit) claim(sink string, now time.Time, limit int) []*core.Delivery {
	k.Helper()
	ds, _, err := k.s.ClaimDeliveries(k.Context(), sink, now, limit)
	k.check(err)
	return ds
}

// claims checks which deliveries a claim returns, in any order.
func (k *kit) claims(sink string, want ...*core.Delivery) []*core.Delivery {
	k.Helper()
	ds := k.claim(sink, later, 100)
	got := keys(ds...)
	slices.Sort(got)
	sorted := keys(want...)
	slices.Sort(sorted)
	k.equal(got, sorted)
	return ds
}

func keys(ds ...*core.Delivery) []core.DeliveryKey {
	ks := []core.DeliveryKey{}
	for _, d := range ds {
		ks = append(ks, d.Key)
	}
	return ks
}

func (k *kit) backlog(sink string, now time.Time) store.Backlog {
	k.Helper()
	ds, b, err := k.s.ClaimDeliveries(k.Context(), sink, now, 100)
	k.check(err)
	if len(ds) > 0 {
		k.Fatalf("claimed %v", keys(ds...))
	}
	return b
}

func delivered(d *core.Delivery) store.Settlement {
	return store.Settlement{
		Key: d.Key, State: core.DeliveryDelivered, Charge: true, Reference: "ref",
		Attempt: &core.Attempt{Number: 1, At: later, Took: 12 * time.Millisecond, Outcome: sdk.Delivered},
	}
}

func retried(d *core.Delivery, due time.Time) store.Settlement {
	return store.Settlement{
		Key: d.Key, State: core.DeliveryPending, Charge: true, Due: due, Reason: "busy",
		Attempt: &core.Attempt{Number: 1, At: later, Took: time.Millisecond, Outcome: sdk.Retried, Reason: "busy"},
	}
}

func dead(d *core.Delivery) store.Settlement {
	return store.Settlement{
		Key: d.Key, State: core.DeliveryDead, Charge: true, Reason: "no such field", AttributePath: []string{"fields", "x"},
		RouteRange: "config.hcl:3,4",
		Attempt: &core.Attempt{
			Number: 1, At: later, Took: time.Millisecond, Outcome: sdk.Rejected, Reason: "no such field",
		},
	}
}

func (k *kit) settle(ss ...store.Settlement) {
	k.Helper()
	k.check(k.s.Settle(k.Context(), ss))
}

func (k *kit) delivery(id string) *store.DeliveryDetail {
	k.Helper()
	d, err := k.s.GetDelivery(k.Context(), id)
	k.check(err)
	return d
}

func (k *kit) get(id string) *store.RequestDetail {
	k.Helper()
	r, err := k.s.GetRequest(k.Context(), id)
	k.check(err)
	return r
}

func testAccept(k *kit) {
	r := k.request()
	want := *r
	k.equal(k.accept(r), store.Accepted)
	if r.Seq <= 0 {
		k.Fatalf("seq %d", r.Seq)
	}
	second := k.mustAccept()
	if second.Seq <= r.Seq {
		k.Errorf("seq %d after %d", second.Seq, r.Seq)
	}
	want.Seq, want.State = r.Seq, core.RequestReceived
	k.equal(k.get(r.ID()).Request, &want)
	if len(k.accepted) != 2 || k.accepted[0] != r || k.accepted[1] != second {
		k.Errorf("OnAccepted got %v", k.accepted)
	}
}

func testBytes(k *kit) {
	r := k.request()
	r.Body = []byte("\x00\xff\xfe{\"a\":\"\xc3\x28\"}\r\n\x00")
	r.Headers = []sdk.Header{
		{Name: "x-latin", Value: "caf\xe9 \xff"}, {Name: "x-colon", Value: "a: b: c"},
		{Name: "x-lines", Value: "a\n b\n\nc: d"}, {Name: "x-twice", Value: "1"}, {Name: "x-twice", Value: "2"},
		{Name: "x-zero", Value: "a\x00b"}, {Name: "x-end", Value: "z\n"},
	}
	r.Query = "q=\x00\xff'\"%00"
	r.RemoteAddr = ""
	want := *r
	k.accept(r)
	want.Seq, want.State = r.Seq, core.RequestReceived
	k.equal(k.get(r.ID()).Request, &want)

	d := &store.Decision{Request: r, Events: []core.Event{{RequestSeq: r.Seq}}}
	e := &d.Events[0]
	e.ID, e.Type, e.PartitionKey, e.Time = core.EventID(r.Dedupe, 0, 0), "t", "p", "yesterday"
	e.Subject, e.Tenant, e.Source, e.Changes = "O'Brien \x00\xff \U0001F600", "", "elsewhere", nil
	e.Data, e.DataOffset = []byte("\"\x00\xff\""), -1
	nothing := *e
	nothing.Index, nothing.Data, nothing.ID = 1, nil, core.EventID(r.Dedupe, 0, 1)
	d.Events = append(d.Events, nothing)
	d.Notes = []string{"a\x00", "b \"quoted\""}
	d.Deliveries = []*core.Delivery{{
		Key: core.NewDeliveryKey(r.Seq, 0, 0), Route: "r", Sink: "s", OrderKey: "k\x00\xff", State: core.DeliveryPending,
		Message: []byte("{\"text\":\"\x00\"}"),
	}}
	k.route(d)
	got := k.get(r.ID())
	k.equal(got.Request.Notes, d.Notes)
	k.equal(got.Events, d.Events)
	claimed := k.claim("s", time.Now(), 1)
	k.equal(claimed[0].OrderKey, "k\x00\xff")
	k.equal(string(claimed[0].Message), "{\"text\":\"\x00\"}")
	k.equal(claimed[0].Event.Data, d.Events[0].Data)

	empty := k.request()
	empty.Body, empty.Headers = nil, nil
	k.accept(empty)
	if got := k.get(empty.ID()).Request; len(got.Body) != 0 || len(got.Headers) != 0 {
		k.Errorf("an empty request came back as %v", got)
	}
}

func testBigBody(k *kit) {
	r := k.request()
	r.Body = bytes.Repeat([]byte("0123456789abcdef"), 1<<20)
	copy(r.Body, `{"data":{"id":`)
	k.accept(r)
	small := k.mustAccept()
	d := k.decide(r, "a", "a")
	k.route(d, k.decide(small, "a"))
	var ds []*core.Delivery
	for range 3 { // a store may return less than it could, so that the memory is not filled
		ds = append(ds, k.claim("a", later, 10)...)
	}
	k.equal(len(ds), 3)
	if !bytes.Equal(ds[0].Event.Data, d.Events[0].Data) || !bytes.Equal(ds[1].Event.Data, d.Events[0].Data) {
		k.Error("the data of a big body is not what it was")
	}
	if !bytes.Equal(k.get(r.ID()).Request.Body, r.Body) {
		k.Error("a big body is not what it was")
	}
}

func testDuplicates(k *kit) {
	r := k.mustAccept()
	again := *r
	again.Seq = 0
	k.equal(k.accept(&again), store.Duplicate)
	k.route(k.decide(r, "a"))
	k.equal(k.accept(&again), store.Duplicate)
	k.equal(len(k.accepted), 1)
}

func testWindow(k *kit) {
	k.stop()
	k.o.DedupeWindow = time.Hour
	k.start()
	first := k.mustAccept()
	again := func(after time.Duration) (*core.Request, store.Acceptance) {
		r := *first
		r.Seq, r.Repeat, r.ReceivedAt = 0, 0, first.ReceivedAt.Add(after)
		a := k.accept(&r)
		return &r, a
	}
	_, a := again(59 * time.Minute)
	k.equal(a, store.Duplicate)
	_, a = again(-59 * time.Minute)
	k.equal(a, store.Duplicate)
	second, a := again(2 * time.Hour)
	k.equal(a, store.Accepted)
	k.equal(second.Repeat, 1)
	k.equal(second.ID(), core.RequestID(first.Dedupe, 1))
	if second.Seq <= first.Seq {
		k.Errorf("seq %d after %d", second.Seq, first.Seq)
	}
	_, a = again(2*time.Hour + time.Minute) // in the window of the second
	k.equal(a, store.Duplicate)
	third, a := again(0) // the clock went back
	k.equal(a, store.Accepted)
	k.equal(third.Repeat, 2)
	k.equal(k.get(second.ID()).Request.Seq, second.Seq)
	k.equal(k.get(first.ID()).Request.Seq, first.Seq)
}

func testReopen(k *kit) {
	r := k.mustAccept()
	k.route(&store.Decision{Request: r, Dead: "not JSON", Crashes: 2, Notes: []string{"n"}})
	got := k.get(r.ID()).Request
	k.equal(got.State, core.RequestDead)
	k.equal(got.Reason, "not JSON")
	k.equal(got.Crashes, 2)
	again := k.request()
	again.Dedupe, again.ReceivedAt = r.Dedupe, r.ReceivedAt.Add(time.Minute)
	k.equal(k.accept(again), store.Reopened)
	got = k.get(r.ID()).Request
	k.equal(got.State, core.RequestReceived)
	k.equal(got.Reason, "")
	k.equal(got.Crashes, 0)
	reopened := k.accepted[len(k.accepted)-1]
	if reopened.Seq != r.Seq || !reopened.Reopened || !bytes.Equal(reopened.Body, r.Body) {
		k.Errorf("OnAccepted got %+v", reopened)
	}
	k.equal(k.accept(again), store.Duplicate)

	k.route(&store.Decision{Request: r, Dead: "still not"})
	rs, err := k.s.RetryRequests(k.Context(), []string{"req_nothing", core.RequestID(key("unknown"), 0), r.ID(), r.ID()})
	k.check(err)
	if len(rs) != 1 || rs[0].Seq != r.Seq || !rs[0].Reopened || len(k.accepted) != 3 {
		k.Errorf("retried %v", rs)
	}
	rs, err = k.s.RetryRequests(k.Context(), []string{r.ID()}) // no longer dead
	k.check(err)
	k.equal(len(rs), 0)
	k.route(k.decide(r, "a"))
	k.claims("a", k.get(r.ID()).Deliveries...)
}

func testConcurrentAccept(k *kit) {
	const goroutines, each = 16, 50
	var mu sync.Mutex
	results := map[store.Acceptance]int{}
	seqs := map[int64]bool{}
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			for i := range each {
				// Every request is sent by two goroutines.
				dedupe := key("c", fmt.Sprint(g/2), fmt.Sprint(i))
				r := &core.Request{Dedupe: dedupe, Source: "people", ReceivedAt: at, Body: []byte("{}")}
				a, err := k.s.Accept(context.Background(), r)
				mu.Lock()
				if err != nil {
					k.Error(err)
				}
				results[a]++
				if a == store.Accepted {
					if seqs[r.Seq] {
						k.Errorf("seq %d was given twice", r.Seq)
					}
					seqs[r.Seq] = true
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	const half = goroutines * each / 2
	k.equal(results, map[store.Acceptance]int{store.Accepted: half, store.Duplicate: half})
	k.equal(len(k.accepted), goroutines*each/2)
	if !slices.IsSortedFunc(k.accepted, func(a, b *core.Request) int { return int(a.Seq - b.Seq) }) {
		k.Error("OnAccepted was not called in sequence order")
	}
}

func testClaimRequests(k *kit) {
	var rs []*core.Request
	for i := range 7 {
		r := k.request()
		if i == 3 {
			r.Source = "other"
		}
		k.accept(r)
		rs = append(rs, r)
	}
	k.route(k.decide(rs[0]), &store.Decision{Request: rs[5], Dead: "x"})
	claim := func(source string, after int64, limit int) (seqs []int64) {
		k.Helper()
		got, err := k.s.ClaimRequests(k.Context(), source, after, limit)
		k.check(err)
		for _, r := range got {
			seqs = append(seqs, r.Seq)
			if i := slices.IndexFunc(rs, func(w *core.Request) bool { return w.Seq == r.Seq }); i >= 0 {
				k.equal(r, rs[i])
			}
		}
		return seqs
	}
	k.equal(claim("people", 0, 2), []int64{rs[1].Seq, rs[2].Seq})
	k.equal(claim("people", rs[2].Seq, 10), []int64{rs[4].Seq, rs[6].Seq})
	k.equal(claim("other", 0, 10), []int64{rs[3].Seq})
	k.equal(claim("nobody", 0, 10), []int64(nil))
	k.equal(claim("people", rs[6].Seq, 10), []int64(nil))
}

func testRoute(k *kit) {
	r := k.mustAccept()
	d := k.decide(r, "a/4101", "b")
	d.Notes = []string{"a note"}
	d.Deliveries[1].State, d.Deliveries[1].Reason = core.DeliveryDead, "null in a template"
	d.Deliveries[1].RouteRange, d.Deliveries[1].AttributePath = "config.hcl:1,2", []string{"text"}
	k.route(d)
	got := k.get(r.ID())
	k.equal(got.Request.State, core.RequestRouted)
	k.equal(got.Request.Notes, []string{"a note"})
	k.equal(got.Events, d.Events)
	k.equal(len(got.Deliveries), 2)
	first, second := got.Deliveries[0], got.Deliveries[1]
	want := *d.Deliveries[0]
	want.Event = first.Event
	k.equal(first, &want)
	k.equal(first.Event.ID, d.Events[0].ID)
	k.equal(second.ID, d.Deliveries[1].ID)
	k.equal(second.State, core.DeliveryDead)
	k.equal(second.Reason, "null in a template")
	k.equal(second.RouteRange, "config.hcl:1,2")
	k.equal(second.AttributePath, []string{"text"})
	if second.SettledAt.IsZero() || !second.Due.IsZero() {
		k.Errorf("dead at routing: %+v", second)
	}
	ds := k.claims("a", d.Deliveries[0])
	want = *d.Deliveries[0]
	want.StateRead = true
	k.equal(ds[0], &want)
	k.claims("b")
}

func testRouteStale(k *kit) {
	r, other := k.mustAccept(), k.mustAccept()
	k.route(k.decide(r, "a"))
	stale, fresh := k.decide(r, "a"), k.decide(other, "a")
	stale.Lease = []store.Lease{store.LeaseAlways}
	k.route(stale, fresh)
	if !stale.Stale || fresh.Stale {
		k.Errorf("stale: %t and %t", stale.Stale, fresh.Stale)
	}
	k.claims("a", stale.Deliveries[0], fresh.Deliveries[0]) // and the lease was not taken
	deadOne := &store.Decision{Request: r, Dead: "late"}
	retry := &store.Decision{Request: r, Retry: true, Crashes: 1}
	k.route(deadOne, retry)
	if !deadOne.Stale || !retry.Stale {
		k.Error("a decision about a routed request was not stale")
	}
	k.equal(k.get(r.ID()).Request.State, core.RequestRouted)
}

func testRouteRetry(k *kit) {
	r := k.mustAccept()
	k.route(&store.Decision{Request: r, Retry: true, Crashes: 2, Notes: []string{"it crashed"}})
	got := k.get(r.ID()).Request
	k.equal(got.State, core.RequestReceived)
	k.equal(got.Crashes, 2)
	k.equal(got.Notes, []string{"it crashed"})
}

func testRouteFails(k *kit) {
	good, bad := k.mustAccept(), k.mustAccept()
	d := k.decide(bad, "a", "a")
	d.Deliveries[1].Key = d.Deliveries[0].Key
	d.Lease = []store.Lease{store.LeaseAlways, store.LeaseAlways}
	g := k.decide(good, "a")
	g.Lease = []store.Lease{store.LeaseAlways}
	if err := k.s.Route(k.Context(), []*store.Decision{g, d}); err == nil {
		k.Fatal("two deliveries with one key were stored")
	}
	k.equal(k.get(good.ID()).Request.State, core.RequestReceived)
	k.equal(k.get(bad.ID()).Request.State, core.RequestReceived)
	g.Lease = nil
	k.route(g)
	k.claims("a", g.Deliveries...)
	k.equal(k.backlog("a", later).Left, false)
}

func testLease(k *kit) {
	r := k.mustAccept()
	d := k.decide(r, "a", "a")
	d.Lease = []store.Lease{store.LeaseAlways, store.NoLease}
	k.route(d)
	k.claims("a", d.Deliveries[1])
	k.claims("a")
	k.equal(k.get(r.ID()).Deliveries[0].State, core.DeliveryLeased)
	k.equal(k.backlog("a", later), store.Backlog{})
	k.settle(delivered(d.Deliveries[0]), retried(d.Deliveries[1], at))
	k.claims("a", d.Deliveries[1])
	k.equal(k.delivery(d.Deliveries[0].ID).Delivery.State, core.DeliveryDelivered)
	k.equal(k.delivery(d.Deliveries[1].ID).Delivery.State, core.DeliveryLeased)
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
	got, b, err := k.s.ClaimDeliveries(k.Context(), "a", later, 4)
	k.check(err)
	k.equal(keys(got...), keys(ds[:4]...))
	k.equal(b, store.Backlog{Left: true})
	got, b, err = k.s.ClaimDeliveries(k.Context(), "a", later, 6)
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
				ds, _, err := k.s.ClaimDeliveries(context.Background(), "s", now, 1+w*5)
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
	k.equal(st.Deliveries["a"], map[core.DeliveryState]int64{core.DeliveryDead: 2, core.DeliveryLeased: 1})
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

func testLists(k *kit) {
	var rs []*core.Request
	for i := range 10 {
		r := k.request()
		if i%2 == 1 {
			r.Source = "other"
		}
		k.accept(r)
		rs = append(rs, r)
	}
	refused := &store.Decision{Request: rs[2], Dead: "x"}
	k.route(k.decide(rs[0], "a"), k.decide(rs[1]), refused, &store.Decision{Request: rs[3]})
	two := k.decide(rs[4], "a") // one of two events has a delivery
	e := two.Events[0]
	e.Index, e.ID = 1, core.EventID(rs[4].Dedupe, 0, 1)
	two.Events = append(two.Events, e)
	k.route(two)
	list := func(f store.RequestFilter) (seqs []int64) {
		k.Helper()
		got, next, err := k.s.ListRequests(k.Context(), f)
		k.check(err)
		if next != "" {
			k.Errorf("unexpected next page %q", next)
		}
		for _, r := range got {
			seqs = append(seqs, r.Seq)
			if r.Body != nil {
				k.Error("a list holds bodies")
			}
		}
		return seqs
	}
	seqs := func(is ...int) (s []int64) {
		for _, i := range is {
			s = append(s, rs[i].Seq)
		}
		return s
	}
	k.equal(list(store.RequestFilter{}), seqs(9, 8, 7, 6, 5, 4, 3, 2, 1, 0))
	k.equal(list(store.RequestFilter{Source: "other"}), seqs(9, 7, 5, 3, 1))
	k.equal(list(store.RequestFilter{State: core.RequestRouted}), seqs(4, 3, 1, 0))
	k.equal(list(store.RequestFilter{State: core.RequestDead}), seqs(2))
	k.equal(list(store.RequestFilter{State: core.RequestReceived, Source: "people"}), seqs(8, 6))
	k.equal(list(store.RequestFilter{Unrouted: true}), seqs(4, 1))
	k.equal(list(store.RequestFilter{Since: rs[3].ReceivedAt, Until: rs[6].ReceivedAt}), seqs(5, 4, 3))
	k.equal(list(store.RequestFilter{Since: rs[9].ReceivedAt.Add(time.Microsecond)}), []int64(nil))
	k.equal(list(store.RequestFilter{Until: rs[0].ReceivedAt}), []int64(nil))

	var all []int64
	cursor := ""
	for pages := 0; ; pages++ {
		got, next, err := k.s.ListRequests(k.Context(), store.RequestFilter{Limit: 4, Cursor: cursor})
		k.check(err)
		for _, r := range got {
			all = append(all, r.Seq)
		}
		if cursor = next; next == "" {
			k.equal(pages, 2)
			break
		}
	}
	k.equal(all, seqs(9, 8, 7, 6, 5, 4, 3, 2, 1, 0))
	got, next, err := k.s.ListRequests(k.Context(), store.RequestFilter{Limit: 10})
	k.check(err)
	k.equal(len(got), 10)
	k.equal(next, "")
	if _, _, err := k.s.ListRequests(k.Context(), store.RequestFilter{Cursor: "'; --"}); err == nil {
		k.Error("a foreign cursor was taken")
	}
}

func testListDeliveries(k *kit) {
	var ds []*core.Delivery
	var rs []*core.Request
	for i := range 8 {
		r := k.request()
		if i >= 4 {
			r.Source = "other"
		}
		k.accept(r)
		d := k.decide(r, "a", "b/x")
		d.Events[0].Subject = fmt.Sprintf("employee/%d", i%3)
		d.Events[0].Tenant = fmt.Sprintf("t%d", i%2)
		if i == 7 {
			d.Events[0].Type = "peopleforce.employee.deleted"
		}
		k.route(d)
		rs = append(rs, r)
		ds = append(ds, d.Deliveries...)
	}
	k.equal(keys(k.claim("a", later, 3)...), keys(ds[0], ds[2], ds[4]))
	k.settle(delivered(ds[0]), dead(ds[2]))
	list := func(f store.DeliveryFilter) []core.DeliveryKey {
		k.Helper()
		all := []core.DeliveryKey{}
		for {
			f.Limit = 3
			got, next, err := k.s.ListDeliveries(k.Context(), f)
			k.check(err)
			for _, d := range got {
				if d.Event == nil || d.Event.Data != nil {
					k.Error("a listed delivery has no event, or has data")
				}
			}
			all = append(all, keys(got...)...)
			if f.Cursor = next; next == "" {
				return all
			}
		}
	}
	pick := func(is ...int) []core.DeliveryKey {
		ks := []core.DeliveryKey{}
		for _, i := range is {
			ks = append(ks, ds[i].Key)
		}
		return ks
	}
	k.equal(list(store.DeliveryFilter{}), pick(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0))
	k.equal(list(store.DeliveryFilter{Sink: "a"}), pick(14, 12, 10, 8, 6, 4, 2, 0))
	k.equal(list(store.DeliveryFilter{Route: "route_1", Source: "other"}), pick(15, 13, 11, 9))
	k.equal(list(store.DeliveryFilter{Subject: "employee/1"}), pick(15, 14, 9, 8, 3, 2))
	k.equal(list(store.DeliveryFilter{Subject: "employee/1", Sink: "b", Tenant: "t1"}), pick(15, 3))
	k.equal(list(store.DeliveryFilter{Type: "peopleforce.employee.deleted"}), pick(15, 14))
	k.equal(list(store.DeliveryFilter{Tenant: "t0", Sink: "a"}), pick(12, 8, 4, 0))
	k.equal(list(store.DeliveryFilter{RequestID: rs[2].ID()}), pick(5, 4))
	k.equal(list(store.DeliveryFilter{RequestID: "req_no"}), pick())
	k.equal(list(store.DeliveryFilter{State: core.DeliveryDelivered}), pick(0))
	k.equal(list(store.DeliveryFilter{State: core.DeliveryDead}), pick(2))
	k.equal(list(store.DeliveryFilter{State: core.DeliveryDead, Subject: "employee/1"}), pick(2))
	k.equal(list(store.DeliveryFilter{State: core.DeliveryDead, Sink: "b"}), pick())
	k.equal(list(store.DeliveryFilter{State: core.DeliveryLeased}), pick(4))
	k.equal(list(store.DeliveryFilter{State: core.DeliveryLeased, Sink: "b"}), pick())
	k.equal(list(store.DeliveryFilter{State: core.DeliveryPending}), pick(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 3, 1))
	k.equal(list(store.DeliveryFilter{State: core.DeliveryPending, Subject: "employee/0", Sink: "b"}), pick(13, 7, 1))
	k.equal(list(store.DeliveryFilter{Since: rs[2].ReceivedAt, Until: rs[4].ReceivedAt}), pick(7, 6, 5, 4))
	k.equal(list(store.DeliveryFilter{Since: rs[2].ReceivedAt, Subject: "employee/2"}), pick(11, 10, 5, 4))
	got, _, err := k.s.ListDeliveries(k.Context(), store.DeliveryFilter{Sink: "a", State: core.DeliveryLeased})
	k.check(err)
	k.equal(got[0].State, core.DeliveryLeased)
	k.equal(got[0].Event.Subject, "employee/2")
}

func testRejections(k *kit) {
	for i := range 120 {
		r := core.Rejection{
			At: at.Add(time.Duration(i) * time.Second), Status: 401, Cause: "bad_signature", Detail: fmt.Sprint(i),
			RemoteAddr: "203.0.113.9", Method: "POST", Path: "/hooks/hr",
		}
		if i%4 == 0 {
			r.Source, r.Status, r.Cause = "hr", 413, "too_large"
		}
		k.s.RecordRejection(r)
	}
	rs, next, err := k.s.ListRejections(k.Context(), store.RejectionFilter{})
	k.check(err)
	k.equal(len(rs), 50)
	k.equal(rs[0].Detail, "119")
	rs2, _, err := k.s.ListRejections(k.Context(), store.RejectionFilter{Cursor: next})
	k.check(err)
	k.equal(rs2[0].Detail, "69")
	rs, next, err = k.s.ListRejections(k.Context(), store.RejectionFilter{Source: "hr", Cause: "too_large", Limit: 1000})
	k.check(err)
	k.equal(len(rs), 30)
	k.equal(next, "")
	got, err := k.s.GetRejection(k.Context(), rs[0].ID)
	k.check(err)
	k.equal(got, rs[0])
	want := core.Rejection{
		ID: got.ID, At: at.Add(116 * time.Second), Source: "hr", Status: 413, Cause: "too_large", Detail: "116",
		RemoteAddr: "203.0.113.9", Method: "POST", Path: "/hooks/hr",
	}
	k.equal(got, want)
	if _, err := k.s.GetRejection(k.Context(), 1<<40); !errors.Is(err, store.ErrNotFound) {
		k.Errorf("got %v", err)
	}
	// However many there are: bounded, all counted, the newest kept.
	for i := range 30_000 {
		k.s.RecordRejection(core.Rejection{At: at, Status: 400, Cause: "syntax", Detail: fmt.Sprint(i)})
		if i%200 == 0 {
			_, _, err := k.s.ListRejections(k.Context(), store.RejectionFilter{Limit: 1})
			k.check(err)
		}
	}
	n := 0
	for cursor := ""; ; {
		rs, next, err := k.s.ListRejections(k.Context(), store.RejectionFilter{Limit: 1000, Cursor: cursor})
		k.check(err)
		if cursor == "" {
			k.equal(rs[0].Detail, "29999")
		}
		n += len(rs)
		if cursor = next; next == "" {
			break
		}
	}
	if n > 10_000 || n < 200 {
		k.Errorf("%d are kept", n)
	}
	st, err := k.s.Stats(k.Context())
	k.check(err)
	k.equal(st.Rejections, map[string]int64{"syntax": 30_000, "too_large": 30, "bad_signature": 90})
	k.s.RecordRejection(core.Rejection{At: at, Status: 400, Cause: "syntax", Detail: "last"})
	k.stop()
	k.start()
	rs, _, err = k.s.ListRejections(k.Context(), store.RejectionFilter{Limit: 1})
	k.check(err)
	k.equal(rs[0].Detail, "last")
}

func testStats(k *kit) {
	for range 5 {
		k.add("a", "b/x")
	}
	k.add()
	k.route(&store.Decision{Request: k.mustAccept(), Dead: "x"})
	k.mustAccept()
	leased := k.decide(k.mustAccept(), "c")
	leased.Lease = []store.Lease{store.LeaseAlways}
	k.route(leased)
	claimed := k.claim("a", later, 3)
	k.settle(delivered(claimed[0]), dead(claimed[1]))
	want := store.Stats{
		Requests: map[core.RequestState]int64{core.RequestRouted: 7, core.RequestDead: 1, core.RequestReceived: 1},
		Deliveries: map[string]map[core.DeliveryState]int64{
			"a": {core.DeliveryDelivered: 1, core.DeliveryDead: 1, core.DeliveryLeased: 1, core.DeliveryPending: 2},
			"b": {core.DeliveryPending: 5},
			"c": {core.DeliveryLeased: 1},
		},
		Unrouted:   map[string]int64{"peopleforce.employee.updated": 1},
		Rejections: map[string]int64{},
	}
	got, err := k.s.Stats(k.Context())
	k.check(err)
	if got.SizeBytes <= 0 || got.Accepted != 9 || got.Commits <= 0 {
		k.Errorf("stats %+v", got)
	}
	got.Commits, got.Syncs, got.Accepted, got.SizeBytes = 0, 0, 0, 0
	k.equal(got, want)
	k.stop()
	k.start()
	want.Deliveries["a"] = map[core.DeliveryState]int64{
		core.DeliveryDelivered: 1, core.DeliveryDead: 1, core.DeliveryPending: 3,
	}
	want.Deliveries["c"] = map[core.DeliveryState]int64{core.DeliveryPending: 1}
	got, err = k.s.Stats(k.Context())
	k.check(err)
	got.Commits, got.Syncs, got.Accepted, got.SizeBytes = 0, 0, 0, 0
	k.equal(got, want)
}

func (k *kit) purge(before time.Time) int {
	k.Helper()
	n, err := k.s.Purge(k.Context(), store.Retention{Before: before})
	k.check(err)
	return n
}

func testPurge(k *kit) {
	k.stop()
	k.o.DedupeWindow = time.Minute // long over for all of these
	k.start()
	var settled, waiting []*core.Delivery
	for range 8 {
		settled = append(settled, k.add("a", "a2")...)
	}
	for _, d := range settled {
		k.claim(d.Sink, later, 10)
	}
	for i, d := range settled {
		s := delivered(d)
		if i%3 == 0 {
			s = dead(d)
		}
		k.settle(s)
	}
	waiting = k.add("b")
	unrouted := k.decide(k.mustAccept())
	k.route(unrouted)
	k.route(&store.Decision{Request: k.mustAccept(), Dead: "x"})
	received := k.mustAccept()
	leased := k.decide(k.mustAccept(), "c")
	leased.Lease = []store.Lease{store.LeaseAlways}
	k.route(leased)
	young := k.add()
	_ = young
	last := k.mustAccept() // keeps sequences growing
	limit := at.Add(time.Duration(k.n-1) * time.Second)
	k.equal(k.purge(limit), 10)
	k.equal(k.purge(limit), 0)
	rs, _, err := k.s.ListRequests(k.Context(), store.RequestFilter{})
	k.check(err)
	k.equal(len(rs), 5)
	k.delivery(waiting[0].ID)
	k.get(received.ID())
	if _, err := k.s.GetDelivery(k.Context(), settled[0].ID); !errors.Is(err, store.ErrNotFound) {
		k.Errorf("a purged delivery: %v", err)
	}
	st, err := k.s.Stats(k.Context())
	k.check(err)
	k.equal(st.Requests, map[core.RequestState]int64{core.RequestReceived: 2, core.RequestRouted: 3})
	k.equal(st.Deliveries, map[string]map[core.DeliveryState]int64{
		"b": {core.DeliveryPending: 1}, "c": {core.DeliveryLeased: 1},
	})
	k.equal(st.Unrouted, map[string]int64{"peopleforce.employee.updated": 1})
	// Everything settles and goes, but sequences still grow.
	k.claims("b", waiting...)
	k.settle(delivered(waiting[0]), delivered(leased.Deliveries[0]))
	k.route(k.decide(received), k.decide(last))
	k.purge(later)
	k.stop()
	k.start()
	if r := k.mustAccept(); r.Seq <= last.Seq {
		k.Errorf("seq %d came again after %d", r.Seq, last.Seq)
	}
}

// Retention may be shorter than the dedupe window: the request goes, what it was the same as stays known.
func testPurgeMemory(k *kit) {
	k.stop()
	k.o.DedupeWindow = 24 * time.Hour
	k.start()
	now := time.Now().UTC().Truncate(time.Microsecond)
	fresh := func(age time.Duration) *core.Request {
		r := k.request()
		r.ReceivedAt = now.Add(-age)
		k.equal(k.accept(r), store.Accepted)
		return r
	}
	gone, known, deadOne := fresh(30*time.Hour), fresh(20*time.Hour), fresh(19*time.Hour)
	k.route(k.decide(gone), k.decide(known), &store.Decision{Request: deadOne, Dead: "x"})
	fresh(0)
	k.equal(k.purge(now.Add(-time.Hour)), 3)
	for _, r := range []*core.Request{gone, known, deadOne} {
		if _, err := k.s.GetRequest(k.Context(), r.ID()); !errors.Is(err, store.ErrNotFound) {
			k.Errorf("a purged request: %v", err)
		}
	}
	rs, _, err := k.s.ListRequests(k.Context(), store.RequestFilter{})
	k.check(err)
	k.equal(len(rs), 1)
	again := func(r *core.Request) (*core.Request, store.Acceptance) {
		c := *r
		c.ReceivedAt = now
		return &c, k.accept(&c)
	}
	_, a := again(known)
	k.equal(a, store.Duplicate)
	r, a := again(deadOne) // there is nothing left to open again
	k.equal(a, store.Accepted)
	k.equal(r.Repeat, 1)
	k.equal(k.get(r.ID()).Request.Body, deadOne.Body)
	r, a = again(gone)
	k.equal(a, store.Accepted)
	k.equal(r.Repeat, 0)
	got, err := k.s.RetryRequests(k.Context(), []string{deadOne.ID()})
	k.check(err)
	k.equal(len(got), 0)
}

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
	k.equal(st.Deliveries["a"], map[core.DeliveryState]int64{core.DeliveryPending: 1, core.DeliveryLeased: 1})
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

func testNotFound(k *kit) {
	d := k.add("a")[0]
	for _, id := range []string{"", "req_", "nonsense", core.RequestID(key("none"), 0), core.RequestID(key("1"), 1)} {
		if _, err := k.s.GetRequest(k.Context(), id); !errors.Is(err, store.ErrNotFound) {
			k.Errorf("request %q: %v", id, err)
		}
	}
	unknown := core.DeliveryID(d.Event.ID, "no", "a", 0)
	for _, id := range []string{"", "dlv_", d.ID + "0", d.ID[:len(d.ID)-1] + "x", unknown} {
		if _, err := k.s.GetDelivery(k.Context(), id); !errors.Is(err, store.ErrNotFound) {
			k.Errorf("delivery %q: %v", id, err)
		}
	}
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
	if _, _, err := k.s.ClaimDeliveries(ctx, "a", later, 1); !errors.Is(err, store.ErrClosed) {
		k.Errorf("claim on a closed store: %v", err)
	}
}

func second[T any](_ T, err error) error { return err }
