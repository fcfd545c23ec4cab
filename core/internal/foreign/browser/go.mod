module github.com/grapnelhq/grapnel/core/internal/foreign/browser

go 1.26.0

require (
	github.com/chromedp/cdproto v0.159.0
	github.com/chromedp/chromedp v0.23.0
	github.com/grapnelhq/grapnel v0.0.0
)

require (
	github.com/go-json-experiment/json v0.0.0-20260213210345-44df1a37e875 // indirect
	github.com/grapnelhq/grapnel/sdk v0.0.0 // indirect
)

replace (
	github.com/grapnelhq/grapnel => ../../../..
	github.com/grapnelhq/grapnel/sdk => ../../../../sdk
)
