// Command grapnel-decoder-peopleforce decodes the webhooks of PeopleForce.
package main

import (
	"github.com/grapnelhq/grapnel/sdk"
	"github.com/grapnelhq/grapnel/sdk/serve"
)

func main() { serve.Main(sdk.NewDecoder(manifest(), open)) }
