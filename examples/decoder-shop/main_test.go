package main

import (
	"testing"

	"github.com/grapnelhq/grapnel/sdk"
	"github.com/grapnelhq/grapnel/sdk/plugintest"
)

func TestConformance(t *testing.T) {
	plugintest.Decoder(t, sdk.NewDecoder(provider, open), plugintest.Options{})
}
