package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/grapnelhq/grapnel/sdk"
	"github.com/grapnelhq/grapnel/sdk/rawjson"
)

// The dispatcher's headers. None of them is covered by the signature.
const (
	headerEvent        = "X-Vwd-Event-Id" // the kind of the event, not an id: "EMPLOYMENT_CHANGED"
	headerNotification = "X-Vwd-Notification-Id"
	headerTenant       = "X-Vwd-Tenant-Id"
)

// maxRecords is the most elements of an array: a host takes no more events of one request. The provider sends one.
const maxRecords = 4096

// What an operator is told about requests that are odd but no reason to refuse them.
const (
	noteNoHeader    = "the header X-Vwd-Event-Id is missing: the kind of the record is unknown"
	noteNoOperation = "operation is missing: the event says only that the record changed"
	noteNoID        = "id is missing: the event has no subject and no order"
	noteTime        = "timestamp is missing or not an RFC 3339 time: the time of receipt stands in"
	noteValue       = "value is not an object: it is passed on as it is"
	noteChanges     = "changedFields is not an object: it is left out"
	noteChange      = "a changed field has neither oldValue nor newValue"
)

// decoder has no state: everything is in the request.
type decoder struct{}

func open(context.Context, struct{}) (sdk.Decoder, error) { return decoder{}, nil }

// Decode implements sdk.Decoder. The body is one record or an array of records; each makes one event.
func (decoder) Decode(_ context.Context, r *sdk.Request) ([]sdk.Event, error) {
	kind := kindOf(r.Header(headerEvent))
	body := rawjson.Root(r.Body)
	switch body.Kind() {
	case rawjson.Object:
		event, err := decodeRecord(r, kind, body)
		if err != nil {
			return nil, err
		}
		return []sdk.Event{event}, nil
	case rawjson.Array:
		var events []sdk.Event
		elements := rawjson.Elements(body)
		for elements.Next() {
			if elements.Index == maxRecords {
				return nil, fmt.Errorf("the array has more than %d elements", maxRecords)
			}
			event, err := decodeRecord(r, kind, elements.Value)
			if err != nil {
				// Events are numbered by their place in the request, so none of it can go on without this one.
				return nil, fmt.Errorf("element %d: %w", elements.Index, err)
			}
			events = append(events, event)
		}
		if elements.Err() != nil {
			return nil, elements.Err()
		}
		return events, nil
	case rawjson.Absent:
		return nil, errors.New("the body is not JSON")
	}
	return nil, fmt.Errorf("the body is %v, not an object or an array of objects", body.Kind())
}

// kind is what the event header says.
type kind struct {
	entity  string // in lower case
	changed bool   // "<ENTITY>_CHANGED": the operation ends the event's type
	note    string
}

func kindOf(header string) kind {
	const suffix = "_CHANGED"
	header = strings.TrimSpace(header)
	if header == "" {
		return kind{entity: "record", changed: true, note: noteNoHeader}
	}
	if n := len(header) - len(suffix); n > 0 && strings.EqualFold(header[n:], suffix) {
		if entity := sdk.TypeWord(header[:n]); entity != "" {
			return kind{entity: entity, changed: true}
		}
	}
	return kind{entity: sdk.TypeWord(header)}
}

// record holds the members of a record that the envelope is made of, as they were written.
type record struct {
	id, operation, tenant, changed, timestamp, value rawjson.Value
}

func decodeRecord(r *sdk.Request, k kind, text rawjson.Value) (sdk.Event, error) {
	if text.Kind() != rawjson.Object {
		return sdk.Event{}, fmt.Errorf("it is %v, not an object", text.Kind())
	}
	rec, err := readRecord(text)
	if err != nil {
		return sdk.Event{}, err
	}
	event := sdk.Event{Type: "youforce." + k.entity}
	note := func(text string) { event.Notes = append(event.Notes, text) }
	if k.note != "" {
		note(k.note)
	}
	if event.Operation, err = operationOf(rec.operation); err != nil {
		return sdk.Event{}, err
	}
	if k.changed {
		happened := event.Operation
		if happened == "" {
			happened = "changed"
			note(noteNoOperation)
		}
		event.Type += "." + happened
	}

	id, err := identifier("id", rec.id)
	if err != nil {
		return sdk.Event{}, err
	}
	tenant, err := identifier("tenantId", rec.tenant)
	if err != nil {
		return sdk.Event{}, err
	}
	if tenant == "" {
		tenant = strings.TrimSpace(r.Header(headerTenant))
	}
	event.Tenant = tenant
	if tenant == "" {
		tenant = r.Tenant
	}
	if id == "" {
		note(noteNoID)
	} else {
		event.Subject = k.entity + "/" + id
		event.PartitionKey = event.Subject
		if tenant != "" {
			event.PartitionKey = tenant + "/" + event.Subject
		}
	}

	if s, ok := rec.timestamp.Text(); ok && sdk.ValidTime(s) {
		event.Time = s
	} else {
		note(noteTime)
	}
	if rec.value.Given() {
		event.Data = []byte(rec.value)
		if rec.value.Kind() != rawjson.Object {
			note(noteValue)
		}
	}
	switch {
	case rec.changed.Kind() == rawjson.Object:
		var complete bool
		if event.Changes, complete, err = changesOf(rec.changed); err != nil {
			return sdk.Event{}, fmt.Errorf("changedFields: %w", err)
		}
		if !complete {
			note(noteChange)
		}
	case rec.changed.Given():
		note(noteChanges)
	}
	return event, nil
}

func readRecord(text rawjson.Value) (record, error) {
	var rec record
	m := rawjson.Members(text)
	for m.Next() {
		switch string(m.Name) {
		case "id":
			rec.id = m.Value
		case "operation":
			rec.operation = m.Value
		case "tenantId":
			rec.tenant = m.Value
		case "changedFields":
			rec.changed = m.Value
		case "timestamp":
			rec.timestamp = m.Value
		case "value":
			rec.value = m.Value
		}
	}
	return rec, m.Err()
}

// operationOf reads the operation, which the provider's own pages write in several ways. An unknown one is its own
// word, a missing one is empty.
func operationOf(v rawjson.Value) (string, error) {
	if !v.Given() {
		return "", nil
	}
	s, ok := v.Text()
	if !ok {
		return "", fmt.Errorf("operation is %v, not a string", v.Kind())
	}
	switch word := sdk.TypeWord(s); word {
	case "insert":
		return "created", nil
	case "update":
		return "updated", nil
	case "delete", "deleted":
		return "deleted", nil
	default:
		return word, nil
	}
}

// identifier reads an id verbatim: it may hold spaces and is never trimmed or split. A missing one is empty.
func identifier(name string, v rawjson.Value) (string, error) {
	if !v.Given() {
		return "", nil
	}
	s, ok := v.ID()
	if !ok && v.Kind() != rawjson.String {
		return "", fmt.Errorf("%s is %v, not a string", name, v.Kind())
	}
	return s, nil
}

// changesOf reads changedFields. The keys are opaque: a dot may be a path or part of a name. A value that is not
// there stays nil, a null one is null. complete is false if a field has neither value.
func changesOf(v rawjson.Value) (changes []sdk.Change, complete bool, err error) {
	complete = true
	var seen map[string]int // where each field is, once there are many
	m := rawjson.Members(v)
	for m.Next() {
		c := sdk.Change{Field: strings.ToValidUTF8(string(m.Name), "\uFFFD")}
		if m.Value.Kind() == rawjson.Object {
			w := rawjson.Members(m.Value)
			for w.Next() {
				switch string(w.Name) {
				case "oldValue":
					c.Old = []byte(w.Value)
				case "newValue":
					c.New = []byte(w.Value)
				}
			}
			if w.Err() != nil {
				return nil, false, w.Err()
			}
		}
		complete = complete && (c.Old != nil || c.New != nil)
		if i := find(changes, seen, c.Field); i >= 0 {
			changes[i] = c // the last of equal names wins, as everywhere in the body
			continue
		}
		changes = append(changes, c)
		switch {
		case seen != nil:
			seen[c.Field] = len(changes) - 1
		case len(changes) > 16:
			seen = make(map[string]int, 2*len(changes))
			for i := range changes {
				seen[changes[i].Field] = i
			}
		}
	}
	return changes, complete, m.Err()
}

// find returns where field is in changes, or -1: by looking at all while they are few, by the map after that.
func find(changes []sdk.Change, seen map[string]int, field string) int {
	if seen != nil {
		if i, ok := seen[field]; ok {
			return i
		}
		return -1
	}
	for i := range changes {
		if changes[i].Field == field {
			return i
		}
	}
	return -1
}
