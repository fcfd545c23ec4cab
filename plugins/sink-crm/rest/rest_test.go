package rest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/grapnelhq/grapnel/plugins/sink-crm/crm"
	"github.com/grapnelhq/grapnel/plugins/sink-crm/internal/fake"
	"github.com/grapnelhq/grapnel/sdk"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// load decodes and checks a configuration as a plugin's host has it done.
func load(text string) (*Config, error) {
	var out *Config
	type message struct{}
	factory := sdk.NewSink(sdk.SinkInfo{Name: "test"}, func(_ context.Context, c struct {
		Rest *Config `json:"rest"`
	}) (sdk.Sink[message], error) {
		out = c.Rest
		return nil, c.Rest.Validate()
	})
	_, err := factory.Open(context.Background(), []byte(`{"rest":`+text+`}`))
	if sdk.HasAttributeError(err) {
		return nil, err
	}
	return out, nil
}

func mustLoad(t testing.TB, text string) *Config {
	t.Helper()
	c, err := load(text)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func newDialect(t testing.TB, config, address string) *dialect {
	t.Helper()
	d, err := New(mustLoad(t, config), crm.Options{BaseURL: address})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.(io.Closer).Close() })
	return d.(*dialect)
}

// op is an operation on the party with a code; fields alternate between names and JSON.
func op(kind crm.Kind, code string, fields ...string) crm.Op {
	o := crm.Op{
		DeliveryID: "dlv_1", Kind: kind, Object: "party.party",
		Key:  crm.Key{Name: "code", Value: code, Token: json.RawMessage(quote(code))},
		Time: time.Date(2026, 1, 15, 9, 30, 0, 500, time.FixedZone("", 3600)),
	}
	for i := 0; i+1 < len(fields); i += 2 {
		o.Fields = append(o.Fields, crm.Field{Name: fields[i], Value: json.RawMessage(fields[i+1])})
	}
	return o
}

// show is an outcome in one line: kind, time, path, reason or reference.
func show(r crm.Result) string {
	o := fake.OutcomeOf(r.Err)
	s := string(o.Kind)
	switch {
	case r.Absent:
		s = "absent"
	case r.Created:
		s = "created"
	case r.Updated:
		s = "updated"
	}
	if r.Reference != "" && r.Err == nil {
		s += " " + r.Reference
	}
	if o.After > 0 {
		s += " " + o.After.String()
	}
	if len(o.AttributePath) > 0 {
		s += " [" + strings.Join(o.AttributePath, ".") + "]"
	}
	if o.Reason != "" {
		s += ": " + o.Reason
	}
	for _, n := range r.Notes {
		s += " (" + n + ")"
	}
	return s
}

func newRPC(t testing.TB) *fake.RPC {
	f := fake.NewRPC()
	t.Cleanup(f.Close)
	return f
}

func apply(t testing.TB, d *dialect, ops ...crm.Op) []string {
	t.Helper()
	results := d.Apply(t.Context(), ops)
	if len(results) != len(ops) {
		t.Fatalf("%d results for %d operations", len(results), len(ops))
	}
	var out []string
	for _, r := range results {
		out = append(out, show(r))
	}
	return out
}

func want(t testing.TB, got []string, want ...string) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("outcomes (-want +got):\n%s", d)
	}
}

func TestRPC(t *testing.T) {
	f := newRPC(t)
	d := newDialect(t, fake.RPCSteps, f.URL)

	want(t, apply(t, d, op(crm.Upsert, "A", "name", `"Ünï 名 \"x\""`, "rank", "1.10")), "created 1")
	if got, w := f.Seen(), "login search_read create"; got != w {
		t.Errorf("calls %q, want %q", got, w)
	}
	if got := string(f.Parties[0]["rank"]); got != "1.10" {
		t.Errorf("a number's digits became %s", got)
	}
	want(t, apply(t, d, op(crm.Upsert, "A", "name", `"Second"`, "phone", "null")), "updated 1")
	if got, w := f.Seen(), "search_read write"; got != w {
		t.Errorf("calls %q, want %q", got, w)
	}
	want(t, apply(t, d, op(crm.Archive, "A"), op(crm.Archive, "B"), op(crm.Flag, "B", "name", `"x"`), op(crm.Flag, "A", "name", `"Left"`)),
		"delivered 1", "absent", "absent", "updated 1")
	p, err := json.Marshal(f.Parties)
	if err != nil {
		t.Fatal(err)
	}
	if got, w := string(p), `[{"active":false,"code":"A","name":"Left","phone":null,"rank":1.10}]`; got != w {
		t.Errorf("parties %s, want %s", got, w)
	}
	want(t, apply(t, d, op(crm.Upsert, "C", "nmae", `"x"`)), "rejected: the CRM answers: [\"'nmae'\",\"\"]")
	odd := op(crm.Upsert, "C")
	odd.Object = "party.nope"
	want(t, apply(t, d, odd), "suspend: the CRM answers 403 Forbidden: 403 Forbidden Forbidden You don't have the permission.")
}

// A session that ends is replaced once, whoever notices, and however the far end says so.
func TestSessionEnds(t *testing.T) {
	f := newRPC(t)
	d := newDialect(t, fake.RPCSteps, f.URL)
	want(t, apply(t, d, op(crm.Upsert, "A")), "created 1")
	f.Lock()
	f.Sessions++ // the one that is in use is not the last any more
	f.Unlock()
	f.Seen()
	want(t, apply(t, d, op(crm.Upsert, "A"), op(crm.Upsert, "B")), "updated 1", "created 2")
	if got, w := f.Seen(), "search_read login search_read write search_read create"; got != w {
		t.Errorf("calls %q, want %q", got, w)
	}
	// In words, with status 200.
	said := false
	f.Lock()
	f.Before = func(method string, w http.ResponseWriter) bool {
		if method != "create" || said {
			return false
		}
		said = true
		io.WriteString(w, `{"error":["UserError",["your session is over"]]}`)
		return true
	}
	f.Unlock()
	want(t, apply(t, d, op(crm.Upsert, "C")), "created 3")
	if got, w := f.Seen(), "search_read create login create"; got != w {
		t.Errorf("calls %q, want %q", got, w)
	}
	// For ever: once, and then somebody has to look.
	f.Lock()
	f.Before = func(method string, w http.ResponseWriter) bool {
		if method == "login" {
			return false
		}
		w.WriteHeader(http.StatusUnauthorized)
		return true
	}
	f.Unlock()
	want(t, apply(t, d, op(crm.Upsert, "C")), "suspend: the CRM answers 401 Unauthorized")
	if got, w := f.Seen(), "search_read login search_read"; got != w {
		t.Errorf("calls %q, want %q", got, w)
	}
	// Many at once log in once.
	f.Lock()
	f.Before = nil
	f.Sessions += 10
	f.Unlock()
	f.Seen()
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			if r := d.Apply(context.Background(), []crm.Op{op(crm.Upsert, "A")})[0]; r.Err != nil {
				t.Error(r.Err)
			}
		})
	}
	all.Wait()
	if n := strings.Count(f.Seen(), "login"); n != 1 {
		t.Errorf("%d logins", n)
	}
}

func TestLoginFails(t *testing.T) {
	f := newRPC(t)
	wrong := strings.Replace(fake.RPCSteps, `"password": "pa`, `"password": "not-pa`, 1)
	d := newDialect(t, wrong, f.URL)
	// The far end repeats the password; the reason does not.
	w := "suspend: login: the CRM answers 401 Unauthorized: 401 Unauthorized wrong credentials: (sensitive)"
	want(t, apply(t, d, op(crm.Upsert, "A")), w)
	if got := f.Seen(); got != "login" {
		t.Errorf("calls %q", got)
	}
	if err := d.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "401") {
		t.Errorf("check: %v", err)
	}
	for _, c := range []struct {
		status int
		body   string
		want   string
	}{
		{429, "", "retry: login: the CRM answers 429 Too Many Requests"},
		{503, "<h1>down</h1>", "retry: login: the CRM answers 503 Service Unavailable: down"},
		{200, `{"result":null}`, `retry: login: the answer has no text or number where the value "token" points to`},
		{200, `{"result":[7,"a\nb: c"]}`, ""}, // encoded: harmless
		{200, `{"result":[7,null]}`, `retry: login: the answer has no text or number where the value "token" points to`},
		{200, `hello`, `retry: login: the CRM answers 200 with something that is not JSON: hello`},
		{200, ``, `retry: login: the CRM answers 200 with nothing`},
		{200, `{}`, `retry: login: the CRM's answer has nothing where errors.expect points to`},
		{200, `{"error":["UserError",["no such user"]]}`, `suspend: login: the CRM answers: no such user`},
		{302, "", "suspend: login: the CRM answers 302 Found"},
	} {
		f.Lock()
		f.Before = func(method string, w http.ResponseWriter) bool {
			if method == "login" {
				w.WriteHeader(c.status)
				io.WriteString(w, c.body)
				return true
			}
			return false
		}
		f.Unlock()
		got := apply(t, newDialect(t, fake.RPCSteps, f.URL), op(crm.Upsert, "A"))[0]
		if c.want != "" && got != c.want {
			t.Errorf("login answered with %d %q:\ngot  %s\nwant %s", c.status, c.body, got, c.want)
		}
	}
}

// What comes between the lookup and the write.
func TestRaces(t *testing.T) {
	f := newRPC(t)
	d := newDialect(t, fake.RPCSteps, f.URL)
	// Somebody else creates the record right after the lookup.
	f.Before = func(method string, _ http.ResponseWriter) bool {
		if method == "create" && len(f.Parties) == 0 {
			f.Parties = append(f.Parties, map[string]json.RawMessage{"code": json.RawMessage(`"A"`)})
		}
		return false
	}
	want(t, apply(t, d, op(crm.Upsert, "A", "name", `"Jane"`)),
		"updated 1 (somebody else created the record at the same time: it was updated)")
	if got, w := f.Seen(), "login search_read create search_read write"; got != w {
		t.Errorf("calls %q, want %q", got, w)
	}
	if len(f.Parties) != 1 || string(f.Parties[0]["name"]) != `"Jane"` {
		t.Errorf("parties %v", f.Parties)
	}
	// The refusal is about something else than the key.
	f.Before = func(method string, w http.ResponseWriter) bool {
		if method == "create" {
			io.WriteString(w, `{"error":["UserError",["The email must be unique."]]}`)
			return true
		}
		return false
	}
	want(t, apply(t, d, op(crm.Upsert, "B")), "rejected: the CRM answers: The email must be unique.")
	// Two records have the key.
	f.Before = nil
	f.Parties = append(f.Parties, f.Parties[0])
	want(t, apply(t, d, op(crm.Upsert, "A")), "rejected [key]: 2 records have this key: 1, 2")
	first := newDialect(t, strings.Replace(fake.RPCSteps, `"found": "/result"`, `"many": "first", "found": "/result"`, 1), f.URL)
	want(t, apply(t, first, op(crm.Upsert, "A")), "updated 1 (2 records have this key; the first was taken)")
	// A conflict that passes.
	f.Before = func(method string, w http.ResponseWriter) bool {
		if method == "write" {
			io.WriteString(w, `{"error":["ConcurrencyException",["changed meanwhile"]]}`)
			return true
		}
		return false
	}
	want(t, apply(t, first, op(crm.Upsert, "A")), "retry 2s: the CRM answers: changed meanwhile (2 records have this key; the first was taken)")
}

// What the far end may answer to a lookup.
func TestLookupAnswers(t *testing.T) {
	f := newRPC(t)
	d := newDialect(t, fake.RPCSteps, f.URL)
	for _, c := range []struct{ body, want string }{
		{`{"result":[]}`, "created 1"},
		{`{"result":null}`, "created 1"},
		{`{"result":false}`, "created 1"},
		{`{"result":""}`, "created 1"},
		{`{"result":{}}`, "created 1"},
		{`{"result":{"id":1}}`, "updated 1"},
		{`{"result":[{"id":"1"}]}`, "rejected: the CRM answers 500"}, // Tryton's ids are numbers: see below
		{`{"result":[{"id":1.0}]}`, ""},
		{`{"result":[{"id":null}]}`, "retry: the lookup's answer has a record without an id where id points to"},
		{`{"result":[{}]}`, "retry: the lookup's answer has a record without an id where id points to"},
		{`{"result":[[]]}`, "retry: the lookup's answer has a record without an id where id points to"},
		{`{"result":7}`, "retry: the lookup's answer has a record without an id where id points to"},
		{`{"results":[]}`, "retry: the CRM's answer has nothing where errors.expect points to"},
		{`[]`, "retry: the CRM's answer has nothing where errors.expect points to"},
		{`<html><title>Welcome</title><script>x()</script>to the proxy`, "retry: the CRM answers 200 with something that is not JSON: Welcome to the proxy"},
		{``, "retry: the CRM answers 200 with nothing"},
		{`{"result":[`, `retry: the CRM answers 200 with something that is not JSON: {"result":[`},
		{`{"error":null,"result":[]}`, "created 1"},
		{`{"error":0,"result":[]}`, "created 1"},
		{`{"error":1,"result":[]}`, "rejected: the CRM answers: 1"},
	} {
		f.Lock()
		f.Parties = nil
		if strings.HasPrefix(c.want, "updated") {
			f.Parties = []map[string]json.RawMessage{{"code": json.RawMessage(`"A"`)}}
		}
		f.Before = func(method string, w http.ResponseWriter) bool {
			switch method {
			case "search_read":
				io.WriteString(w, c.body)
				return true
			case "write":
				if len(f.Parties) == 0 {
					w.WriteHeader(http.StatusInternalServerError)
					return true
				}
			}
			return false
		}
		f.Unlock()
		got := apply(t, d, op(crm.Upsert, "A"))[0]
		if strings.HasPrefix(c.body, `{"result":[{"id":"1"`) || c.want == "" {
			continue
		}
		if got != c.want {
			t.Errorf("lookup answered with %s:\ngot  %s\nwant %s", c.body, got, c.want)
		}
	}
}

func TestStatuses(t *testing.T) {
	var status int
	var header http.Header
	var body string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			io.WriteString(w, `{"items":[]}`)
			return
		}
		for name, values := range header {
			w.Header()[name] = values
		}
		w.WriteHeader(status)
		io.WriteString(w, body)
	}))
	defer server.Close()
	d := newDialect(t, `{
		"lookup": {"method": "GET", "path": "/people{?key}", "found": "/items", "id": "/id"},
		"create": {"method": "POST", "path": "/people", "body": "{record}", "id": "/id"},
		"archive": {"method": "DELETE", "path": "/people/{id}"},
		"errors": {
			"message": "/message", "field": "/data",
			"rules": [
				{"status": [400], "at": "/data/code/code", "equals": "not_unique", "class": "duplicate"},
				{"status": [400], "at": "/data", "equals": {}, "class": "login"},
				{"status": [412], "class": "skip"},
				{"status": [429], "class": "retry", "pause": 3000000000},
				{"status": [418], "contains": "teapot", "class": "suspend"}
			]
		}
	}`, server.URL)
	for _, c := range []struct {
		status int
		header string // Retry-After
		body   string
		want   string
	}{
		{200, "", `{"id":"x1"}`, "created x1"},
		{201, "", `{"id":5}`, "created 5"},
		{200, "", `{}`, "created (the answer to create has no id where id points to)"},
		{204, "", ``, "retry: the CRM answers 204 with nothing"},
		{400, "", `{"data":{"email":{"code":"bad"}},"message":"no such address"}`, "rejected [fields.email]: the CRM answers 400 Bad Request: no such address"},
		{400, "", `{"data":{"code":{"code":"bad"}},"message":"no such code"}`, "rejected [key]: the CRM answers 400 Bad Request: no such code"},
		{400, "", `{"data":["x","email"]}`, `rejected [fields.email]: the CRM answers 400 Bad Request: {"data":["x","email"]}`},
		{400, "", `{"data":"email"}`, `rejected [fields.email]: the CRM answers 400 Bad Request: {"data":"email"}`},
		{400, "", `{"data":{"code":{"code":"not_unique"}}}`, `rejected [key]: the CRM answers 400 Bad Request: {"data":{"code":{"code":"not_unique"}}}`},
		{400, "", `{"data": { }}`, `suspend: the CRM answers 400 Bad Request: {"data": { }}`},
		{401, "", ``, "suspend: the CRM answers 401 Unauthorized"},
		{404, "", ``, "rejected: the CRM answers 404 Not Found"},
		{409, "", `{"message":"taken"}`, "rejected: the CRM answers 409 Conflict: taken"},
		{410, "", ``, "suspend: the CRM answers 410 Gone"},
		{412, "", `{"message":"stale"}`, "skipped: the CRM answers 412 Precondition Failed: stale"},
		{418, "", `I am a teapot`, "suspend: the CRM answers 418 I'm a teapot: I am a teapot"},
		{418, "", `I am a kettle`, "rejected: the CRM answers 418 I'm a teapot: I am a kettle"},
		{422, "", ``, "rejected: the CRM answers 422 Unprocessable Entity"},
		{429, "", ``, "retry 3s: the CRM answers 429 Too Many Requests"},
		{429, "9", ``, "retry 9s: the CRM answers 429 Too Many Requests"},
		{500, "", "<h1>It\x00 failed</h1>\n\n<p>badly", "retry: the CRM answers 500 Internal Server Error: It failed badly"},
		{503, "2", strings.Repeat("é", 400), "retry 2s: the CRM answers 503 Service Unavailable: " + strings.Repeat("é", 150) + "…"},
		{302, "", ``, "suspend: the CRM answers 302 Found"},
	} {
		status, body, header = c.status, c.body, http.Header{"Content-Type": {"application/json"}}
		if c.header != "" {
			header.Set("Retry-After", c.header)
		}
		if strings.HasPrefix(body, "<") {
			header.Set("Content-Type", "text/html")
		}
		if got := apply(t, d, op(crm.Upsert, "A", "email", `"x"`))[0]; got != c.want {
			t.Errorf("create answered with %d %.60q:\ngot  %s\nwant %s", c.status, c.body, got, c.want)
		}
	}
	want(t, apply(t, d, op(crm.Flag, "A", "x", "1")), "rejected [operation]: the sink has no lookup and update, which the operation flag needs")
	want(t, apply(t, d, op("merge", "A")), `rejected [operation]: the dialect rest has no operation "merge"`)
}

// A REST API, its own way of upserting, objects with steps of their own, and requests as they go out.
func TestRequests(t *testing.T) {
	type request struct{ Line, Body, Header string }
	var got []request
	reply := `{"items":[{"id":"r/1","rev":7,"email":"a"},{"id":"r2","email":"A"}]}`
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = append(got, request{r.Method + " " + r.URL.RequestURI(), string(body), r.Header.Get("X-Head") + "|" + r.Header.Get("X-All") + "|" +
			r.Header.Get("Traceparent") + "|" + r.Header.Get("If-Match") + "|" + r.Header.Get("Content-Type")})
		if r.URL.Path == "/base/gone" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		io.WriteString(w, reply)
	}))
	defer server.Close()
	d := newDialect(t, `{
		"headers": {"X-All": "all {not a placeholder}"},
		"lookup": {
			"method": "GET", "path": "/{object}/find", "query": {"q": "code='{key}'", "limit": "2", "v": "{key}"}, "found": "/items", "id": "/id",
			"where": {"/email": "{fields.email}"}, "headers": {"X-Head": "{delivery} {{{time}}}"}
		},
		"update": {"method": "PATCH", "path": "/people/{id}{?key}", "headers": {"If-Match": "{found.rev}"},
			"body": {"all": "{fields}", "n": 1.50, "deep": [{"mail": "{fields.address.city}", "text": "<{key}>: {fields.n}, {{}}"}]}}
	}`, server.URL+"/base/")
	companies := newDialect(t, `{
		"upsert": {"method": "PUT", "path": "/companies/{key.name}/{key}", "body": "{record}"},
		"archive": {"method": "DELETE", "path": "/companies/{key}"}
	}`, server.URL+"/base/")
	gone := newDialect(t, `{
		"lookup": {"method": "GET", "path": "/gone", "found": "/items", "id": ""},
		"create": {"method": "POST", "path": "/people", "body": ["{object}"]}
	}`, server.URL+"/base/")
	one := op(crm.Upsert, "a &/ü?", "address", `{"city":"Zürich \"ZH\""}`, "email", `"a"`, "n", `1.10`)
	one.TraceParent = "00-aa-bb-01"
	want(t, apply(t, d, one), "updated r/1")
	want(t, apply(t, companies, op(crm.Upsert, "K 1", "name", `"n"`), op(crm.Archive, "K 1")), "delivered", "delivered")
	want(t, apply(t, gone, op(crm.Upsert, "K")), "created")
	wantRequests := []request{
		{"GET /base/party.party/find?limit=2&q=code%3D%27a+%26%2F%C3%BC%3F%27&v=a+%26%2F%C3%BC%3F", "",
			"dlv_1 {2026-01-15T08:30:00.0000005Z}|all {not a placeholder}|00-aa-bb-01||"},
		{"PATCH /base/people/r%2F1?key=a%20%26%2F%C3%BC%3F", `{"all":{"address":{"city":"Zürich \"ZH\""},"email":"a","n":1.10},"n":1.50,` +
			`"deep":[{"mail":"Zürich \"ZH\"","text":"\u003ca \u0026/ü?\u003e: 1.10, {}"}]}`,
			"|all {not a placeholder}|00-aa-bb-01|7|application/json"},
		{"PUT /base/companies/code/K%201", `{"code":"K 1","name":"n"}`, "||||application/json"},
		{"DELETE /base/companies/K%201", "", "||||"},
		{"GET /base/gone", "", "||||"},
		{"POST /base/people", `["party.party"]`, "||||application/json"},
	}
	if d := cmp.Diff(wantRequests, got); d != "" {
		t.Errorf("requests (-want +got):\n%s", d)
	}
	reply = `{"items":[{"id":"r3","rev":1,"email":[null,1,"a"]},{"id":"r4","email":["b"]}]}`
	want(t, apply(t, d, one), "updated r3")
	// Messages that no request can be made of.
	evil := op(crm.Upsert, "x' || 1=1 || '", "email", `"a"`)
	want(t, apply(t, d, evil), `rejected [key]: {key} holds '\'', which does not go into a text unless the step's escape says how`)
	want(t, apply(t, d, op(crm.Upsert, "x")), "rejected [fields.email]: {fields.email} is not in the message, and a step needs it")
	want(t, apply(t, d, op(crm.Upsert, "x", "email", `{}`)), "rejected [fields.email]: {fields.email} is an object, and stands where a text is needed")
	want(t, apply(t, companies, op(crm.Upsert, "..")), `rejected [key]: {key} is "..", which cannot be a part of a path`)
	want(t, apply(t, companies, op(crm.Upsert, "x/../../orders")), `rejected: the path would have a part . or ..`)
	want(t, apply(t, companies, op(crm.Archive, `..\orders`)), `rejected [key]: the path would have a part . or ..`)
	reply = `{"items":[{"id":"1","email":"a"}]}`
	want(t, apply(t, d, op(crm.Upsert, "x", "email", `"a"`)), `retry: {found.rev} is not in the record that the lookup found`)
	reply = `{"items":[{"id":"1","email":"a","rev":"a\nb"}]}`
	want(t, apply(t, d, op(crm.Upsert, "x", "email", `"a"`, "n", "1", "address", `{"city":null}`)),
		`rejected: the header If-Match cannot hold what the message gives it`)
}

// An API that shows an empty list to whoever is not signed in: nothing is taken for missing before the session is
// checked.
func TestCheckBeforeAbsent(t *testing.T) {
	valid := "t1"
	var calls []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls = append(calls, r.Method+r.URL.Path)
		signedIn := r.Header.Get("Authorization") == valid
		switch {
		case r.URL.Path == "/login":
			fmt.Fprintf(w, `{"token":%q}`, valid)
		case r.URL.Path == "/me" && !signedIn:
			w.WriteHeader(http.StatusUnauthorized)
		case r.Method == http.MethodGet && !signedIn:
			io.WriteString(w, `{"items":[]}`)
		default:
			io.WriteString(w, `{"items":[{"id":1}]}`)
		}
	}))
	defer server.Close()
	d := newDialect(t, `{
		"login": {"method": "POST", "path": "/login", "values": {"token": "/token"}, "session": {"value": "{token}"}, "lifetime": 3600000000000},
		"check": {"method": "GET", "path": "/me"},
		"lookup": {"method": "GET", "path": "/people", "found": "/items", "id": "/id"},
		"archive": {"method": "DELETE", "path": "/people/{id}"}
	}`, server.URL)
	want(t, apply(t, d, op(crm.Archive, "A")), "delivered 1")
	valid, calls = "t2", nil
	want(t, apply(t, d, op(crm.Archive, "A")), "delivered 1")
	if got, w := strings.Join(calls, " "), "GET/people GET/me POST/login GET/me GET/people DELETE/people/1"; got != w {
		t.Errorf("calls %s\nwant  %s", got, w)
	}
	want(t, apply(t, d, op(crm.Upsert, "A")), "skipped: the record is there already, and the sink has no step update")
	if err := d.Check(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestDown(t *testing.T) {
	f := newRPC(t)
	d := newDialect(t, fake.RPCSteps, f.URL)
	want(t, apply(t, d, op(crm.Upsert, "A")), "created 1")
	f.Server.Close()
	for _, got := range apply(t, d, op(crm.Upsert, "A"), op(crm.Upsert, "B")) {
		if !strings.HasPrefix(got, "retry: the CRM cannot be reached: ") {
			t.Errorf("down: %s", got)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, r := range d.Apply(ctx, []crm.Op{op(crm.Upsert, "A"), op(crm.Upsert, "B")}) {
		if got := show(r); got != "retry: not sent: the call's time was over" {
			t.Errorf("too late: %s", got)
		}
	}
}
