package engine

import (
	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/store"
)

// Tracer follows requests and deliveries whose Trace is set. Its methods are called on the way of every one of them, from
// several goroutines: they must not block. Each returns what is to be called when the step it begins has ended, or nil.
type Tracer interface {
	// Decoding: requests go to their source's decoder in one call. It sets their CallTrace. The call ends with its results, or
	// an error.
	Decoding(source string, rs []*core.Request) func([]core.Decoded, error)
	// Routing: the events of decoded requests are routed and committed, or not.
	Routing(source string, rs []*core.Request) func(ds []*store.Decision, committed bool)
	// Delivering: deliveries go to their sink in one call. It sets their CallTrace. The call ends with their outcomes, or an
	// error.
	Delivering(sink string, ds []*core.Delivery) func([]core.Outcome, error)
}

// decoding begins to trace a call to the decoder; nil: nothing of it is traced.
func (s *Source) decoding(rs []*core.Request) func([]core.Decoded, error) {
	if s.Tracer == nil {
		return nil
	}
	return s.Tracer.Decoding(s.Name, rs)
}

// routing begins to trace the routing of a batch; nil: nothing of it is traced.
func (s *Source) routing(rs []*core.Request) func([]*store.Decision, bool) {
	if s.Tracer == nil {
		return nil
	}
	return s.Tracer.Routing(s.Name, rs)
}

// delivering begins to trace a call to the sink; nil: nothing of it is traced.
func (s *Sink) delivering(ds []*core.Delivery) func([]core.Outcome, error) {
	if s.Tracer == nil {
		return nil
	}
	return s.Tracer.Delivering(s.Name, ds)
}
