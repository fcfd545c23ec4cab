package conform

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"google.golang.org/grpc"

	"github.com/grapnelhq/grapnel/sdk"
	pluginv1 "github.com/grapnelhq/grapnel/sdk/proto/grapnel/plugin/v1"
	"github.com/grapnelhq/grapnel/sdk/wire"
)

// Client calls a plugin as the host does. Its methods may be called from many goroutines.
type Client struct {
	wire *wire.Client
	proc *Process // nil: whoever made the connection knows of the process

	mu sync.Mutex
	n  int // instances so far
}

// NewClient makes a client of a connection.
func NewClient(conn *grpc.ClientConn) *Client { return &Client{wire: wire.NewClient(conn)} }

// Log returns what a launched plugin has written to stderr so far; it is empty for NewClient.
func (c *Client) Log() string {
	if c.proc == nil {
		return ""
	}
	return c.proc.stderr.String()
}

func (c *Client) context() *pluginv1.CallContext {
	return &pluginv1.CallContext{
		LogLevel: wire.LogTrace, Traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
	}
}

// Describe returns what the plugin says about itself.
func (c *Client) Describe(ctx context.Context) (*wire.Description, error) {
	r, err := c.wire.Plugin.Describe(ctx, &pluginv1.DescribeRequest{Context: c.context()})
	if err != nil {
		return nil, err
	}
	return wire.DescriptionFromProto(r)
}

// Validate checks a configuration, JSON. The error joins an sdk.AttributeError for each problem.
func (c *Client) Validate(ctx context.Context, config string) error {
	r, err := c.wire.Plugin.Validate(ctx, &pluginv1.ValidateRequest{Context: c.context(), Config: []byte(config)})
	if err != nil {
		return err
	}
	return problems(r.GetErrors(), "")
}

// Manifest returns the manifest of an instance of a decoder with a configuration, JSON: that of Describe, or the one
// that depends on the configuration.
func (c *Client) Manifest(ctx context.Context, config string) (*sdk.Provider, error) {
	d, err := c.Describe(ctx)
	if err != nil {
		return nil, err
	}
	if err := c.specialize(ctx, d, config); err != nil {
		return d.Provider, err
	}
	return d.Provider, nil
}

// specialize makes of what a plugin says of itself what it says of an instance with a configuration: the manifest and
// how many deliveries go into a batch may depend on it.
func (c *Client) specialize(ctx context.Context, d *wire.Description, config string) error {
	if !slices.Contains(d.Capabilities, wire.CapabilityValidate) {
		return nil
	}
	r, err := c.wire.Plugin.Validate(ctx, &pluginv1.ValidateRequest{Context: c.context(), Config: []byte(config)})
	if err != nil {
		return err
	}
	if err := problems(r.GetErrors(), ""); err != nil {
		return err
	}
	if n := int(r.GetMaxBatch()); d.Sink != nil && n > 0 && n < d.Sink.MaxBatch {
		d.Sink.MaxBatch = n
	}
	if slices.Contains(d.Capabilities, wire.CapabilityManifest) && r.GetProvider() != nil {
		d.Provider, err = wire.ProviderFromProto(r.GetProvider())
	}
	return err
}

// ErrUnavailable is wrapped by an error that says: not now, try again.
var ErrUnavailable = errors.New("unavailable")

func problems(list []*pluginv1.AttributeError, unavailable string) error {
	var errs []error
	for _, e := range wire.AttributeErrorsFromProto(list) {
		errs = append(errs, &e)
	}
	if unavailable != "" {
		errs = append(errs, fmt.Errorf("%w: %s", ErrUnavailable, unavailable))
	}
	return errors.Join(errs...)
}

// Open makes an instance from a configuration, JSON. The error joins an sdk.AttributeError for each problem, or wraps
// ErrUnavailable.
func (c *Client) Open(ctx context.Context, config string) (*Instance, error) {
	i := c.instance()
	if err := i.open(ctx, config); err != nil {
		return nil, err
	}
	return i, nil
}

// instance makes the id of an instance that is to be opened.
func (c *Client) instance() *Instance {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	return &Instance{client: c, id: strconv.Itoa(c.n)}
}

func (i *Instance) open(ctx context.Context, config string) error {
	c := i.client
	r, err := c.wire.Plugin.Open(ctx, &pluginv1.OpenRequest{
		Context: c.context(), Instance: i.id, Name: "test", Config: []byte(config),
	})
	if err != nil {
		return err
	}
	return problems(r.GetErrors(), r.GetUnavailable())
}

// Instance is an open instance of a plugin.
type Instance struct {
	client *Client
	id     string
}

// Check has the instance reach its far end.
func (i *Instance) Check(ctx context.Context) error {
	r, err := i.client.wire.Plugin.Check(ctx, &pluginv1.CheckRequest{Context: i.client.context(), Instance: i.id})
	if err != nil {
		return err
	}
	return problems(r.GetErrors(), r.GetUnavailable())
}

// Close ends the instance, after its other calls.
func (i *Instance) Close(ctx context.Context) error {
	r, err := i.client.wire.Plugin.Close(ctx, &pluginv1.CloseRequest{Context: i.client.context(), Instance: i.id})
	if err != nil {
		return err
	}
	if notes := wire.NotesFromProto(r.GetNotes()); len(notes) > 0 {
		return &notesError{strings.Join(notes, "; ")}
	}
	return nil
}

// notesError holds what a plugin has to tell about an instance that it has closed.
type notesError struct{ text string }

func (e *notesError) Error() string { return e.text }

// Deliver hands deliveries to a sink in one call and returns one outcome for each, in order. An error speaks of the
// transport: nothing is known about the deliveries.
func (i *Instance) Deliver(ctx context.Context, ds ...*sdk.Delivery[json.RawMessage]) ([]sdk.Outcome, error) {
	req := &pluginv1.DeliverRequest{Context: i.client.context(), Instance: i.id}
	for _, d := range ds {
		req.Deliveries = append(req.Deliveries, wire.DeliveryToProto(d))
	}
	r, err := i.client.wire.Sink.Deliver(ctx, req)
	if err != nil {
		return nil, err
	}
	at := places{}
	for k, d := range ds {
		at[d.ID] = k
	}
	outcomes := make([]sdk.Outcome, len(ds))
	for _, m := range r.GetOutcomes() {
		k, err := at.take("outcome", "delivery", m.GetDeliveryId())
		if err != nil {
			return nil, err
		}
		outcomes[k] = wire.OutcomeFromProto(m)
	}
	return outcomes, at.left("outcome", "delivery")
}

// places are the indexes of what was asked for, by id; one that was answered is -1.
type places map[string]int

func (p places) take(answer, item, id string) (int, error) {
	switch k, ok := p[id]; {
	case !ok:
		return 0, &AnswerError{fmt.Sprintf("it gave an %s for %s %q, which was not asked for", answer, item, clip(id, 80))}
	case k < 0:
		return 0, &AnswerError{fmt.Sprintf("it gave two %ss for %s %q", answer, item, id)}
	default:
		p[id] = -1
		return k, nil
	}
}

func (p places) left(answer, item string) error {
	for id, k := range p {
		if k >= 0 {
			return &AnswerError{fmt.Sprintf("it gave no %s for %s %q", answer, item, id)}
		}
	}
	return nil
}

// AnswerError says that an answer does not fit what was asked: something is missing, there twice, or of something else.
type AnswerError struct{ Did string }

// Error implements error.
func (e *AnswerError) Error() string { return e.Did }

// Decode has a decoder turn requests into events and returns one result for each, in order.
func (i *Instance) Decode(ctx context.Context, rs ...*sdk.Request) ([]sdk.Decoded, error) {
	req := &pluginv1.DecodeRequest{Context: i.client.context(), Instance: i.id}
	for _, r := range rs {
		req.Requests = append(req.Requests, wire.RequestToProto(r))
	}
	r, err := i.client.wire.Decoder.Decode(ctx, req)
	if err != nil {
		return nil, err
	}
	at := places{}
	for k, r := range rs {
		at[r.ID] = k
	}
	decoded := make([]sdk.Decoded, len(rs))
	for _, m := range r.GetResults() {
		k, err := at.take("answer", "request", m.GetRequestId())
		if err != nil {
			return nil, err
		}
		if decoded[k], err = wire.DecodedFromProto(m, rs[k].Body); err != nil {
			return nil, &AnswerError{err.Error()}
		}
	}
	return decoded, at.left("answer", "request")
}

// Delivery makes a delivery with everything filled, for Instance.Deliver. n tells deliveries apart; message and data
// are JSON.
func Delivery(n int, message, data string) *sdk.Delivery[json.RawMessage] {
	id := fmt.Sprintf("dlv_%032x_0_%08x", n, n)
	return &sdk.Delivery[json.RawMessage]{
		ID: id, Attempt: 1, Sequence: int64(n), Route: "test", OrderKey: fmt.Sprintf("employee/%d", n),
		TraceParent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		Event: sdk.Envelope{
			ID: fmt.Sprintf("evt_%032x_0", n), Source: "urn:grapnel:source:test", Type: "test.employee.updated",
			Subject: fmt.Sprintf("employee/%d", n), Time: "2026-01-02T03:04:05Z",
			PartitionKey: fmt.Sprintf("employee/%d", n), Provider: "test", Operation: "updated",
		},
		Message: json.RawMessage(message), Data: json.RawMessage(data),
	}
}
