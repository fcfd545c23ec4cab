package hubspot_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/grapnelhq/grapnel/plugins/sink-crm/crm"
	"github.com/grapnelhq/grapnel/plugins/sink-crm/hubspot"
	"github.com/grapnelhq/grapnel/plugins/sink-crm/internal/fake"
	"github.com/grapnelhq/grapnel/sdk"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const token = "pat-na1-0123456789"

// account is a fake account and a dialect for it.
func account(t testing.TB, version string, options ...func(*crm.Options)) (*fake.HubSpot, *hubspot.Dialect) {
	t.Helper()
	h := fake.NewHubSpot(token)
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	o := crm.Options{BaseURL: s.URL, Login: crm.StaticToken("Authorization", "Bearer ", sdk.NewSecret(token))}
	for _, f := range options {
		f(&o)
	}
	d, err := hubspot.New(version, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return h, d
}

// op is an operation on the contact with a key; fields is a JSON object.
func op(kind crm.Kind, key, fields string) crm.Op {
	o := crm.Op{
		DeliveryID: "d-" + key, Kind: kind, Object: "contacts",
		Key: crm.Key{Name: "hr_external_id", Value: key, Token: json.RawMessage(fmt.Sprintf("%q", key))},
	}
	if fields != "" {
		var m map[string]json.RawMessage
		if err := json.Unmarshal([]byte(fields), &m); err != nil {
			panic(err)
		}
		for name, v := range m {
			o.Fields = append(o.Fields, crm.Field{Name: name, Value: v})
		}
		slices.SortFunc(o.Fields, func(a, b crm.Field) int { return strings.Compare(a.Name, b.Name) })
	}
	return o
}

// short writes results in one line each.
func short(results []crm.Result) []string {
	var out []string
	for _, r := range results {
		s := fake.Short(r.Err)
		switch {
		case r.Absent:
			s = "absent"
		case r.Created:
			s += " created"
		case r.Updated:
			s += " updated"
		}
		out = append(out, s)
	}
	return out
}

func want(t *testing.T, what string, results []crm.Result, wanted ...string) {
	t.Helper()
	if got := short(results); !slices.Equal(got, wanted) {
		t.Errorf("%s: %q, want %q", what, got, wanted)
		for _, r := range results {
			if r.Err != nil {
				t.Log(r.Err)
			}
		}
	}
}

func TestUpsert(t *testing.T) {
	for _, version := range []string{"", "v3", "2026-03"} {
		h, d := account(t, version)
		results := d.Apply(t.Context(), []crm.Op{
			op(crm.Upsert, "p:1", `{"firstname":"Jane","hr_level":2.50,"hr_active":true,"hr_skills":["go","sql"],"phone":null}`),
			op(crm.Upsert, "p:2", `{"firstname":"Zoë \u003c\u0026"}`),
		})
		want(t, "create", results, "delivered created", "delivered created")
		if results[0].Reference == "" || results[0].Reference == results[1].Reference {
			t.Errorf("%+v", results)
		}
		got := h.Records("contacts")["p:1"].Properties
		wanted := map[string]string{
			"hr_external_id": "p:1", "firstname": "Jane", "hr_level": "2.50", "hr_active": "true", "hr_skills": "go;sql",
		}
		if !reflect.DeepEqual(got, wanted) {
			t.Errorf("%v", got)
		}
		want(t, "update", d.Apply(t.Context(), []crm.Op{op(crm.Upsert, "P:1", `{"firstname":null,"lastname":"Doe"}`)}), "delivered updated")
		got = h.Records("contacts")["p:1"].Properties
		if _, there := got["firstname"]; there || got["lastname"] != "Doe" {
			t.Errorf("null clears: %v", got)
		}
		if n := len(h.Requests()); n != 2 {
			t.Errorf("%d requests", n)
		}
	}
}

func TestArchiveAndFlag(t *testing.T) {
	h, d := account(t, "")
	two := []crm.Op{op(crm.Upsert, "p:1", `{"firstname":"A"}`), op(crm.Upsert, "p:2", `{"firstname":"B"}`)}
	want(t, "create", d.Apply(t.Context(), two), "delivered created", "delivered created")
	for _, whole := range []bool{false, true} {
		h.RefuseWhole(whole)
		want(t, "flag", d.Apply(t.Context(), []crm.Op{
			op(crm.Flag, "p:1", `{"hr_status":"left"}`), op(crm.Flag, "p:9", `{"hr_status":"left"}`), op(crm.Flag, "p:2", `{"hr_status":"left"}`),
		}), "delivered updated", "absent", "delivered updated")
	}
	if got := h.Records("contacts"); len(got) != 2 || got["p:2"].Properties["hr_status"] != "left" {
		t.Errorf("%v", got)
	}
	results := d.Apply(t.Context(), []crm.Op{op(crm.Archive, "p:9", ""), op(crm.Archive, "p:2", "")})
	want(t, "archive", results, "absent", "delivered")
	if r := h.Records("contacts")["p:2"]; !r.Archived || results[1].Reference != r.ID || h.Records("contacts")["p:1"].Archived {
		t.Errorf("%+v %+v", r, results)
	}
	want(t, "archive again", d.Apply(t.Context(), []crm.Op{op(crm.Archive, "p:2", "")}), "absent")
}

// One bad record never takes the good ones with it, whichever way HubSpot refuses it.
func TestBadRecords(t *testing.T) {
	for _, whole := range []bool{false, true} {
		for _, test := range []struct {
			name, fields, want string
			requests           int // where the batch is refused as a whole
		}{
			{"invalid value", `{"email":"nonsense"}`, "rejected fields.email", 15},
			{"invalid number", `{"hr_level":"high"}`, "rejected fields.hr_level", 15},
			{"conflict", `{"email":"taken@example.com"}`, "rejected", 15},
			{"unknown property", `{"nmae":"x"}`, "suspend", 2},
			{"list of objects", `{"hr_skills":[{"a":1}]}`, "rejected fields.hr_skills", 1},
			{"object", `{"hr_skills":{"a":1}}`, "rejected fields.hr_skills", 1},
		} {
			h, d := account(t, "")
			want(t, "other", d.Apply(t.Context(), []crm.Op{op(crm.Upsert, "other", `{"email":"taken@example.com"}`)}), "delivered created")
			h.RefuseWhole(whole)
			h.Forget()
			var ops []crm.Op
			for i := range 100 {
				ops = append(ops, op(crm.Upsert, fmt.Sprintf("p:%d", i), `{"firstname":"X"}`))
			}
			ops[37] = op(crm.Upsert, "p:37", test.fields)
			results := d.Apply(t.Context(), ops)
			for i, r := range short(results) {
				wanted := "delivered created"
				if i == 37 {
					wanted = test.want
				}
				if r != wanted {
					t.Errorf("%s, whole %v: %d: %s, want %s: %v", test.name, whole, i, r, wanted, results[i].Err)
				}
			}
			if n := len(h.Records("contacts")); n != 100 {
				t.Errorf("%s, whole %v: %d records", test.name, whole, n)
			}
			most := 1
			if whole {
				most = test.requests
			}
			if n := len(h.Requests()); n > most {
				t.Errorf("%s, whole %v: %d requests", test.name, whole, n)
			}
		}
	}
}

func TestUnknown(t *testing.T) {
	reject := func(o *crm.Options) { o.RejectUnknown = true }
	for _, whole := range []bool{false, true} {
		h, d := account(t, "", reject)
		h.RefuseWhole(whole)
		want(t, "property", d.Apply(t.Context(), []crm.Op{
			op(crm.Upsert, "p:1", `{"nmae":"x","firstname":"y"}`), op(crm.Upsert, "p:2", `{"firstname":"x"}`),
		}), "rejected fields.nmae", "delivered created")
		bad := op(crm.Upsert, "p:1", "")
		bad.Object = "dragons"
		want(t, "type", d.Apply(t.Context(), []crm.Op{bad}), "rejected object")
		bad.Kind = crm.Archive
		want(t, "type to archive", d.Apply(t.Context(), []crm.Op{bad}), "rejected object")
		bad.Object = "contacts/batch"
		want(t, "no type", d.Apply(t.Context(), []crm.Op{bad}), "rejected object")
		for _, kind := range []crm.Kind{crm.Upsert, crm.Archive, crm.Flag} {
			bad = op(kind, "p:1", "")
			bad.Key.Name = "hr_exernal_id"
			want(t, "key", d.Apply(t.Context(), []crm.Op{bad}), "rejected key")
			bad.Key.Name = "firstname"
			want(t, "key that is not unique", d.Apply(t.Context(), []crm.Op{bad}), "rejected key")
		}
	}
	_, d := account(t, "")
	bad := op(crm.Upsert, "p:1", "")
	bad.Object = "dragons"
	if r := d.Apply(t.Context(), []crm.Op{bad}); fake.Short(r[0].Err) != "suspend" || !strings.Contains(r[0].Err.Error(), "dragons") {
		t.Error(r[0].Err)
	}
}

// TestRefusals checks what an answer to a whole request means.
func TestRefusals(t *testing.T) {
	const day = `{"status":"error","message":"You have reached your daily limit.","errorType":"RATE_LIMIT","policyName":"DAILY"}`
	const burst = `{"status":"error","message":"You have reached your ten_secondly_rolling limit.","policyName":"TEN_SECONDLY_ROLLING"}`
	const second = `{"status":"error","message":"You have reached your secondly limit.","policyName":"SECONDLY"}`
	const scopes = `{"status":"error","message":"This app hasn't been granted all required scopes","category":"MISSING_SCOPES"}`
	for _, test := range []struct {
		name   string
		status int
		after  string
		body   string
		want   string
	}{
		{"token", 401, "", `{"status":"error","message":"Authentication credentials not found","category":"INVALID_AUTHENTICATION"}`, "suspend"},
		{"scopes", 403, "", scopes, "suspend"},
		{"gone", 410, "", `{}`, "suspend"},
		{"wrong address", 404, "", `<html>not here</html>`, "suspend"},
		{"redirect", 302, "", ``, "suspend"},
		{"locked", 423, "", `{"status":"error","message":"locked"}`, "retry after 2s"},
		{"migration", 477, "30", `{"status":"error"}`, "retry after 30s"},
		{"migration, no pause", 477, "", `{"status":"error"}`, "retry after 1m0s"},
		{"day", 429, "", day, "retry after 1h0m0s"},
		{"day with a pause", 429, "120", day, "retry after 2m0s"},
		{"ten seconds", 429, "", burst, "retry after 10s"},
		{"second", 429, "", second, "retry after 1s"},
		{"throttled by a proxy", 429, "", `slow down`, "retry after 10s"},
		{"bad gateway", 502, "", `<html>Bad Gateway</html>`, "retry"},
		{"unavailable", 503, "5", ``, "retry after 5s"},
		{"timeout of the edge", 524, "", ``, "retry"},
		{"a proxy's bad request", 400, "", `<html>400</html>`, "retry"},
		{"too large for a proxy", 413, "", `<html>413</html>`, "rejected"},
		{"no errors said", 207, "", `{"status":"COMPLETE","results":[],"numErrors":1}`, "retry"},
		{"no JSON", 207, "", `nonsense`, "retry"},
		{"done, says the status", 200, "", `nonsense`, "delivered"},
		{"done, without results", 200, "", `{"status":"COMPLETE"}`, "delivered"},
	} {
		t.Run(test.name, func(t *testing.T) {
			h, d := account(t, "")
			requests := 0
			h.Intercept(func(*http.Request, []byte) *fake.Reply {
				requests++
				return &fake.Reply{Status: test.status, Body: test.body, Header: map[string]string{"Retry-After": test.after}}
			})
			results := d.Apply(t.Context(), []crm.Op{op(crm.Upsert, "p:1", `{"firstname":"x"}`), op(crm.Upsert, "p:2", `{"firstname":"x"}`)})
			want(t, test.name, results, test.want, test.want)
			if requests != 1 {
				t.Errorf("%d requests", requests)
			}
			for _, r := range results {
				if r.Err != nil && strings.Contains(r.Err.Error(), token) {
					t.Error(r.Err)
				}
			}
		})
	}
}

// TestRecordErrors checks what the errors of a 207 mean, with all ways to say whose they are.
func TestRecordErrors(t *testing.T) {
	ok := `{"id":"7","new":true,"objectWriteTraceId":"d-p:1","properties":{"hr_external_id":"p:1"}}`
	for _, test := range []struct{ name, results, errors, want string }{
		{"trace", ok, `{"category":"VALIDATION_ERROR","message":"no","context":{"objectWriteTraceId":["d-p:2"]}}`, "rejected"},
		{"trace as text", ok, `{"category":"VALIDATION_ERROR","message":"no","context":{"objectWriteTraceId":"d-p:2"}}`, "rejected"},
		{"key", ok, `{"category":"VALIDATION_ERROR","message":"no","context":{"ids":["P:2"]}}`, "rejected"},
		{"details", ok, `{"category":"VALIDATION_ERROR","message":"no","context":{"ids":["p:2"]},"errors":[` +
			`{"message":"bad","code":"INVALID_LONG","context":{"propertyName":["firstname"]}}]}`, "rejected fields.firstname"},
		{"details in", ok, `{"category":"VALIDATION_ERROR","context":{"ids":["p:2"]},"errors":[{"message":"bad","in":"firstname"}]}`,
			"rejected fields.firstname"},
		{"the key's value", ok, `{"category":"VALIDATION_ERROR","context":{"ids":["p:2"]},"errors":[{"message":"bad","in":"hr_external_id"}]}`,
			"rejected key"},
		{"context is text", ok, `{"category":"VALIDATION_ERROR","context":{"ids":["p:2"]},"errors":[{"message":"bad","context":"{missingScopes=[a]}"}]}`,
			"rejected"},
		{"throttled", ok, `{"category":"RATE_LIMITS","message":"no","context":{"ids":["p:2"]}}`, "retry after 10s"},
		{"locked", ok, `{"category":"OBJECT_LOCKED","message":"no","context":{"ids":["p:2"]}}`, "retry after 2s"},
		{"internal", ok, `{"category":"INTERNAL_ERROR","message":"no","context":{"ids":["p:2"]}}`, "retry"},
		{"scopes", ok, `{"category":"MISSING_SCOPES","message":"no","context":{"ids":["p:2"]}}`, "suspend"},
		{"not found on an upsert", ok, `{"category":"OBJECT_NOT_FOUND","message":"no","context":{"ids":["p:2"]}}`, "rejected"},
		{"not mentioned", ok, ``, "retry"},
		{"mentioned without a name", ok + `,{"id":"8"}`, ``, "delivered"},
		{"both", ok + `,{"id":"8","objectWriteTraceId":"d-p:2"}`,
			`{"category":"CONFLICT","message":"no","context":{"objectWriteTraceId":["d-p:2"]}}`, "rejected"},
	} {
		h, d := account(t, "")
		h.Intercept(func(*http.Request, []byte) *fake.Reply {
			return &fake.Reply{Status: 207, Body: `{"status":"COMPLETE","numErrors":1,"results":[` + test.results + `],"errors":[` + test.errors + `]}`}
		})
		results := d.Apply(t.Context(), []crm.Op{op(crm.Upsert, "p:1", `{"firstname":"x"}`), op(crm.Upsert, "p:2", `{"firstname":"x"}`)})
		want(t, test.name, results, "delivered created", test.want)
		if results[0].Reference != "7" {
			t.Errorf("%s: %+v", test.name, results[0])
		}
	}
}

// An error that does not say whose it is, is found by sending the records that are in doubt again.
func TestNobodysError(t *testing.T) {
	for _, named := range []string{"", `{"id":"1","objectWriteTraceId":"d-p:1"}`} {
		h, d := account(t, "")
		h.Intercept(func(_ *http.Request, body []byte) *fake.Reply {
			if n := strings.Count(string(body), "objectWriteTraceId"); n > 1 && strings.Contains(string(body), "bad") {
				return &fake.Reply{Status: 207, Body: `{"results":[` + named + `],"errors":[{"category":"VALIDATION_ERROR","message":"no"}]}`}
			} else if strings.Contains(string(body), "bad") {
				return &fake.Reply{Status: 400, Body: `{"category":"VALIDATION_ERROR","message":"no"}`}
			}
			return nil
		})
		results := d.Apply(t.Context(), []crm.Op{
			op(crm.Upsert, "p:1", ""), op(crm.Upsert, "p:2", ""), op(crm.Upsert, "p:3", `{"firstname":"bad"}`), op(crm.Upsert, "p:4", ""),
		})
		got := short(results)
		if got[1] != "delivered created" || got[2] != "rejected" || got[3] != "delivered created" || !strings.HasPrefix(got[0], "delivered") {
			t.Errorf("%q", got)
		}
	}
}

// TestFindErrors checks that an archive is never given up for an answer that leaves room for doubt.
func TestFindErrors(t *testing.T) {
	for _, test := range []struct {
		name   string
		status int
		body   string
		want   string
	}{
		{"none", 200, `{"results":[]}`, "absent"},
		{"none, said as 404", 404, `{"category":"OBJECT_NOT_FOUND","message":"no"}`, "absent"},
		{"a stranger", 200, `{"results":[{"id":"7"}]}`, "retry"},
		{"no JSON", 200, `nonsense`, "retry"},
		{"wrong address", 404, `<html>`, "suspend"},
		{"throttled", 429, `{"policyName":"SECONDLY"}`, "retry after 1s"},
		{"internal", 207, `{"results":[],"errors":[{"category":"INTERNAL_ERROR","context":{"ids":["p:1"]}}]}`, "retry"},
	} {
		h, d := account(t, "")
		h.Intercept(func(r *http.Request, _ []byte) *fake.Reply {
			if !strings.HasSuffix(r.URL.Path, "/read") {
				t.Errorf("%s: %s", test.name, r.URL.Path)
			}
			return &fake.Reply{Status: test.status, Body: test.body}
		})
		want(t, test.name, d.Apply(t.Context(), []crm.Op{op(crm.Archive, "p:1", "")}), test.want)
	}
	// The ids are known, and the archive itself is refused.
	for status, wanted := range map[int][]string{500: {"retry", "retry"}, 400: {"rejected", "rejected"}} {
		h, d := account(t, "")
		d.Apply(t.Context(), []crm.Op{op(crm.Upsert, "p:1", ""), op(crm.Upsert, "p:2", "")})
		h.Intercept(func(r *http.Request, _ []byte) *fake.Reply {
			if strings.HasSuffix(r.URL.Path, "/archive") {
				return &fake.Reply{Status: status, Body: `{"category":"X","message":"no"}`}
			}
			return nil
		})
		want(t, fmt.Sprint(status), d.Apply(t.Context(), []crm.Op{op(crm.Archive, "p:1", ""), op(crm.Archive, "p:2", "")}), wanted...)
	}
}

func TestCheck(t *testing.T) {
	h, d := account(t, "")
	if err := d.Check(t.Context()); err != nil {
		t.Error(err)
	}
	h.Intercept(func(*http.Request, []byte) *fake.Reply {
		return &fake.Reply{Status: 403, Body: `{"category":"MISSING_SCOPES","message":"no contacts"}`}
	})
	if err := d.Check(t.Context()); err != nil {
		t.Error(err)
	}
	h.Intercept(nil)
	h.SetToken("another")
	if err := d.Check(t.Context()); err == nil || strings.Contains(err.Error(), token) {
		t.Error(err)
	}
}

func TestVersions(t *testing.T) {
	for version, fine := range map[string]bool{"": true, "v3": true, "2026-03": true, "v4": false, "2026-3": false, "../x": false} {
		if err := hubspot.CheckVersion(version); (err == nil) != fine {
			t.Errorf("%q: %v", version, err)
		}
	}
}

// What comes when the call is over is not sent.
func TestCallIsOver(t *testing.T) {
	h, d := account(t, "")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	want(t, "over", d.Apply(ctx, []crm.Op{op(crm.Upsert, "p:1", "")}), "retry")
	if n := len(h.Requests()); n != 0 {
		t.Errorf("%d requests", n)
	}
}

// TestLikeTheSDK compares requests with those that HubSpot's own client sends; see testdata/sdk.
func TestLikeTheSDK(t *testing.T) {
	b, err := os.ReadFile("../testdata/sdk/hubspot.json")
	if err != nil {
		t.Fatal(err)
	}
	h, d := account(t, "")
	one := op(crm.Upsert, "peopleforce:4101", `{"firstname":"Jane","jobtitle":null,"lastname":"Doe"}`)
	two := op(crm.Upsert, "peopleforce:4102", `{"firstname":"Zoë","hr_level":2.50,"lastname":"O’Neil"}`)
	misspelt := op(crm.Upsert, "peopleforce:4101", `{"nmae":"Jane"}`)
	other := op(crm.Upsert, "peopleforce:4102", `{"firstname":"Zoë"}`)
	flag := op(crm.Flag, "peopleforce:4102", `{"hr_status":"left"}`)
	archive := []crm.Op{op(crm.Archive, "peopleforce:4101", ""), op(crm.Archive, "peopleforce:4102", "")}
	for _, o := range []*crm.Op{&one, &two, &misspelt, &other, &flag} {
		o.DeliveryID = map[string]string{"1": "d-1", "2": "d-2"}[o.Key.Value[len(o.Key.Value)-1:]]
	}
	d.Apply(t.Context(), []crm.Op{one, two})
	d.Apply(t.Context(), []crm.Op{one, two})
	d.Apply(t.Context(), []crm.Op{flag})
	d.Apply(t.Context(), archive)
	if err := d.Check(t.Context()); err != nil {
		t.Error(err)
	}
	d.Apply(t.Context(), []crm.Op{misspelt, other})
	fake.CompareRequests(t, b, h.Requests())
}

// FuzzAnswers feeds the dialect anything as an answer: it must account for every operation.
func FuzzAnswers(f *testing.F) {
	f.Add(207, []byte(`{"results":[{"id":"1","objectWriteTraceId":"d-p:1"}],"errors":[{"context":{"ids":["p:2"]}}]}`))
	f.Add(400, []byte(`{"category":"VALIDATION_ERROR","message":"Property values were not valid: [{\"error\":\"PROPERTY_DOESNT_EXIST\",\"name\":\"firstname\"}]"}`))
	f.Add(429, []byte(`{"policyName":7}`))
	f.Add(200, []byte(`{"results":[{"id":{},"properties":{"hr_external_id":[]}}]}`))
	h, d := account(f, "")
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		if status < 200 || status > 599 {
			return
		}
		requests := 0
		h.Intercept(func(*http.Request, []byte) *fake.Reply {
			requests++
			return &fake.Reply{Status: status, Body: string(body)}
		})
		ops := []crm.Op{op(crm.Upsert, "p:1", `{"firstname":"x"}`), op(crm.Upsert, "p:2", ""), op(crm.Upsert, "p:3", `{"email":"x"}`)}
		if n := len(d.Apply(t.Context(), ops)); n != 3 {
			t.Errorf("%d results", n)
		}
		for i := range ops {
			ops[i].Kind, ops[i].Fields = crm.Archive, nil
		}
		results := d.Apply(t.Context(), ops)
		for _, r := range results {
			if status >= 300 && r.Err == nil && !r.Absent {
				t.Errorf("status %d: %+v", status, r)
			}
		}
		if len(results) != 3 || requests > 40 {
			t.Errorf("%d results, %d requests", len(results), requests)
		}
	})
}
