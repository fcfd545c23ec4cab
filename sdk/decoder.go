package sdk

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"unicode/utf8"
)

// Decoder turns requests of one provider into events.
//
// Decode is called from many goroutines at once. It is pure: the same request gives the same events in the same order,
// in every process, because event ids are derived from their index. It returns no events for a request that carries
// nothing, and an error only for a request that can never be decoded: the request then ends dead, visible with the
// error's text, which therefore names what is wrong and holds no payload. A panic counts as such an error.
type Decoder interface {
	Decode(ctx context.Context, r *Request) ([]Event, error)
}

// DecoderFactory makes a decoder's instances. NewDecoder builds it, package serve runs it.
type DecoderFactory struct {
	Provider Provider
	Config   Schema
	// Open is called once per configured block with the JSON configuration that the host decoded against Config.
	// Several may run at once. AttributeErrors in its error are reported at their file and line.
	Open func(ctx context.Context, config []byte) (Decoder, error)
	// Validate checks a configuration without opening anything; see Validator.
	Validate func(config []byte) error
	// Manifest is the manifest of an instance with a configuration; see Manifester. nil: it is always Provider.
	Manifest func(config []byte) (Provider, error)
}

// NewDecoder makes a factory from a manifest and a typed constructor. C is the configuration struct (struct{} for
// none). It panics if C cannot be described by a Schema, which a plugin's first start would show.
func NewDecoder[C any](p Provider, open func(ctx context.Context, cfg C) (Decoder, error)) *DecoderFactory {
	mustName(p.Name)
	config := mustDescribe[C](useConfig)
	f := &DecoderFactory{
		Provider: p,
		Config:   config.schema,
		Open: func(ctx context.Context, raw []byte) (Decoder, error) {
			cfg, err := decodeConfig[C](config, raw)
			if err != nil {
				return nil, err
			}
			d, err := open(ctx, cfg)
			if err == nil && d == nil {
				err = errNothing
			}
			return d, err
		},
		Validate: func(raw []byte) error {
			_, err := decodeConfig[C](config, raw)
			return err
		},
	}
	if _, ok := any(new(C)).(Manifester); ok {
		f.Manifest = func(raw []byte) (Provider, error) {
			cfg, err := decodeConfig[C](config, raw)
			if err != nil {
				return Provider{}, err
			}
			m, err := any(&cfg).(Manifester).Manifest()
			if err != nil {
				return Provider{}, joinAttributeErrors(AttributeErrors(err))
			}
			return m, nil
		}
	}
	return f
}

// Decoded is what a decoder made of one request, as it goes over the wire.
type Decoded struct {
	RequestID string
	Events    []Event
	Refused   string   // not empty: the request can never be decoded, the reason; Events is empty then
	Notes     []string // those of the events, each text once
	Spans     []Span   // what was measured of it; see StartSpan
}

// DecodeAll decodes requests one after the other and returns one result for each, in order. A panic refuses its
// request. Package serve calls it.
func DecodeAll(ctx context.Context, d Decoder, rs []*Request) []Decoded {
	out := make([]Decoded, len(rs))
	for i, r := range rs {
		out[i] = decodeOne(ctx, d, r)
	}
	return out
}

// What the host takes of an event, in bytes. A request that would give more is the provider's doing, so it is refused here
// and not held against the plugin there.
const (
	maxSubject   = 1024 // and partition key
	maxOperation = 128
	maxTenant    = 256
)

// check says what is wrong with an event's texts, or nothing.
func (e *Event) check() string {
	for _, t := range [...]struct {
		name, text string
		limit      int
	}{
		{"subject", e.Subject, maxSubject}, {"partition key", e.PartitionKey, maxSubject},
		{"operation", e.Operation, maxOperation}, {"tenant", e.Tenant, maxTenant},
	} {
		switch {
		case len(t.text) > t.limit:
			return fmt.Sprintf("%s is longer than %d bytes", t.name, t.limit)
		case strings.ContainsFunc(t.text, func(r rune) bool { return r < ' ' || r == 0x7f }):
			return t.name + " holds a control character"
		case !utf8.ValidString(t.text):
			return t.name + " is not UTF-8"
		}
	}
	return ""
}

func decodeOne(ctx context.Context, d Decoder, r *Request) (out Decoded) {
	out.RequestID = r.ID
	ctx, finish := begin(ctx, r.TraceParent, "decode")
	defer func() { out.Spans = finish(out.Refused != "") }()
	defer func() {
		if v := recover(); v != nil {
			slog.ErrorContext(ctx, "decoder panicked", "request_id", r.ID, "panic", fmt.Sprint(v), "stack", stack())
			out.Refused = fmt.Sprintf("panic: %v", v)
		}
	}()
	events, err := d.Decode(ctx, r)
	if err != nil {
		out.Refused = cmp.Or(err.Error(), "refused without a reason")
		return out
	}
	out.Events = events
	for i := range events {
		if why := events[i].check(); why != "" {
			out.Events, out.Notes, out.Refused = nil, nil, fmt.Sprintf("event %d: its %s", i, why)
			return out
		}
		for _, note := range events[i].Notes {
			if !slices.Contains(out.Notes, note) {
				out.Notes = append(out.Notes, note)
			}
		}
	}
	return out
}
