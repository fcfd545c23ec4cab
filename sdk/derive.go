package sdk

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
)

// SchemaOf derives the schema of a Go type.
func SchemaOf[T any]() (Schema, error) {
	return Schema{Kind: KindObject}, nil
}

func mustSchema[T any]() Schema {
	s, err := SchemaOf[T]()
	if err != nil {
		panic(err)
	}
	return s
}

func decodeConfig[C any](config []byte) (C, error) {
	var c C
	dec := json.NewDecoder(bytes.NewReader(config))
	dec.DisallowUnknownFields()
	return c, dec.Decode(&c)
}

func validateConfig[C any](config []byte) error {
	_, err := decodeConfig[C](config)
	return err
}

type sinkInstance[M any] struct {
	author  any
	deliver func(context.Context, []*Delivery[M]) []error
}

func (s *sinkInstance[M]) Sink() any { return s.author }

func (s *sinkInstance[M]) DeliverRaw(ctx context.Context, ds []*Delivery[json.RawMessage]) []Outcome {
	out := make([]Outcome, len(ds))
	for i, d := range ds {
		out[i] = Outcome{DeliveryID: d.ID, Kind: Retried, Reason: errors.ErrUnsupported.Error()}
	}
	return out
}
