package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/grapnelhq/grapnel/plugins/sink-crm/crm"
	"github.com/grapnelhq/grapnel/plugins/sink-crm/internal/fake"
	"github.com/grapnelhq/grapnel/sdk"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// notebook is a dialect that notes what it is asked for.
type notebook struct {
	max    int
	calls  []string // one per Apply: kind object/key: values
	ops    []crm.Op
	fails  map[string]error // by delivery
	absent map[string]bool
	odd    bool // returns no results
}

func (n *notebook) MaxBatch() int               { return n.max }
func (n *notebook) Check(context.Context) error { return nil }
func (n *notebook) Close() error                { n.calls = append(n.calls, "close"); return nil }
func (n *notebook) Apply(_ context.Context, ops []crm.Op) []crm.Result {
	text := fmt.Sprintf("%s %s/%s:", ops[0].Kind, ops[0].Object, ops[0].Key.Name)
	out := make([]crm.Result, len(ops))
	for i, op := range ops {
		text += " " + op.Key.Value
		out[i] = crm.Result{Err: n.fails[op.DeliveryID], Absent: n.absent[op.DeliveryID], Reference: "r-" + op.DeliveryID}
	}
	n.calls = append(n.calls, text)
	n.ops = append(n.ops, ops...)
	if n.odd {
		return nil
	}
	return out
}

// bench is a sink on a notebook that keeps the state of order keys as the host does.
type bench struct {
	t     *testing.T
	in    sdk.SinkInstance
	notes *notebook
	state map[string][]byte
	now   time.Time // of events: "+90s" is counted from here
	seq   int64
}

func newBench(t *testing.T, change func(*Config)) *bench {
	t.Helper()
	return newBenchOf(t, 100, change)
}

func newBenchOf(t *testing.T, maxBatch int, change func(*Config)) *bench {
	t.Helper()
	b := &bench{t: t, notes: &notebook{max: maxBatch}, state: map[string][]byte{}, now: time.Date(2026, 1, 15, 10, 0, 0, 0, time.UTC)}
	info := factory().Info
	f := sdk.NewBatchSink(info, func(_ context.Context, cfg Config) (sdk.BatchSink[Message], error) {
		if change != nil {
			change(&cfg)
		}
		return &sink{cfg: cfg, dialect: b.notes, maxBatch: b.notes.max}, nil
	})
	in, err := f.Open(t.Context(), []byte(`{"dialect": "hubspot", "token": "pat-123456"}`))
	if err != nil {
		t.Fatal(err)
	}
	b.in = in
	return b
}

// delivery is one about an event some time after the bench's, with an order key or none.
func (b *bench) delivery(id, order string, after time.Duration, message string) *sdk.Delivery[json.RawMessage] {
	b.seq++
	return &sdk.Delivery[json.RawMessage]{
		ID: id, OrderKey: order, Sequence: b.seq, State: b.state[order], Message: []byte(message),
		Event: sdk.Envelope{ID: "e-" + id, Source: "urn:grapnel:source:hr", Time: b.now.Add(after).Format(time.RFC3339Nano)},
	}
}

// deliver makes one call and returns the outcomes in one line each.
func (b *bench) deliver(ds ...*sdk.Delivery[json.RawMessage]) []string {
	b.t.Helper()
	b.notes.calls, b.notes.ops = nil, nil
	var out []string
	for i, o := range b.in.DeliverRaw(b.t.Context(), ds) {
		s := string(o.Kind)
		if o.Kind == sdk.Skipped {
			s, _, _ = strings.Cut(o.Reason, ":")
		}
		if len(o.AttributePath) > 0 {
			s += " " + strings.Join(o.AttributePath, ".")
		}
		if o.StateSet {
			b.state[ds[i].OrderKey] = o.State
		}
		out = append(out, s)
	}
	return out
}

func (b *bench) want(what string, got []string, wanted ...string) {
	b.t.Helper()
	if !slices.Equal(got, wanted) {
		b.t.Errorf("%s: %q, want %q", what, got, wanted)
	}
}

// sent writes the fields of an operation.
func sent(op crm.Op) string {
	var s []string
	for _, f := range op.Fields {
		s = append(s, f.Name+"="+string(f.Value))
	}
	return strings.Join(s, " ")
}

func message(key, fields string) string {
	return fmt.Sprintf(`{"object":"contacts","key":{"hr_id":%q},"fields":%s}`, key, fields)
}

func TestMessages(t *testing.T) {
	b := newBench(t, nil)
	for _, test := range []struct{ name, message, want, fields string }{
		{"fields in order, tokens untouched", `{"object":"contacts","key":{"hr_id":"p:1"},"fields":{"b":1.10,"a":"x","c":{"d":[1e2]}}}`,
			"delivered", `a="x" b=1.10 c={"d":[1e2]}`},
		{"null is left out", message("p:1", `{"a":null,"b":1}`), "delivered", "b=1"},
		{"null clears", `{"object":"contacts","key":{"hr_id":"p:1"},"fields":{"a":null},"on_null":"clear"}`, "delivered", "a=null"},
		{"no fields", `{"object":"contacts","key":{"hr_id":"p:1"}}`, "delivered", ""},
		{"a number as key", `{"object":"contacts","key":{"hr_id":4101},"fields":{"a":1}}`, "delivered", "a=1"},
		{"ignore", `{"object":"","key":{},"operation":"ignore"}`, "the message says ignore", ""},
		{"archive drops fields", `{"object":"contacts","key":{"hr_id":"p:1"},"fields":{"a":1},"operation":"archive"}`, "delivered", ""},
		{"flag", `{"object":"contacts","key":{"hr_id":"p:1"},"fields":{"a":1},"operation":"flag"}`, "delivered", "a=1"},
		{"flag without fields", `{"object":"contacts","key":{"hr_id":"p:1"},"fields":{"a":null},"operation":"flag"}`, "rejected fields", ""},
		{"no object", `{"object":"","key":{"hr_id":"p:1"}}`, "rejected object", ""},
		{"an odd object", `{"object":"contacts\n","key":{"hr_id":"p:1"}}`, "rejected object", ""},
		{"no key", `{"object":"contacts","key":{}}`, "rejected key", ""},
		{"two keys", `{"object":"contacts","key":{"a":"1","b":"2"}}`, "rejected key", ""},
		{"null key", `{"object":"contacts","key":{"hr_id":null}}`, "rejected key", ""},
		{"empty key", `{"object":"contacts","key":{"hr_id":" "}}`, "rejected key", ""},
		{"list as key", `{"object":"contacts","key":{"hr_id":["1"]}}`, "rejected key", ""},
		{"long key", message(strings.Repeat("x", 1001), `{}`), "rejected key", ""},
		{"control characters in a key", `{"object":"contacts","key":{"hr_id":"a\u0000b"}}`, "rejected key", ""},
		{"key without a name", `{"object":"contacts","key":{"":"a"}}`, "rejected key", ""},
		{"e-mail by name", `{"object":"contacts","key":{"email":"p:1"}}`, "rejected key", ""},
		{"e-mail by value", `{"object":"contacts","key":{"hr_id":"jane@example.com"}}`, "rejected key", ""},
		{"key as field", message("p:1", `{"hr_id":"p:2"}`), "rejected fields.hr_id", ""},
		{"field without a name", message("p:1", `{"":1}`), "rejected fields", ""},
		{"unknown operation", `{"object":"contacts","key":{"hr_id":"p:1"},"operation":"delete"}`, "rejected operation", ""},
	} {
		got := b.deliver(b.delivery("d", "", 0, test.message))
		b.want(test.name, got, test.want)
		if test.want == "delivered" && sent(b.notes.ops[0]) != test.fields {
			t.Errorf("%s: %s", test.name, sent(b.notes.ops[0]))
		}
		if test.want != "delivered" && len(b.notes.ops) != 0 {
			t.Errorf("%s: it was sent", test.name)
		}
	}
	bad := b.delivery("d", "", 0, message("p:1", `{}`))
	bad.Event.Time = "yesterday"
	b.want("no time", b.deliver(bad), "rejected")
}

func TestEmailKeys(t *testing.T) {
	for name, is := range map[string]bool{
		"email": true, "Email": true, "e_mail": true, "E-Mail": true, "mail": true, "workEmail": true, "Email__c": true,
		"HR_Work_Email__c": true, "work_mail": true, "emailaddress": true, "email_address": true, "mail_address": true,
		"hr_external_id": false, "HR_Id__c": false, "mailing_list_id": false, "email2": true, "domain": false, "maildrop_id": false,
	} {
		if got := isEmailName(name); got != is {
			t.Errorf("%s: %v", name, got)
		}
	}
	b := newBench(t, func(c *Config) { c.AllowEmailKey = true })
	b.want("allowed", b.deliver(b.delivery("d", "", 0, `{"object":"contacts","key":{"email":"jane@example.com"}}`)), "delivered")
	b = newBench(t, nil)
	for _, value := range []string{"peopleforce:acme:jane@example.com", "@", "a@b", "jane at example.com"} {
		b.want(value, b.deliver(b.delivery("d", "", 0, message(value, `{}`))), "delivered")
	}
}

// What a dialect gets together is of one kind and has no record twice.
func TestBatches(t *testing.T) {
	b := newBenchOf(t, 2, nil)
	to := func(id, object, key, value, operation string) *sdk.Delivery[json.RawMessage] {
		return b.delivery(id, "o-"+id, 0, fmt.Sprintf(`{"object":%q,"key":{%q:%q},"operation":%q,"fields":{"a":1}}`, object, key, value, operation))
	}
	got := b.deliver(
		to("1", "contacts", "hr_id", "a", "upsert"), to("2", "companies", "hr_id", "a", "upsert"), to("3", "contacts", "hr_id", "b", "archive"),
		to("4", "contacts", "hr_id", "c", "upsert"), to("5", "contacts", "other", "a", "upsert"), to("6", "contacts", "hr_id", "a", "flag"),
		to("7", "contacts", "hr_id", "d", "upsert"), to("8", "contacts", "hr_id", "a", "upsert"),
	)
	b.want("outcomes", got, slices.Repeat([]string{"delivered"}, 8)...)
	b.want("calls", b.notes.calls,
		"upsert contacts/hr_id: a c", "upsert contacts/hr_id: d", "upsert companies/hr_id: a", "archive contacts/hr_id: b",
		"upsert contacts/other: a", "flag contacts/hr_id: a", "upsert contacts/hr_id: a")
}

// Results are those of their own deliveries, and a reference comes along.
func TestResults(t *testing.T) {
	b := newBench(t, nil)
	b.notes.fails = map[string]error{
		"2": sdk.Reject(errors.New("bad"), crm.FieldPath("a")...), "3": sdk.Suspend(errors.New("revoked")), "4": errors.New("down"),
	}
	b.notes.absent = map[string]bool{"5": true}
	var ds []*sdk.Delivery[json.RawMessage]
	for i := range 6 {
		operation := "upsert"
		if i == 4 {
			operation = "archive"
		}
		id := fmt.Sprint(i + 1)
		ds = append(ds, b.delivery(id, "", 0, fmt.Sprintf(`{"object":"contacts","key":{"hr_id":%q},"operation":%q}`, id, operation)))
	}
	b.want("outcomes", b.deliver(ds...), "delivered", "rejected fields.a", "suspend", "retry", "there is no record to archive", "delivered")
	if o := b.in.DeliverRaw(t.Context(), ds[:1]); o[0].Reference != "r-1" {
		t.Errorf("%+v", o)
	}
	b.notes.odd = true
	b.want("no results", b.deliver(ds[:2]...), "retry", "retry")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	b.notes.calls = nil
	if o := b.in.DeliverRaw(ctx, ds[:1]); o[0].Kind != sdk.Retried || len(b.notes.calls) != 0 {
		t.Errorf("%+v", o)
	}
	if err := b.in.Sink().(sdk.Closer).Close(); err != nil || b.notes.calls[0] != "close" {
		t.Error(err, b.notes.calls)
	}
}

// Upserts of one record in a call are collapsed only without an order key, only where nothing is lost, and only count as
// done when the one that stands for them is.
func TestCollapse(t *testing.T) {
	b := newBench(t, nil)
	at := func(id, order string, after time.Duration, fields string) *sdk.Delivery[json.RawMessage] {
		return b.delivery(id, order, after, message("p:1", fields))
	}
	b.want("full values", b.deliver(at("1", "", 0, `{"a":1}`), at("2", "", 2, `{"a":2,"b":2}`), at("3", "", 1, `{"b":1}`)),
		"superseded", "delivered", "superseded")
	if len(b.notes.ops) != 1 || sent(b.notes.ops[0]) != "a=2 b=2" {
		t.Errorf("%+v", b.notes.ops)
	}
	b.want("other fields", b.deliver(at("1", "", 0, `{"a":1,"c":1}`), at("2", "", 1, `{"a":2}`)), "delivered", "delivered")
	b.want("in the order of their events", []string{sent(b.notes.ops[0]), sent(b.notes.ops[1])}, "a=1 c=1", "a=2")
	b.deliver(at("1", "", 5, `{"a":1}`), at("2", "", 1, `{"a":2,"c":1}`))
	b.want("the newest last", []string{sent(b.notes.ops[0]), sent(b.notes.ops[1])}, "a=2 c=1", "a=1")
	b.want("order keys", b.deliver(at("1", "x", 0, `{"a":1}`), at("2", "y", 1, `{"a":2}`)), "delivered", "delivered")
	b.want("an order key", b.deliver(at("1", "", 0, `{"a":1}`), at("2", "z", 1, `{"a":2}`)), "delivered", "delivered")
	archive := b.delivery("2", "", 1, `{"object":"contacts","key":{"hr_id":"p:1"},"operation":"archive"}`)
	b.want("an archive between", b.deliver(at("1", "", 0, `{"a":1}`), archive, at("3", "", 2, `{"a":3}`)), "delivered", "delivered", "delivered")
	b.want("calls", b.notes.calls, "upsert contacts/hr_id: p:1", "archive contacts/hr_id: p:1", "upsert contacts/hr_id: p:1")
	same := b.delivery("3", "", 0, `{"object":"contacts","key":{"hr_id":"p:1"},"fields":{"a":1},"stale":"apply"}`)
	b.want("forced", b.deliver(same, at("2", "", 1, `{"a":2}`)), "delivered", "delivered")

	b.notes.fails = map[string]error{"3": errors.New("down")}
	b.want("the newest fails", b.deliver(at("1", "", 0, `{"a":1}`), at("2", "", 1, `{"a":2}`), at("3", "", 2, `{"a":3}`)), "retry", "retry", "retry")
	b.notes.fails = map[string]error{"3": sdk.Reject(errors.New("bad"))}
	b.want("the newest is refused", b.deliver(at("1", "", 0, `{"a":1}`), at("3", "", 2, `{"a":3}`)), "retry", "rejected")
}

func TestStale(t *testing.T) {
	b := newBench(t, nil)
	at := func(id string, after time.Duration, fields string) *sdk.Delivery[json.RawMessage] {
		return b.delivery(id, "employee/1", after, message("p:1", fields))
	}
	b.want("first", b.deliver(at("1", 0, `{"a":1,"b":1}`)), "delivered")
	b.want("newer", b.deliver(at("2", 2*time.Second, `{"a":2}`)), "delivered")
	b.want("older", b.deliver(at("3", time.Second, `{"a":3}`)), "stale")
	if len(b.notes.ops) != 0 {
		t.Error("the stale one was sent")
	}
	b.want("older in part", b.deliver(at("4", time.Second, `{"a":4,"b":4,"c":4}`)), "delivered")
	b.want("what is left", []string{sent(b.notes.ops[0])}, "b=4 c=4")
	b.want("the same again", b.deliver(at("4", time.Second, `{"a":4,"b":4,"c":4}`)), "delivered")
	forced := at("5", 0, `{"a":5}`)
	forced.Force = true
	b.want("forced", b.deliver(forced), "delivered")
	b.want("what was forced counts", b.deliver(at("6", time.Second, `{"a":6}`)), "delivered")
	b.want("apply", b.deliver(b.delivery("7", "employee/1", 0, `{"object":"contacts","key":{"hr_id":"p:1"},"fields":{"a":7},"stale":"apply"}`)), "delivered")
	b.want("another record", b.deliver(b.delivery("8", "employee/1", 0, message("p:2", `{"a":8}`))), "delivered")
	b.want("another key", b.deliver(b.delivery("9", "employee/2", 0, message("p:1", `{"a":9}`))), "delivered")
	b.want("no order key", b.deliver(b.delivery("10", "", 0, message("p:1", `{"b":10}`))), "delivered")

	b = newBench(t, func(c *Config) { c.Stale = "apply" })
	b.want("newer", b.deliver(at("1", time.Second, `{"a":1}`)), "delivered")
	b.want("older, configured", b.deliver(at("2", 0, `{"a":2}`)), "delivered")
	skip := b.delivery("3", "employee/1", -time.Second, `{"object":"contacts","key":{"hr_id":"p:1"},"fields":{"a":3},"stale":"skip"}`)
	b.want("older, but not for this message", b.deliver(skip), "stale")
}

// A record that was archived is not brought back by an older event, and an archive does not undo a newer one.
func TestStaleArchive(t *testing.T) {
	b := newBench(t, nil)
	archive := func(id string, after time.Duration) *sdk.Delivery[json.RawMessage] {
		return b.delivery(id, "employee/1", after, `{"object":"contacts","key":{"hr_id":"p:1"},"operation":"archive"}`)
	}
	upsert := func(id string, after time.Duration) *sdk.Delivery[json.RawMessage] {
		return b.delivery(id, "employee/1", after, message("p:1", `{"a":1}`))
	}
	b.want("hired", b.deliver(upsert("1", 0)), "delivered")
	b.want("left", b.deliver(archive("2", 10*time.Second)), "delivered")
	b.want("late", b.deliver(upsert("3", 5*time.Second)), "stale")
	b.want("late, no fields", b.deliver(b.delivery("4", "employee/1", 0, message("p:1", `{}`))), "stale")
	b.want("hired again", b.deliver(upsert("5", 20*time.Second)), "delivered")
	b.want("an old departure", b.deliver(archive("6", 15*time.Second)), "stale")
	b.want("from before it", b.deliver(b.delivery("6a", "employee/1", 12*time.Second, message("p:1", `{"b":1}`))), "stale")
	b.notes.absent = map[string]bool{"7": true}
	b.want("left, unknown to the CRM", b.deliver(archive("7", 30*time.Second)), "there is no record to archive")
	b.want("late again", b.deliver(upsert("8", 25*time.Second)), "stale")
	b.notes.absent = map[string]bool{"9": true}
	flag := b.delivery("9", "employee/9", 30*time.Second, `{"object":"contacts","key":{"hr_id":"p:9"},"operation":"flag","fields":{"a":1}}`)
	b.want("a flag of nothing", b.deliver(flag), "there is no record to flag")
	b.want("writes nothing", b.deliver(b.delivery("10", "employee/9", 0, message("p:9", `{"a":1}`))), "delivered")
}

// Events at the same time are in the order in which their source accepted them; a replay of one of several from one
// request does not undo the others.
func TestStaleTies(t *testing.T) {
	b := newBench(t, nil)
	at := func(id string, sequence int64) *sdk.Delivery[json.RawMessage] {
		d := b.delivery(id, "employee/1", 0, message("p:1", `{"a":1}`))
		d.Sequence = sequence
		return d
	}
	replay := func(d *sdk.Delivery[json.RawMessage]) *sdk.Delivery[json.RawMessage] {
		d.Replay = true
		return d
	}
	b.want("5", b.deliver(at("1", 5)), "delivered")
	b.want("4", b.deliver(at("2", 4)), "stale")
	b.want("the next of the request", b.deliver(at("3", 5)), "delivered")
	b.want("a replay of the first", b.deliver(replay(at("1", 5))), "stale")
	b.want("a replay of the last", b.deliver(replay(at("3", 5))), "delivered")
	other := at("4", 1)
	other.Event.Source = "urn:grapnel:source:payroll"
	b.want("another source", b.deliver(other), "delivered")
	b.want("6", b.deliver(at("5", 6)), "delivered")
}

// An attempt that fails leaves the history as it is.
func TestStaleAfterFailure(t *testing.T) {
	b := newBench(t, nil)
	b.notes.fails = map[string]error{"2": errors.New("down")}
	b.want("first", b.deliver(b.delivery("1", "k", 0, message("p:1", `{"a":1}`))), "delivered")
	b.want("fails", b.deliver(b.delivery("2", "k", 2*time.Second, message("p:1", `{"a":2}`))), "retry")
	b.want("between", b.deliver(b.delivery("3", "k", time.Second, message("p:1", `{"a":3}`))), "delivered")
}

// A time far ahead counts as one day ahead, so that it does not hold its record for years.
func TestStaleFuture(t *testing.T) {
	b := newBench(t, nil)
	b.now = time.Now()
	b.want("wrong year", b.deliver(b.delivery("1", "k", 10*365*24*time.Hour, message("p:1", `{"a":1}`))), "delivered")
	b.want("now", b.deliver(b.delivery("2", "k", 0, message("p:1", `{"a":2}`))), "stale")
	b.want("in two days", b.deliver(b.delivery("3", "k", 48*time.Hour, message("p:1", `{"a":3}`))), "delivered")
}

func TestConfig(t *testing.T) {
	const hubspot = `"dialect":"hubspot","token":"pat-123456"`
	const salesforce = `"dialect":"salesforce","base_url":"https://acme.my.salesforce.com"`
	oauth := `"oauth":{"client_id":"3MVG9","client_secret":"cs-123456"}`
	for config, want := range map[string]string{
		hubspot: "",
		hubspot + `,"base_url":"http://127.0.0.1:1","api_version":"2026-03"`: "",
		salesforce + "," + oauth:                         "",
		salesforce + `,"token":"x","api_version":"68.0"`: "",
		hubspot + `,"base_url":"http://api.hubapi.com"`:  "base_url",
		hubspot + `,"base_url":"api.hubapi.com"`:         "base_url",
		hubspot + `,"api_version":"v4"`:                  "api_version",
		hubspot + `,"timeout":1000`:                      "timeout",
		hubspot + `,"token_header":"a b"`:                "token_header",
		hubspot + `,"rest":{}`:                           "rest",
		hubspot + "," + oauth:                            "oauth",
		`"dialect":"hubspot",` + oauth:                   "oauth.token_url",
		`"dialect":"hubspot"`:                            "token",
		`"dialect":"hubspot","token":"pat-123456\n"`:     "token",
		`"dialect":"salesforce"`:                         "base_url token",
		salesforce + `,"api_version":"v62.0"`:            "api_version token",
		salesforce + `,"oauth":{"client_id":""}`:         "oauth.client_id oauth.client_secret",
		`"dialect":"rest"`:                               "base_url rest",
		`"dialect":"dynamics"`:                           "dialect",
	} {
		var paths []string
		for _, e := range sdk.AttributeErrors(factory().Validate([]byte("{" + config + "}"))) {
			paths = append(paths, strings.Join(e.Path, "."))
			if strings.Contains(e.Error()+e.Detail, "123456") {
				t.Errorf("%s: %v", config, e)
			}
		}
		if got := strings.Join(paths, " "); got != want {
			t.Errorf("%s: %q, want %q", config, got, want)
		}
	}
}

// The login of Salesforce follows from its address.
func TestOptions(t *testing.T) {
	sf := fake.NewSalesforce(fake.SalesforceOrg{ClientID: "3MVG9", ClientSecret: "cs-123456"})
	address := farEnd(t, sf)
	config := fmt.Sprintf(`{"dialect":"salesforce","base_url":%q,"oauth":{"client_id":"3MVG9","client_secret":"cs-123456"}}`, address)
	in, err := factory().Open(t.Context(), []byte(config))
	if err != nil {
		t.Fatal(err)
	}
	defer in.Sink().(sdk.Closer).Close()
	if err := in.Sink().(sdk.Checker).Check(t.Context()); err != nil {
		t.Error(err)
	}
}

// FuzzMessage delivers any message: what reaches a dialect is as package crm says.
func FuzzMessage(f *testing.F) {
	f.Add([]byte(`{"object":"contacts","key":{"hr_id":"p:1"},"fields":{"a":[1,null],"b":null},"on_null":"clear"}`))
	f.Add([]byte(`{"object":"contacts","key":{"hr_id":1e400},"operation":"flag","fields":{"":{}}}`))
	f.Add([]byte(`{"object":"contacts","key":{"\u0000":"\ud800"},"operation":"archive"}`))
	notes := &notebook{max: 1}
	in := sdk.NewBatchSink(factory().Info, func(_ context.Context, cfg Config) (sdk.BatchSink[Message], error) {
		return &sink{cfg: cfg, dialect: notes, maxBatch: 1}, nil
	})
	opened, err := in.Open(context.Background(), []byte(`{"dialect": "hubspot", "token": "pat-123456"}`))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		notes.ops = nil
		d := &sdk.Delivery[json.RawMessage]{ID: "d", OrderKey: "k", Message: message, Event: sdk.Envelope{Time: "2026-01-15T10:00:00Z"}}
		o := opened.DeliverRaw(t.Context(), []*sdk.Delivery[json.RawMessage]{d})
		if (o[0].Kind == sdk.Delivered) != (len(notes.ops) == 1) {
			t.Fatalf("%+v", o[0])
		}
		for _, op := range notes.ops {
			if op.Object == "" || op.Key.Name == "" || op.Key.Value == "" || !json.Valid(op.Key.Token) || isEmailName(op.Key.Name) {
				t.Errorf("%+v", op)
			}
			for i, f := range op.Fields {
				if f.Name == "" || !json.Valid(f.Value) || i > 0 && op.Fields[i-1].Name >= f.Name || f.Name == op.Key.Name {
					t.Errorf("%+v", op)
				}
			}
		}
	})
}
