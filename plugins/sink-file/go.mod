module github.com/grapnelhq/grapnel/plugins/sink-file

go 1.26.0

require (
	github.com/google/go-cmp v0.7.0
	github.com/grapnelhq/grapnel/sdk v0.0.0
	go.uber.org/goleak v1.3.0
)

replace github.com/grapnelhq/grapnel/sdk => ../../sdk
