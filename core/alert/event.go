package alert

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/sdk"
)

// The event types.
const (
	TypeFired    = "grapnel.alert.fired"
	TypeReminded = "grapnel.alert.reminded"
	TypeResolved = "grapnel.alert.resolved"
)

// State is what an event says of its alert.
type State string

// The states.
const (
	Fired    State = "fired"
	Reminded State = "reminded"
	Resolved State = "resolved"
)

// Event is a message of an alert. As JSON it is the body of a request of the built-in source, and event.data of its event.
type Event struct {
	Alert     string    `json:"alert" doc:"Name of the alert block."`
	State     State     `json:"state" enum:"fired|reminded|resolved" doc:"fired, reminded (it still holds) or resolved."`
	Text      string    `json:"text" doc:"What is the matter, as a sentence."`
	Subject   string    `json:"subject" doc:"What it is about: its kind and name, such as sink/audit."`
	Kind      string    `json:"kind" enum:"sink|source|plugin" doc:"Kind of the subject."`
	Name      string    `json:"name" doc:"Name of the subject."`
	Condition Condition `json:"condition" enum:"sink_parked|dead_letters|oldest_waiting|plugin_failed|source_silent|rejected_signatures" doc:"The alert's condition, such as sink_parked."`
	Reason    string    `json:"reason,omitempty" doc:"Why, in the words of the sink or plugin, where there are any."`
	Value     float64   `json:"value" doc:"What was measured."`
	Threshold float64   `json:"threshold" doc:"What it was compared with."`
	Unit      Unit      `json:"unit" enum:"seconds|count" doc:"Of value and threshold."`
	Since     time.Time `json:"since" doc:"When the condition began to hold."`
	At        time.Time `json:"at" doc:"When this was said."`
	Lasted    float64   `json:"lasted_seconds" doc:"How long it has held, until now or until it ended."`
	Number    int64     `json:"number" doc:"The same for all events of one firing; grows."`
	Reminder  int       `json:"reminder" doc:"Number of this reminder, from 1; otherwise 0."`
	Test      bool      `json:"test" doc:"Somebody tries the alert: nothing is the matter."`
	Link      string    `json:"link,omitempty" doc:"Where to look, if the configuration has an admin listener."`
}

// Request makes the request that carries an event. Two with the same alert, subject, number, state and reminder are the same.
func (e *Event) Request() (*core.Request, error) {
	body, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	id := fmt.Sprintf("%s\x00%s\x00%d\x00%s\x00%d", e.Alert, e.Subject, e.Number, e.State, e.Reminder)
	return &core.Request{
		Dedupe: core.NewDedupeKey(core.BuiltinSource, []byte(id)), Source: core.BuiltinSource, ReceivedAt: e.At, Method: "POST",
		Headers: []sdk.Header{{Name: "content-type", Value: "application/json"}}, Body: body,
	}, nil
}

// Decode is the decoder of the built-in source.
func Decode(r *core.Request) core.Decoded {
	var e Event
	if err := json.Unmarshal(r.Body, &e); err != nil {
		return core.Decoded{Refused: "this is no alert: " + err.Error()}
	}
	eventType := ""
	switch e.State {
	case Fired:
		eventType = TypeFired
	case Reminded:
		eventType = TypeReminded
	case Resolved:
		eventType = TypeResolved
	}
	if eventType == "" || e.Alert == "" || e.Subject == "" {
		return core.Decoded{Refused: "this is no alert: it needs alert, subject, and fired, reminded or resolved as state"}
	}
	return core.Decoded{Events: []core.Event{{
		Envelope: sdk.Envelope{
			ID: core.EventID(r.Dedupe, r.Repeat, 0), Source: "urn:grapnel:source:" + core.BuiltinSource, Type: eventType,
			Subject: e.Subject, PartitionKey: e.Alert + "/" + e.Subject, Operation: string(e.State), Provider: core.BuiltinSource,
			Time: e.At.UTC().Format(time.RFC3339Nano), Tenant: r.Tenant,
		},
		RequestSeq: r.Seq, Data: r.Body, DataOffset: 0,
	}}}
}

// Manifest is the manifest of the built-in source: its event types, with schemas and samples. No request of it comes from
// outside.
func Manifest() (*sdk.Provider, error) {
	schema, err := sdk.SchemaOf[Event]()
	if err != nil {
		return nil, err
	}
	p := &sdk.Provider{
		Name: core.BuiltinSource, Title: "Alerts of the host", Methods: []string{"POST"}, ContentTypes: []string{"application/json"},
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	fired := Event{
		Alert: "stuck", State: Fired, Text: "The sink audit has been suspended for 10m: the token was revoked.",
		Subject: "sink/audit", Kind: KindSink, Name: "audit", Condition: SinkParked, Reason: "the token was revoked",
		Value: 600, Threshold: 600, Unit: Seconds, Since: at.Add(-10 * time.Minute), At: at, Lasted: 600, Number: 1,
		Link: "http://127.0.0.1:8081/sinks/audit",
	}
	reminded := fired
	reminded.State, reminded.Reminder, reminded.At = Reminded, 1, at.Add(time.Hour)
	reminded.Value, reminded.Lasted = 4200, 4200
	reminded.Text = "The sink audit has been suspended for 1h10m: the token was revoked."
	resolved := fired
	resolved.State, resolved.At, resolved.Reason = Resolved, at.Add(20*time.Minute), ""
	resolved.Value, resolved.Lasted = 0, 1800
	resolved.Text = "Resolved after 30m: the sink audit works again."
	for _, t := range []struct {
		name, about string
		sample      Event
	}{
		{TypeFired, "The condition of an alert holds.", fired},
		{TypeReminded, "It still holds.", reminded},
		{TypeResolved, "It holds no more.", resolved},
	} {
		body, err := json.Marshal(&t.sample)
		if err != nil {
			return nil, err
		}
		p.Events = append(p.Events, sdk.EventType{
			Type: t.name, Description: t.about, Data: schema,
			Samples: []sdk.Sample{{Name: string(t.sample.State), Body: body}},
		})
	}
	return p, nil
}
