package sdk_test

import (
	"testing"

	"github.com/grapnelhq/grapnel/sdk"
)

func TestValidTime(t *testing.T) {
	for s, want := range map[string]bool{
		"2025-07-03T10:12:35Z":              true,
		"2025-07-03T10:12:35.4877275+00:00": true,
		"2022-09-05T18:33:55.526+03:00":     true,
		"2024-02-29T23:59:59-12:30":         true,
		"":                                  false,
		"2025-07-03":                        false,
		"2025-07-03T10:12:35":               false,
		"2025-07-03 10:12:35Z":              false,
		"2025-07-03T10:12:35,5Z":            false,
		"2025-07-03T1:12:35.00Z":            false,
		"2025-02-29T10:12:35Z":              false,
		"2025-07-03T10:12:35+0300":          false,
		" 2025-07-03T10:12:35Z":             false,
	} {
		if got := sdk.ValidTime(s); got != want {
			t.Errorf("ValidTime(%q) = %v", s, got)
		}
	}
}
