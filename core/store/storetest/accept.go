package storetest

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/store"
	"github.com/grapnelhq/grapnel/sdk"
)

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
