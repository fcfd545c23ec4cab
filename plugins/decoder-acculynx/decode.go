package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/grapnelhq/grapnel/sdk"
	"github.com/grapnelhq/grapnel/sdk/rawjson"
)

// What an operator is told about requests that are odd but no reason to refuse them.
const (
	noteNoData   = "event is missing or null: the event has no data"
	noteNoObject = "event is not an object: it is passed on as it is"
	noteNoID     = "event names no job, contact or custom field: the event has no subject"
	noteNoTime   = "eventDateTime is missing: the time of receipt stands in"
	noteTime     = "eventDateTime is not an RFC 3339 time: the time of receipt stands in"
	noteNoZone   = "eventDateTime has no zone: it is taken as UTC"
	noteAlias    = "topic is spelled approvedValue: it is taken as approved-value"
	noteLong     = "topic is longer than 200 bytes: the event's type is cut"
)

// decoder has no state: everything is in the request.
type decoder struct{}

func open(context.Context, struct{}) (sdk.Decoder, error) { return decoder{}, nil }

// Decode implements sdk.Decoder. Every request is one event.
func (decoder) Decode(_ context.Context, r *sdk.Request) ([]sdk.Event, error) {
	env, err := readEnvelope(r.Body)
	if err != nil {
		return nil, err
	}
	if err := env.checkID(); err != nil {
		return nil, err
	}
	topic, err := env.topic()
	if err != nil {
		return nil, err
	}
	var e sdk.Event
	note := func(text string) {
		if text != "" {
			e.Notes = append(e.Notes, text)
		}
	}
	typ, text := typeOf(topic)
	if typ == "" {
		return nil, errors.New("the topic has no letter or digit")
	}
	note(text)
	e.Type, e.Operation = "acculynx."+typ, operationOf(typ)
	e.Time, text = timeOf(env.when)
	note(text)

	data := env.event
	switch {
	case !data.Given():
		note(noteNoData)
		return []sdk.Event{e}, nil
	case data.Kind() != rawjson.Object:
		note(noteNoObject)
		e.Data = []byte(data)
		return []sdk.Event{e}, nil
	}
	if e.Subject, err = subjectOf(data); err != nil {
		return nil, fmt.Errorf("event: %w", err)
	}
	if e.Subject == "" {
		note(noteNoID)
	}
	e.PartitionKey = e.Subject
	e.Data = camelKeys(data)
	return []sdk.Event{e}, nil
}

// envelope is the top level of a body. The provider has spelled its members in several ways.
type envelope struct {
	topics   [4]rawjson.Value // by topicNames
	id, when rawjson.Value
	event    rawjson.Value
}

// topicNames are the members that may hold the topic.
var topicNames = [...]string{"topicName", "topicNamee", "type", "topic"}

func readEnvelope(body []byte) (*envelope, error) {
	root := rawjson.Root(body)
	switch root.Kind() {
	case rawjson.Object:
	case rawjson.Absent:
		return nil, errors.New("the body is not JSON")
	default:
		return nil, fmt.Errorf("the body is %v, not an object", root.Kind())
	}
	env := &envelope{}
	m := rawjson.Members(root)
	for m.Next() {
		var buf [len("eventdatetime")]byte
		var to *rawjson.Value
		switch string(lower(buf[:], m.Name)) {
		case "topicname":
			to = &env.topics[0]
		case "topicnamee":
			to = &env.topics[1]
		case "type":
			to = &env.topics[2]
		case "topic":
			to = &env.topics[3]
		case "eventid":
			to = &env.id
		case "eventdatetime":
			to = &env.when
		case "event":
			to = &env.event
		default:
			continue
		}
		// A name in two spellings says nothing about which one is meant, to us or to whoever looked at it before.
		if *to != nil && !bytes.Equal(*to, m.Value) {
			return nil, fmt.Errorf("%s is there twice with different values", buf[:len(m.Name)])
		}
		*to = m.Value
	}
	return env, m.Err()
}

// lower writes an ASCII name in lower case to buf. A name that is too long is none of ours, and empty.
func lower(buf, name []byte) []byte {
	if len(name) > len(buf) {
		return nil
	}
	for i, c := range name {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		buf[i] = c
	}
	return buf[:len(name)]
}

// checkID makes sure that there is an event id. The host tells repeats by it.
func (env *envelope) checkID() error {
	id, ok := env.id.ID()
	switch {
	case !env.id.Given():
		return errors.New("eventId is missing")
	case !ok && env.id.Kind() != rawjson.String:
		return fmt.Errorf("eventId is %v, not a string", env.id.Kind())
	case strings.TrimSpace(id) == "":
		return errors.New("eventId is empty")
	}
	return nil
}

// topic returns the topic. Where several members hold one, they must agree.
func (env *envelope) topic() (string, error) {
	topic, from := "", ""
	for i, v := range env.topics {
		if !v.Given() {
			continue
		}
		name := topicNames[i]
		text, ok := v.Text()
		text = strings.TrimSpace(text)
		switch {
		case !ok:
			return "", fmt.Errorf("%s is %v, not a string", name, v.Kind())
		case text == "":
			return "", fmt.Errorf("%s is empty", name)
		case topic == "":
			topic, from = text, name
		case !strings.EqualFold(topic, text):
			return "", fmt.Errorf("%s and %s hold different topics", from, name)
		}
	}
	if topic == "" {
		return "", errors.New("topicName is missing")
	}
	return topic, nil
}

const maxTopic = 200 // bytes; the longest known one has 49

// typeOf makes an event type, without the provider, of a topic. The oldest topics have no dot: there the first word
// is the entity.
func typeOf(topic string) (typ, note string) {
	if len(topic) > maxTopic {
		topic, note = topic[:maxTopic], noteLong
	}
	if strings.EqualFold(topic, "job.financials.approvedValue_changed") { // the provider's reference, not its live topic
		topic, note = "job.financials.approved-value_changed", noteAlias
	}
	if !strings.Contains(topic, ".") {
		i := strings.IndexByte(topic, '_')
		if i < 0 {
			i = strings.IndexByte(topic, '-')
		}
		if i >= 0 {
			topic = topic[:i] + "." + topic[i+1:]
		}
	}
	parts := make([]string, 0, 4)
	for part := range strings.SplitSeq(topic, ".") {
		if part = sdk.TypeWord(part); strings.Trim(part, "_") != "" {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, "."), note
}

// operationOf is the last word of a type, in the host's vocabulary where that has one.
func operationOf(typ string) string {
	typ = strings.TrimRight(typ, "_")
	switch word := typ[strings.LastIndexAny(typ, "._")+1:]; word {
	case "added":
		return "created"
	case "changed":
		return "updated"
	default:
		return word
	}
}

// timeOf keeps the provider's text, with 0 to 9 fractional digits.
func timeOf(v rawjson.Value) (text, note string) {
	if !v.Given() {
		return "", noteNoTime
	}
	text, _ = v.Text()
	switch {
	case sdk.ValidTime(text):
		return text, ""
	case sdk.ValidTime(text + "Z"):
		return text + "Z", noteNoZone
	}
	return "", noteTime
}

// subjectOf names what an event is about. Events about the status of a custom field do not say whose field it is.
func subjectOf(data rawjson.Value) (string, error) {
	var job, jobID, contact, field rawjson.Value
	m := rawjson.Members(data)
	for m.Next() {
		var buf [len("customfield")]byte
		switch string(lower(buf[:], m.Name)) {
		case "job":
			job = m.Value
		case "jobid":
			jobID = m.Value
		case "contact":
			contact = m.Value
		case "customfield":
			field = m.Value
		}
	}
	if m.Err() != nil {
		return "", m.Err()
	}
	for _, s := range []struct {
		entity string
		id     rawjson.Value
	}{{"job/", idOf(job)}, {"job/", jobID}, {"contact/", idOf(contact)}, {"custom_field/", idOf(field)}} {
		if id, ok := s.id.ID(); ok {
			return s.entity + id, nil
		}
	}
	return "", nil
}

// idOf returns an object's id.
func idOf(object rawjson.Value) (id rawjson.Value) {
	if object.Kind() != rawjson.Object {
		return nil
	}
	for m := rawjson.Members(object); m.Next(); {
		var buf [len("id")]byte
		if string(lower(buf[:], m.Name)) == "id" {
			id = m.Value
		}
	}
	return id
}
