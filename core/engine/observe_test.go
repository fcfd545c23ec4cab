package engine

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/store"
)

type seen struct {
	unobserved
	matched                []string
	counts                 map[string]int
	events, unrouted, dead int
}

func (s *seen) Matched(route string, n int) {
	s.matched = append(s.matched, route)
	s.counts[route] += n
}

func (s *seen) Decided(events, unrouted int, dead bool) {
	s.events += events
	s.unrouted += unrouted
	if dead {
		s.dead++
	}
}

// TestObserveDecisions counts events per route, not deliveries.
func TestObserveDecisions(t *testing.T) {
	events := make([]core.Event, 4)
	to := func(event int, route, sink string) *core.Delivery {
		return &core.Delivery{Event: &events[event], Route: route, Sink: sink}
	}
	s := &seen{counts: map[string]int{}}
	p := newSourceConf(Source{Observer: s})
	p.observe([]*store.Decision{
		{Events: events, Deliveries: []*core.Delivery{
			to(0, "a", "x"), to(0, "a", "y"), to(0, "b", "x"), // one of a, one of b
			to(1, "b", "x"),
			to(3, "b", "x"), to(3, "b", "y"), to(3, "c", "y"),
		}},
		{Events: events[:2]},
		{Dead: "refused"},
		{Stale: true, Events: events, Deliveries: []*core.Delivery{to(0, "a", "x")}},
	})
	want := map[string]int{"a": 1, "b": 3, "c": 1}
	if diff := cmp.Diff(want, s.counts); diff != "" {
		t.Error(diff)
	}
	if s.events != 6 || s.unrouted != 3 || s.dead != 1 || len(s.matched) != 3 {
		t.Errorf("events %d, unrouted %d, dead %d, calls %v", s.events, s.unrouted, s.dead, s.matched)
	}
}
