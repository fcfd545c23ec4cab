// Command sink is a sink that keeps its contract.
package main

import "github.com/grapnelhq/grapnel/sdk/internal/example"

func main() { example.Main("sink", "") }
