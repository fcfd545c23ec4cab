package admin

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/admin/sse"
	"github.com/grapnelhq/grapnel/core/store"
)

const (
	tailKept    = 2048        // changes that are kept for who comes back
	tailAhead   = 512         // changes that a watcher may be behind
	tailClients = 64          // watchers at a time
	tailLinger  = time.Minute // changes are kept for so long after the last watcher has left
)

// Errors of a tail.
var (
	ErrTailSlow = errors.New("too slow: more has changed than is kept for one watcher; come back with the last id")
	ErrTailFull = fmt.Errorf("there are %d watchers already", tailClients)
)

// Change is something that has changed. At most one of Request, Delivery and Rejection is set.
type Change struct {
	ID   string    `json:"id"`   // for who comes back: Last-Event-ID
	Kind string    `json:"kind"` // ready, missed, request, delivery, rejection
	At   time.Time `json:"at"`

	Request   *Request   `json:"request,omitempty"`   // new or in another state, as in a list
	Delivery  *Delivery  `json:"delivery,omitempty"`  // likewise; after each attempt, too
	Rejection *Rejection `json:"rejection,omitempty"` // of a request that was not stored; without its number
}

// Kinds of changes. The first of a tail is ChangeReady: all that changes from its id on follows. Or it is ChangeMissed:
// so does all from now on, but what changed since the id that was asked for is not known any more.
const (
	ChangeReady     = "ready"
	ChangeMissed    = "missed"
	ChangeRequest   = "request"
	ChangeDelivery  = "delivery"
	ChangeRejection = "rejection"
)

// Tail tells watchers what changes in a store. Without any it costs one atomic read per change. Its methods may be called
// from any number of goroutines.
type Tail struct {
	on atomic.Bool // there are watchers, or were a moment ago

	mu       sync.Mutex
	epoch    string // of the ids: another one after a restart, or a pause
	next     int64  // number of the next change
	kept     []Change
	watchers map[*watcher]struct{}
	off      *time.Timer // nil: somebody watches, or on is not set
}

type watcher struct {
	changes chan Change // closed when it was too slow
}

// NewTail makes a tail that nobody watches.
func NewTail() *Tail { return &Tail{watchers: map[*watcher]struct{}{}} }

// Watch calls report with every change from now on, or from behind the one with the id after, from the caller's goroutine,
// until ctx ends or report fails. ErrTailSlow: report took too long, too often. ErrTailFull: too many watch.
func (t *Tail) Watch(ctx context.Context, after string, report func(Change) error) error {
	w, before, err := t.join(after)
	if err != nil {
		return err
	}
	defer t.leave(w)
	for _, c := range before {
		if err := report(c); err != nil {
			return err
		}
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case c, ok := <-w.changes:
			if !ok {
				return ErrTailSlow
			}
			if err := report(c); err != nil {
				return err
			}
		}
	}
}

// join begins to watch and returns what changed since.
func (t *Tail) join(after string) (*watcher, []Change, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.watchers) >= tailClients {
		return nil, nil, ErrTailFull
	}
	if t.off != nil {
		t.off.Stop()
		t.off = nil
	}
	if !t.on.Load() {
		t.epoch, t.next, t.kept = rand.Text()[:8], 1, nil
		t.on.Store(true)
	}
	w := &watcher{changes: make(chan Change, tailAhead)}
	t.watchers[w] = struct{}{}
	return w, t.since(after), nil
}

// since is what a watcher is told first: where it is, and what is kept from behind a change. The caller holds t.mu.
func (t *Tail) since(after string) []Change {
	begin := Change{ID: t.id(t.next - 1), Kind: ChangeReady, At: time.Now()}
	if after == "" {
		return []Change{begin}
	}
	first := t.next - int64(len(t.kept))
	epoch, number, _ := strings.Cut(after, "-")
	if n, err := strconv.ParseInt(number, 10, 64); err == nil && epoch == t.epoch && n >= first-1 && n < t.next {
		begin.ID = t.id(n)
		return append([]Change{begin}, t.kept[n+1-first:]...)
	}
	begin.Kind = ChangeMissed
	return []Change{begin}
}

func (t *Tail) id(n int64) string { return t.epoch + "-" + strconv.FormatInt(n, 10) }

func (t *Tail) leave(w *watcher) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.watchers, w)
	t.rest()
}

// rest has the changes forgotten some time after the last watcher has left. The caller holds t.mu.
func (t *Tail) rest() {
	if len(t.watchers) > 0 || t.off != nil || !t.on.Load() {
		return
	}
	var timer *time.Timer
	timer = time.AfterFunc(tailLinger, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.off == timer { // nobody came back
			t.on.Store(false)
			t.off, t.kept = nil, nil
		}
	})
	t.off = timer
}

// publish passes changes on. It never waits for a watcher.
func (t *Tail) publish(cs []Change) {
	if len(cs) == 0 {
		return
	}
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range cs {
		c.ID, c.At = t.id(t.next), now
		t.next++
		if len(t.kept) >= 2*tailKept { // in halves, lest each change moves all
			t.kept = append(t.kept[:0], t.kept[len(t.kept)-tailKept:]...)
		}
		t.kept = append(t.kept, c)
		for w := range t.watchers {
			select {
			case w.changes <- c:
			default:
				close(w.changes)
				delete(t.watchers, w)
				t.rest()
			}
		}
	}
}

// Accepted tells of requests that are received, new or again. The store's writer calls it: it takes no time.
func (t *Tail) Accepted(rs []*core.Request) {
	if !t.on.Load() {
		return
	}
	cs := make([]Change, len(rs))
	for i, r := range rs {
		cs[i] = changedRequest(r, core.RequestReceived, "", nil)
	}
	t.publish(cs)
}

// changedRequest takes nothing of a request that changes: others may be at it.
func changedRequest(r *core.Request, state core.RequestState, reason string, notes []string) Change {
	return Change{Kind: ChangeRequest, Request: &Request{
		ID: r.ID(), Seq: r.Seq, Source: r.Source, Tenant: r.Tenant, ReceivedAt: r.ReceivedAt, State: string(state),
		Reason: reason, Notes: notes, RemoteAddr: r.RemoteAddr, Method: r.Method, Query: r.Query, TraceID: r.Trace.ID(),
	}}
}

// changedDelivery likewise takes what never changes of d, and what to be says of the rest.
func changedDelivery(d *core.Delivery, be core.Delivery) Change {
	be.Key, be.ID, be.Route, be.Sink, be.OrderKey, be.ReceivedAt = d.Key, d.ID, d.Route, d.Sink, d.OrderKey, d.ReceivedAt
	be.ReplayOf, be.Force, be.Event, be.Trace = d.ReplayOf, d.Force, d.Event, d.Trace
	v := viewDelivery(&be)
	return Change{Kind: ChangeDelivery, Delivery: &v}
}

// Store is s for those who change it, watched.
func (t *Tail) Store(s store.Store) store.Store { return &tailed{s, t} }

// tailed is a store that tells of what is changed through it.
type tailed struct {
	store.Store
	tail *Tail
}

// Route implements store.Store.
func (s *tailed) Route(ctx context.Context, ds []*store.Decision) error {
	err := s.Store.Route(ctx, ds)
	if err != nil || !s.tail.on.Load() {
		return err
	}
	var cs []Change
	for _, dec := range ds {
		switch {
		case dec.Stale:
			continue
		case dec.Dead != "":
			cs = append(cs, changedRequest(dec.Request, core.RequestDead, dec.Dead, dec.Notes))
			continue
		case dec.Retry:
			continue // it is received as before
		}
		cs = append(cs, changedRequest(dec.Request, core.RequestRouted, "", dec.Notes))
		for _, d := range dec.Deliveries {
			be := core.Delivery{State: d.State, Due: d.Due, Reason: d.Reason, RouteRange: d.RouteRange}
			if d.State == core.DeliveryDead {
				be.SettledAt = time.Now()
			}
			cs = append(cs, changedDelivery(d, be))
		}
	}
	s.tail.publish(cs)
	return nil
}

// Settle implements store.Store.
func (s *tailed) Settle(ctx context.Context, ss []store.Settlement) error {
	err := s.Store.Settle(ctx, ss)
	if err != nil || !s.tail.on.Load() {
		return err
	}
	var cs []Change
	for i := range ss {
		st := &ss[i]
		if st.Of == nil {
			continue
		}
		be := core.Delivery{
			State: st.State, Due: st.Due, Crashes: st.Crashes, Reason: st.Reason, AttributePath: st.AttributePath,
			Reference: st.Reference, RouteRange: st.RouteRange,
		}
		if a := st.Attempt; a != nil {
			be.Attempts = a.Number
			if !st.Charge {
				be.Attempts--
			}
		}
		if st.State.Settled() {
			be.SettledAt = time.Now()
		}
		cs = append(cs, changedDelivery(st.Of, be))
	}
	s.tail.publish(cs)
	return nil
}

// Redo implements store.Store.
func (s *tailed) Redo(ctx context.Context, rs []*store.Redo) error {
	err := s.Store.Redo(ctx, rs)
	if err != nil || !s.tail.on.Load() {
		return err
	}
	var cs []Change
	for _, r := range rs {
		if !r.Done {
			continue
		}
		be := core.Delivery{State: r.As.State, Reason: r.As.Reason, RouteRange: r.As.RouteRange, AsIs: r.As.AsIs}
		if r.ReplayID == "" {
			cs = append(cs, changedDelivery(r.Of, be))
			continue
		}
		was := core.Delivery{State: r.Of.State, Reason: r.Of.Reason, Attempts: r.Of.Attempts, SettledAt: r.Of.SettledAt}
		if was.State == core.DeliveryDead {
			was.State = core.DeliverySkipped
		}
		was.ReplayedBy = r.ReplayID
		cs = append(cs, changedDelivery(r.Of, was))
		replay := *r.Of
		replay.ID, replay.Key, replay.ReplayOf, replay.Force = r.ReplayID, 0, r.Of.ID, r.As.Force // its key is the store's
		cs = append(cs, changedDelivery(&replay, be))
	}
	s.tail.publish(cs)
	return nil
}

// SkipDeliveries implements store.Store.
func (s *tailed) SkipDeliveries(ctx context.Context, ids []string, reason string) ([]*core.Delivery, error) {
	ds, err := s.Store.SkipDeliveries(ctx, ids, reason)
	if s.tail.on.Load() {
		cs := make([]Change, len(ds))
		for i, d := range ds {
			cs[i] = changedDelivery(d, *d)
		}
		s.tail.publish(cs)
	}
	return ds, err
}

// RecordRejection implements store.Store.
func (s *tailed) RecordRejection(r core.Rejection) {
	s.Store.RecordRejection(r)
	if s.tail.on.Load() {
		v := viewRejection(r)
		s.tail.publish([]Change{{Kind: ChangeRejection, Rejection: &v}})
	}
}

// Tail implements Control.
func (c *Direct) Tail(ctx context.Context, after string, report func(Change) error) error {
	if c.Changes == nil {
		return ErrNotRunning
	}
	return c.Changes.Watch(ctx, after, report)
}

// Tail implements Control.
func (c *Client) Tail(ctx context.Context, after string, report func(Change) error) error {
	resp, err := c.open(ctx, http.MethodGet, "tail?"+url.Values{"after": {after}}.Encode(), nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var stopped error
	err = sse.Read(resp.Body, func(event, data string) error {
		var ch Change
		if event == "dropped" {
			stopped = ErrTailSlow
		} else if err := json.Unmarshal([]byte(data), &ch); err != nil {
			stopped = fmt.Errorf("control API: %w", err)
		} else {
			stopped = report(ch)
		}
		return stopped
	})
	if stopped == nil {
		err = fmt.Errorf("control API: the host went away: %w", err)
	}
	return err
}

// tailFields are the parameters of a tail.
func tailFields(after *string) []field { return []field{text("after", after)} }

// handleTail answers with server-sent events until the client goes away.
func handleTail(c Control, w http.ResponseWriter, r *http.Request) {
	l := newLines(w)
	var after string
	if err := parse(r.URL.Query(), tailFields(&after)); err != nil {
		l.fail(badRequest{err})
		return
	}
	if last := r.Header.Get("Last-Event-ID"); last != "" {
		after = last // of a browser that comes back by itself, to the address of its first visit
	}
	s := sse.Answer(w)
	err := s.Beat(r.Context(), func(ctx context.Context) error {
		return c.Tail(ctx, after, func(ch Change) error {
			b, err := json.Marshal(ch)
			if err != nil {
				return err
			}
			return s.Send(ch.ID, ch.Kind, b)
		})
	})
	switch {
	case errors.Is(err, ErrTailSlow):
		b, _ := json.Marshal(failure{err.Error()}) // of two texts
		_ = s.Send("", "dropped", b)
	case err != nil && !s.Begun() && r.Context().Err() == nil:
		l.fail(err)
	}
}
