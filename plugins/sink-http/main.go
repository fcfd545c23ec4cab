// Command grapnel-sink-http is the Grapnel plugin that hands events to HTTP endpoints: as CloudEvents, or as a body that
// a route makes, signed as Standard Webhooks where asked for.
package main

import "github.com/grapnelhq/grapnel/sdk/serve"

func main() { serve.Main(factory()) }
