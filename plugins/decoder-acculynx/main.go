// Command grapnel-decoder-acculynx is the Grapnel plugin that decodes the webhooks of AccuLynx.
package main

import (
	"github.com/grapnelhq/grapnel/sdk"
	"github.com/grapnelhq/grapnel/sdk/serve"
)

func main() { serve.Main(sdk.NewDecoder(manifest(), open)) }
