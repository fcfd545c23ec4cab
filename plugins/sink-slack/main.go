// Command grapnel-sink-slack is the Grapnel plugin that posts messages to Slack, through an incoming webhook or as a
// bot.
package main

import "github.com/grapnelhq/grapnel/sdk/serve"

func main() { serve.Main(factory()) }
