// Command grapnel-decoder-json decodes the webhooks of providers that a configuration describes: how they sign, what a
// repeat is, and where in the JSON the type, the subject, the time and the data of an event stand. It adds a provider
// without a program of its own.
package main

import (
	"context"

	"github.com/grapnelhq/grapnel/sdk"
	"github.com/grapnelhq/grapnel/sdk/serve"
)

func main() { serve.Main(factory()) }

func factory() *sdk.DecoderFactory { return sdk.NewDecoder(base(), open) }

func open(_ context.Context, cfg Config) (sdk.Decoder, error) {
	d, _, err := compile(&cfg)
	return d, err
}
