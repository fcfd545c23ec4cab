package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/grapnelhq/grapnel/sdk"
	"github.com/grapnelhq/grapnel/sdk/rawjson"
)

// What an operator is told about requests that are odd but no reason to refuse them.
const (
	noteNoData   = "data is missing or not an object: it is passed on as it is"
	noteNoID     = "data.id is missing: the event has no subject"
	noteNoPerson = "the id that orders this topic's events is missing: they are ordered by their subject"
	noteTime     = "data.meta.updated_at is not an RFC 3339 time: the time of receipt stands in"
)

// decoder has no state: everything is in the request.
type decoder struct{}

func open(context.Context, struct{}) (sdk.Decoder, error) { return decoder{}, nil }

// Decode implements sdk.Decoder. Every request is one event.
func (decoder) Decode(_ context.Context, r *sdk.Request) ([]sdk.Event, error) {
	body := rawjson.Root(r.Body)
	switch body.Kind() {
	case rawjson.Object:
	case rawjson.Absent:
		return nil, errors.New("the body is not JSON")
	default:
		return nil, fmt.Errorf("the body is %v, not an object", body.Kind())
	}
	var action, data rawjson.Value
	m := rawjson.Members(body)
	for m.Next() {
		switch string(m.Name) {
		case "action":
			action = m.Value
		case "data":
			data = m.Value
		}
	}
	if m.Err() != nil {
		return nil, m.Err()
	}
	name, ok := action.Text()
	switch {
	case !action.Given():
		return nil, errors.New("action is missing")
	case !ok:
		return nil, fmt.Errorf("action is %v, not a string", action.Kind())
	case strings.TrimSpace(name) == "":
		return nil, errors.New("action is empty")
	}
	event, err := decodeData(topicOf(name), data)
	if err != nil {
		return nil, fmt.Errorf("data: %w", err)
	}
	return []sdk.Event{event}, nil
}

// key says which id orders a topic's events.
type key int

const (
	keySubject   key = iota // data.id
	keyEmployee             // data.employee.id
	keyAttribute            // data.attributes.employee_id
)

// topic is what an action means.
type topic struct {
	typ       string // without the provider
	entity    string
	operation string
	key       key
}

// topicOf reads an action. The confirmed ones match exactly; any other stays as it is in the event's type, with a guess
// at the entity and the operation: the provider writes the verb last.
func topicOf(action string) topic {
	known := func(entity, operation string, k key) topic {
		return topic{entity + "." + operation, entity, operation, k}
	}
	switch action {
	case "employee_create":
		return known("employee", "created", keySubject)
	case "employee_update":
		return known("employee", "updated", keySubject)
	case "employee_start":
		return known("employee", "started", keySubject)
	case "employee_terminate":
		return known("employee", "terminated", keySubject)
	case "employee_termination_revert":
		return known("employee", "termination_reverted", keySubject)
	case "employee_position_create":
		return known("employee_position", "created", keyEmployee)
	case "employee_position_update":
		return known("employee_position", "updated", keyEmployee)
	case "employee_salary_create":
		return known("employee_salary", "created", keyEmployee)
	case "employee_salary_update":
		return known("employee_salary", "updated", keyEmployee)
	case "employee_additional_compensation_create":
		return known("employee_additional_compensation", "created", keyEmployee)
	case "employee_additional_compensation_update":
		return known("employee_additional_compensation", "updated", keyEmployee)
	case "employee_employment_status_create":
		return known("employee_employment_status", "created", keyEmployee)
	case "employee_employment_status_update":
		return known("employee_employment_status", "updated", keyEmployee)
	case "leave_request_create":
		return known("leave_request", "created", keyAttribute)
	case "leave_request_approve":
		return known("leave_request", "approved", keyAttribute)
	case "leave_request_reject":
		return known("leave_request", "rejected", keyAttribute)
	case "leave_request_withdraw":
		return known("leave_request", "withdrawn", keyAttribute)
	case "applicant_create":
		return known("applicant", "created", keySubject)
	}

	word := sdk.TypeWord(action)
	t := topic{typ: word, entity: word}
	i := strings.LastIndexByte(word, '_')
	if i <= 0 || i == len(word)-1 {
		return t
	}
	t.entity, t.operation = word[:i], word[i+1:]
	switch t.operation {
	case "create":
		t.operation = "created"
	case "update":
		t.operation = "updated"
	case "destroy", "delete":
		t.operation = "deleted"
	}
	return t
}

func decodeData(t topic, data rawjson.Value) (sdk.Event, error) {
	event := sdk.Event{Type: "peopleforce." + t.typ, Operation: t.operation}
	note := func(text string) { event.Notes = append(event.Notes, text) }
	if data.Given() {
		event.Data = []byte(data)
	}
	if data.Kind() != rawjson.Object {
		note(noteNoData)
		return event, nil
	}

	var id, attributes, employee, meta rawjson.Value
	m := rawjson.Members(data)
	for m.Next() {
		switch string(m.Name) {
		case "id":
			id = m.Value
		case "attributes":
			attributes = m.Value
		case "employee":
			employee = m.Value
		case "meta":
			meta = m.Value
		}
	}
	if m.Err() != nil {
		return sdk.Event{}, m.Err()
	}
	if s, ok := id.ID(); ok {
		event.Subject = t.entity + "/" + s
	} else {
		note(noteNoID)
	}

	var person rawjson.Value
	switch t.key {
	case keyEmployee:
		person = employee.Get("id")
	case keyAttribute:
		person = attributes.Get("employee_id")
	}
	event.PartitionKey = event.Subject
	if t.key != keySubject {
		if s, ok := person.ID(); ok {
			event.PartitionKey = "employee/" + s
		} else {
			note(noteNoPerson)
		}
	}

	if updated := meta.Get("updated_at"); updated.Given() {
		if s, ok := updated.Text(); ok && sdk.ValidTime(s) {
			event.Time = s
		} else {
			note(noteTime)
		}
	}
	return event, nil
}
