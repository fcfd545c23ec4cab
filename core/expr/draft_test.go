package expr

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/zclconf/go-cty/cty"

	"github.com/grapnelhq/grapnel/sdk"
)

// TestDraft renders what is the same for every event.
func TestDraft(t *testing.T) {
	list := func(s sdk.Schema) sdk.Schema { return sdk.Schema{Kind: sdk.KindList, Element: &s, Optional: true} }
	mapOf := func(s sdk.Schema) sdk.Schema { return sdk.Schema{Kind: sdk.KindMap, Element: &s, Optional: true} }
	of := func(k sdk.Kind) sdk.Schema { return sdk.Schema{Kind: k, Optional: true} }
	schema := object(
		attr("text", optional), attr("lang", filled), attr("color", sdk.Schema{
			Kind: sdk.KindString, Enum: []string{"red", "green"}, Optional: true,
		}), attr("n", of(sdk.KindInteger)), attr("b", of(sdk.KindBool)), attr("d", of(sdk.KindDuration)),
		attr("any", of(sdk.KindAny)), attr("list", list(anyOne)), attr("map", mapOf(anyOne)),
		attr("person", sdk.Schema{Kind: sdk.KindObject, Attributes: person.Attributes, Optional: true}), attr("clearing", clearing),
	)
	for body, want := range map[string]string{
		``:                                        `{"lang":"d"}`,
		`text = "x"`:                              `{"text":"x","lang":"d"}`,
		`text = true`:                             `{"text":"true","lang":"d"}`,
		`text = local.who`:                        `{"text":"ops","lang":"d"}`,
		`text = null`:                             `{"lang":"d"}`,
		`clearing = null`:                         `{"lang":"d","clearing":null}`,
		`text = event.data.s`:                     `{"text":"","lang":"d"} text`,
		`text = "a ${event.data.s}"`:              `{"text":"","lang":"d"} text`,
		`lang = event.data.s`:                     `{"lang":""} lang`,
		`color = event.data.s`:                    `{"lang":"d","color":"red"} color`,
		`n = event.data.i`:                        `{"lang":"d","n":0} n`,
		`n = 1 + 1`:                               `{"lang":"d","n":2}`,
		`b = event.data.s == "x"`:                 `{"lang":"d","b":false} b`,
		`d = "1h"`:                                `{"lang":"d","d":3600000000000}`,
		`d = event.data.d`:                        `{"lang":"d","d":0} d`,
		`any = event.data`:                        `{"lang":"d","any":null} any`,
		`any = [1, event.data.i]`:                 `{"lang":"d","any":[1,null]} any/1`,
		`list = event.data.l`:                     `{"lang":"d","list":[]} list`,
		`list = [{a = event.type}]`:               `{"lang":"d","list":[{"a":null}]} list/0/a`,
		`list = [for x in [1]: x]`:                `{"lang":"d","list":[1]}`,
		`map = { email = event.id }`:              `{"lang":"d","map":{"email":null}} map/email`,
		`map = { (event.id) = 1 }`:                `{"lang":"d","map":{}} map`,
		`map = { a = 1, b = null }`:               `{"lang":"d","map":{"a":1,"b":null}}`,
		`person = event.data.p`:                   `{"lang":"d","person":{"name":"","lang":"d"}} person`,
		`person = {name = event.id}`:              `{"lang":"d","person":{"name":"","lang":"d"}} person/name`,
		`text = event.data.s != null ? "x" : "y"`: `{"text":"","lang":"d"} text`,
	} {
		set := NewSet(map[string]cty.Value{"local": cty.ObjectVal(map[string]cty.Value{"who": cty.StringVal("ops")})}, nil)
		m, diags := compileMessage(t, set, body, schema)
		if diags.HasErrors() {
			t.Errorf("%s: %v", body, diags)
			continue
		}
		js, varies := m.Draft(schema)
		if !json.Valid(js) {
			t.Errorf("%s: %s", body, js)
		}
		got := []string{string(js)}
		for _, path := range varies {
			got = append(got, strings.Join(path, "/"))
		}
		slices.Sort(got[1:])
		if diff := cmp.Diff(want, strings.Join(got, " ")); diff != "" {
			t.Errorf("%s: -want +got:\n%s", body, diff)
		}
	}
}
