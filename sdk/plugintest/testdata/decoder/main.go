// Command decoder is a decoder that keeps its contract.
package main

import "github.com/grapnelhq/grapnel/sdk/internal/example"

func main() { example.Main("decoder", "") }
