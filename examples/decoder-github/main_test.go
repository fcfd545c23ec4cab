package main

import (
	"context"
	"testing"

	"github.com/grapnelhq/grapnel/sdk"
	"github.com/grapnelhq/grapnel/sdk/plugintest"
)

func TestConformance(t *testing.T) {
	plugintest.Decoder(t, sdk.NewDecoder(provider(), open), plugintest.Options{Golden: "testdata/golden"})
}

// Events that the catalogue lacks pass, under GitHub's own words.
func TestUnknown(t *testing.T) {
	for _, c := range []struct{ word, body, typ, subject, refused string }{
		{"star", `{"action":"created","repository":{"full_name":"a/b"}}`, "github.star.created", "repository/a/b", ""},
		{"Org-Block", `{"action":"Blocked!"}`, "github.org_block.blocked_", "", ""},
		{"", `{}`, "", "", "the header X-GitHub-Event is missing"},
		{"push", `{"repository":7}`, "", "", "the body is not as GitHub sends it"},
	} {
		r := &sdk.Request{ID: "r", Body: []byte(c.body), Headers: []sdk.Header{{Name: "x-github-event", Value: c.word}}}
		got := sdk.DecodeAll(context.Background(), decoder{}, []*sdk.Request{r})[0]
		if got.Refused != c.refused || c.refused == "" && (got.Events[0].Type != c.typ || got.Events[0].Subject != c.subject) {
			t.Errorf("%s %s: %+v", c.word, c.body, got)
		}
	}
}
