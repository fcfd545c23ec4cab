package reference

import (
	"testing"

	"github.com/grapnelhq/grapnel/sdk"
)

func TestData(t *testing.T) {
	type line struct {
		Amount string `json:"amount" doc:"A decimal number."`
	}
	type order struct {
		ID    string          `json:"ID"`
		State string          `json:"state" enum:"open|paid" doc:"a|b"`
		Note  *string         `json:"note,omitempty"`
		Lines []line          `json:"lines"`
		More  map[string]line `json:"more,omitempty"`
	}
	schema := sdk.MustSchema[order]()
	const want = "| field | type | meaning |\n|---|---|---|\n" +
		"| `ID` | text |  |\n" +
		"| `state` | `\"open\"`, `\"paid\"` | a\\|b |\n" +
		"| `note` | text or null, may be missing |  |\n" +
		"| `lines` | list of object |  |\n" +
		"| `lines[].amount` | text | A decimal number. |\n" +
		"| `more` | map of object, may be missing |  |\n" +
		"| `more.*.amount` | text | A decimal number. |\n"
	if got := Data(&schema); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := Data(&sdk.Schema{Kind: sdk.KindAny}); got != "Its fields are not declared.\n" {
		t.Errorf("got %q", got)
	}
}
