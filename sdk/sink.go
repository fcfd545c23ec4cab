package sdk

import (
	"context"
	"encoding/json"
	"errors"
	"time"
)

// Sink hands deliveries to the outside, one per call.
//
// Deliver is called from as many goroutines as the sink's concurrency allows, never for two deliveries of one order key
// at the same time. nil means delivered; Reject, Skip and Suspend say something else; any other error means "try
// again", after RetryAfter's time if given. ctx ends at the delivery's deadline. The host owns retries: a sink tries
// once. A delivery may come again with the same ID when its outcome was lost.
type Sink[M any] interface {
	Deliver(ctx context.Context, d *Delivery[M]) error
}

// BatchSink hands deliveries over together. DeliverBatch returns one error per delivery, in the order of ds, with the
// meaning that Sink.Deliver gives it; a batch holds no two deliveries of one order key.
type BatchSink[M any] interface {
	DeliverBatch(ctx context.Context, ds []*Delivery[M]) []error
}

// Checker is implemented by sinks and decoders that can reach their far end to see whether credentials and permissions
// are right. Check is called on an open instance, on demand.
type Checker interface {
	Check(ctx context.Context) error
}

// Closer is implemented by sinks and decoders that hold something. Close is called once, after the last other call has
// returned.
type Closer interface {
	Close() error
}

// Validator is implemented by configuration types (on the value or the pointer) with rules that a schema cannot say.
// Validate opens and dials nothing. AttributeErrors in its error, joined or wrapped, are reported at their file and
// line.
type Validator interface {
	Validate() error
}

// Batcher is implemented by the configuration type of a batch sink (on the value or the pointer) whose batches depend on
// the configuration. MaxBatch is the most deliveries per call with it; 0 and what is above SinkInfo.MaxBatch mean that.
// It is asked about configurations that Validator has found good, and opens and dials nothing.
type Batcher interface {
	MaxBatch() int
}

// Delivery is one message for a sink, about one event. It is valid until Deliver returns.
type Delivery[M any] struct {
	ID       string // the same on every attempt: use it as idempotency key
	Attempt  int    // from 1
	Sequence int64  // grows in accept order within a source
	Route    string
	OrderKey string // empty: unordered
	Replay   bool   // a replay of an older delivery
	Force    bool   // an operator wants it applied even if something newer was: make no stale check
	State    []byte // what SetState left for this order key; only with SinkInfo.State
	// TraceParent is the W3C Trace Context of this attempt, or empty: send it on as the header of that name. Trace has it,
	// too, and in steps of StartSpan theirs.
	TraceParent string
	Event       Envelope
	Message     M
	Data        json.RawMessage // the event's data, tokens untouched; only with SinkInfo.Data

	reference string
	state     []byte
	stateSet  bool
	notes     []string
	trace     *tracePlace // nil: it is not traced
	spans     []Span
}

// Context returns ctx for the work on this delivery alone: Trace and StartSpan speak of it then. DeliverBatch needs it,
// where deliveries of several traces come together; Deliver's context is this one already.
func (d *Delivery[M]) Context(ctx context.Context) context.Context {
	if d.trace == nil {
		return ctx
	}
	return context.WithValue(ctx, traceKey{}, d.trace)
}

// SetReference records the far end's own id or location of what was delivered.
func (d *Delivery[M]) SetReference(ref string) { d.reference = ref }

// SetState keeps up to 1 KiB for the next delivery of the same order key; nil forgets. It has an effect only on a sink
// with SinkInfo.State and a delivery with an OrderKey, whatever the outcome.
func (d *Delivery[M]) SetState(state []byte) { d.state, d.stateSet = state, true }

// Note adds something that an operator should see with this delivery. It holds no personal data and no secrets.
func (d *Delivery[M]) Note(text string) { d.notes = append(d.notes, text) }

// SinkInfo says what a sink is.
type SinkInfo struct {
	Name        string // the block's first label, [a-z][a-z0-9_]*
	Description string // one sentence
	MaxBatch    int    // NewBatchSink: the most deliveries per call; default 100
	Data        bool   // fill Delivery.Data
	State       bool   // keep and fill Delivery.State
}

// SinkFactory makes a sink's instances. NewSink and NewBatchSink build it, package serve runs it.
type SinkFactory struct {
	Info    SinkInfo
	Config  Schema
	Message Schema
	// Open is called once per configured block with the JSON configuration that the host decoded against Config.
	// Several may run at once. ctx ends with the call, not with the instance. AttributeErrors in the error are reported at
	// their file and line and are final; any other error means that the far end is not there now, and Open comes again.
	Open func(ctx context.Context, config []byte) (SinkInstance, error)
	// Validate checks a configuration without opening anything; see Validator.
	Validate func(config []byte) error
	// MaxBatch is the most deliveries per call with a configuration that Validate has found good; see Batcher. 0: that of
	// Info. nil: always that of Info.
	MaxBatch func(config []byte) int
	// ValidateMessage checks what a route sends, with a configuration that Validate has found good; see MessageValidator.
	// nil: messages are not checked so.
	ValidateMessage func(config []byte, d *Draft[json.RawMessage]) error
}

// SinkInstance is an opened sink with its message type erased, as package serve drives it.
type SinkInstance interface {
	// DeliverRaw delivers a batch whose messages are still JSON and returns one outcome per delivery, in order.
	DeliverRaw(ctx context.Context, ds []*Delivery[json.RawMessage]) []Outcome
	// Sink returns the author's value, for Checker and Closer.
	Sink() any
}

// NewSink makes a factory from a typed constructor. C is the configuration struct, M the message struct. It panics if
// one cannot be described by a Schema, which a plugin's first start would show.
func NewSink[C, M any](info SinkInfo, open func(ctx context.Context, cfg C) (Sink[M], error)) *SinkFactory {
	info.MaxBatch = 1
	message := mustDescribe[M](useMessage)
	f := newSinkFactory(info, message, func(ctx context.Context, cfg C) (SinkInstance, error) {
		s, err := open(ctx, cfg)
		if err != nil {
			return nil, err
		}
		if s == nil {
			return nil, errNothing
		}
		return &sinkInstance[M]{author: s, deliver: one(s), message: message, state: info.State}, nil
	})
	f.ValidateMessage = validateMessage[C, M](message)
	return f
}

// NewBatchSink is NewSink for a sink that takes several deliveries per call.
func NewBatchSink[C, M any](info SinkInfo, open func(ctx context.Context, cfg C) (BatchSink[M], error)) *SinkFactory {
	if info.MaxBatch == 0 {
		info.MaxBatch = 100
	}
	message := mustDescribe[M](useMessage)
	f := newSinkFactory(info, message, func(ctx context.Context, cfg C) (SinkInstance, error) {
		s, err := open(ctx, cfg)
		if err != nil {
			return nil, err
		}
		if s == nil {
			return nil, errNothing
		}
		return &sinkInstance[M]{author: s, deliver: batch(s), message: message, state: info.State}, nil
	})
	f.ValidateMessage = validateMessage[C, M](message)
	return f
}

// errNothing is what an author's constructor gets for returning neither a value nor an error.
var errNothing = errors.New("the plugin's open function returned nothing")

func newSinkFactory[C any](
	info SinkInfo, message *node, open func(context.Context, C) (SinkInstance, error),
) *SinkFactory {
	mustName(info.Name)
	config := mustDescribe[C](useConfig)
	f := &SinkFactory{
		Info:    info,
		Config:  config.schema,
		Message: message.schema,
		Open: func(ctx context.Context, raw []byte) (SinkInstance, error) {
			cfg, err := decodeConfig[C](config, raw)
			if err != nil {
				return nil, err
			}
			return open(ctx, cfg)
		},
		Validate: func(raw []byte) error {
			_, err := decodeConfig[C](config, raw)
			return err
		},
	}
	if _, ok := any(new(C)).(Batcher); ok {
		f.MaxBatch = func(raw []byte) int {
			cfg, err := decodeConfig[C](config, raw)
			if err != nil {
				return 0
			}
			return min(max(any(&cfg).(Batcher).MaxBatch(), 0), info.MaxBatch)
		}
	}
	return f
}

// OutcomeKind is what became of an attempt.
type OutcomeKind string

// The outcomes of an attempt.
const (
	Delivered OutcomeKind = "delivered"
	Retried   OutcomeKind = "retry"
	Rejected  OutcomeKind = "rejected"
	Skipped   OutcomeKind = "skipped"
	Suspended OutcomeKind = "suspend"
)

// Outcome is an attempt's outcome, as it goes over the wire.
type Outcome struct {
	DeliveryID    string
	Kind          OutcomeKind
	Reason        string
	After         time.Duration // Retried: not before
	Reference     string        // Delivered: the far end's own id
	AttributePath []string      // Rejected: the message's attribute that is wrong
	State         []byte        // for the order key, if StateSet
	StateSet      bool
	Notes         []string
	Spans         []Span // what was measured of the attempt; see StartSpan
}

// outcomeError carries a decision through the error interface.
type outcomeError struct {
	kind  OutcomeKind
	err   error
	after time.Duration
	path  []string
}

func (e *outcomeError) Error() string {
	if e.err == nil {
		return string(e.kind)
	}
	return e.err.Error()
}

func (e *outcomeError) Unwrap() error { return e.err }

// RetryAfter says: not now, try again, not before d from now, of which at most 24 hours count.
func RetryAfter(err error, d time.Duration) error {
	return &outcomeError{kind: Retried, err: err, after: d}
}

// Reject says: this delivery can never succeed. It becomes a dead letter with err's text. path names the message's
// attribute that is wrong, if one is; the host shows the user its line in the route.
func Reject(err error, path ...string) error {
	return &outcomeError{kind: Rejected, err: err, path: path}
}

// Skip says: nothing to do for this delivery (it is stale or superseded). It counts as done.
func Skip(reason string) error {
	return &outcomeError{kind: Skipped, err: errors.New(reason)}
}

// Suspend says: the sink as a whole cannot work until someone acts (a token was revoked, the endpoint is gone). The
// host parks the sink's deliveries and charges none of them an attempt.
func Suspend(err error) error {
	return &outcomeError{kind: Suspended, err: err}
}
