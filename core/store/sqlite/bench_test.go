//go:build unix

package sqlite

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/store"
	"github.com/grapnelhq/grapnel/sdk"
)

// BenchmarkCycle takes webhooks through the whole store, as the engine does: producers accept, what is accepted is
// routed in batches to one leased delivery each, and settled in batches.
func BenchmarkCycle(b *testing.B) {
	for _, producers := range []int{64, 256} {
		b.Run(fmt.Sprint(producers), func(b *testing.B) {
			dir := b.TempDir()
			if v := os.Getenv("GRAPNEL_BENCH_DIR"); v != "" {
				dir = v
			}
			c := newCycle(b, filepath.Join(dir, "grapnel.db"))
			defer c.close()
			cpu, written := usage(b)
			before, err := c.s.Stats(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			b.ResetTimer()
			c.run(b, producers, b.N)
			b.StopTimer()
			cpu2, written2 := usage(b)
			after, err := c.s.Stats(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			n := float64(b.N)
			b.ReportMetric(n/b.Elapsed().Seconds(), "cycles/s")
			b.ReportMetric(float64((cpu2-cpu).Nanoseconds())/1e3/n, "cpu-µs/cycle")
			b.ReportMetric(n/float64(after.Syncs-before.Syncs), "events/sync")
			b.ReportMetric(float64(after.Commits-before.Commits)/b.Elapsed().Seconds(), "commits/s")
			b.ReportMetric(float64(written2-written)/1024/n, "KiB/cycle")
		})
	}
}

// cycle is a stand-in for the engine.
type cycle struct {
	s        *Store
	start    int64
	accepted chan *core.Request
	settled  sync.WaitGroup
	routing  sync.WaitGroup
}

func newCycle(b testing.TB, path string) *cycle {
	c := &cycle{accepted: make(chan *core.Request, 1<<16)}
	s, err := Open(b.Context(), Options{Path: path, OnAccepted: func(rs []*core.Request) {
		for _, r := range rs {
			c.accepted <- r
		}
	}})
	if err != nil {
		b.Fatal(err)
	}
	c.s, c.start = s, time.Now().UnixNano()
	deliveries := make(chan core.DeliveryKey, 1<<16)
	c.routing.Go(func() {
		defer close(deliveries)
		batched(c.accepted, func(rs []*core.Request) {
			ds := make([]*store.Decision, len(rs))
			for i, r := range rs {
				ds[i] = oneDelivery(r, "crm", fmt.Sprintf("employee/%d", r.Seq%50_000))
			}
			if err := s.Route(context.Background(), ds); err != nil {
				b.Error(err)
			}
			for _, d := range ds {
				deliveries <- d.Deliveries[0].Key
			}
		})
	})
	c.routing.Go(func() {
		batched(deliveries, func(keys []core.DeliveryKey) {
			ss := make([]store.Settlement, len(keys))
			for i, k := range keys {
				ss[i] = delivered(k)
			}
			if err := s.Settle(context.Background(), ss); err != nil {
				b.Error(err)
			}
			c.settled.Add(-len(keys))
		})
	})
	return c
}

func (c *cycle) run(b testing.TB, producers, n int) {
	c.settled.Add(n)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range producers {
		wg.Go(func() {
			for {
				i := next.Add(1)
				if i > int64(n) {
					return
				}
				a, err := c.s.Accept(context.Background(), sampleRequest(uint64(c.start)<<20+uint64(i)))
				if err != nil || a != store.Accepted {
					b.Error(a, err)
				}
			}
		})
	}
	wg.Wait()
	c.settled.Wait()
	c.start = time.Now().UnixNano()
}

func (c *cycle) close() {
	close(c.accepted)
	c.routing.Wait()
	if err := c.s.Close(); err != nil {
		panic(err)
	}
}

// batched calls do with whatever has queued, at most 256 at a time.
func batched[T any](from <-chan T, do func([]T)) {
	for first := range from {
		batch := []T{first}
		for len(batch) < 256 {
			select {
			case v, ok := <-from:
				if ok {
					batch = append(batch, v)
					continue
				}
			default:
			}
			break
		}
		do(batch)
	}
}

var sampleBody = []byte(`{"id":"` + strings.Repeat("x", 860) + `"}`)

func sampleRequest(n uint64) *core.Request {
	body := bytes.Clone(sampleBody)
	copy(body[10:], fmt.Sprint(n))
	return &core.Request{
		Dedupe: core.NewDedupeKey("people", binary.BigEndian.AppendUint64(nil, n)), Source: "people", Tenant: "acme",
		ReceivedAt: time.Now(), RemoteAddr: "203.0.113.7", Method: "POST",
		Headers: []sdk.Header{
			{Name: "content-type", Value: "application/json"}, {Name: "x-peopleforce-event", Value: "updated"},
		},
		Body: body,
	}
}

func oneDelivery(r *core.Request, sink, order string) *store.Decision {
	e := core.Event{
		RequestSeq: r.Seq, Data: r.Body[:len(r.Body):len(r.Body)],
		Envelope: sdk.Envelope{
			ID: core.EventID(r.Dedupe, r.Repeat, 0), Source: sourceURN + r.Source, Type: "peopleforce.employee.updated",
			Subject: fmt.Sprintf("employee/%d", r.Seq%50_000), Time: "2026-03-01T10:00:00Z", Provider: "peopleforce",
			PartitionKey: fmt.Sprintf("employee/%d", r.Seq%50_000), Operation: "updated", Tenant: r.Tenant,
		},
	}
	d := &core.Delivery{
		Key: core.NewDeliveryKey(r.Seq, 0, 0), Route: "new_hires", Sink: sink, OrderKey: order, State: core.DeliveryPending,
		Message:      []byte(`{"object":"contacts","fields":{"lastname":"` + strings.Repeat("L", 260) + `"}}`),
		ConfigDigest: strings.Repeat("c", 64), SchemaDigest: strings.Repeat("s", 64), Event: &e,
	}
	return &store.Decision{Request: r, Events: []core.Event{e}, Deliveries: []*core.Delivery{d}, Lease: []store.Lease{store.LeaseAlways}}
}

// usage returns the process's CPU time and the bytes it has written.
func usage(b testing.TB) (time.Duration, int64) {
	var ru syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &ru); err != nil {
		b.Fatal(err)
	}
	var written int64
	if text, err := os.ReadFile("/proc/self/io"); err == nil {
		for line := range strings.Lines(string(text)) {
			fmt.Sscanf(line, "wchar: %d", &written)
		}
	}
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano()), written
}

func delivered(k core.DeliveryKey) store.Settlement {
	return store.Settlement{
		Key: k, State: core.DeliveryDelivered, Charge: true, Reference: "4711",
		Attempt: &core.Attempt{Number: 1, At: time.Now(), Took: time.Millisecond, Outcome: sdk.Delivered},
	}
}
