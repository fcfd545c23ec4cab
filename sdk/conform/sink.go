package conform

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/grapnelhq/grapnel/sdk"
)

// send delivers in one call, with the host's deadline, and checks what holds for every outcome. It returns none where
// the call failed.
func (s *Suite) send(ctx context.Context, f *findings, call string, i *Instance,
	ds ...*sdk.Delivery[json.RawMessage]) []sdk.Outcome {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	outcomes, err := i.Deliver(ctx, ds...)
	if s.failed(f, call, callTime, err) {
		return nil
	}
	for k := range outcomes {
		s.outcome(f, &outcomes[k])
	}
	return outcomes
}

// outcome checks what holds for every outcome.
func (s *Suite) outcome(f *findings, o *sdk.Outcome) {
	s.noSecrets(f, "an outcome", strings.Join(append([]string{o.Reason, o.Reference, string(o.State)}, o.Notes...), " "))
	wordy(f, "a reference", o.Reference, maxReference)
	for _, note := range o.Notes {
		wordy(f, "a note", note, maxNote)
	}
	if len(o.Notes) > maxNotes {
		f.add(fmt.Sprintf("an answer has at most %d notes", maxNotes), "say less", "it gives %d notes", len(o.Notes))
	}
	switch {
	case len(o.State) > sdk.MaxState:
		f.add(fmt.Sprintf("keyed state has at most %d bytes and more is not kept", sdk.MaxState), "keep a digest or an id",
			"an outcome carries %d bytes of state", len(o.State))
	case o.StateSet && !s.desc.Sink.State:
		f.add("state is kept only for a sink that declares wants_state", "declare it (SinkInfo.State), or keep none",
			"an outcome carries state")
	}
	if o.Reason == "" && o.Kind != sdk.Delivered {
		f.add("an operator sees the reason and nothing else", "say what went wrong", "an outcome %q has no reason", o.Kind)
	}
}

// good finds outcomes that do not say that there is nothing more to do.
func (s *Suite) good(f *findings, outcomes ...sdk.Outcome) {
	for _, o := range outcomes {
		if o.Kind == sdk.Delivered || o.Kind == sdk.Skipped {
			continue
		}
		if strings.HasPrefix(o.Reason, "panic: ") {
			f.add("a mistake in one delivery ends as its outcome, by design", "mend what panicked; the log has its stack",
				"Deliver panicked (%s)", clip(o.Reason, 300))
			continue
		}
		at := ""
		if len(o.AttributePath) > 0 {
			at = " at " + strings.Join(o.AttributePath, ".")
		}
		f.add("the message that it is checked with is a good one", "mend Deliver, or give the kit another message",
			"Deliver ends with %s%s (%s)", o.Kind, at, clip(o.Reason, 500))
	}
}

// message: a message that does not fit the schema is rejected by name.
func (s *Suite) message(ctx context.Context) []Finding {
	f := s.findings()
	i := s.mustOpen(ctx, f)
	if i == nil {
		return f.done()
	}
	defer s.mustClose(ctx, f, i)
	for _, w := range wrongs(&s.desc.Message, s.opts.Message) {
		o := s.send(ctx, f, "Deliver of a message in which "+w.what, i, Delivery(1, w.object, s.opts.Data))
		if o == nil {
			break
		}
		if o[0].Kind == sdk.Rejected && samePath(o[0].AttributePath, w.path) {
			continue
		}
		f.add("what does not fit the schema is rejected with the path "+strings.Join(w.path, "."),
			"check the message against the schema and name the attribute",
			"a message in which %s ends with %s at %q (%s)", w.what, o[0].Kind, strings.Join(o[0].AttributePath, "."),
			clip(o[0].Reason, 200))
	}
	return f.done()
}

// deliver: the message is delivered, also when it comes again.
func (s *Suite) deliver(ctx context.Context) []Finding {
	f := s.findings()
	i := s.mustOpen(ctx, f)
	if i == nil {
		return f.done()
	}
	defer s.mustClose(ctx, f, i)
	s.check(ctx, f, i, true)
	var before int64
	if s.far != nil {
		before = s.far.requests.Load()
	}
	for attempt := 1; attempt <= 2; attempt++ { // the first outcome may have been lost
		d := Delivery(1, s.opts.Message, s.opts.Data)
		d.Attempt = attempt
		s.good(f, s.send(ctx, f, fmt.Sprintf("attempt %d of a delivery", attempt), i, d)...)
		if len(f.list) > 0 {
			return f.done()
		}
	}
	replay := Delivery(6, s.opts.Message, s.opts.Data)
	replay.Replay, replay.Force, replay.OrderKey = true, true, ""
	s.good(f, s.send(ctx, f, "a replay without an order key", i, replay)...)
	if s.far != nil && s.far.serves && len(f.list) == 0 && s.far.requests.Load() == before {
		f.add("delivered means that the far end has it", "answer after the far end did",
			"Deliver says delivered, and no request has reached the far end")
	}
	return f.done()
}

// check has the instance reach its far end; good: it is there.
func (s *Suite) check(ctx context.Context, f *findings, i *Instance, good bool) {
	if !slices.Contains(s.desc.Capabilities, "check") {
		return
	}
	ctx, cancel := s.within(ctx)
	defer cancel()
	err := i.Check(ctx)
	switch {
	case err == nil:
	case isAnswer(err):
		s.noSecrets(f, "an error of Check", err.Error())
		if good {
			f.add("the configuration that it is checked with is a good one", "mend Check, or give the kit another configuration",
				"Check says that the far end cannot be used (%s)", clip(err.Error(), 300))
		}
	default:
		s.failed(f, "Check", s.opts.Timeout, err)
	}
}

// concurrent: calls come at the same time.
func (s *Suite) concurrent(ctx context.Context) []Finding {
	f := s.findings()
	i := s.mustOpen(ctx, f)
	if i == nil {
		return f.done()
	}
	defer s.mustClose(ctx, f, i)
	size := min(max(s.desc.Sink.MaxBatch, 1), 10)
	const atOnce = 8
	var calls sync.WaitGroup
	found := make([]*findings, atOnce)
	for call := range atOnce {
		found[call] = s.findings()
		calls.Go(func() {
			var ds []*sdk.Delivery[json.RawMessage]
			for k := range size {
				ds = append(ds, Delivery(1000+call*size+k, s.opts.Message, s.opts.Data))
			}
			s.good(found[call], s.send(ctx, found[call], fmt.Sprintf("one of %d Delivers at once", atOnce), i, ds...)...)
		})
	}
	calls.Wait()
	for _, one := range found {
		if len(f.list) == 0 {
			f.list = one.list
		}
	}
	return f.done()
}

// batch: each delivery of a batch has its own outcome.
func (s *Suite) batch(ctx context.Context) []Finding {
	f := s.findings()
	i := s.mustOpen(ctx, f)
	if i == nil {
		return f.done()
	}
	defer s.mustClose(ctx, f, i)
	size := min(s.desc.Sink.MaxBatch, 25)
	bad := size / 2
	var ds []*sdk.Delivery[json.RawMessage]
	for k := range size {
		message := s.opts.Message
		if k == bad {
			message = with(message, unknownName, "1")
		}
		ds = append(ds, Delivery(3000+k, message, s.opts.Data))
	}
	outcomes := s.send(ctx, f, fmt.Sprintf("Deliver of a batch of %d", size), i, ds...)
	for k, o := range outcomes {
		switch {
		case k != bad:
			s.good(f, o)
		case o.Kind != sdk.Rejected:
			f.add("each delivery of a batch has its own outcome", "decide for each, and match by the id",
				"delivery %d of a batch has a message with an unknown attribute and ends with %s (%s)", k, o.Kind,
				clip(o.Reason, 200))
		}
	}
	return f.done()
}

// state: keyed state goes round, and an old or strange one does no harm.
func (s *Suite) state(ctx context.Context) []Finding {
	f := s.findings()
	i := s.mustOpen(ctx, f)
	if i == nil {
		return f.done()
	}
	defer s.mustClose(ctx, f, i)
	var state []byte
	for n := range 3 {
		d := Delivery(4000+n, s.opts.Message, s.opts.Data)
		d.OrderKey, d.State = "employee/4000", state
		o := s.send(ctx, f, "Deliver with keyed state", i, d)
		if o == nil {
			return f.done()
		}
		s.good(f, o...)
		if o[0].StateSet {
			state = o[0].State
		}
	}
	for _, strange := range []string{"\x00\xff\xfe", "{}", `{"v":99}`, "null", strings.Repeat("x", sdk.MaxState)} {
		d := Delivery(4010, s.opts.Message, s.opts.Data)
		d.OrderKey, d.State = "employee/4010", []byte(strange)
		o := s.send(ctx, f, fmt.Sprintf("Deliver with the state %q, as another version may have left it", clip(strange,
			20)), i, d)
		if o != nil && strings.HasPrefix(o[0].Reason, "panic: ") {
			s.good(f, o...)
		}
		if s.lost() {
			break
		}
	}
	return f.done()
}

// largeText is more than what gRPC libraries take by default.
const largeText = 5 << 20

// large: a message of some megabytes has an outcome like any other.
func (s *Suite) large(ctx context.Context) []Finding {
	f := s.findings()
	i := s.mustOpen(ctx, f)
	if i == nil {
		return f.done()
	}
	defer s.mustClose(ctx, f, i)
	text := `"` + strings.Repeat("x", largeText) + `"`
	d := Delivery(7, s.opts.Message, s.opts.Data)
	for k := range s.desc.Message.Attributes {
		a := &s.desc.Message.Attributes[k]
		if a.Schema.Kind == sdk.KindString && a.Schema.Enum == nil || a.Schema.Kind == sdk.KindAny {
			d.Message = json.RawMessage(with(s.opts.Message, a.Name, text))
			break
		}
	}
	if s.desc.Sink.Data {
		d.Data = json.RawMessage(`{"text":` + text + `}`)
	}
	o := s.send(ctx, f, fmt.Sprintf("Deliver of %d MB", largeText>>20), i, d)
	if o != nil && strings.HasPrefix(o[0].Reason, "panic: ") {
		s.good(f, o...)
	}
	return f.done()
}

// returns closes an instance right after a call's end. Close waits for calls, so it tells whether the call has really
// returned.
func (s *Suite) returns(ctx context.Context, f *findings, i *Instance, after string) {
	const contract, do = "a call returns when its context ends, for the next attempt may come while the old one " +
		"still runs",
		"give the call's context to everything that waits"
	ctx, cancel := context.WithTimeout(ctx, prompt)
	defer cancel()
	err := i.Close(ctx)
	var notes *notesError
	if ctx.Err() != nil && err != nil && !errors.As(err, &notes) || status.Code(err) == codes.DeadlineExceeded {
		f.add(contract, do, "Deliver still runs %s after %s", prompt, after)
		return
	}
	if !errors.As(err, &notes) {
		s.failed(f, "Close", prompt, err)
	}
	if s.far == nil {
		return
	}
	for s.far.hanging.Load() > 0 {
		select {
		case <-ctx.Done():
			f.add(contract, do, "the request to the far end is still open %s after %s", prompt, after)
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// cancel ends a call's context early.
func (s *Suite) cancel(ctx context.Context) []Finding {
	f := s.findings()
	i := s.mustOpen(ctx, f)
	if i == nil {
		return f.done()
	}
	for _, after := range []time.Duration{0, time.Millisecond, 50 * time.Millisecond} {
		ctx, cancel := context.WithTimeout(ctx, after)
		_, _ = i.Deliver(ctx, Delivery(2, s.opts.Message, s.opts.Data))
		cancel()
	}
	s.returns(ctx, f, i, "its context's end")
	if !s.lost() {
		s.mustClose(ctx, f, i)
	}
	return f.done()
}

// slow has a far end that does not answer.
func (s *Suite) slow(ctx context.Context) []Finding {
	f := s.findings()
	for _, end := range []struct {
		what   string
		cancel bool
	}{{"the call's deadline, while the far end does not answer", false},
		{"the call was cancelled, while the far end does not answer", true}} {
		octx, cancel := s.within(ctx)
		i, err := s.client.Open(octx, s.opts.Slow)
		cancel()
		if isAnswer(err) {
			s.noSecrets(f, "an error of Open", err.Error())
			return f.done() // it dials in Open, and that it did in time
		}
		if s.failed(f, "Open", s.opts.Timeout, err) {
			return f.done()
		}
		cctx, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
		if end.cancel {
			cancel()
			cctx, cancel = context.WithCancel(ctx)
			time.AfterFunc(200*time.Millisecond, cancel)
		}
		o, err := i.Deliver(cctx, Delivery(8, s.opts.Message, s.opts.Data))
		cancel()
		if err == nil && (o[0].Kind == sdk.Delivered || o[0].Kind == sdk.Skipped) {
			f.add("delivered means that the far end has it", "answer after the far end did",
				"Deliver says %s, and the far end has not answered",
				o[0].Kind)
		}
		s.returns(ctx, f, i, end.what)
		if len(f.list) > 0 || s.lost() {
			break
		}
	}
	return f.done()
}

// bad delivers where the far end cannot or will not take it.
func (s *Suite) bad(ctx context.Context, f *findings, config, message, what string, want ...sdk.OutcomeKind) {
	octx, cancel := s.within(ctx)
	i, err := s.client.Open(octx, config)
	cancel()
	switch {
	case errors.Is(err, ErrUnavailable) || err != nil && isAnswer(err) && slices.Contains(want, sdk.Rejected):
		s.noSecrets(f, "an error of Open", err.Error()) // it says so at once, which is as good
		return
	case isAnswer(err):
		s.noSecrets(f, "an error of Open", err.Error())
		f.add("a far end that is not there now makes no configuration wrong",
			`say "unavailable" (any error but an sdk.AttributeError)`,
			"Open refuses a configuration for good of which %s (%s)", what, clip(err.Error(), 300))
		return
	case s.failed(f, "Open", s.opts.Timeout, err):
		return
	}
	defer s.mustClose(ctx, f, i)
	o := s.send(ctx, f, "Deliver, "+what, i, Delivery(3, message, s.opts.Data))
	if o != nil && !slices.Contains(want, o[0].Kind) {
		words := make([]string, len(want))
		for k, w := range want {
			words[k] = string(w)
		}
		f.add("that is to be "+strings.Join(words, " or "), "tell failures that pass from those that do not",
			"a delivery ends with %s (%s), and %s", o[0].Kind, clip(o[0].Reason, 300), what)
	}
	if o != nil {
		s.check(ctx, f, i, false)
	}
}

func (s *Suite) down(ctx context.Context) []Finding {
	f := s.findings()
	s.bad(ctx, f, s.opts.Down, s.opts.Message, "the far end is not there", sdk.Retried)
	return f.done()
}

func (s *Suite) refused(ctx context.Context) []Finding {
	f := s.findings()
	if s.opts.Refused != "" {
		s.bad(ctx, f, s.opts.Refused, s.opts.Message, "the far end refuses for good", sdk.Rejected, sdk.Suspended)
	}
	if s.opts.RefusedMessage != "" {
		s.bad(ctx, f, s.opts.Config, s.opts.RefusedMessage, "the far end refuses the message for good", sdk.Rejected)
	}
	return f.done()
}

// with is a JSON object with another member.
func with(object, name, value string) string {
	m := map[string]json.RawMessage{}
	if json.Unmarshal([]byte(object), &m) != nil {
		return object
	}
	m[name] = json.RawMessage(value)
	b, err := json.Marshal(m)
	if err != nil {
		return object
	}
	return string(b)
}
