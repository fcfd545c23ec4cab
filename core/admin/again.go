package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/store"
)

const (
	// againStep is how many deliveries or requests one commit retries or replays: accepts wait for it.
	againStep = 250
	// mostShown is the longest message that is told of.
	mostShown = 64 << 10
	// sampleItems is how many are told of one by one when nobody asks for more.
	sampleItems = 10
	// mostReasons is how many different reasons are counted.
	mostReasons = 20
)

// Renderer renders deliveries anew by the routes of a configuration, from one goroutine. *route.Renderer does.
type Renderer interface {
	Render(d *core.Delivery, req *core.Request)
}

// DeliveryOrder asks for deliveries to be retried or replayed: those with the ids or, without ids, those that the filter
// matches.
type DeliveryOrder struct {
	IDs    []string
	Filter store.DeliveryFilter // without Cursor and Limit
	AsIs   bool                 // with the message that is stored, instead of one rendered by the routes as they are now
	Force  bool                 // replay: the sink is to apply it even if something newer was
	DryRun bool                 // nothing is changed: the tally says what would be
	Items  int                  // how many are told of one by one; 0: a few
}

// RequestOrder asks for dead requests to be retried, likewise.
type RequestOrder struct {
	IDs    []string
	Filter store.RequestFilter // without Unrouted, Cursor and Limit
	DryRun bool
	Items  int
}

// Tally is how far a retry or replay has come.
type Tally struct {
	Selected int      `json:"selected"` // how many it is about
	Seen     int      `json:"seen"`     // how many of them it has come to: the sum of the others
	Done     int      `json:"done"`     // retried or replayed
	Dead     int      `json:"dead"`     // cannot be rendered: a dead letter stays one, with the new reason
	Skipped  int      `json:"skipped"`  // their routes do not send them any more: a dead letter is skipped
	Refused  int      `json:"refused"`  // left as they are
	Reasons  []Reason `json:"reasons,omitempty"`
}

// Reason counts what was not retried or replayed for the same reason.
type Reason struct {
	Outcome    string `json:"outcome"`
	Reason     string `json:"reason"`
	RouteRange string `json:"route_range,omitempty"`
	Count      int    `json:"count"`
	ID         string `json:"id"` // of the first
}

// The outcomes of single deliveries and requests.
const (
	OutcomeRetried  = "retried"
	OutcomeReplayed = "replayed"
	OutcomeDead     = "dead"
	OutcomeSkipped  = "skipped"
	OutcomeRefused  = "refused"
)

// Item tells of one delivery or request.
type Item struct {
	ID         string     `json:"id"`
	Outcome    string     `json:"outcome"`
	ReplayID   string     `json:"replay_id,omitempty"` // of the new delivery; not in a dry run
	Reason     string     `json:"reason,omitempty"`
	RouteRange string     `json:"route_range,omitempty"`
	ReceivedAt *time.Time `json:"received_at,omitempty"`
	Source     string     `json:"source,omitempty"`
	Type       string     `json:"type,omitempty"`
	Subject    string     `json:"subject,omitempty"`
	Route      string     `json:"route,omitempty"`
	Sink       string     `json:"sink,omitempty"`

	// Of a delivery in a dry run, where they are not long: the message that it would get, and the one that it has.
	Message json.RawMessage `json:"message,omitempty"`
	Stored  json.RawMessage `json:"stored,omitempty"`
}

// Report is one line of what a retry or replay says while it works. Exactly one field is set, but for Error, which comes
// with how far it came.
type Report struct {
	Item     *Item  `json:"item,omitempty"`
	Progress *Tally `json:"progress,omitempty"`
	Result   *Tally `json:"result,omitempty"` // the last line
	Error    string `json:"error,omitempty"`  // the last line instead
}

// RetryDeliveries implements Control.
func (c *Direct) RetryDeliveries(ctx context.Context, o DeliveryOrder, report func(Report)) (Tally, error) {
	return c.again(ctx, o, false, report)
}

// ReplayDeliveries implements Control.
func (c *Direct) ReplayDeliveries(ctx context.Context, o DeliveryOrder, report func(Report)) (Tally, error) {
	return c.again(ctx, o, true, report)
}

func (c *Direct) again(ctx context.Context, o DeliveryOrder, replay bool, report func(Report)) (Tally, error) {
	t := &tally{report: report, items: o.Items, word: OutcomeRetried}
	if replay {
		t.word = OutcomeReplayed
	}
	if len(o.IDs) == 0 && o.Filter == (store.DeliveryFilter{}) {
		return t.Tally, errNothingNamed
	}
	a := &again{Direct: c, order: o, replay: replay, tally: t}
	if !o.AsIs {
		if c.Renderer == nil {
			return t.Tally, errors.New("there is no configuration to render messages by")
		}
		var err error
		if a.renderer, err = c.Renderer(ctx); err != nil {
			return t.Tally, err
		}
	}
	var err error
	if len(o.IDs) > 0 {
		err = a.byID(ctx)
	} else {
		err = a.byFilter(ctx)
	}
	return t.Tally, err
}

var errNothingNamed = badRequest{errors.New("name what is meant: ids, or at least one filter")}

// again is one retry or replay of deliveries under way.
type again struct {
	*Direct
	order    DeliveryOrder
	replay   bool
	renderer Renderer
	tally    *tally
}

func (a *again) byID(ctx context.Context) error {
	ids := distinct(a.order.IDs)
	a.tally.Selected = len(ids)
	for chunk := range slices.Chunk(ids, againStep) {
		found, err := a.Store.FindDeliveries(ctx, chunk)
		if err != nil {
			return err
		}
		left := map[string]bool{}
		for _, id := range chunk {
			left[id] = true
		}
		for _, f := range found {
			delete(left, f.Delivery.ID)
		}
		for _, id := range chunk {
			if left[id] {
				a.tally.add(Item{ID: id, Outcome: OutcomeRefused, Reason: "there is no such delivery"})
			}
		}
		if err := a.step(ctx, found); err != nil {
			return err
		}
	}
	return nil
}

func (a *again) byFilter(ctx context.Context) error {
	mark, err := a.Store.Mark(ctx)
	if err != nil {
		return err
	}
	sel := store.Selection{DeliveryFilter: a.order.Filter, Replay: a.replay, By: mark}
	for after := core.DeliveryKey(0); ; {
		n, next, err := a.Store.CountDeliveries(ctx, sel, after)
		if err != nil {
			return err
		}
		a.tally.Selected += n
		if after = next; next == 0 {
			break
		}
	}
	for after := core.DeliveryKey(0); ; {
		page, next, err := a.Store.SelectDeliveries(ctx, sel, after, againStep)
		if err != nil {
			return err
		}
		if err := a.step(ctx, page); err != nil {
			return err
		}
		if after = next; next == 0 {
			return nil
		}
	}
}

// step retries or replays some deliveries in one commit.
func (a *again) step(ctx context.Context, page []store.Selected) error {
	var redos []*store.Redo
	for _, s := range page {
		if why := a.refuse(s.Delivery); why != "" {
			a.tally.add(a.item(s.Delivery, OutcomeRefused, why))
			continue
		}
		as := *s.Delivery
		as.State, as.AsIs, as.Force = core.DeliveryPending, a.order.AsIs, a.order.Force
		if !a.order.AsIs {
			a.renderer.Render(&as, s.Request)
		}
		if as.State != core.DeliveryPending && s.Delivery.State != core.DeliveryDead { // what it was, it is
			a.tally.add(a.rendered(s.Delivery, &as))
			continue
		}
		redos = append(redos, &store.Redo{Of: s.Delivery, As: &as, Replay: a.replay})
	}
	if !a.order.DryRun {
		if err := ctx.Err(); err != nil {
			return err
		}
		// Once begun it is to be known how it ended.
		if err := a.Store.Redo(context.WithoutCancel(ctx), redos); err != nil {
			return err
		}
	}
	var woken []*core.Delivery
	for _, r := range redos {
		item := a.rendered(r.Of, r.As)
		if a.order.DryRun {
			item.Message, item.Stored = shown(r.As.Message), shown(r.Of.Message)
		}
		if item.ReplayID = r.ReplayID; r.Refused != "" {
			item = a.item(r.Of, OutcomeRefused, r.Refused)
		}
		if r.Done {
			woken = append(woken, r.Of)
		}
		a.tally.add(item)
	}
	a.wake(woken)
	a.tally.progress()
	return ctx.Err()
}

// refuse says why a delivery, whatever the filter says, is none to retry or replay.
func (a *again) refuse(d *core.Delivery) string {
	switch {
	case a.replay && d.ReplayedBy != "":
		return "it was replayed as " + d.ReplayedBy
	case a.replay && !d.State.Settled():
		return fmt.Sprintf("it is %s, and will be delivered", d.State)
	case !a.replay && d.State != core.DeliveryDead:
		return fmt.Sprintf("it is %s, not dead", d.State)
	case a.order.AsIs && d.Message == nil:
		return "its route failed, so it has no message to be delivered as it is"
	}
	return ""
}

// shown is a message that is told of.
func shown(message []byte) json.RawMessage {
	if len(message) > mostShown || !json.Valid(message) {
		return nil
	}
	return message
}

// rendered tells of a delivery that was rendered, or taken as it is.
func (a *again) rendered(d, as *core.Delivery) Item {
	switch as.State {
	case core.DeliveryDead:
		i := a.item(d, OutcomeDead, as.Reason)
		i.RouteRange = as.RouteRange
		return i
	case core.DeliverySkipped:
		return a.item(d, OutcomeSkipped, as.Reason)
	default:
		return a.item(d, a.tally.word, "")
	}
}

func (a *again) item(d *core.Delivery, outcome, reason string) Item {
	i := Item{ID: d.ID, Outcome: outcome, Reason: reason, ReceivedAt: &d.ReceivedAt, Route: d.Route, Sink: d.Sink}
	if d.Event != nil {
		i.Source, i.Type, i.Subject = d.Event.Source, d.Event.Type, d.Event.Subject
	}
	return i
}

// RetryRequests implements Control.
func (c *Direct) RetryRequests(ctx context.Context, o RequestOrder, report func(Report)) (Tally, error) {
	t := &tally{report: report, items: o.Items, word: OutcomeRetried}
	var err error
	switch {
	case len(o.IDs) > 0:
		err = c.retryRequestsByID(ctx, o, t)
	case o.Filter == (store.RequestFilter{}):
		err = errNothingNamed
	default:
		err = c.retryRequestsByFilter(ctx, o, t)
	}
	return t.Tally, err
}

func (c *Direct) retryRequestsByID(ctx context.Context, o RequestOrder, t *tally) error {
	ids := distinct(o.IDs)
	t.Selected = len(ids)
	for chunk := range slices.Chunk(ids, againStep) {
		var dead []*core.Request
		for _, id := range chunk {
			d, err := c.Store.GetRequest(ctx, id)
			switch {
			case errors.Is(err, store.ErrNotFound):
				t.add(Item{ID: id, Outcome: OutcomeRefused, Reason: "there is no such request"})
			case err != nil:
				return err
			case d.Request.State != core.RequestDead:
				t.add(requestItem(d.Request, OutcomeRefused, fmt.Sprintf("it is %s, not dead", d.Request.State)))
			default:
				dead = append(dead, d.Request)
			}
		}
		if err := c.retryRequests(ctx, dead, o.DryRun, t); err != nil {
			return err
		}
	}
	return nil
}

func (c *Direct) retryRequestsByFilter(ctx context.Context, o RequestOrder, t *tally) error {
	pages := func(visit func([]*core.Request) error) error {
		for after := int64(0); ; {
			page, next, err := c.Store.SelectRequests(ctx, o.Filter, after, againStep)
			if err == nil {
				err = visit(page)
			}
			if after = next; err != nil || next == 0 {
				return err
			}
		}
	}
	// What dies meanwhile was received before: it is no part of this.
	var last int64
	if err := pages(func(page []*core.Request) error {
		if t.Selected += len(page); len(page) > 0 {
			last = page[len(page)-1].Seq
		}
		return nil
	}); err != nil {
		return err
	}
	return pages(func(page []*core.Request) error {
		page = slices.DeleteFunc(page, func(r *core.Request) bool { return r.Seq > last })
		return c.retryRequests(ctx, page, o.DryRun, t)
	})
}

func (c *Direct) retryRequests(ctx context.Context, page []*core.Request, dryRun bool, t *tally) error {
	done := map[string]bool{}
	if !dryRun && len(page) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		ids := make([]string, len(page))
		for i, r := range page {
			ids[i] = r.ID()
		}
		retried, err := c.Store.RetryRequests(context.WithoutCancel(ctx), ids)
		if err != nil {
			return err
		}
		for _, r := range retried {
			done[r.ID()] = true
		}
	}
	for _, r := range page {
		if dryRun || done[r.ID()] {
			t.add(requestItem(r, OutcomeRetried, ""))
		} else {
			t.add(requestItem(r, OutcomeRefused, "it has changed meanwhile"))
		}
	}
	t.progress()
	return ctx.Err()
}

func requestItem(r *core.Request, outcome, reason string) Item {
	return Item{ID: r.ID(), Outcome: outcome, Reason: reason, ReceivedAt: &r.ReceivedAt, Source: r.Source}
}

// distinct drops what was named before.
func distinct(ids []string) []string {
	seen := map[string]bool{}
	return slices.DeleteFunc(slices.Clone(ids), func(id string) bool {
		was := seen[id]
		seen[id] = true
		return was
	})
}

// tally counts and reports.
type tally struct {
	Tally
	report func(Report)
	word   string // of what is done
	items  int    // how many to tell of one by one; 0: sampleItems
	told   int
}

func (t *tally) add(i Item) {
	t.Seen++
	switch i.Outcome {
	case OutcomeDead:
		t.Dead++
	case OutcomeSkipped:
		t.Skipped++
	case OutcomeRefused:
		t.Refused++
	default:
		t.Done++
	}
	if i.Outcome != t.word {
		t.count(i)
	}
	most := t.items
	if most == 0 {
		most = sampleItems
	}
	if t.report != nil && t.told < most {
		t.told++
		t.report(Report{Item: &i})
	}
}

func (t *tally) count(i Item) {
	for k := range t.Reasons {
		r := &t.Reasons[k]
		if r.Outcome == i.Outcome && r.Reason == i.Reason && r.RouteRange == i.RouteRange {
			r.Count++
			return
		}
	}
	if len(t.Reasons) < mostReasons {
		t.Reasons = append(t.Reasons, Reason{i.Outcome, i.Reason, i.RouteRange, 1, i.ID})
	}
}

func (t *tally) progress() {
	if t.report != nil {
		now := t.Tally
		now.Reasons = nil
		t.report(Report{Progress: &now})
	}
}
