package sdk_test

import (
	"strings"
	"testing"

	"github.com/grapnelhq/grapnel/sdk"
)

func TestTypeWord(t *testing.T) {
	for word, want := range map[string]string{
		"":                       "",
		" \t\n":                  "",
		"created":                "created",
		" Update ":               "update",
		"COST-ALLOCATION":        "cost_allocation",
		"a.b/c":                  "a_b_c",
		"...":                    "___",
		"é":                      "__",
		"a\x00\xff":              "a__",
		strings.Repeat("x", 100): strings.Repeat("x", sdk.MaxTypeWord),
	} {
		if got := sdk.TypeWord(word); got != want {
			t.Errorf("TypeWord(%q) = %q, want %q", word, got, want)
		}
	}
}
