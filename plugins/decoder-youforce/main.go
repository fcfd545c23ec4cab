// Command grapnel-decoder-youforce decodes the webhooks of Visma Youforce.
package main

import (
	"github.com/grapnelhq/grapnel/sdk"
	"github.com/grapnelhq/grapnel/sdk/serve"
)

func main() { serve.Main(sdk.NewDecoder(manifest(), open)) }
