package engine

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/grapnelhq/grapnel/core"
)

// fatRouter makes one delivery per event, all with the same large message.
type fatRouter struct{ message []byte }

func (f fatRouter) Route(dst []*core.Delivery, _ *core.Request, ev *core.Event) ([]*core.Delivery, error) {
	return append(dst, &core.Delivery{Event: ev, Message: f.message}), nil
}

// TestManyLargeMessages decides requests whose events repeat what is large.
func TestManyLargeMessages(t *testing.T) {
	large := make([]byte, 1<<20)
	for name, c := range map[string]struct {
		message, data []byte
		offset        int // of the data
		events        int
		dead          bool
	}{
		"messages":           {large, nil, -1, 300, true},
		"data":               {nil, large, -1, 300, true},
		"slices of the body": {nil, large, 0, 300, false},
		"few":                {large, nil, -1, 200, false},
	} {
		var d core.Decoded
		for range c.events {
			d.Events = append(d.Events, core.Event{Data: c.data, DataOffset: c.offset})
		}
		dec := decide(fatRouter{c.message}, &core.Request{}, &d)
		if got := dec.Dead != ""; got != c.dead || c.dead != (dec.Deliveries == nil && dec.Events == nil) {
			t.Errorf("%s: dead %q, %d deliveries", name, dec.Dead, len(dec.Deliveries))
		}
	}
}

// claims is a store whose reads of requests end when the test says so.
type claims struct {
	Store
	reads chan []*core.Request
	after chan int64
}

func (c *claims) ClaimRequests(_ context.Context, _ string, after int64, _ int) ([]*core.Request, error) {
	c.after <- after
	return <-c.reads, nil
}

// TestReopenedWhileReading reopens a dead request after a read of the store has passed it, and before the read has ended.
func TestReopenedWhileReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &claims{reads: make(chan []*core.Request), after: make(chan int64)}
		p := newPipeline(Source{Name: "s"}, c, nil, nil)
		got := make(chan []*core.Request)
		go func() { got <- p.next(t.Context()) }()
		if after := <-c.after; after != 0 {
			t.Fatalf("the first read begins after %d", after)
		}
		p.accepted(&core.Request{Seq: 50, Reopened: true})
		c.reads <- []*core.Request{{Seq: 100}}
		if after := <-c.after; after != 0 {
			t.Fatalf("the second read begins after %d and misses the request", after)
		}
		c.reads <- []*core.Request{{Seq: 50, Reopened: true}, {Seq: 100}}
		if rs := <-got; len(rs) != 2 {
			t.Errorf("%d requests to decode", len(rs))
		}
	})
}
