package sdk_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"

	"github.com/grapnelhq/grapnel/sdk"
)

type letterConfig struct {
	Mute bool `json:"mute,omitempty"`
}

type letter struct {
	Text  string                     `json:"text,omitempty"`
	Kind  string                     `json:"kind,omitempty" enum:"a|b" default:"b"`
	Parts map[string]json.RawMessage `json:"parts,omitempty"`
}

// ValidateMessage implements sdk.MessageValidator, on the pointer.
func (c *letterConfig) ValidateMessage(d *sdk.Draft[letter]) error {
	var errs []error
	if c.Mute && d.Message.Text != "" {
		errs = append(errs, &sdk.AttributeError{Path: []string{"text"}, Summary: "is of no use"})
	}
	if d.Message.Text == "" && !d.Varies("text") {
		errs = append(errs, &sdk.AttributeError{Summary: "has no text"})
	}
	if v, ok := d.Message.Parts["a"]; ok && string(v) == "null" && !d.Varies("parts", "a") {
		errs = append(errs, &sdk.AttributeError{Path: []string{"parts", "a"}, Summary: "is null"})
	}
	return errors.Join(errs...)
}

type letters struct{}

func (letters) Deliver(context.Context, *sdk.Delivery[letter]) error { return nil }
func (letters) DeliverBatch(_ context.Context, ds []*sdk.Delivery[letter]) []error {
	return make([]error, len(ds))
}

func TestValidateMessage(t *testing.T) {
	one := sdk.NewSink(sdk.SinkInfo{Name: "letter"},
		func(context.Context, letterConfig) (sdk.Sink[letter], error) { return letters{}, nil })
	batch := sdk.NewBatchSink(sdk.SinkInfo{Name: "letter"},
		func(context.Context, letterConfig) (sdk.BatchSink[letter], error) { return letters{}, nil })
	none := sdk.NewSink(sdk.SinkInfo{Name: "letter"},
		func(context.Context, struct{}) (sdk.Sink[letter], error) { return letters{}, nil })
	if none.ValidateMessage != nil {
		t.Error("a configuration that does not judge messages does")
	}
	for _, tt := range []struct {
		config, message string
		varying         [][]string
		want            string
	}{
		{`{}`, `{"text":"x"}`, nil, ""},
		{`{}`, `{}`, nil, "has no text"},
		{`{}`, `{"text":""}`, [][]string{{"text"}}, ""},
		{`{}`, `{"text":""}`, [][]string{{"kind"}, {"text", "more"}}, "has no text"},
		{`{"mute":true}`, `{"text":"x","parts":{"a":null}}`, [][]string{{"kind"}}, "text: is of no use\nparts.a: is null"},
		{`{}`, `{"text":"x","parts":{"a":null}}`, [][]string{{"parts", "a"}}, ""},
		{`{}`, `{"text":"x","parts":{"a":null}}`, [][]string{{"parts"}}, ""},
		{`{}`, `{"text":"","kind":"c"}`, nil, ""}, // does not decode: the host says what is wrong
	} {
		for _, f := range []*sdk.SinkFactory{one, batch} {
			err := f.ValidateMessage([]byte(tt.config), sdk.NewDraft(json.RawMessage(tt.message), tt.varying...))
			got := ""
			if err != nil {
				got = err.Error()
			}
			if got != tt.want {
				t.Errorf("%s %s %v: %q, want %q", tt.config, tt.message, tt.varying, got, tt.want)
			}
		}
	}
	if err := one.ValidateMessage([]byte(`{"muet":true}`), sdk.NewDraft(json.RawMessage(`{}`))); err == nil {
		t.Error("a wrong configuration judges")
	}
}
