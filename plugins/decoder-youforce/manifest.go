package main

import (
	"embed"
	"encoding/json"
	"fmt"
	"hash/fnv"

	"github.com/grapnelhq/grapnel/sdk"
)

//go:embed testdata/published/*.json testdata/synthesized/*.json
var samples embed.FS

// manifest tells the host how to receive and authenticate what the Visma Webhook Dispatcher sends.
func manifest() sdk.Provider {
	body := sdk.Part{Kind: sdk.PartBody}
	return sdk.Provider{
		Name:  "youforce",
		Title: "Visma Youforce",
		Schemes: []sdk.Scheme{{
			Name:        "vwd",
			Description: "HMAC-SHA256 over the body in the header X-VWD-Signature-V1, with the subscription's secret.",
			HMAC: &sdk.HMAC{
				Headers:   []string{"X-VWD-Signature-V1"},
				Algorithm: sdk.SHA256,
				Encoding:  sdk.Base64,
				KeyFormat: sdk.KeyText,
			},
		}},
		Headers: []string{"x-vwd-*"},
		// The event's kind is in an unsigned header only, so it is part of what makes two requests the same.
		Dedupe: []sdk.DedupeKey{
			{{Kind: sdk.PartHeader, Name: headerNotification}},
			{{Kind: sdk.PartHeader, Name: headerEvent}, body},
			{body},
		},
		Addresses: []string{"18.202.121.26", "34.242.104.102", "54.220.26.45"},
		Events:    catalogue(),
	}
}

// catalogue lists the confirmed event types. Other kinds of records decode too, as untyped events.
func catalogue() []sdk.EventType {
	entities := []struct {
		name, header, thing    string
		data                   sdk.Schema
		insert, update, delete []string // samples
	}{
		{"person", "PERSON_CHANGED", "A person", sdk.MustSchema[personData](),
			[]string{"synthesized/person-insert"},
			[]string{"published/person-changed-update"},
			[]string{"synthesized/person-delete"}},
		{"employment", "EMPLOYMENT_CHANGED", "An employment", sdk.MustSchema[employmentData](),
			[]string{"synthesized/employment-insert"},
			[]string{"synthesized/employment-update", "synthesized/update-empty-changedfields"},
			[]string{"synthesized/employment-delete-without-value", "synthesized/employment-delete-with-value",
				"synthesized/employment-operation-deleted-null-value"}},
		{"assignment", "ASSIGNMENT_CHANGED", "An assignment", sdk.MustSchema[assignmentData](),
			[]string{"synthesized/assignment-insert"},
			[]string{"synthesized/assignment-update-mixed-types"},
			[]string{"synthesized/assignment-delete"}},
		// The shape of a sick leave is not published.
		{"sickleave", "SICKLEAVE_CHANGED", "A sick leave", sdk.Schema{Kind: sdk.KindAny, Nullable: true},
			[]string{"synthesized/sickleave-insert"},
			[]string{"synthesized/sickleave-update-period-added-newvalue-only",
				"synthesized/sickleave-update-period-removed-oldvalue-only"},
			[]string{"synthesized/sickleave-delete"}},
	}
	var events []sdk.EventType
	for _, e := range entities {
		deleted := e.data
		deleted.Nullable = true // a deletion may come without its record
		for _, t := range []struct {
			operation string
			data      sdk.Schema
			files     []string
		}{{"created", e.data, e.insert}, {"updated", e.data, e.update}, {"deleted", deleted, e.delete}} {
			event := sdk.EventType{
				Type:        "youforce." + e.name + "." + t.operation,
				Description: e.thing + " was " + t.operation + ".",
				Data:        t.data,
			}
			for _, file := range t.files {
				event.Samples = append(event.Samples, sample(e.header, file))
			}
			events = append(events, event)
		}
	}
	return events
}

// sample reads one of the files in testdata and says what makes a copy of it another event.
func sample(header, file string) sdk.Sample {
	body, err := samples.ReadFile("testdata/" + file + ".json")
	if err != nil {
		panic(err) // the file is part of the program
	}
	id := fnv.New32a()
	_, _ = id.Write([]byte(file)) // samples are notifications of their own
	s := sdk.Sample{
		Name: file,
		Headers: []sdk.Header{
			{Name: "Content-Type", Value: "application/json"},
			{Name: headerEvent, Value: header},
			{Name: headerNotification, Value: fmt.Sprintf("0f9d4a0e-7f5b-4d7b-9c36-%012d", id.Sum32())},
		},
		Body: body,
		Vary: []sdk.Variation{
			{Part: sdk.Part{Kind: sdk.PartHeader, Name: headerNotification}, Kind: sdk.VaryID},
			{Part: sdk.Part{Kind: sdk.PartJSONPointer, Name: "/id"}, Kind: sdk.VaryID},
			{Part: sdk.Part{Kind: sdk.PartJSONPointer, Name: "/timestamp"}, Kind: sdk.VaryTime},
		},
	}
	var record struct{ Value struct{ ID string } }
	if json.Unmarshal(body, &record) == nil && record.Value.ID != "" {
		s.Vary = append(s.Vary, sdk.Variation{
			Part: sdk.Part{Kind: sdk.PartJSONPointer, Name: "/value/id"}, Kind: sdk.VaryID,
		})
	}
	return s
}
