// Command grapnel-decoder-github is a decoder for a real provider, whole: the webhooks of GitHub.
package main

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/grapnelhq/grapnel/sdk"
	"github.com/grapnelhq/grapnel/sdk/serve"
)

func main() { serve.Main(sdk.NewDecoder(provider(), open)) }

func open(context.Context, struct{}) (sdk.Decoder, error) { return decoder{}, nil }

// payload is what the decoder itself reads. What a route may read is in catalogue.go, and all the rest passes untouched.
type payload struct {
	Action      string `json:"action"`
	Repository  repo   `json:"repository"`
	Issue       record `json:"issue"`
	PullRequest record `json:"pull_request"`
	HeadCommit  struct {
		Timestamp string `json:"timestamp"`
	} `json:"head_commit"`
	Changes map[string]struct {
		From json.RawMessage `json:"from"`
	} `json:"changes"`
}

type repo struct {
	FullName string `json:"full_name"`
	Owner    struct {
		Login string `json:"login"`
	} `json:"owner"`
}

type record struct {
	Number    int64  `json:"number"`
	UpdatedAt string `json:"updated_at"`
}

type decoder struct{}

// Decode makes one event of a request: github.push, github.issues.opened, github.ping.
func (decoder) Decode(_ context.Context, r *sdk.Request) ([]sdk.Event, error) {
	word := sdk.TypeWord(r.Header("x-github-event"))
	if word == "" {
		return nil, errors.New("the header X-GitHub-Event is missing") // for good: the request ends dead and visible
	}
	var p payload
	if err := json.Unmarshal(r.Body, &p); err != nil {
		return nil, errors.New("the body is not as GitHub sends it") // err would show some of it
	}
	e := sdk.Event{
		Type: "github." + word, Subject: "repository/" + p.Repository.FullName, Tenant: p.Repository.Owner.Login,
		Time: p.HeadCommit.Timestamp, Operation: operation(p.Action), Data: r.Body, // verbatim
	}
	if action := sdk.TypeWord(p.Action); action != "" {
		e.Type += "." + action
	}
	switch {
	case p.PullRequest.Number != 0:
		e.Subject, e.Time = fmt.Sprintf("pull_request/%s/%d", p.Repository.FullName, p.PullRequest.Number), p.PullRequest.UpdatedAt
		e.Changes = changes(p, r.Body, "pull_request")
	case p.Issue.Number != 0:
		e.Subject, e.Time = fmt.Sprintf("issue/%s/%d", p.Repository.FullName, p.Issue.Number), p.Issue.UpdatedAt
		e.Changes = changes(p, r.Body, "issue")
	case p.Repository.FullName == "":
		e.Subject = "" // of an organization: nothing says of what
	}
	e.PartitionKey = e.Subject // what happens to one issue arrives in order
	if !sdk.ValidTime(e.Time) {
		e.Time = "" // that of receipt
	}
	return []sdk.Event{e}, nil
}

// operation is one of the usual words where an action means that, and GitHub's own elsewhere.
func operation(action string) string {
	switch action {
	case "opened":
		return "created"
	case "edited":
		return "updated"
	}
	return action
}

// changes lists what an edit has changed: GitHub says what was there before.
func changes(p payload, body []byte, name string) (list []sdk.Change) {
	var all map[string]json.RawMessage
	var now map[string]json.RawMessage
	if len(p.Changes) == 0 || json.Unmarshal(body, &all) != nil || json.Unmarshal(all[name], &now) != nil {
		return nil
	}
	for field, c := range p.Changes {
		if c.From != nil {
			list = append(list, sdk.Change{Field: field, Old: c.From, New: now[field]})
		}
	}
	// The same request gives the same event, always; a map has no order.
	slices.SortFunc(list, func(a, b sdk.Change) int { return strings.Compare(a.Field, b.Field) })
	return list
}

//go:embed testdata/*.json
var samples embed.FS

// provider is the manifest: how GitHub signs, what makes two requests the same, and which events it has.
func provider() sdk.Provider {
	signed, _ := sdk.Preset("github") // X-Hub-Signature-256: sha256=…
	delivery := sdk.Part{Kind: sdk.PartHeader, Name: "X-GitHub-Delivery"}
	p := sdk.Provider{
		Name: "github", Title: "GitHub", Schemes: []sdk.Scheme{signed}, Headers: []string{"x-github-*"},
		Dedupe: []sdk.DedupeKey{{delivery}},
	}
	for _, c := range catalogue {
		body, err := samples.ReadFile("testdata/" + c.typ + ".json")
		if err != nil {
			panic(err) // it is part of the program
		}
		c.event.Type = "github." + c.typ
		c.event.Samples = []sdk.Sample{{
			Name: c.word, Body: body,
			Headers: []sdk.Header{
				{Name: "X-GitHub-Event", Value: c.word}, {Name: "X-GitHub-Delivery", Value: "72d3162e-cc78-11e3-81ab-4c9367dc0958"},
			},
			Vary: []sdk.Variation{{Part: delivery, Kind: sdk.VaryID}},
		}}
		p.Events = append(p.Events, c.event)
	}
	return p
}
