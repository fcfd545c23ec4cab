package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/expr"
	"github.com/grapnelhq/grapnel/sdk"
)

// Explanation is what becomes of a request, and why. docs/testing.md describes it.
type Explanation struct {
	From           string            `json:"from"` // store, sample, file, request
	Sample         string            `json:"sample,omitempty"`
	Request        *ExplainedRequest `json:"request,omitempty"`
	Authentication Authentication    `json:"authentication"`
	Rejection      *Refusal          `json:"rejection,omitempty"` // not stored, for something else than authentication
	Handshake      *string           `json:"handshake,omitempty"` // not stored: the answer to a test of the endpoint
	Dedupe         *Dedupe           `json:"dedupe,omitempty"`
	Refusal        string            `json:"refusal,omitempty"` // by the decoder: the request is dead
	Notes          []string          `json:"notes,omitempty"`   // of the decoder
	Events         []ExplainedEvent  `json:"events"`
	Disabled       []string          `json:"disabled_routes,omitempty"`
}

// ExplainedRequest is the request as it is, or would be, stored.
type ExplainedRequest struct {
	ID         string       `json:"id"`
	Source     string       `json:"source"`
	Decoder    string       `json:"decoder"`
	Tenant     string       `json:"tenant,omitempty"`
	ReceivedAt time.Time    `json:"received_at"`
	Method     string       `json:"method"`
	Query      string       `json:"query,omitempty"`
	Headers    []sdk.Header `json:"headers,omitempty"`
	Bytes      int          `json:"bytes"` // of the body
}

// Authentication says whether the request is authentic.
type Authentication struct {
	Result  string `json:"result"` // accepted, refused, stored, not_checked, none
	Scheme  string `json:"scheme,omitempty"`
	Secret  *int   `json:"secret,omitempty"`  // accepted: which one, in the order of the configuration, from 0
	Secrets int    `json:"secrets,omitempty"` // how many there are
	Refusal
	Hint  string   `json:"hint,omitempty"`
	Unset []string `json:"unset,omitempty"` // not_checked: what is not there
}

// Refusal is why a request would not be stored.
type Refusal struct {
	Status int    `json:"status,omitempty"`
	Cause  string `json:"cause,omitempty"`
	Detail string `json:"detail,omitempty"`
}

// Dedupe is what makes the request the same as another, and whether it is.
type Dedupe struct {
	Key          string        `json:"key"`
	Alternative  int           `json:"alternative,omitempty"` // of the decoder's, from 1; absent: none, the body decides
	Alternatives int           `json:"alternatives,omitempty"`
	Parts        []sdk.Part    `json:"parts,omitempty"`
	Stored       *StoredBefore `json:"stored,omitempty"`    // the last request with this key
	Duplicate    *bool         `json:"duplicate,omitempty"` // absent: there is no host and no database to ask
}

// StoredBefore is an earlier request with the same dedupe key.
type StoredBefore struct {
	ID         string    `json:"id"`
	State      string    `json:"state"`
	ReceivedAt time.Time `json:"received_at"`
}

// ExplainedEvent is an event with what all routes say.
type ExplainedEvent struct {
	Event
	Unrouted bool             `json:"unrouted"` // no delivery comes of it
	Routes   []ExplainedRoute `json:"routes"`
}

// ExplainedRoute is why a route sends an event, or why not.
type ExplainedRoute struct {
	Route   string `json:"route"`
	Range   string `json:"range,omitempty"` // file:line,column
	Verdict string `json:"verdict"`         // sends; source, type, when: why not; fails: a dead letter for each `to` block

	From    []string        `json:"from,omitempty"` // the sources that it listens to; none: all
	On      []string        `json:"on,omitempty"`   // the types and patterns; none: all
	Matches []string        `json:"matches,omitempty"`
	When    *expr.Step      `json:"when,omitempty"` // only where source and type fit
	Error   *expr.Error     `json:"error,omitempty"`
	Sinks   []string        `json:"sinks,omitempty"` // of its `to` blocks, but for disabled ones
	To      []ExplainedSend `json:"to,omitempty"`    // where it sends, or fails to

	Disabled []string `json:"disabled_sinks,omitempty"` // that the route names and that get nothing
}

// The verdicts of a route.
const (
	VerdictSends  = "sends"
	VerdictSource = "source" // the event's source is not in `from`
	VerdictType   = "type"   // its type matches nothing in `on`
	VerdictWhen   = "when"   // `when` is false
	VerdictFails  = "fails"  // `when` fails
)

// ExplainedSend is what a `to` block makes of an event.
type ExplainedSend struct {
	Sink       string          `json:"sink"`
	Range      string          `json:"range,omitempty"`
	DeliveryID string          `json:"delivery_id"`
	OrderKey   string          `json:"order_key,omitempty"` // empty: no order
	Message    json.RawMessage `json:"message,omitempty"`
	Dead       string          `json:"dead,omitempty"` // why the delivery is dead from the start
	DeadRange  string          `json:"dead_range,omitempty"`
	OrderBy    *expr.Step      `json:"order_by,omitempty"`
	Arguments  []expr.Argument `json:"arguments,omitempty"`
}

// GivenRequest is a request that nobody has sent to the host, to be explained. Without Target it is for the path of its
// source; without Source, its path says which that is.
type GivenRequest struct {
	Source     string       `json:"source,omitempty"`
	Method     string       `json:"method,omitempty"` // default POST
	Target     string       `json:"target,omitempty"` // path and query
	Headers    []sdk.Header `json:"headers,omitempty"`
	Body       string       `json:"body,omitempty"`
	BodyBase64 []byte       `json:"body_base64,omitempty"` // instead, where it is not UTF-8
	At         *time.Time   `json:"received_at,omitempty"` // when it is supposed to come in; default now
}

// Explainer explains by the configuration that runs. Nothing is stored or sent.
type Explainer interface {
	// Stored explains a stored request. Those that were decoded have their events, others nil: they are decoded. only is the id
	// of the event that is asked for; empty: all.
	Stored(ctx context.Context, r *core.Request, events []core.Event, only string) (Explanation, error)
	// Given explains another request. A mistake in it is Mistaken.
	Given(ctx context.Context, r GivenRequest) (Explanation, error)
}

// Explain implements Control.
func (c *Direct) Explain(ctx context.Context, id string) (Explanation, error) {
	if c.Explainer == nil {
		return Explanation{}, ErrNotRunning
	}
	request, event, err := core.Locate(id)
	if err != nil {
		return Explanation{}, badRequest{fmt.Errorf("%q is no id of a request, event or delivery", id)}
	}
	d, err := c.Store.GetRequest(ctx, request)
	if err != nil {
		return Explanation{}, err
	}
	var events []core.Event
	if d.Request.State == core.RequestRouted {
		events = append([]core.Event{}, d.Events...)
	}
	return c.Explainer.Stored(ctx, d.Request, events, event)
}

// ExplainRequest implements Control.
func (c *Direct) ExplainRequest(ctx context.Context, r GivenRequest) (Explanation, error) {
	switch {
	case c.Explainer == nil:
		return Explanation{}, ErrNotRunning
	case r.Body != "" && r.BodyBase64 != nil:
		return Explanation{}, badRequest{fmt.Errorf(`there is both "body" and "body_base64"`)}
	case r.Source == "" && r.Target == "":
		return Explanation{}, badRequest{fmt.Errorf(`"source" or "target" has to say which source it is for`)}
	}
	return c.Explainer.Given(ctx, r)
}

// Mistaken marks an error as the caller's, for who implements what Direct needs.
func Mistaken(err error) error { return badRequest{err} }

// Explain implements Control.
func (c *Client) Explain(ctx context.Context, id string) (v Explanation, err error) {
	err = c.get(ctx, "requests/"+url.PathEscape(id)+"/explanation", "", &v)
	return v, err
}

// ExplainRequest implements Control.
func (c *Client) ExplainRequest(ctx context.Context, r GivenRequest) (v Explanation, err error) {
	err = c.post(ctx, "explain", r, &v)
	return v, err
}

// maxGiven bounds the body of a given request's JSON: that of the largest webhook, in base64 or with escapes.
const maxGiven = 70 << 20

func handleExplain(c Control) func(*http.Request) (any, error) {
	return func(r *http.Request) (any, error) {
		var g GivenRequest
		if err := readUpTo(r, &g, `{"source": "…", "headers": […], "body": "…"}`, maxGiven); err != nil {
			return nil, err
		}
		return c.ExplainRequest(r.Context(), g)
	}
}
