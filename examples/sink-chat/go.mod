module github.com/grapnelhq/grapnel/examples/sink-chat

go 1.26.0

require github.com/grapnelhq/grapnel/sdk v0.0.0

replace github.com/grapnelhq/grapnel/sdk => ../../sdk
