package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/grapnelhq/grapnel/sdk"
	pluginv1 "github.com/grapnelhq/grapnel/sdk/proto/grapnel/plugin/v1"
)

// MaxText bounds reasons, notes and summaries, in bytes: what is longer is cut.
const MaxText = 2 << 10

// text makes s fit for protobuf, which refuses a whole message over one byte that is not UTF-8.
func text(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

func texts(in []string) []string {
	if in == nil {
		return nil
	}
	out := make([]string, len(in))
	for i, s := range in {
		out[i] = text(s)
	}
	return out
}

// Text makes a text of the author's fit for the wire: it cuts it to MaxText and replaces bytes that are not UTF-8.
func Text(s string) string {
	if len(s) > MaxText {
		const more = "…"
		s = strings.ToValidUTF8(s[:MaxText-len(more)], "") + more
	}
	return text(s)
}

func headersToProto(in []sdk.Header) []*pluginv1.Header {
	if len(in) == 0 {
		return nil
	}
	block := make([]pluginv1.Header, len(in))
	out := make([]*pluginv1.Header, len(in))
	for i, h := range in {
		block[i].Name, block[i].Value = text(h.Name), text(h.Value)
		out[i] = &block[i]
	}
	return out
}

func headersFromProto(in []*pluginv1.Header) []sdk.Header {
	if len(in) == 0 {
		return nil
	}
	out := make([]sdk.Header, len(in))
	for i, h := range in {
		out[i] = sdk.Header{Name: h.GetName(), Value: h.GetValue()}
	}
	return out
}

// RequestToProto converts a request. The body is not copied.
func RequestToProto(r *sdk.Request) *pluginv1.Request {
	return &pluginv1.Request{
		Id:         text(r.ID),
		Source:     text(r.Source),
		Tenant:     text(r.Tenant),
		ReceivedAt: r.ReceivedAt.UnixNano(),
		Method:     text(r.Method),
		Query:      text(r.Query),
		Headers:    headersToProto(r.Headers),
		Body:       r.Body,

		Traceparent: text(r.TraceParent),
	}
}

// RequestFromProto converts a request. The body is not copied.
func RequestFromProto(r *pluginv1.Request) *sdk.Request {
	return &sdk.Request{
		ID:         r.GetId(),
		Source:     r.GetSource(),
		Tenant:     r.GetTenant(),
		ReceivedAt: time.Unix(0, r.GetReceivedAt()).UTC(),
		Method:     r.GetMethod(),
		Query:      r.GetQuery(),
		Headers:    headersFromProto(r.GetHeaders()),
		Body:       r.GetBody(),

		TraceParent: r.GetTraceparent(),
	}
}

// EventToProto converts an event of a request with this body. Data that is a slice of the body travels as its place
// there. Notes are not the event's on the wire but its request's; see DecodedToProto.
func EventToProto(e *sdk.Event, body []byte) (*pluginv1.Event, error) {
	out := &pluginv1.Event{
		Type:         text(e.Type),
		Subject:      text(e.Subject),
		PartitionKey: text(e.PartitionKey),
		Operation:    text(e.Operation),
		Tenant:       text(e.Tenant),
		Time:         text(e.Time),
	}
	if offset, ok := sliceOf(body, e.Data); ok {
		out.DataRange = &pluginv1.ByteRange{Offset: uint32(offset), Length: uint32(len(e.Data))}
	} else {
		out.Data = e.Data
	}
	changes, err := changesToJSON(e.Changes)
	if err != nil {
		return nil, err
	}
	out.Changes = changes
	return out, nil
}

// sliceOf reports whether part lies in the memory of whole, and where.
func sliceOf(whole, part []byte) (int, bool) {
	if len(part) == 0 || len(part) > len(whole) || len(whole) > math.MaxUint32 {
		return 0, false
	}
	// An address outside of whole wraps around to a large number. The addresses only propose the place; that both slices
	// share the element there proves it.
	offset := reflect.ValueOf(part).Pointer() - reflect.ValueOf(whole).Pointer()
	if offset > uintptr(len(whole)-len(part)) || &whole[offset] != &part[0] {
		return 0, false
	}
	return int(offset), true
}

// ErrByteRange says that a decoder claims data outside of the request's body.
var ErrByteRange = errors.New("the event's data range lies outside of the body")

// EventFromProto converts an event of a request with this body; its data is a slice of the body or of the message.
func EventFromProto(e *pluginv1.Event, body []byte) (sdk.Event, error) {
	out := sdk.Event{
		Type:         e.GetType(),
		Subject:      e.GetSubject(),
		PartitionKey: e.GetPartitionKey(),
		Operation:    e.GetOperation(),
		Tenant:       e.GetTenant(),
		Time:         e.GetTime(),
	}
	if e.DataRange != nil {
		offset, length := uint64(e.DataRange.GetOffset()), uint64(e.DataRange.GetLength())
		if offset+length > uint64(len(body)) {
			return out, ErrByteRange
		}
		out.Data = body[offset : offset+length : offset+length]
	} else if len(e.Data) > 0 {
		out.Data = e.Data
	}
	changes, err := changesFromJSON(e.GetChanges())
	out.Changes = changes
	return out, err
}

// changesToJSON writes {"field": {"old": …, "new": …}, …} in the order of cs.
func changesToJSON(cs []sdk.Change) ([]byte, error) {
	if len(cs) == 0 {
		return nil, nil
	}
	out := []byte{'{'}
	seen := make(map[string]bool, len(cs))
	for i, c := range cs {
		if seen[c.Field] {
			return nil, fmt.Errorf("two changes of field %q", c.Field)
		}
		seen[c.Field] = true
		if c.Old != nil && !json.Valid(c.Old) || c.New != nil && !json.Valid(c.New) {
			return nil, fmt.Errorf("the change of field %q is not JSON", c.Field)
		}
		name, err := json.Marshal(c.Field)
		if err != nil {
			return nil, err
		}
		if i > 0 {
			out = append(out, ',')
		}
		out = append(append(out, name...), ':', '{')
		if c.Old != nil {
			out = append(append(out, `"old":`...), c.Old...)
		}
		if c.Old != nil && c.New != nil {
			out = append(out, ',')
		}
		if c.New != nil {
			out = append(append(out, `"new":`...), c.New...)
		}
		out = append(out, '}')
	}
	return append(out, '}'), nil
}

func changesFromJSON(b []byte) ([]sdk.Change, error) {
	if len(b) == 0 {
		return nil, nil
	}
	fail := func(err error) ([]sdk.Change, error) { return nil, fmt.Errorf("changes: %w", err) }
	var out []sdk.Change
	dec := json.NewDecoder(bytes.NewReader(b))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return fail(errors.New("not a JSON object"))
	}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return fail(err)
		}
		var c struct {
			Old json.RawMessage `json:"old"`
			New json.RawMessage `json:"new"`
		}
		if err := dec.Decode(&c); err != nil {
			return fail(err)
		}
		field, _ := name.(string) // of an object every other token is one
		out = append(out, sdk.Change{Field: field, Old: c.Old, New: c.New})
	}
	if _, err := dec.Token(); err != nil {
		return fail(err)
	}
	return out, nil
}

// DecodedToProto converts the result of decoding the request with this body. A result that the wire cannot carry
// becomes a refusal that says so.
func DecodedToProto(d *sdk.Decoded, body []byte) *pluginv1.DecodeResult {
	out := &pluginv1.DecodeResult{RequestId: text(d.RequestID), Refused: Text(d.Refused), Notes: NotesToProto(d.Notes)}
	out.Spans = spansToProto(d.Spans)
	if d.Refused != "" {
		return out
	}
	for i := range d.Events {
		e, err := EventToProto(&d.Events[i], body)
		if err != nil {
			out.Events, out.Refused = nil, Text(fmt.Sprintf("event %d: %v", i, err))
			return out
		}
		out.Events = append(out.Events, e)
	}
	return out
}

// DecodedFromProto converts the result of decoding the request with this body. Events have no notes of their own.
func DecodedFromProto(r *pluginv1.DecodeResult, body []byte) (sdk.Decoded, error) {
	out := sdk.Decoded{RequestID: r.GetRequestId(), Refused: r.GetRefused(), Notes: NotesFromProto(r.GetNotes())}
	out.Spans = spansFromProto(r.GetSpans())
	for i, e := range r.GetEvents() {
		event, err := EventFromProto(e, body)
		if err != nil {
			return out, fmt.Errorf("event %d: %w", i, err)
		}
		out.Events = append(out.Events, event)
	}
	return out, nil
}

// NotesToProto converts notes.
func NotesToProto(in []string) []*pluginv1.Note {
	var out []*pluginv1.Note
	for _, s := range in {
		out = append(out, &pluginv1.Note{Level: pluginv1.Note_LEVEL_INFO, Message: Text(s)})
	}
	return out
}

// NotesFromProto converts notes.
func NotesFromProto(in []*pluginv1.Note) []string {
	var out []string
	for _, n := range in {
		out = append(out, n.GetMessage())
	}
	return out
}

// AttributeErrorsToProto converts the attribute errors that err is made of; what else is in it has no path.
func AttributeErrorsToProto(err error) []*pluginv1.AttributeError {
	var out []*pluginv1.AttributeError
	for _, e := range sdk.AttributeErrors(err) {
		out = append(out, &pluginv1.AttributeError{Path: texts(e.Path), Summary: Text(e.Summary), Detail: Text(e.Detail)})
	}
	return out
}

// AttributeErrorsFromProto converts attribute errors.
func AttributeErrorsFromProto(in []*pluginv1.AttributeError) []sdk.AttributeError {
	var out []sdk.AttributeError
	for _, e := range in {
		out = append(out, sdk.AttributeError{Path: e.GetPath(), Summary: e.GetSummary(), Detail: e.GetDetail()})
	}
	return out
}
