package web

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/admin"
	"github.com/grapnelhq/grapnel/core/expr"
	"github.com/grapnelhq/grapnel/sdk"
)

type sdkHeader = sdk.Header

// explainer says the same of every event.
type explainer struct{ routes []admin.ExplainedRoute }

func (x explainer) Stored(
	_ context.Context, _ *core.Request, events []core.Event, only string,
) (admin.Explanation, error) {
	var out admin.Explanation
	for _, e := range events {
		if only == "" || only == e.ID {
			out.Events = append(out.Events, admin.ExplainedEvent{Event: admin.Event{Envelope: e.Envelope}, Routes: x.routes})
		}
	}
	return out, nil
}

func (explainer) Given(context.Context, admin.GivenRequest) (admin.Explanation, error) {
	return admin.Explanation{}, admin.ErrNotRunning
}

func TestRequestTellsItsStory(t *testing.T) {
	f := newFixture(t)
	ids := story(t, f)
	d := get(t, f, "/requests/"+ids[0])
	steps := d.texts(".timeline h3")
	want := []string{
		"Authentic and stored", "Decoded into 2 events", "Event 1 hr.person.updated", "Event 2 hr.person.seen",
	}
	if diff := cmp.Diff(want, steps); diff != "" {
		t.Errorf("steps: %s", diff)
	}
	if diff := cmp.Diff([]string{"✓ matched Route all", "✓ matched Route crm"}, d.texts(".route")); diff != "" {
		t.Errorf("routes: %s", diff)
	}
	want = []string{"1 ◷ retry 2 h ago , took 1500 ms busy (503)", "2 ✓ delivered 1 h ago , took 20 ms"}
	if diff := cmp.Diff(want, d.texts(".attempts li")); diff != "" {
		t.Errorf("attempts: %s", diff)
	}
	if diff := cmp.Diff([]string{`{ "path" : "x" }`, "{}"}, d.texts(".made pre.code")); diff != "" {
		t.Errorf("messages: %s", diff)
	}
	if got := d.text("table.changes tbody tr"); got != `name "Eda" "Ada"` {
		t.Errorf("changes: %s", got)
	}
	if !strings.Contains(d.text(".timeline"), "Why routes matched or not cannot be told now") {
		t.Error("nothing says that there is no explanation")
	}
	if d := get(t, f, "/requests/"+ids[1]); !strings.Contains(d.text(".timeline .bad"), "it is no order") {
		t.Errorf("dead: %s", d.text(".timeline"))
	}
	if d := get(t, f, "/requests/"+ids[2]); !strings.Contains(d.text(".timeline .busy"), "Waits for its decoder") {
		t.Errorf("received: %s", d.text(".timeline"))
	}
	for _, path := range []string{"/requests/req_x", "/events/evt_x", "/deliveries/dlv_x", "/requests/req_x/body"} {
		if d := get(t, f, path); d.status != http.StatusNotFound {
			t.Errorf("%s: %d", path, d.status)
		}
	}
}

func TestRoutesSayWhy(t *testing.T) {
	f := newFixture(t)
	ids := story(t, f)
	no, yes := json.RawMessage("false"), json.RawMessage("true")
	f.direct().Explainer = explainer{[]admin.ExplainedRoute{
		{Route: "all", Range: "config.hcl:1,1", Verdict: admin.VerdictSends, When: &expr.Step{Source: "true", Value: yes}},
		{Route: "crm", Verdict: admin.VerdictType, On: []string{"a.b"}},
		{Route: "new", Verdict: admin.VerdictSends, To: []admin.ExplainedSend{
			{Sink: "mail", Message: json.RawMessage(`{"to":"<b>"}`)},
		}},
		{Route: "old", Verdict: admin.VerdictWhen, When: &expr.Step{
			Source: "a && b", Value: no, Steps: []expr.Step{{Source: "a", Value: no}, {Source: "b", Absent: true, Unused: true}},
		}},
		{Route: "shops", Verdict: admin.VerdictSource, From: []string{"shop", "mall"}},
		{Route: "broken", Verdict: admin.VerdictFails, Error: &expr.Error{
			Range: "config.hcl:9,1-2", Summary: "No such function.",
		}},
		{Route: "later", Verdict: admin.VerdictSends, Disabled: []string{"payroll"}},
	}}
	d := get(t, f, "/requests/"+ids[0])
	first := doc{t: t, root: d.all(".timeline .step")[2]}
	want := []string{
		"✓ matched Route all config.hcl:1:1 Source and type fit, and its condition is true.",
		"– matched then Route crm",
		"✓ matched Route new Source and type fit.",
		"✕ fails Route broken Its condition cannot be evaluated. config.hcl:9,1-2: No such function.",
		"✓ matched Route later Source and type fit. Disabled, and so without a delivery: payroll.",
		"– no match Route old Its condition is false.",
		"– no match Route shops It takes events of shop or mall, and this one is of people.",
	}
	if diff := cmp.Diff(want, first.texts(".route")); diff != "" {
		t.Errorf("routes: %s", diff)
	}
	want = []string{
		"It took the event when that came in. The route that runs now would not: " +
			"It takes a.b, and this is hr.person.updated.",
		"It sent nothing when the event came in. The route that runs now would.",
		"It sent nothing when the event came in. The route that runs now would.",
	}
	if diff := cmp.Diff(want, first.texts(".note")); diff != "" {
		t.Errorf("notes: %s", diff)
	}
	got := first.texts("details[open] li.depth-1")
	if want := []string{"a ⇒ false", "b ⇒ null, it is not there not needed"}; !slices.Equal(got, want) {
		t.Errorf("the condition: %q", got)
	}
	r, err := f.control.Request(t.Context(), ids[0])
	if err != nil {
		t.Fatal(err)
	}
	if got := get(t, f, "/events/"+r.Events[0].ID).texts(".route"); len(got) != 7 {
		t.Errorf("routes of the event's page: %q", got)
	}
}

func TestPayloadPage(t *testing.T) {
	f := newFixture(t)
	ids := story(t, f)
	d := get(t, f, "/requests/"+ids[0]+"/payload")
	if diff := cmp.Diff([]string{"x-b 2", "x-a 1"}, d.texts("table.headers tbody tr")); diff != "" {
		t.Errorf("headers in the order of the wire: %s", diff)
	}
	if got := d.text("pre.code"); got != `{ "n" : 1 }` {
		t.Errorf("laid out: %s", got)
	}
	raw := d.header
	if d = get(t, f, "/requests/"+ids[0]+"/payload?view=raw"); d.text("pre.code") != `{"n":1}` {
		t.Errorf("raw: %s, %v", d.text("pre.code"), raw)
	}
	if got := d.texts("a[aria-current=true]"); !slices.Equal(got, []string{"Raw"}) {
		t.Errorf("the view that is shown: %q", got)
	}
}

func TestDeliveryPage(t *testing.T) {
	f := newFixture(t)
	ids := story(t, f)
	r, err := f.control.Request(t.Context(), ids[0])
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(r.Deliveries, func(d admin.Delivery) bool { return d.Sink == "audit" })
	d := get(t, f, "/deliveries/"+r.Deliveries[i].ID)
	if !strings.Contains(d.text(".why"), "The sink has it, after 2 attempts.") || d.text("pre.code") != `{ "path" : "x" }` {
		t.Errorf("%s; %s", d.text(".why"), d.text("pre.code"))
	}
	if got := attr(d.one(".head .right a"), "href"); got != "/again?do=replay&id="+r.Deliveries[i].ID {
		t.Errorf("replay: %s", got)
	}
	if got := attr(d.one("[data-copy]"), "data-copy"); got != r.Deliveries[i].ID {
		t.Errorf("the id to copy: %s", got)
	}
	d = get(t, f, "/deliveries/"+r.Deliveries[1-i].ID)
	if !strings.Contains(d.text(".why"), "It waits for its first attempt.") || len(d.all(".head .right a")) != 0 {
		t.Errorf("pending: %s", d.text(".why"))
	}
	data := get(t, f, "/events/"+r.Events[0].ID+"/data")
	if data.body != `{"name":"Ada","age":37.0}` || data.header.Get("Content-Type") != "application/octet-stream" {
		t.Errorf("data: %s, %v", data.body, data.header)
	}
	d = get(t, f, "/events/"+r.Events[0].ID)
	if got := d.texts(".code .changed"); !slices.Equal(got, []string{`"name" : "Ada" , was "Eda"`}) {
		t.Errorf("changed lines: %q", got)
	}
}

func TestDeadRequestIsRetried(t *testing.T) {
	f := newFixture(t)
	id := story(t, f)[1]
	form := get(t, f, "/requests/"+id).one(".timeline form")
	d := post(t, f, attr(form, "action"), nil)
	if d.status != http.StatusSeeOther || d.header.Get("Location") != "/requests/"+id {
		t.Fatalf("%d %v", d.status, d.header)
	}
	if got := get(t, f, "/requests/"+id).text(".head .badge"); got != "◷ received" {
		t.Errorf("it is %s", got)
	}
	if d := post(t, f, attr(form, "action"), nil); d.status != http.StatusBadRequest {
		t.Errorf("a second time: %d", d.status)
	}
}

func TestPendingDeliveryTellsWhatHoldsItUp(t *testing.T) {
	f := newFixture(t)
	r, err := f.control.Request(t.Context(), story(t, f)[0])
	if err != nil {
		t.Fatal(err)
	}
	f.control.status = func(s *admin.Status) {
		s.Sinks = []admin.SinkStatus{
			{Sink: "audit", State: "down"}, {Sink: "crm", State: "paused", Reason: "the price list is wrong"},
		}
	}
	for _, d := range r.Deliveries {
		got := get(t, f, "/deliveries/"+d.ID).text(".why")
		held := strings.Contains(got, "! paused the price list is wrong")
		if held != (d.Sink == "crm") || strings.Contains(got, "down") {
			t.Errorf("to %s: %s", d.Sink, got)
		}
	}
}
