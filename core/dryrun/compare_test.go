package dryrun

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/sdk"
)

func TestCompareJSON(t *testing.T) {
	for name, c := range map[string]struct{ before, after, want string }{
		"same":             {`{"a":1}`, `{"a":1}`, `null`},
		"value":            {`{"a":1,"b":2}`, `{"a":1,"b":3}`, `[{"what":"message","path":"b","before":2,"after":3}]`},
		"token":            {`{"a":1.0}`, `{"a":1}`, `[{"what":"message","path":"a","before":1.0,"after":1}]`},
		"appears":          {`{}`, `{"a":null}`, `[{"what":"message","path":"a","after":null}]`},
		"vanishes":         {`{"a":[]}`, `{}`, `[{"what":"message","path":"a","before":[]}]`},
		"nested":           {`{"a":{"b":[1,{"c":2}]}}`, `{"a":{"b":[1,{"c":3}]}}`, `[{"what":"message","path":"a.b[1].c","before":2,"after":3}]`},
		"another length":   {`{"a":[1]}`, `{"a":[1,2]}`, `[{"what":"message","path":"a","before":[1],"after":[1,2]}]`},
		"another shape":    {`{"a":{}}`, `{"a":[]}`, `[{"what":"message","path":"a","before":{},"after":[]}]`},
		"odd name":         {`{"a b":1}`, `{"a b":2}`, `[{"what":"message","path":"[\"a b\"]","before":1,"after":2}]`},
		"order of members": {`{"a":1,"b":2}`, `{"b":2,"a":1}`, `null`},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := json.Marshal(compareJSON(nil, "", json.RawMessage(c.before), json.RawMessage(c.after)))
			if err != nil || string(got) != c.want {
				t.Errorf("%s, %v, want %s", got, err, c.want)
			}
		})
	}
}

func TestComparison(t *testing.T) {
	req := &core.Request{Source: "people"}
	event := func(index int, eventType string) core.Event {
		return core.Event{Index: index, Envelope: sdk.Envelope{ID: "evt", Type: eventType}}
	}
	result := func(eventType string, ds ...*core.Delivery) Result {
		r := Result{Request: req, Events: []core.Event{event(0, eventType)}, Deliveries: ds}
		for _, d := range ds {
			d.Event = &r.Events[0]
		}
		return r
	}
	delivery := func(route, sink, message string) *core.Delivery {
		d := &core.Delivery{Route: route, Sink: sink, State: core.DeliveryPending, Message: []byte(message)}
		if message == "" {
			d.State, d.Reason = core.DeliveryDead, "it fails"
		}
		return d
	}
	c := NewComparison(1)
	c.Add([]Result{
		result("a", delivery("r", "s", `{"x":1}`), delivery("r", "t", `{}`)),
		result("a", delivery("r", "s", `{"x":1}`)),
		result("a", delivery("r", "s", `{"x":1}`), delivery("q", "s", `{"y":1}`)),
		{Request: req, Refusal: "no"},
		{Request: req, NoSource: true},
		result("b", delivery("r", "s", `{"x":1}`)),
	}, []Result{
		result("a", delivery("r", "s", `{"x":1}`), delivery("r", "t", `{}`)),
		result("a", delivery("r", "s", `{"x":2}`)),
		result("a", delivery("r", "s", ``), delivery("p", "s", `{"y":1}`)),
		result("c"),
		{Request: req, NoSource: true},
		result("b", delivery("r", "s", `{"x":3}`)),
	})
	if c.Requests != 6 || c.Differ != 4 {
		t.Errorf("%d of %d requests differ", c.Differ, c.Requests)
	}
	if want := (Totals{Events: 4, Refused: 1, NoSource: 1, Deliveries: 6}); c.Before != want {
		t.Errorf("before: %+v", c.Before)
	}
	if want := (Totals{Events: 5, Unrouted: 1, NoSource: 1, Deliveries: 6, Dead: 1}); c.After != want {
		t.Errorf("after: %+v", c.After)
	}
	if diff := cmp.Diff(map[Target]*Changes{
		{"r", "s"}: {Before: 4, After: 4, Change: 3},
		{"r", "t"}: {Before: 1, After: 1},
		{"q", "s"}: {Before: 1, Vanish: 1},
		{"p", "s"}: {After: 1, Appear: 1},
	}, c.Targets); diff != "" {
		t.Error(diff)
	}
	var shown []string
	for _, d := range c.Differences {
		text := d.Kind + " " + d.Route + "→" + d.Sink
		for _, f := range d.Fields {
			text += " " + f.What + ":" + f.Path + " " + string(f.Before) + " " + string(f.After)
		}
		shown = append(shown, text)
	}
	if diff := cmp.Diff([]string{
		"changes r→s message:x 1 2", // one of three
		"appears p→s message:y  1",
		"vanishes q→s message:y 1 ",
		`decoded → refused: "no" `,
	}, shown); diff != "" {
		t.Error(diff)
	}
}
