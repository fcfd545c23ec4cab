package engine

import (
	"time"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/store"
	"github.com/grapnelhq/grapnel/sdk"
)

// SourceObserver sees what one source's pipeline does. Its methods are called on the way of every request, from several
// goroutines: they must not block.
type SourceObserver interface {
	// Decoded: a call to the decoder was answered.
	Decoded(requests int, took time.Duration)
	// DecodeFailed: a call to the decoder got no answer; its requests are decoded again.
	DecodeFailed()
	// Routed: the events of a batch ran through the routes, before its commit.
	Routed(took time.Duration)
	// Matched: so many events of a committed request matched a route.
	Matched(route string, events int)
	// Decided: a request was committed, with so many events, of which so many have no delivery; or dead.
	Decided(events, unrouted int, dead bool)
}

// SinkObserver sees what one sink's dispatcher does. What is said of SourceObserver holds here, too.
type SinkObserver interface {
	// Called: a call to the sink was answered.
	Called(deliveries int, took time.Duration)
	// CallFailed: a call to the sink got no answer; its deliveries are called again.
	CallFailed()
	// Attempted: an attempt at a delivery ended.
	Attempted(outcome sdk.OutcomeKind)
	// Settled: it was committed that a delivery ended in a state. d is as it was before.
	Settled(d *core.Delivery, state core.DeliveryState)
}

// unobserved observes nothing.
type unobserved struct{}

func (unobserved) Decoded(int, time.Duration)                 {}
func (unobserved) DecodeFailed()                              {}
func (unobserved) Routed(time.Duration)                       {}
func (unobserved) Matched(string, int)                        {}
func (unobserved) Decided(int, int, bool)                     {}
func (unobserved) Called(int, time.Duration)                  {}
func (unobserved) CallFailed()                                {}
func (unobserved) Attempted(sdk.OutcomeKind)                  {}
func (unobserved) Settled(*core.Delivery, core.DeliveryState) {}

// observe tells of committed decisions. The deliveries of an event stand together, and so do those of a route.
func (c *sourceConf) observe(ds []*store.Decision) {
	for _, dec := range ds {
		if dec.Stale {
			continue
		}
		matched, routed := 0, 0
		for i, d := range dec.Deliveries {
			if i > 0 {
				before := dec.Deliveries[i-1]
				if d.Event == before.Event && d.Route == before.Route {
					continue
				}
				if d.Event != before.Event {
					routed++
				}
				if d.Route != before.Route {
					c.Observer.Matched(before.Route, matched)
					matched = 0
				}
			} else {
				routed = 1
			}
			matched++
		}
		if n := len(dec.Deliveries); n > 0 {
			c.Observer.Matched(dec.Deliveries[n-1].Route, matched)
		}
		c.Observer.Decided(len(dec.Events), len(dec.Events)-routed, dec.Dead != "")
	}
}

// observe tells of committed settlements.
func (s *settled) observe() {
	for i := range s.settlements {
		if state := s.settlements[i].State; state.Settled() {
			s.conf.Observer.Settled(s.deliveries[i], state)
		}
	}
}
