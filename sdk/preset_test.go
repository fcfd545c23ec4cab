package sdk_test

import (
	"testing"

	"github.com/grapnelhq/grapnel/sdk"
)

func TestPresets(t *testing.T) {
	for _, name := range sdk.Presets() {
		if s, ok := sdk.Preset(name); !ok || s.Name != name || s.Description == "" {
			t.Errorf("%s: %+v, %v", name, s, ok)
		}
	}
	if _, ok := sdk.Preset("none"); ok {
		t.Error(`there is a preset "none"`)
	}
}
