// Command decoder-good is a decoder that keeps its contract.
package main

import (
	"github.com/grapnelhq/grapnel/sdk/plugintest/internal/example"
	"github.com/grapnelhq/grapnel/sdk/serve"
)

func main() { serve.Main(example.Decoder("")) }
