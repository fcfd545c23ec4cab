// Package dryrun runs requests through a configuration without a store and without sinks: it decodes and routes as the
// engine does, and returns what would be stored instead of storing it. The commands that explain, test and compare
// configurations stand on it.
package dryrun

import (
	"context"
	"fmt"
	"time"

	"github.com/grapnelhq/grapnel/core"
)

// Decoder is a source's decoder, as the engine asks for it.
type Decoder interface {
	Decode(ctx context.Context, rs []*core.Request) ([]core.Decoded, error)
	WaitReady(ctx context.Context) error
}

// Router turns an event into deliveries, appended to dst, as the engine asks for it.
type Router interface {
	Route(dst []*core.Delivery, r *core.Request, ev *core.Event) ([]*core.Delivery, error)
}

// Source is an enabled source of the configuration.
type Source struct {
	Name    string
	Decoder Decoder
	Router  Router // of this source alone
}

// Result is what would become of one request.
type Result struct {
	Request *core.Request
	Events  []core.Event
	// Deliveries of all events, in order, with id, message, order key and digests. One is dead, with Reason and
	// RouteRange, where its route fails on the event.
	Deliveries []*core.Delivery
	Refusal    string   // not empty: the request would be dead, for this reason, and there are no events
	NoSource   bool     // the configuration has no such source: the request would wait
	Notes      []string // what the decoder remarked
}

// Unrouted reports whether an event of the result has no delivery.
func (r *Result) Unrouted(event int) bool {
	for _, d := range r.Deliveries {
		if d.Event.Index == event {
			return false
		}
	}
	return true
}

// The bounds of one call to a decoder; how often it may be not available, one time after the other, and for how long: a
// host would wait for ever, a command must say what is wrong.
const (
	batchRequests = 256
	batchBytes    = 8 << 20
	maxFailures   = 5
	patience      = 20 * time.Second
)

// Runner runs requests. It is used from one goroutine at a time.
type Runner struct {
	sources map[string]Source
}

// New makes a runner. Whoever opened the decoders closes them.
func New(sources []Source) *Runner {
	r := &Runner{sources: make(map[string]Source, len(sources))}
	for _, s := range sources {
		r.sources[s.Name] = s
	}
	return r
}

// Run returns one result per request, in order: the same for the same requests, however they are cut into calls of Run.
// The results are in memory together, so a caller with many requests makes several calls; a few hundred are best.
// Requests are not changed and need no sequence. The error says that nothing is known: ctx ended, or a decoder does not
// work.
func (r *Runner) Run(ctx context.Context, requests []*core.Request) ([]Result, error) {
	results := make([]Result, len(requests))
	bySource := map[string][]int{}
	var order []string // of first appearance, so that calls to decoders are always the same
	for i, q := range requests {
		results[i].Request = q
		if _, ok := r.sources[q.Source]; !ok {
			results[i].NoSource = true
			continue
		}
		if bySource[q.Source] == nil {
			order = append(order, q.Source)
		}
		bySource[q.Source] = append(bySource[q.Source], i)
	}
	for _, name := range order {
		s := r.sources[name]
		for open := bySource[name]; len(open) > 0; {
			n, bytes := 0, 0
			for n < len(open) && n < batchRequests && (n == 0 || bytes+len(requests[open[n]].Body) <= batchBytes) {
				bytes += len(requests[open[n]].Body)
				n++
			}
			if err := s.run(ctx, results, open[:n]); err != nil {
				return nil, fmt.Errorf("source %q: %w", name, err)
			}
			open = open[n:]
		}
	}
	return results, nil
}

// run decodes and routes the requests at some indexes.
func (s *Source) run(ctx context.Context, results []Result, at []int) error {
	requests := make([]*core.Request, len(at))
	for i, k := range at {
		requests[i] = results[k].Request
	}
	decoded, err := s.decode(ctx, requests)
	if err != nil {
		return err
	}
	for i, k := range at {
		res := &results[k]
		res.Notes = decoded[i].Notes
		if res.Deliveries, res.Refusal = core.Decide(res.Request, &decoded[i], s.Router.Route); res.Refusal == "" {
			res.Events = decoded[i].Events
		}
	}
	return nil
}

// decode answers for every request. One that kills the decoder when it is alone with it is refused, as the host does.
func (s *Source) decode(ctx context.Context, requests []*core.Request) ([]core.Decoded, error) {
	decoded, err := s.ask(ctx, requests)
	if err != nil {
		return nil, err
	}
	for i := range decoded {
		if !decoded[i].Crashed {
			continue
		}
		again := *requests[i] // with crashes it goes straight to quarantine
		for again.Crashes = 1; decoded[i].Crashed && again.Crashes < core.MaxCrashes; again.Crashes++ {
			alone, err := s.ask(ctx, []*core.Request{&again})
			if err != nil {
				return nil, err
			}
			decoded[i] = alone[0]
		}
		if d := &decoded[i]; d.Crashed {
			d.Crashed, d.Refused = false, core.CrashedTooOften(again.Crashes, d.Refused)
		}
	}
	return decoded, nil
}

// ask calls the decoder until it answers, a few times at most.
func (s *Source) ask(ctx context.Context, requests []*core.Request) ([]core.Decoded, error) {
	for failures := 1; ; failures++ {
		decoded, err := s.Decoder.Decode(ctx, requests)
		if err == nil && len(decoded) != len(requests) {
			err = fmt.Errorf("%d results for %d requests", len(decoded), len(requests))
		}
		if err == nil {
			return decoded, nil
		}
		if ctx.Err() != nil || failures == maxFailures {
			return nil, err
		}
		wait, cancel := context.WithTimeout(ctx, patience)
		ready := s.Decoder.WaitReady(wait)
		cancel()
		if ready != nil {
			return nil, err // what the decoder said; that the wait was in vain says less
		}
	}
}
