// Command sink-bad is a sink that shows its token in its log and writes to stdout.
package main

import (
	"github.com/grapnelhq/grapnel/sdk/plugintest/internal/example"
	"github.com/grapnelhq/grapnel/sdk/serve"
)

func main() { serve.Main(example.Sink("stdout")) }
