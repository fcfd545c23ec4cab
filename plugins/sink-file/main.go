// Command grapnel-sink-file is the Grapnel plugin that appends events to files of JSON lines.
package main

import "github.com/grapnelhq/grapnel/sdk/serve"

func main() { serve.Main(factory()) }
