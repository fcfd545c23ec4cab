package admin

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/store"
)

// Control is what people can ask and do. Direct does it on a store, Client asks a running host for it. Errors about things
// that do not exist wrap store.ErrNotFound. All methods may be called from any number of goroutines.
type Control interface {
	Status(ctx context.Context) (Status, error)
	// Rates tells what happened in the last hour. Without a running host: ErrNotRunning.
	Rates(ctx context.Context) (Rates, error)
	// Reload loads the configuration again and tells what came of it, a mistake in it included. Reloads lists what was loaded,
	// the newest first, and Config shows what runs. Without a running host: ErrNotRunning.
	Reload(ctx context.Context) (Reload, error)
	Reloads(ctx context.Context) (Page[Reload], error)
	Config(ctx context.Context) (Config, error)
	Requests(ctx context.Context, f store.RequestFilter) (Page[Request], error)
	// SearchRequests looks for a text in bodies, newest first, and reports what it finds and how far it has come from the
	// caller's goroutine; report may be nil. The end of ctx stops it.
	SearchRequests(ctx context.Context, o SearchOrder, report func(SearchReport)) (SearchProgress, error)
	Request(ctx context.Context, id string) (Request, error)
	Body(ctx context.Context, id string) (RawBody, error) // of a request
	// Export reads requests with their bodies, oldest first, in pages.
	Export(ctx context.Context, f store.RequestFilter) (Page[Request], error)
	Events(ctx context.Context, f store.EventFilter) (Page[ListedEvent], error)
	Event(ctx context.Context, id string) (EventDetail, error)
	Deliveries(ctx context.Context, f store.DeliveryFilter) (Page[Delivery], error)
	Delivery(ctx context.Context, id string) (Delivery, error)
	SkipDeliveries(ctx context.Context, ids []string, reason string) (Page[Delivery], error) // those that changed
	PauseSink(ctx context.Context, sink, reason string) error
	ResumeSink(ctx context.Context, sink string) (changed bool, err error) // false: nothing kept it from work

	// Upgrade puts another program of a plugin in the place of the one that runs, and reports from the caller's goroutine;
	// report may be nil. The end of ctx takes it back, until its trial is over. Without a running host: ErrNotRunning.
	Upgrade(ctx context.Context, o UpgradeOrder, report func(UpgradeProgress)) (Upgraded, error)

	// Explain says what the routes that run do with a stored request, named by its id or that of an event or delivery of it,
	// and why; ExplainRequest what would become of another one. Without a running host: ErrNotRunning.
	Explain(ctx context.Context, id string) (Explanation, error)
	ExplainRequest(ctx context.Context, r GivenRequest) (Explanation, error)

	// Tail reports what changes, from now on or from behind an earlier change, until ctx ends or report fails; see Tail.Watch.
	// It reports from the caller's goroutine. Without a running host: ErrNotRunning.
	Tail(ctx context.Context, after string, report func(Change) error) error

	// Alerts tells where each alert stands. TestAlert sends a message of one that says it is a test. Without a running host:
	// ErrNotRunning.
	Alerts(ctx context.Context) (Page[Alert], error)
	TestAlert(ctx context.Context, name string) (AlertTest, error)

	Rejections(ctx context.Context, f store.RejectionFilter) (Page[Rejection], error)
	Rejection(ctx context.Context, id int64) (Rejection, error)

	// Erase removes what an order says, for good, and reports from the caller's goroutine; report may be nil. What it has
	// begun it ends, even if this call does not see it. PreviewErase tells what it would remove.
	Erase(ctx context.Context, o EraseOrder, report func(EraseProgress)) (Receipt, error)
	PreviewErase(ctx context.Context, o EraseOrder) (ErasePreview, error)
	Receipts(ctx context.Context, cursor string, limit int) (Page[Receipt], error)
	Receipt(ctx context.Context, id int64) (Receipt, error)

	// Backup has a copy of the database made, and reports from the caller's goroutine; report may be nil. The end of ctx stops
	// it, and nothing is left of it.
	Backup(ctx context.Context, o BackupOrder, report func(store.BackupProgress)) (store.Backup, error)

	// Retries and replays work in small steps and report, from the caller's goroutine, after each: single deliveries or
	// requests as Item, and Progress. report may be nil. The tally is how far they came, after an error as well. What is
	// begun again after that goes on where it ended: nothing is retried or replayed twice.
	RetryRequests(ctx context.Context, o RequestOrder, report func(Report)) (Tally, error)
	RetryDeliveries(ctx context.Context, o DeliveryOrder, report func(Report)) (Tally, error)
	ReplayDeliveries(ctx context.Context, o DeliveryOrder, report func(Report)) (Tally, error)
}

// Direct is the Control of a store. Its fields are not changed after its first use.
type Direct struct {
	Store store.Store
	// Renderer returns a renderer of the routes as they are now, for retries and replays.
	Renderer func(ctx context.Context) (Renderer, error)

	// Set where a host runs, and nil otherwise.
	Engine    Engine
	Describe  func(*Status) // completes the status
	Upgrader  Upgrader
	Rater     func() Rates // of the last hour
	Changes   *Tail
	Reloader  Reloader
	Explainer Explainer
	Alerting  Alerting
}

// Engine is what a running host's deliveries go through.
type Engine interface {
	Wake(sink string) // it has new work in the store
	Pause(sink, why string)
	Resume(sink string) bool // whether anything kept it from work
}

var _ Control = (*Direct)(nil)

// Status implements Control.
func (c *Direct) Status(ctx context.Context) (Status, error) {
	stats, err := c.Store.Stats(ctx)
	if err != nil {
		return Status{}, err
	}
	s := Status{Stats: stats}
	if c.Describe != nil {
		c.Describe(&s)
		oldest, err := c.Store.OldestWaiting(ctx, "")
		for i := range s.Sinks {
			if at, ok := oldest[s.Sinks[i].Sink]; ok {
				s.Sinks[i].OldestAt = &at
			}
		}
		return s, err
	}
	kept, err := c.Store.Sinks(ctx)
	for _, name := range slices.Sorted(maps.Keys(kept)) {
		if k := kept[name]; !k.PausedAt.IsZero() {
			s.Sinks = append(s.Sinks, SinkStatus{Sink: name, State: "paused", Reason: k.PauseReason})
		}
	}
	return s, err
}

// Requests implements Control.
func (c *Direct) Requests(ctx context.Context, f store.RequestFilter) (Page[Request], error) {
	rs, next, err := c.Store.ListRequests(ctx, f)
	return viewAll(rs, next, viewRequest), err
}

// Request implements Control.
func (c *Direct) Request(ctx context.Context, id string) (Request, error) {
	d, err := c.Store.GetRequest(ctx, id)
	if err != nil {
		return Request{}, err
	}
	v := viewRequest(d.Request)
	for i := range d.Events {
		v.Events = append(v.Events, viewEvent(&d.Events[i]))
	}
	for _, dl := range d.Deliveries {
		v.Deliveries = append(v.Deliveries, viewDelivery(dl))
	}
	return v, nil
}

// Events implements Control.
func (c *Direct) Events(ctx context.Context, f store.EventFilter) (Page[ListedEvent], error) {
	es, next, err := c.Store.ListEvents(ctx, f)
	return viewAll(es, next, viewListed), err
}

// Event implements Control.
func (c *Direct) Event(ctx context.Context, id string) (EventDetail, error) {
	key, repeat, _, err := core.ParseEventID(id)
	if err != nil {
		return EventDetail{}, fmt.Errorf("%w: %w", store.ErrNotFound, err)
	}
	rd, err := c.Store.GetRequest(ctx, core.RequestID(key, repeat))
	if err != nil {
		return EventDetail{}, err
	}
	for i := range rd.Events {
		if rd.Events[i].ID != id {
			continue
		}
		v := EventDetail{viewEvent(&rd.Events[i]), rd.Request.ID(), rd.Request.ReceivedAt, []Delivery{}}
		for _, d := range rd.Deliveries {
			if d.Event.ID == id {
				v.Deliveries = append(v.Deliveries, viewDelivery(d))
			}
		}
		return v, nil
	}
	return EventDetail{}, fmt.Errorf("%s: %w", id, store.ErrNotFound)
}

// Deliveries implements Control.
func (c *Direct) Deliveries(ctx context.Context, f store.DeliveryFilter) (Page[Delivery], error) {
	ds, next, err := c.Store.ListDeliveries(ctx, f)
	return viewAll(ds, next, viewDelivery), err
}

// Delivery implements Control.
func (c *Direct) Delivery(ctx context.Context, id string) (Delivery, error) {
	d, err := c.Store.GetDelivery(ctx, id)
	if err != nil {
		return Delivery{}, err
	}
	v := viewDelivery(d.Delivery)
	v.WaitsFor = d.WaitsFor
	v.History = viewAttempts(d.Attempts)
	if d.Delivery.Event != nil {
		e := viewEvent(d.Delivery.Event)
		v.Event = &e
	}
	return v, nil
}

// wake tells the engine which sinks have new work.
func (c *Direct) wake(ds []*core.Delivery) {
	if c.Engine == nil {
		return
	}
	woken := map[string]bool{}
	for _, d := range ds {
		if !woken[d.Sink] {
			woken[d.Sink] = true
			c.Engine.Wake(d.Sink)
		}
	}
}

// Rejections implements Control.
func (c *Direct) Rejections(ctx context.Context, f store.RejectionFilter) (Page[Rejection], error) {
	rs, next, err := c.Store.ListRejections(ctx, f)
	return viewAll(rs, next, viewRejection), err
}

// Rejection implements Control.
func (c *Direct) Rejection(ctx context.Context, id int64) (Rejection, error) {
	r, err := c.Store.GetRejection(ctx, id)
	if err != nil {
		return Rejection{}, err
	}
	return viewRejection(r), nil
}
