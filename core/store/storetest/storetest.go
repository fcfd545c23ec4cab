// Package storetest is what every implementation of store.Store has to pass.
package storetest

import (
	"bytes"
	"fmt"
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
		"read requests":     testReadRequests,
		"list deliveries":   testListDeliveries,
		"list by events":    testListByEvents,
		"search requests":   testSearchRequests,
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
		"host state":        testHostState,
		"oldest":            testOldest,
		"first active":      testFirstActive,
		"lease if free":     testLeaseIfFree,
		"hold":              testHold,
		"hold unrendered":   testHoldUnrendered,
		"hold stopped":      testHoldStopped,
		"clean restart":     testRestart,
		"unclean restart":   testUncleanRestart,
		"unclean requests":  testUncleanRequests,
		"trace":             testTrace,
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
	ds, _, err := k.s.ClaimDeliveries(k.Context(), sink, now, limit, false)
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
	ds, b, err := k.s.ClaimDeliveries(k.Context(), sink, now, 100, false)
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

func second[T any](_ T, err error) error { return err }
