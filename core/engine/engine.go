// Package engine moves accepted requests through the host: it has them decoded, routes their events, and dispatches the
// deliveries to their sinks.
//
// Each source has one pipeline and each sink one dispatcher; they share nothing that a slow one could fill.
//
//	            per source                                            per sink
//	store ──► inbox ──► decode (2 batches in flight) ──► route ──► commit ──► ready ──► call ──► outcome ──► commit
//	  ▲         in accept order, reordered behind decode            │           ▲
//	  └─────────────────── what does not fit in memory stays in the store ──────┘ claim
//
// The store is the truth. What is in memory is a bounded window on it: when the window is full, or when a delivery has to
// wait, it is left to the store, the dispatcher is behind, and it claims from the store until nothing is left there.
package engine

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/store"
)

// Store is what the engine needs of the store; package store documents the methods.
type Store interface {
	Route(ctx context.Context, ds []*store.Decision) error
	Settle(ctx context.Context, ss []store.Settlement) error
	Release(ctx context.Context, keys []core.DeliveryKey) error
	ClaimRequests(ctx context.Context, source string, after int64, limit int) ([]*core.Request, error)
	ClaimDeliveries(ctx context.Context, sink string, now time.Time, limit int, hold bool) (
		[]*core.Delivery, store.Backlog, error)
	KeyState(ctx context.Context, sink, orderKey string) ([]byte, error)
	SaveActive(ctx context.Context, sink string, active time.Duration) error
}

// Decoder is a source's decoder. Decode answers with one result per request, in order. Its error means that nothing is
// known about any of them and nobody is charged; WaitReady then returns when another try makes sense.
type Decoder interface {
	Decode(ctx context.Context, rs []*core.Request) ([]core.Decoded, error)
	WaitReady(ctx context.Context) error
}

// Deliverer is a sink's plugin. Deliver answers with one outcome per delivery, in order; its error is as Decoder's.
type Deliverer interface {
	Deliver(ctx context.Context, ds []*core.Delivery) ([]core.Outcome, error)
	WaitReady(ctx context.Context) error
}

// Router turns an event into deliveries, appended to dst with key, state and message set. It is used from one goroutine.
// An error means that the event cannot be routed for good.
type Router interface {
	Route(dst []*core.Delivery, r *core.Request, ev *core.Event) ([]*core.Delivery, error)
}

// Source configures one pipeline.
type Source struct {
	Name    string
	Decoder Decoder
	Router  Router // of this source alone
	// Observer sees what the pipeline does; nil: nobody looks.
	Observer SourceObserver
	Tracer   Tracer // nil: nothing is traced
}

// Sink configures one dispatcher.
type Sink struct {
	Name        string
	Plugin      Deliverer
	Concurrency int           // calls in flight, at least 1
	Batch       int           // deliveries per call, at least 1
	Timeout     time.Duration // per call
	Rate        float64       // calls per second; 0: no bound
	Retry       RetryPolicy
	Breaker     BreakerPolicy
	HoldDead    bool // after a dead letter its order key waits
	WantsState  bool
	State       store.SinkState // as the store has it
	// Locate gives file:line,column of an attribute of a route's message, for dead letters; may be nil.
	Locate func(route string, path []string) string
	// Renew brings a delivery that was claimed from the store up to the running configuration: it may replace the message,
	// with Renewed set, or end the delivery: State dead or skipped, and a Reason. An error says that nothing can be said
	// now. One goroutine per sink calls it. May be nil.
	Renew func(ctx context.Context, d *core.Delivery) error
	// Digest is that of the configuration whose routes Renew renders by. A delivery in memory that has another one goes back
	// to the store, to be claimed and renewed. Empty: any will do.
	Digest string
	// Observer sees what the dispatcher does; nil: nobody looks.
	Observer SinkObserver
	Tracer   Tracer // nil: nothing is traced
}

// Options configures an engine.
type Options struct {
	Store   Store
	Sources []Source
	Sinks   []Sink
	Logger  hclog.Logger
}

// Engine runs the pipelines. Accepted may be called as soon as New returned; Run works until its context ends.
type Engine struct {
	log     hclog.Logger
	store   Store
	clock   *clock
	members atomic.Pointer[members]

	mu      sync.Mutex // one change at a time; guards what follows
	running *running   // nil: not yet
	stopped bool
	onHold  bool
	leaving map[string]<-chan struct{} // by kind and name: closed when the last of its kind and name that left has ended
	working sync.WaitGroup
}

// New makes an engine.
func New(o Options) *Engine {
	e := &Engine{log: o.Logger, store: o.Store, clock: newClock(), leaving: map[string]<-chan struct{}{}}
	m := &members{map[string]*pipeline{}, map[string]*dispatcher{}}
	for _, s := range o.Sinks {
		m.sinks[s.Name] = e.newDispatcher(s)
	}
	for _, s := range o.Sources {
		m.sources[s.Name] = e.newPipeline(s)
	}
	e.members.Store(m)
	return e
}

// sinks returns the dispatchers as they are now.
func (e *Engine) sinks() map[string]*dispatcher { return e.members.Load().sinks }

// Accepted takes requests that the store has committed, in sequence order. The store's writer calls it; it does not block.
func (e *Engine) Accepted(rs []*core.Request) {
	sources := e.members.Load().sources
	for _, r := range rs {
		if p := sources[r.Source]; p != nil {
			p.accepted(r)
		}
	}
}

// Wake makes a sink look for deliveries in the store, after a retry.
func (e *Engine) Wake(sink string) {
	if d := e.sinks()[sink]; d != nil {
		d.fallBehind()
	}
}

// Pause stops the calls to a sink until Resume; those under way end as they do. why is shown; an empty one leaves that of
// an earlier Pause.
func (e *Engine) Pause(sink, why string) {
	if d := e.sinks()[sink]; d != nil {
		d.pause(why)
	}
}

// Resume lets the calls to a sink go on, few at first, and reports whether anything kept them: a pause, or failed calls.
func (e *Engine) Resume(sink string) bool {
	d := e.sinks()[sink]
	return d != nil && d.resume()
}

// Hold stops all calls to sinks, or lets them go on. What is under way is not touched.
func (e *Engine) Hold(hold bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.onHold = hold
	for _, d := range e.sinks() {
		d.hold(hold)
	}
}

// Run works until ctx ends, then stops in order: no new calls, the calls in flight get grace to end, their outcomes are
// committed. It returns nil after a stop that was asked for.
func (e *Engine) Run(ctx context.Context, grace time.Duration) error {
	// Calls outlive ctx by grace: work ends at the next safe point after ctx, calls when calls does.
	calls, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	e.mu.Lock()
	e.running = &running{ctx, calls}
	m := e.members.Load()
	for _, d := range m.sinks {
		e.startSink(d)
	}
	for _, p := range m.sources {
		e.startSource(p)
	}
	e.mu.Unlock()
	<-ctx.Done()
	e.mu.Lock()
	e.stopped = true
	e.mu.Unlock()
	stop := time.AfterFunc(grace, func() {
		cancel(fmt.Errorf("the host stops and its grace of %s is over: %w", grace, context.Canceled))
	})
	defer stop.Stop()
	e.working.Wait()
	return nil
}

// Status tells where a sink's dispatcher stands.
type Status struct {
	Sink     string
	State    SinkState
	Reason   string    // paused, suspended, failing: why
	Until    time.Time // suspended, failing: no probe before
	InMemory int       // deliveries held in memory
	InFlight int       // deliveries in calls
	Behind   bool      // deliveries wait in the store
	Breaker  string    // closed, open or probing, also while something else keeps the sink from work
}

// SinkState says whether a sink is called.
type SinkState string

// The states of a sink.
const (
	Working   SinkState = "working"
	Paused    SinkState = "paused"    // by an operator
	Suspended SinkState = "suspended" // by its own wish: its token is revoked, its endpoint gone; probed now and then
	Failing   SinkState = "failing"   // its calls failed one after another; probed now and then
	Down      SinkState = "down"      // its plugin is not there
	OnHold    SinkState = "on hold"   // by the host: the disk is nearly full
)

// Status returns the status of every sink.
func (e *Engine) Status() []Status {
	var all []Status
	for _, d := range e.sinks() {
		all = append(all, d.status())
	}
	return all
}

// sleep waits for d or the end of ctx, and reports whether d passed.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// backoff is the pause before the n-th repetition of something the host itself could not do, from n = 1.
func backoff(n int) time.Duration {
	const first, most = 50 * time.Millisecond, 5 * time.Second
	if n > 8 {
		return most
	}
	return min(first<<(n-1), most)
}
