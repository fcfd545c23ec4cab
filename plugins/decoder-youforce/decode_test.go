package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/grapnelhq/grapnel/sdk"
	"github.com/grapnelhq/grapnel/sdk/plugintest"
)

// headerOf names the event header that a sample file came or would come with.
func headerOf(file string) string {
	for word, header := range map[string]string{
		"person": "PERSON_CHANGED", "assignment": "ASSIGNMENT_CHANGED", "sickleave": "SICKLEAVE_CHANGED",
	} {
		if strings.Contains(file, word) {
			return header
		}
	}
	return "EMPLOYMENT_CHANGED"
}

func sampleFiles(t testing.TB) []string {
	t.Helper()
	var files []string
	err := fs.WalkDir(samples, ".", func(file string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files = append(files, file)
		}
		return err
	})
	if err != nil || len(files) < 15 {
		t.Fatalf("%d samples: %v", len(files), err)
	}
	return files
}

func readSample(t testing.TB, file string) []byte {
	t.Helper()
	b, err := samples.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// request makes a request from a body and pairs of header name and value.
func request(body string, headers ...string) *sdk.Request {
	r := &sdk.Request{ID: "r1", Source: "hr", Method: "POST", Body: []byte(body)}
	for i := 0; i < len(headers); i += 2 {
		r.Headers = append(r.Headers, sdk.Header{Name: strings.ToLower(headers[i]), Value: headers[i+1]})
	}
	return r
}

func decode(t testing.TB, r *sdk.Request) []sdk.Event {
	t.Helper()
	events, err := decoder{}.Decode(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
	return events
}

func one(t testing.TB, r *sdk.Request) sdk.Event {
	t.Helper()
	events := decode(t, r)
	if len(events) != 1 {
		t.Fatalf("%d events, want 1", len(events))
	}
	return events[0]
}

// goldenEvent is an event as golden files show it: what is not there is left out.
type goldenEvent struct {
	Type         string          `json:"type"`
	Subject      string          `json:"subject"`
	PartitionKey string          `json:"partitionkey"`
	Operation    string          `json:"operation"`
	Tenant       string          `json:"tenant,omitempty"`
	Time         string          `json:"time,omitempty"`
	Data         json.RawMessage `json:"data,omitempty"`
	Changes      []goldenChange  `json:"changes,omitempty"`
	Notes        []string        `json:"notes,omitempty"`
}

type goldenChange struct {
	Field string          `json:"field"`
	Old   json.RawMessage `json:"old,omitempty"`
	New   json.RawMessage `json:"new,omitempty"`
}

func goldenOf(events []sdk.Event) []goldenEvent {
	var golden []goldenEvent
	for _, e := range events {
		g := goldenEvent{Type: e.Type, Subject: e.Subject, PartitionKey: e.PartitionKey, Operation: e.Operation,
			Tenant: e.Tenant, Time: e.Time, Data: e.Data, Notes: e.Notes}
		for _, c := range e.Changes {
			g.Changes = append(g.Changes, goldenChange(c))
		}
		golden = append(golden, g)
	}
	return golden
}

// TestPlugin runs the decoder as a host does.
func TestPlugin(t *testing.T) {
	plugintest.Decoder(t, sdk.NewDecoder(manifest(), open), plugintest.Options{})
}

// TestSamples decodes every sample and compares the events with its golden file.
func TestSamples(t *testing.T) {
	for _, file := range sampleFiles(t) {
		t.Run(path.Base(file), func(t *testing.T) {
			events := decode(t, request(string(readSample(t, file)), headerEvent, headerOf(file)))
			var got bytes.Buffer
			enc := json.NewEncoder(&got)
			enc.SetEscapeHTML(false)
			enc.SetIndent("", "  ")
			if err := enc.Encode(goldenOf(events)); err != nil {
				t.Fatal(err)
			}
			golden := "testdata/golden/" + path.Base(file)
			if plugintest.Update() {
				if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got.String()); diff != "" {
				t.Errorf("events differ from %s (-want +got):\n%s", golden, diff)
			}
		})
	}
}

// The signature vectors of other tests are computed over exactly these bytes.
func TestSamplesAreByteExact(t *testing.T) {
	for _, vector := range []struct{ file, digest string }{
		{"published/person-changed-update",
			"31a50611559d3bc5157ea2b7fa82cedf25216b53613bce287f164122d3554be4"},
		{"synthesized/sickleave-update-period-added-newvalue-only",
			"bf15d8f5cb87eda33f2c251b0dbc88d657ca362e421dcd9ac3d971933e6cc753"},
		{"synthesized/employment-delete-without-value",
			"dc94a5a3eedd31307f60ce2c7d2d89a517ab0522965c8f27c111b825de1ee3ff"},
	} {
		sum := sha256.Sum256(readSample(t, "testdata/"+vector.file+".json"))
		if got := hex.EncodeToString(sum[:]); got != vector.digest {
			t.Errorf("%s has the digest %s, want %s", vector.file, got, vector.digest)
		}
	}
}

func TestKinds(t *testing.T) {
	long := strings.Repeat("X", 300)
	tests := []struct {
		header, operation string // operation is the member's JSON, empty for none
		typ, op, subject  string
		notes             []string
	}{
		{"EMPLOYMENT_CHANGED", `"Insert"`, "youforce.employment.created", "created", "employment/7 1", nil},
		{"PERSON_CHANGED", `"UPDATE"`, "youforce.person.updated", "updated", "person/7 1", nil},
		{"ASSIGNMENT_CHANGED", `"delete"`, "youforce.assignment.deleted", "deleted", "assignment/7 1", nil},
		{"SICKLEAVE_CHANGED", `"Deleted"`, "youforce.sickleave.deleted", "deleted", "sickleave/7 1", nil},
		{"SICKLEAVE_CHANGED", `"update"`, "youforce.sickleave.updated", "updated", "sickleave/7 1", nil},
		{"employment_changed", `"Update"`, "youforce.employment.updated", "updated", "employment/7 1", nil},
		{" EMPLOYMENT_CHANGED ", `" Update\t"`, "youforce.employment.updated", "updated", "employment/7 1", nil},
		{"EMPLOYMENT_CHANGED", `"Xyz"`, "youforce.employment.xyz", "xyz", "employment/7 1", nil},
		{"EMPLOYMENT_CHANGED", `"Re-Hire.Now"`, "youforce.employment.re_hire_now", "re_hire_now", "employment/7 1", nil},
		{"COST-ALLOCATION_CHANGED", `"Insert"`, "youforce.cost_allocation.created", "created", "cost_allocation/7 1", nil},
		{"ORG.UNIT_CHANGED", `"Insert"`, "youforce.org_unit.created", "created", "org_unit/7 1", nil},
		{"PING", "", "youforce.ping", "", "ping/7 1", nil},
		{"SYNC-DONE", `"Insert"`, "youforce.sync_done", "created", "sync_done/7 1", nil},
		{"employment.created", `"Insert"`, "youforce.employment_created", "created", "employment_created/7 1", nil},
		{"_CHANGED", `"Insert"`, "youforce._changed", "created", "_changed/7 1", nil},
		{" _CHANGED", `"Insert"`, "youforce._changed", "created", "_changed/7 1", nil},
		{"...", `"Insert"`, "youforce.___", "created", "___/7 1", nil},
		{"\xff\x00", `"Insert"`, "youforce.__", "created", "__/7 1", nil},
		{long, `"Insert"`, "youforce." + strings.ToLower(long[:64]), "created", strings.ToLower(long[:64]) + "/7 1", nil},
		{"", `"Insert"`, "youforce.record.created", "created", "record/7 1", []string{noteNoHeader}},
		{" ", "", "youforce.record.changed", "", "record/7 1", []string{noteNoHeader, noteNoOperation}},
		{"PERSON_CHANGED", "", "youforce.person.changed", "", "person/7 1", []string{noteNoOperation}},
		{"PERSON_CHANGED", "null", "youforce.person.changed", "", "person/7 1", []string{noteNoOperation}},
		{"PERSON_CHANGED", `" "`, "youforce.person.changed", "", "person/7 1", []string{noteNoOperation}},
	}
	for _, tt := range tests {
		body := `{"id":"7 1","timestamp":"2026-01-15T09:30:00Z","operation":` + tt.operation + `}`
		if tt.operation == "" {
			body = `{"id":"7 1","timestamp":"2026-01-15T09:30:00Z"}`
		}
		r := request(body)
		if tt.header != "" {
			r = request(body, headerEvent, tt.header)
		}
		e := one(t, r)
		if e.Type != tt.typ || e.Operation != tt.op || e.Subject != tt.subject || !reflect.DeepEqual(e.Notes, tt.notes) {
			t.Errorf("%q %s: %q %q %q %q", tt.header, tt.operation, e.Type, e.Operation, e.Subject, e.Notes)
		}
	}
}

func TestTenant(t *testing.T) {
	const id = `"id":"843847 5","operation":"Update","timestamp":"2026-01-15T09:30:00Z"`
	tests := []struct {
		name, body, header, source string
		tenant, key                string
	}{
		{"body", `{` + id + `,"tenantId":"123456"}`, "uuid", "acme", "123456", "123456/employment/843847 5"},
		{"body, a number", `{` + id + `,"tenantId":123456}`, "", "", "123456", "123456/employment/843847 5"},
		{"header", `{` + id + `}`, "uuid", "acme", "uuid", "uuid/employment/843847 5"},
		{"header for null", `{` + id + `,"tenantId":null}`, "uuid", "", "uuid", "uuid/employment/843847 5"},
		{"header for empty", `{` + id + `,"tenantId":""}`, "uuid", "", "uuid", "uuid/employment/843847 5"},
		{"source", `{` + id + `}`, "", "acme", "", "acme/employment/843847 5"}, // the host fills in the source's
		{"none", `{` + id + `}`, "", "", "", "employment/843847 5"},
	}
	for _, tt := range tests {
		r := request(tt.body, headerEvent, "EMPLOYMENT_CHANGED", headerTenant, tt.header)
		r.Tenant = tt.source
		if e := one(t, r); e.Tenant != tt.tenant || e.PartitionKey != tt.key {
			t.Errorf("%s: tenant %q, key %q", tt.name, e.Tenant, e.PartitionKey)
		}
	}
}

// Ids are opaque: spaces, slashes and escapes stay as they are.
func TestIDs(t *testing.T) {
	for raw, want := range map[string]string{
		`"843847 5"`: "employment/843847 5", `" a "`: "employment/ a ", `"a/b%20"`: "employment/a/b%20",
		`"\u00e9\n"`: "employment/é\n", `8438470`: "employment/8438470", `1.50`: "employment/1.50",
		`null`: "", `""`: "",
	} {
		e := one(t, request(`{"operation":"Insert","timestamp":"2026-01-15T09:30:00Z","id":`+raw+`}`,
			headerEvent, "EMPLOYMENT_CHANGED"))
		if e.Subject != want || e.PartitionKey != want {
			t.Errorf("%s: subject %q, key %q, want %q", raw, e.Subject, e.PartitionKey, want)
		}
		if noted := len(e.Notes) == 1 && e.Notes[0] == noteNoID; noted != (want == "") {
			t.Errorf("%s: notes %q", raw, e.Notes)
		}
	}
}

func TestTime(t *testing.T) {
	for raw, want := range map[string]string{
		`"2025-07-03T10:12:35.4877275+00:00"`: "2025-07-03T10:12:35.4877275+00:00",
		`"2025-07-03T10:12:35Z"`:              "2025-07-03T10:12:35Z",
		`"2025-07-03T10:12:35"`:               "",
		`"2025-07-03"`:                        "",
		`"2025-07-03T10:12:35,5Z"`:            "",
		`"yesterday"`:                         "",
		`1751537555487`:                       "",
		`null`:                                "",
	} {
		e := one(t, request(`{"id":"1","operation":"Insert","timestamp":`+raw+`}`, headerEvent, "PERSON_CHANGED"))
		if e.Time != want {
			t.Errorf("%s: time %q, want %q", raw, e.Time, want)
		}
		if noted := len(e.Notes) == 1 && e.Notes[0] == noteTime; noted != (want == "") {
			t.Errorf("%s: notes %q", raw, e.Notes)
		}
	}
}

func TestData(t *testing.T) {
	for raw, want := range map[string]string{
		`{"a":40.0,"b":"9999-12-31"}`: `{"a":40.0,"b":"9999-12-31"}`, // tokens and open-ended dates stay
		`{ }`:                         `{ }`,
		`null`:                        "",
		`[1]`:                         `[1]`,
		`"x"`:                         `"x"`,
	} {
		r := request(`{"id":"1","operation":"Insert","timestamp":"2026-01-15T09:30:00Z","value": `+raw+` }`,
			headerEvent, "PERSON_CHANGED")
		e := one(t, r)
		if string(e.Data) != want || (e.Data == nil) != (want == "") {
			t.Errorf("%s: data %s", raw, e.Data)
		}
		if noted := len(e.Notes) == 1 && e.Notes[0] == noteValue; noted != (raw[0] == '[' || raw[0] == '"') {
			t.Errorf("%s: notes %q", raw, e.Notes)
		}
		if e.Data != nil && !within(e.Data, r.Body) {
			t.Errorf("%s: data is a copy", raw)
		}
	}
}

// within reports whether part is a slice of whole's memory.
func within(part, whole []byte) bool {
	for i := 0; i+len(part) <= len(whole); i++ {
		if &whole[i] == &part[0] {
			return true
		}
	}
	return false
}

func TestChanges(t *testing.T) {
	raw := func(s string) json.RawMessage { return json.RawMessage(s) }
	var many strings.Builder
	var manyWant []sdk.Change
	for i := range 40 {
		fmt.Fprintf(&many, `,"f%d":{"newValue":%d}`, i%30, i)
	}
	for i := range 30 {
		v := i
		if i < 10 {
			v = i + 30
		}
		manyWant = append(manyWant, sdk.Change{Field: fmt.Sprintf("f%d", i), New: raw(fmt.Sprint(v))})
	}
	tests := []struct {
		name, raw string
		want      []sdk.Change
		note      string
	}{
		{"both", `{"a.b":{"oldValue":62690.0,"newValue":40.0}}`,
			[]sdk.Change{{Field: "a.b", Old: raw("62690.0"), New: raw("40.0")}}, ""},
		{"new only", `{"periods":{"newValue":[{"x":1}]}}`, []sdk.Change{{Field: "periods", New: raw(`[{"x":1}]`)}}, ""},
		{"old only", `{"periods":{"oldValue":{}}}`, []sdk.Change{{Field: "periods", Old: raw(`{}`)}}, ""},
		{"null is not missing", `{"endDate":{"oldValue":null,"newValue":"2026-12-31"},"x":{"newValue":null}}`,
			[]sdk.Change{{Field: "endDate", Old: raw("null"), New: raw(`"2026-12-31"`)}, {Field: "x", New: raw("null")}}, ""},
		{"keys are opaque", `{"":{"newValue":1},"a..b[0] ":{"newValue":2},"\u00e9":{"newValue":3}}`,
			[]sdk.Change{{Field: "", New: raw("1")}, {Field: "a..b[0] ", New: raw("2")}, {Field: "é", New: raw("3")}}, ""},
		{"twice", `{"a":{"newValue":1},"b":{"newValue":2},"a":{"oldValue":3}}`,
			[]sdk.Change{{Field: "a", Old: raw("3")}, {Field: "b", New: raw("2")}}, ""},
		{"many", `{` + many.String()[1:] + `}`, manyWant, ""},
		{"empty", `{}`, nil, ""},
		{"null", `null`, nil, ""},
		{"neither", `{"a":{},"b":7}`, []sdk.Change{{Field: "a"}, {Field: "b"}}, noteChange},
		{"no object", `["a"]`, nil, noteChanges},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			body := `{"id":"1","operation":"Update","timestamp":"2026-01-15T09:30:00Z","changedFields":` + tt.raw + `}`
			e := one(t, request(body, headerEvent, "SICKLEAVE_CHANGED"))
			if diff := cmp.Diff(tt.want, e.Changes); diff != "" {
				t.Errorf("changes (-want +got):\n%s", diff)
			}
			if got := strings.Join(e.Notes, "|"); got != tt.note {
				t.Errorf("notes %q, want %q", got, tt.note)
			}
		})
	}
}

func TestBatch(t *testing.T) {
	if events := decode(t, request(` [ ] `)); len(events) != 0 {
		t.Errorf("an empty array makes %d events", len(events))
	}
	elements := strings.Repeat(`,{"id":"1"}`, maxRecords)
	if events := decode(t, request(`[`+elements[1:]+`]`)); len(events) != maxRecords {
		t.Errorf("the longest array makes %d events", len(events))
	}
	_, err := decoder{}.Decode(context.Background(), request(`[{"id":"0"}`+elements+`]`))
	if err == nil || err.Error() != "the array has more than 4096 elements" {
		t.Errorf("a longer array: %v", err)
	}
	r := request(string(readSample(t, "testdata/synthesized/batched-array.json")), headerEvent, "EMPLOYMENT_CHANGED")
	events := decode(t, r)
	if len(events) != 2 || events[0].Type != "youforce.employment.created" ||
		events[1].Type != "youforce.employment.deleted" || events[0].PartitionKey != events[1].PartitionKey ||
		events[1].Data != nil {
		t.Errorf("events %+v", events)
	}
}

func TestRefused(t *testing.T) {
	for body, want := range map[string]string{
		``:                          "the body is not JSON",
		` `:                         "the body is not JSON",
		`secret`:                    "the body is not JSON",
		`null`:                      "the body is null, not an object or an array of objects",
		`"secret"`:                  "the body is a string, not an object or an array of objects",
		`1`:                         "the body is a number, not an object or an array of objects",
		`true`:                      "the body is a boolean, not an object or an array of objects",
		`{"id":[1]}`:                "id is an array, not a string",
		`{"id":true}`:               "id is a boolean, not a string",
		`{"tenantId":{}}`:           "tenantId is an object, not a string",
		`{"operation":1}`:           "operation is a number, not a string",
		`[{"id":"1"},"secret"]`:     "element 1: it is a string, not an object",
		`[{"id":"1"},{},{"id":{}}`:  "element 2: id is an object, not a string",
		`[[]]`:                      "element 0: it is an array, not an object",
		`{"id":"1"`:                 "malformed JSON at byte 9",
		`[{"id":"1"}`:               "malformed JSON at byte 11",
		`{"changedFields":{"a":]}}`: "malformed JSON at byte 24",
	} {
		events, err := decoder{}.Decode(context.Background(), request(body, headerEvent, "PERSON_CHANGED"))
		if err == nil || err.Error() != want || events != nil {
			t.Errorf("%s: %d events, error %v, want %q", body, len(events), err, want)
		}
	}
}

// Names are matched exactly, and the last of equal names wins.
func TestMembers(t *testing.T) {
	e := one(t, request(`{"ID":"0","id":"1","id":"2","\u006fperation":"Insert","timestamp":"2026-01-15T09:30:00Z"}`,
		headerEvent, "PERSON_CHANGED"))
	if e.Subject != "person/2" || e.Type != "youforce.person.created" {
		t.Errorf("%q %q", e.Subject, e.Type)
	}
}

func TestCatalogue(t *testing.T) {
	want := map[string]bool{}
	for _, entity := range []string{"person", "employment", "assignment", "sickleave"} {
		for _, operation := range []string{"created", "updated", "deleted"} {
			want["youforce."+entity+"."+operation] = true
		}
	}
	for _, et := range manifest().Events {
		if !want[et.Type] {
			t.Errorf("%s is there twice or should not be", et.Type)
		}
		delete(want, et.Type)
		if len(et.Samples) == 0 || et.Description == "" {
			t.Errorf("%s has no sample or no description", et.Type)
		}
		for _, s := range et.Samples {
			r := request(string(s.Body))
			r.Headers = s.Headers
			e := one(t, r)
			if e.Type != et.Type {
				t.Errorf("sample %s is %s, not %s", s.Name, e.Type, et.Type)
			}
			if len(e.Notes) > 0 {
				t.Errorf("sample %s has notes: %q", s.Name, e.Notes)
			}
			if e.Data == nil {
				if !et.Data.Nullable {
					t.Errorf("sample %s has no data", s.Name)
				}
			} else if err := plugintest.CheckData(&et.Data, e.Data); err != nil {
				t.Errorf("sample %s: data: %v", s.Name, err)
			}
			for _, v := range s.Vary {
				if v.Part.Kind == sdk.PartHeader && r.Header(v.Part.Name) == "" {
					t.Errorf("sample %s varies the header %s, which it does not have", s.Name, v.Part.Name)
				}
				if v.Part.Kind == sdk.PartJSONPointer && lookup(s.Body, v.Part.Name) == nil {
					t.Errorf("sample %s varies %s, which it does not have", s.Name, v.Part.Name)
				}
			}
		}
	}
	if len(want) > 0 {
		t.Errorf("missing: %v", want)
	}
}

// lookup follows a JSON pointer through objects.
func lookup(body []byte, pointer string) any {
	var v any
	if json.Unmarshal(body, &v) != nil {
		return nil
	}
	for _, name := range strings.Split(pointer, "/")[1:] {
		m, _ := v.(map[string]any)
		v = m[name]
	}
	return v
}

var eventType = regexp.MustCompile(`^youforce(\.[a-z0-9_]{1,64}){1,2}$`)

// check holds for the events of any request whatever.
func check(t testing.TB, r *sdk.Request) {
	t.Helper()
	before := bytes.Clone(r.Body)
	events, err := decoder{}.Decode(context.Background(), r)
	again, err2 := decoder{}.Decode(context.Background(), r)
	if !reflect.DeepEqual(events, again) || fmt.Sprint(err) != fmt.Sprint(err2) {
		t.Fatalf("decoded twice, not the same: %+v, %v and %+v, %v", events, err, again, err2)
	}
	if !bytes.Equal(before, r.Body) {
		t.Fatal("the body was changed")
	}
	if err != nil && events != nil {
		t.Fatal("events and an error")
	}
	if err != nil && len(err.Error()) > 120 {
		t.Fatalf("an error with payload: %v", err)
	}
	for _, e := range events {
		if !eventType.MatchString(e.Type) {
			t.Fatalf("event type %q", e.Type)
		}
		if e.Time != "" && !sdk.ValidTime(e.Time) {
			t.Fatalf("time %q", e.Time)
		}
		if e.Data != nil && !within(e.Data, r.Body) {
			t.Fatal("data is a copy")
		}
		fields := map[string]bool{}
		for _, c := range e.Changes {
			if fields[c.Field] {
				t.Fatalf("field %q twice", c.Field)
			}
			fields[c.Field] = true
		}
		if json.Valid(r.Body) && e.Data != nil && !json.Valid(e.Data) {
			t.Fatalf("data is not JSON: %s", e.Data)
		}
	}
}

// TestMutations breaks every sample in many ways.
func TestMutations(t *testing.T) {
	const alphabet = "{}[]\":,\\0123456789.eE+-tfn \n\x00\xffabcz"
	for i, file := range sampleFiles(t) {
		body := readSample(t, file)
		rng := rand.New(rand.NewPCG(uint64(i), 1))
		for range 400 {
			b := bytes.Clone(body)
			for range 1 + rng.IntN(4) {
				at := rng.IntN(len(b))
				switch rng.IntN(4) {
				case 0:
					b[at] = alphabet[rng.IntN(len(alphabet))]
				case 1:
					b = b[:at+1]
				case 2:
					b = append(b[:at], b[min(len(b), at+1+rng.IntN(20)):]...)
				case 3:
					b = append(b[:at:at], append([]byte{alphabet[rng.IntN(len(alphabet))]}, b[at:]...)...)
				}
				if len(b) == 0 {
					break
				}
			}
			check(t, request(string(b), headerEvent, headerOf(file)))
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, file := range sampleFiles(f) {
		f.Add(readSample(f, file), headerOf(file), "")
	}
	f.Add([]byte(`[{"id":1},{}]`), "A.B-C_CHANGED", "t")
	f.Fuzz(func(t *testing.T, body []byte, event, tenant string) {
		r := request("", headerEvent, event, headerTenant, tenant)
		r.Body = body
		check(t, r)
	})
}

func BenchmarkDecode(b *testing.B) {
	for _, name := range []string{"published/person-changed-update", "synthesized/employment-insert"} {
		b.Run(path.Base(name), func(b *testing.B) {
			body := readSample(b, "testdata/"+name+".json")
			r := request(string(body), headerEvent, "EMPLOYMENT_CHANGED", headerNotification, "x")
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := (decoder{}).Decode(context.Background(), r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
