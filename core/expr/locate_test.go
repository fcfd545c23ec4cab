package expr

import (
	"strings"
	"testing"

	"github.com/grapnelhq/grapnel/sdk"
)

// TestLocate finds the lines of what is rejected.
func TestLocate(t *testing.T) {
	const body = `fields = {
  name = event.data.s
  "Department__c" = ("${event.data.s}!")
  twice = 1
  twice = event.data.i
  address = {
    lines = ["x",
      event.data.n]
  }
}
blocks = [
  { type = "section" },
  raw({ text = event.data.s }),
]
computed = event.data.b == true ? { a = 1 } : { a = event.data.i }
`
	any, list := sdk.Schema{Kind: sdk.KindAny}, sdk.Schema{Kind: sdk.KindList}
	list.Element = &sdk.Schema{Kind: sdk.KindAny, Escape: sdk.EscapeHTML}
	fields := sdk.Schema{Kind: sdk.KindMap, Element: &any}
	m, diags := compileMessage(t, NewSet(nil, nil), body,
		object(attr("fields", fields), attr("blocks", list), attr("computed", any)))
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	for path, want := range map[string]string{
		"":                       "",
		"nope":                   "",
		"fields":                 "route.hcl:1,1-10,2",
		"fields/name":            "route.hcl:2,3-22",
		"fields/Department__c":   "route.hcl:3,3-40",
		"fields/twice":           "route.hcl:5,3-23",
		"fields/absent":          "route.hcl:1,1-10,2",
		"fields/address/lines/1": "route.hcl:8,7-19",
		"fields/address/lines/7": "route.hcl:7,5-8,20",
		"fields/name/first":      "route.hcl:2,3-22",
		"blocks/0/type":          "route.hcl:12,5-21",
		"blocks/1/text/text":     "route.hcl:13,9-28",
		"computed/a":             "route.hcl:15,1-67",
	} {
		var parts []string
		if path != "" {
			parts = strings.Split(path, "/")
		}
		if got := m.Locate(parts); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}
