package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/expr"
	"github.com/grapnelhq/grapnel/core/store"
	"github.com/grapnelhq/grapnel/sdk"
)

// contract judges answers by the document.
type contract struct {
	t        *testing.T
	doc      openAPI
	compiler *jsonschema.Compiler
	called   map[string]bool // patterns
}

const documentURL = "http://grapnel/v1/openapi.json"

func newContract(t *testing.T) *contract {
	t.Helper()
	doc, b := readOpenAPI(t)
	whole, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.AssertFormat()
	if err := c.AddResource(documentURL, whole); err != nil {
		t.Fatal(err)
	}
	return &contract{t, doc, c, map[string]bool{}}
}

// find returns the path of the document that a URL's path is of.
func (c *contract) find(method, path string) (documented string) {
	c.t.Helper()
	if _, ok := c.doc.Paths[path][strings.ToLower(method)]; ok {
		return path // before those with a name in them
	}
	for p, ops := range c.doc.Paths {
		if _, ok := ops[strings.ToLower(method)]; !ok {
			continue
		}
		pattern := "^" + regexp.MustCompile(`\{[a-z]+\}`).ReplaceAllString(p, "[^/]+") + "$"
		if regexp.MustCompile(pattern).MatchString(path) {
			return p
		}
	}
	c.t.Fatalf("%s %s is not documented", method, path)
	return ""
}

// check validates an answer: its status, its type, and each JSON text in it.
func (c *contract) check(method, path string, resp *http.Response, body []byte) {
	c.t.Helper()
	documented := c.find(method, path)
	c.called[method+" "+documented] = true
	pointer := "/paths/" + escapePointer(documented) + "/" + strings.ToLower(method) + "/responses/"
	status := fmt.Sprint(resp.StatusCode)
	raw, ok := c.doc.Paths[documented][strings.ToLower(method)].Responses[status]
	if !ok {
		c.t.Errorf("%s %s: the status %s is not documented: %s", method, path, status, body)
		return
	}
	pointer += status
	var r struct {
		Ref     string `json:"$ref"`
		Content map[string]struct {
			Schema json.RawMessage `json:"schema"`
		} `json:"content"`
	}
	if err := json.Unmarshal(raw, &r); err != nil {
		c.t.Fatal(err)
	}
	if name, ok := strings.CutPrefix(r.Ref, "#/components/responses/"); ok {
		pointer = "/components/responses/" + name
		if err := json.Unmarshal(c.doc.Components.Responses[name], &r); err != nil {
			c.t.Fatal(err)
		}
	}
	kind, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	content, ok := r.Content[kind]
	if !ok {
		c.t.Errorf("%s %s: the type %q is not documented", method, path, kind)
		return
	}
	pointer += "/content/" + escapePointer(kind) + "/schema"
	var texts []string
	switch kind {
	case "application/json":
		texts = []string{string(body)}
	case "application/x-ndjson":
		texts = strings.Split(strings.TrimSpace(string(body)), "\n")
	case "text/event-stream":
		for line := range strings.Lines(string(body)) {
			if data, ok := strings.CutPrefix(line, "data: "); ok {
				texts = append(texts, data)
			}
		}
	default:
		return
	}
	if len(content.Schema) == 0 || len(texts) == 0 {
		c.t.Errorf("%s %s: nothing to check: %s", method, path, body)
	}
	schema, err := c.compiler.Compile(documentURL + "#" + pointer)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, text := range texts {
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
		if err != nil {
			c.t.Errorf("%s %s: %v: %s", method, path, err, text)
			continue
		}
		if err := schema.Validate(v); err != nil {
			c.t.Errorf("%s %s: %v\n%s", method, path, err, text)
		}
	}
}

func escapePointer(s string) string {
	return strings.NewReplacer("~", "~0", "/", "~1", "{", "%7B", "}", "%7D").Replace(s)
}

// filled is everything that only a running host has, with all that it can say.
type filled struct{}

func (filled) Rates() Rates {
	n := []int64{1, 2}
	return Rates{
		Start: time.Now(), StepSeconds: 10, Since: time.Now(), Sources: []SourceRates{{"people", n, n, n}},
		Routes: []RouteRates{{"route", n}}, Sinks: []SinkRates{{"good", n, n, n}}, Nowhere: n,
	}
}

func (filled) step() expr.Step {
	return expr.Step{
		Source: "a && b", Kind: expr.StepAnd, Value: json.RawMessage("true"),
		Steps: []expr.Step{{Source: "b", Kind: expr.StepReference, Unused: true, Error: &expr.Error{Summary: "s", Range: "r"}}},
	}
}

func (f filled) explanation() Explanation {
	step, zero, yes := f.step(), 0, true
	return Explanation{
		From: "store", Request: &ExplainedRequest{ID: "req_x", ReceivedAt: time.Now()},
		Authentication: Authentication{Result: "accepted", Secret: &zero, Secrets: 1},
		Dedupe:         &Dedupe{Key: "00", Parts: []sdk.Part{{Kind: "header", Name: "x"}}, Stored: &StoredBefore{}, Duplicate: &yes},
		Events: []ExplainedEvent{{Event: Event{Data: json.RawMessage(`{"a":null}`)}, Routes: []ExplainedRoute{{
			Route: "r", Verdict: VerdictSends, When: &step, To: []ExplainedSend{{
				Sink: "good", DeliveryID: "dlv_x", Message: json.RawMessage(`{}`), OrderBy: &step,
				Arguments: []expr.Argument{{Name: "text", Step: step}},
			}},
		}}}},
	}
}

func (f filled) Stored(context.Context, *core.Request, []core.Event, string) (Explanation, error) {
	return f.explanation(), nil
}
func (f filled) Given(context.Context, GivenRequest) (Explanation, error) {
	return f.explanation(), nil
}

func (filled) Reload(context.Context, string) (Reload, error) { return filled{}.reload(), nil }
func (filled) Reloads() []Reload                              { return []Reload{filled{}.reload()} }

func (filled) reload() Reload {
	return Reload{
		ID: 1, At: time.Now(), TookMS: 1.5, Trigger: "command", Result: ReloadInvalid, Error: "x",
		Diagnostics: []Diagnostic{{Severity: "error", Summary: "x", File: "config.hcl", Line: 1, Column: 2}},
	}
}

func (filled) Alerts() []Alert {
	return []Alert{{Name: "late", State: "firing", To: []string{"good"}, Things: []AlertThing{{Alert: "late", Since: time.Now()}}}}
}

func (filled) TestAlert(_ context.Context, name string) (string, error) {
	if name != "late" {
		return "", store.ErrNotFound
	}
	return "req_x", nil
}

func (filled) Config() Config {
	failed := filled{}.reload()
	return Config{
		Path: "config.hcl", Loaded: failed, Failed: &failed, Files: []ConfigFile{{"config.hcl", "sink …"}},
		Diagnostics: failed.Diagnostics,
	}
}

func (filled) Upgrade(_ context.Context, _ UpgradeOrder, _ time.Duration, report func(UpgradeProgress)) (Upgraded, error) {
	report(UpgradeProgress{Stage: "checking"})
	return Upgraded{Plugin: "sink-file"}, nil
}

func (filled) describe(s *Status) {
	at := time.Now()
	s.Running, s.Version = true, "1"
	s.Sources = []SourceStatus{{Source: "people", Rejected: map[string]uint64{"bad_json": 1}, Secrets: []uint64{1}}}
	s.Sinks = []SinkStatus{{Sink: "good", State: "paused", Until: at}}
	s.Plugins = []Plugin{{
		Plugin: "sink-file", State: "ready", StartedAt: &at, CPUSeconds: 1.25, LastCrash: "x", LastCrashAt: &at,
		Instances: []string{"good"}, Blocks: []PluginBlock{{Block: "good", Ready: true}},
	}}
}

// TestAnswersFitOpenAPI makes every call of the document to a server, and checks what it says, errors too.
func TestAnswersFitOpenAPI(t *testing.T) {
	s := serve(t, t.TempDir())
	d := s.direct
	d.Rater, d.Explainer, d.Reloader, d.Upgrader, d.Describe = filled{}.Rates, filled{}, filled{}, filled{}, filled{}.describe
	d.Alerting = filled{}
	d.Changes = NewTail()
	d.Store = d.Changes.Store(d.Store)
	c := newContract(t)
	call := func(method, path, body string) string {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, "http://grapnel"+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := s.http.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var b []byte
		if strings.HasPrefix(path, "/v1/tail") && resp.StatusCode == http.StatusOK { // it has no end: its first event will do
			for one := make([]byte, 1); !bytes.HasSuffix(b, []byte("}\n\n")); {
				if _, err := io.ReadFull(resp.Body, one); err != nil {
					t.Fatal(err)
				}
				b = append(b, one...)
			}
		} else if b, err = io.ReadAll(resp.Body); err != nil {
			t.Fatal(err)
		}
		path, _, _ = strings.Cut(path, "?")
		c.check(method, path, resp, b)
		return string(b)
	}
	page, err := d.Requests(t.Context(), store.RequestFilter{})
	if err != nil {
		t.Fatal(err)
	}
	ds, err := d.Deliveries(t.Context(), store.DeliveryFilter{})
	if err != nil {
		t.Fatal(err)
	}
	es, err := d.Events(t.Context(), store.EventFilter{})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range page.Items {
		for _, rest := range []string{"", "/body", "/explanation"} {
			call("GET", "/v1/requests/"+r.ID+rest, "")
		}
	}
	for _, e := range es.Items {
		call("GET", "/v1/events/"+e.ID, "")
	}
	dead := ""
	for _, v := range ds.Items {
		if call("GET", "/v1/deliveries/"+v.ID, ""); v.State == "dead" {
			dead = v.ID
		}
	}
	for _, path := range []string{
		"/v1/status", "/v1/rates", "/v1/openapi.json", "/v1/tail", "/v1/tail?after=x", "/v1/requests?limit=1", "/v1/requests/export",
		"/v1/events", "/v1/deliveries?state=dead", "/v1/rejections", "/v1/rejections/1", "/v1/receipts", "/v1/config", "/v1/reloads",
		"/v1/alerts",
		// and what is wrong
		"/v1/tail?x=1", "/v1/requests?x=1", "/v1/requests?limit=x", "/v1/requests/export?since=x", "/v1/requests/req_x", "/v1/requests/req_x/body",
		"/v1/requests/x/explanation", "/v1/events/x", "/v1/events?unrouted=x", "/v1/deliveries/x", "/v1/deliveries?until=x",
		"/v1/rejections/x", "/v1/rejections/999", "/v1/rejections?x=", "/v1/receipts/x", "/v1/receipts/999", "/v1/receipts?cursor=x",
	} {
		call("GET", path, "")
	}
	for _, p := range [][2]string{
		{"/v1/explain", `{"source":"people","body":"{}","headers":[{"name":"a","value":"b"}]}`}, {"/v1/explain", `{}`},
		{"/v1/reload", ``}, {"/v1/alerts/late/test", ``}, {"/v1/alerts/none/test", ``},
		{"/v1/requests/retry?dry_run=true", ``}, {"/v1/requests/retry", `{"ids":["req_x"]}`}, {"/v1/requests/retry?x=1", ``},
		{"/v1/deliveries/retry?dry_run=true", ``}, {"/v1/deliveries/retry", `{"ids":["` + dead + `"]}`}, {"/v1/deliveries/retry?x=1", ``},
		{"/v1/deliveries/replay?dry_run=true&state=dead", ``}, {"/v1/deliveries/replay", `{"x":1}`},
		{"/v1/deliveries/replay?as_is=true&force=true", `{"ids":["` + dead + `"]}`},
		{"/v1/deliveries/skip", `{"ids":["` + dead + `"],"reason":"x"}`}, {"/v1/deliveries/skip", `x`},
		{"/v1/sinks/good/pause", `{"reason":"x"}`}, {"/v1/sinks/good/pause", `x`}, {"/v1/sinks/none/pause", `{}`},
		{"/v1/sinks/good/resume", ``}, {"/v1/sinks/none/resume", ``},
		{"/v1/backup", `{"path":"` + filepath.Join(t.TempDir(), "backup.db") + `"}`}, {"/v1/backup", `{"path":"x"}`}, {"/v1/backup", `x`},
		{"/v1/requests/search?since=2026-03-01T00:00:00Z", `{"text":"n"}`}, {"/v1/requests/search", `{}`}, {"/v1/requests/search?x=1", `{}`},
		{"/v1/requests/erase?dry_run=true", `{"subject":"thing/1"}`}, {"/v1/requests/erase", `{}`},
		{"/v1/requests/erase", `{"subject":"thing/1"}`}, {"/v1/requests/erase?x=1", `{}`},
		{"/v1/plugins/upgrade", `{"plugin":"sink-file"}`}, {"/v1/plugins/upgrade", `{}`},
	} {
		call("POST", p[0], p[1])
	}
	call("GET", "/v1/receipts/1", "")
	for _, pattern := range routes(nil, owner).all {
		if !c.called[pattern] {
			t.Errorf("%s was not called: add it here", pattern)
		}
	}

	// The guard's answers.
	guarded := Listener{Control: d, Token: "0123456789abcdef", Listen: "127.0.0.1:8081"}.Handler()
	for _, g := range []struct {
		host, token, site string
		status            int
	}{
		{"evil.example", "", "", 421}, {"localhost", "", "", 401}, {"localhost", "x", "", 401}, {"localhost", "", "cross-site", 403},
	} {
		for _, pattern := range slices.Concat(routes(nil, remote).all, beside[:1]) {
			method, path, _ := strings.Cut(pattern, " ")
			r, err := http.NewRequest(method, "http://"+g.host+strings.NewReplacer("{id}", "x", "{sink}", "x", "{name}", "x").Replace(path), nil)
			if err != nil {
				t.Fatal(err)
			}
			if g.token != "" {
				r.Header.Set("Authorization", "Bearer "+g.token)
			}
			if g.site != "" {
				r.Header.Set("Sec-Fetch-Site", g.site)
			}
			w := &recorded{head: http.Header{}}
			guarded.ServeHTTP(w, r)
			if w.status != g.status && w.status != http.StatusTooManyRequests {
				t.Errorf("%+v: %s: %d", g, pattern, w.status)
			}
			c.check(method, r.URL.Path, &http.Response{StatusCode: w.status, Header: w.head}, w.Bytes())
		}
	}
}
