// Plain is a sink as authors write them: it delivers everything.
package main

import (
	"context"

	"github.com/grapnelhq/grapnel/sdk"
	"github.com/grapnelhq/grapnel/sdk/serve"
)

type config struct {
	Token sdk.Secret `json:"token,omitempty"`
}

type message struct {
	Text string `json:"text,omitempty"`
}

type sink struct{}

func (sink) DeliverBatch(_ context.Context, ds []*sdk.Delivery[message]) []error {
	return make([]error, len(ds))
}

func open(context.Context, config) (sdk.BatchSink[message], error) { return sink{}, nil }

func main() { serve.Main(sdk.NewBatchSink(sdk.SinkInfo{Name: "plain", MaxBatch: 256}, open)) }
