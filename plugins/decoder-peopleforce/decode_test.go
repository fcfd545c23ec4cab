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
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/grapnelhq/grapnel/sdk"
	"github.com/grapnelhq/grapnel/sdk/plugintest"
)

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

func request(body string) *sdk.Request {
	return &sdk.Request{ID: "r1", Source: "people", Method: "POST", Body: []byte(body)}
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
	Time         string          `json:"time,omitempty"`
	Data         json.RawMessage `json:"data,omitempty"`
	Notes        []string        `json:"notes,omitempty"`
}

func goldenOf(events []sdk.Event) []goldenEvent {
	var golden []goldenEvent
	for _, e := range events {
		golden = append(golden, goldenEvent{Type: e.Type, Subject: e.Subject, PartitionKey: e.PartitionKey,
			Operation: e.Operation, Time: e.Time, Data: e.Data, Notes: e.Notes})
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
			events := decode(t, request(string(readSample(t, file))))
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
		{"published/employee-create", "b7dc408a5f84f5b12daf1516eeb405b635c22d86c2e00e05cc7ca7ef50123036"},
		{"synthesized/unicode-employee_update", "e647b1bb7ebf66c4e8cbd2c44f8116688bfebf15a5cf87814b5f2a582c91c7d2"},
		{"documented/leave_request_create", "9eb1d252ca9948670ab028926a6060af01a17b0332fcc60340eb693637ae3d60"},
	} {
		sum := sha256.Sum256(readSample(t, "testdata/"+vector.file+".json"))
		if got := hex.EncodeToString(sum[:]); got != vector.digest {
			t.Errorf("%s has the digest %s, want %s", vector.file, got, vector.digest)
		}
	}
}

const idAndMeta = `"id":7,"meta":{"updated_at":"2024-03-05T11:00:01.004+02:00"}`

func TestTopics(t *testing.T) {
	const (
		self      = `{` + idAndMeta + `}`
		employee  = `{` + idAndMeta + `,"employee":{"id":4101}}`
		attribute = `{` + idAndMeta + `,"attributes":{"employee_id":4101}}`
	)
	long := strings.Repeat("x", 300)
	tests := []struct{ action, data, typ, operation, subject, key string }{
		{"employee_create", self, "employee.created", "created", "employee/7", "employee/7"},
		{"employee_update", self, "employee.updated", "updated", "employee/7", "employee/7"},
		{"employee_start", self, "employee.started", "started", "employee/7", "employee/7"},
		{"employee_terminate", self, "employee.terminated", "terminated", "employee/7", "employee/7"},
		{"employee_termination_revert", self, "employee.termination_reverted", "termination_reverted",
			"employee/7", "employee/7"},
		{"employee_position_create", employee, "employee_position.created", "created",
			"employee_position/7", "employee/4101"},
		{"employee_position_update", employee, "employee_position.updated", "updated",
			"employee_position/7", "employee/4101"},
		{"employee_salary_create", employee, "employee_salary.created", "created",
			"employee_salary/7", "employee/4101"},
		{"employee_salary_update", employee, "employee_salary.updated", "updated",
			"employee_salary/7", "employee/4101"},
		{"employee_additional_compensation_create", employee, "employee_additional_compensation.created", "created",
			"employee_additional_compensation/7", "employee/4101"},
		{"employee_additional_compensation_update", employee, "employee_additional_compensation.updated", "updated",
			"employee_additional_compensation/7", "employee/4101"},
		{"employee_employment_status_create", employee, "employee_employment_status.created", "created",
			"employee_employment_status/7", "employee/4101"},
		{"employee_employment_status_update", employee, "employee_employment_status.updated", "updated",
			"employee_employment_status/7", "employee/4101"},
		{"leave_request_create", attribute, "leave_request.created", "created", "leave_request/7", "employee/4101"},
		{"leave_request_approve", attribute, "leave_request.approved", "approved", "leave_request/7", "employee/4101"},
		{"leave_request_reject", attribute, "leave_request.rejected", "rejected", "leave_request/7", "employee/4101"},
		{"leave_request_withdraw", attribute, "leave_request.withdrawn", "withdrawn",
			"leave_request/7", "employee/4101"},
		{"applicant_create", self, "applicant.created", "created", "applicant/7", "applicant/7"},

		// Anything else passes through under its own name.
		{"vacancy_create", self, "vacancy_create", "created", "vacancy/7", "vacancy/7"},
		{"applicant_destroy", self, "applicant_destroy", "deleted", "applicant/7", "applicant/7"},
		{"leave_request_destroy", attribute, "leave_request_destroy", "deleted", "leave_request/7", "leave_request/7"},
		{"vacancy_application_movement", self, "vacancy_application_movement", "movement",
			"vacancy_application/7", "vacancy_application/7"},
		{"workflow", self, "workflow", "", "workflow/7", "workflow/7"},
		{"_create", self, "_create", "", "_create/7", "_create/7"},
		{"vacancy_", self, "vacancy_", "", "vacancy_/7", "vacancy_/7"},
		{"employee.created", self, "employee_created", "created", "employee/7", "employee/7"}, // not an alias
		{"Employee_Create", self, "employee_create", "created", "employee/7", "employee/7"},   // nor this
		{"Re-Hire", self, "re_hire", "hire", "re/7", "re/7"},
		{"...", self, "___", "", "___/7", "___/7"},
		{"é", self, "__", "", "__/7", "__/7"},
		{long, self, long[:64], "", long[:64] + "/7", long[:64] + "/7"},
	}
	for _, tt := range tests {
		e := one(t, request(`{"action":"`+tt.action+`","data":`+tt.data+`}`))
		if e.Type != "peopleforce."+tt.typ || e.Operation != tt.operation || e.Subject != tt.subject ||
			e.PartitionKey != tt.key || e.Tenant != "" || e.Time != "2024-03-05T11:00:01.004+02:00" || e.Notes != nil {
			t.Errorf("%s: %q %q %q %q %q %q", tt.action, e.Type, e.Operation, e.Subject, e.PartitionKey, e.Time, e.Notes)
		}
	}
}

// Where the id that orders a topic's events is missing, the subject takes its place.
func TestKeys(t *testing.T) {
	tests := []struct {
		action, data, subject, key string
		notes                      []string
	}{
		{"employee_salary_create", `{"id":7}`, "employee_salary/7", "employee_salary/7", []string{noteNoPerson}},
		{"employee_salary_create", `{"id":7,"employee":null}`, "employee_salary/7", "employee_salary/7",
			[]string{noteNoPerson}},
		{"employee_salary_create", `{"id":7,"employee":{"id":null}}`, "employee_salary/7", "employee_salary/7",
			[]string{noteNoPerson}},
		{"employee_salary_create", `{"id":7,"employee":[4101]}`, "employee_salary/7", "employee_salary/7",
			[]string{noteNoPerson}},
		{"employee_salary_create", `{"employee":{"id":4101}}`, "", "employee/4101", []string{noteNoID}},
		{"employee_salary_create", `{}`, "", "", []string{noteNoID, noteNoPerson}},
		{"leave_request_create", `{"id":7,"attributes":{}}`, "leave_request/7", "leave_request/7",
			[]string{noteNoPerson}},
		{"leave_request_create", `{"id":7,"employee":{"id":4101}}`, "leave_request/7", "leave_request/7",
			[]string{noteNoPerson}},
		{"employee_create", `{"id":null}`, "", "", []string{noteNoID}},
		{"employee_create", `{"id":{"id":1}}`, "", "", []string{noteNoID}},
		{"employee_create", `{"id":"a b"}`, "employee/a b", "employee/a b", nil},
		{"employee_create", `{"id":12345678901234567890}`, "employee/12345678901234567890",
			"employee/12345678901234567890", nil},
		{"some_future_topic", `{}`, "", "", []string{noteNoID}},
		{"some_future_topic", `{"id":1}`, "some_future/1", "some_future/1", nil},
	}
	for _, tt := range tests {
		e := one(t, request(`{"action":"`+tt.action+`","data":`+tt.data+`}`))
		if e.Subject != tt.subject || e.PartitionKey != tt.key || !slices.Equal(e.Notes, tt.notes) {
			t.Errorf("%s %s: subject %q, key %q, notes %q", tt.action, tt.data, e.Subject, e.PartitionKey, e.Notes)
		}
	}
}

func TestTime(t *testing.T) {
	tests := []struct {
		meta, want string
		note       bool
	}{
		{`{"updated_at":"2022-09-05T18:33:55.526+03:00"}`, "2022-09-05T18:33:55.526+03:00", false},
		{`{"created_at":"2022-09-05T18:33:55.526+03:00"}`, "", false},
		{`{"updated_at":null}`, "", false},
		{`null`, "", false},
		{`[]`, "", false},
		{`{"updated_at":"2022-09-05 18:33:55"}`, "", true},
		{`{"updated_at":1662392035}`, "", true},
	}
	for _, tt := range tests {
		e := one(t, request(`{"action":"employee_update","data":{"id":7,"meta":`+tt.meta+`}}`))
		if e.Time != tt.want || (len(e.Notes) == 1 && e.Notes[0] == noteTime) != tt.note {
			t.Errorf("%s: time %q, notes %q", tt.meta, e.Time, e.Notes)
		}
	}
}

// Data is the record as it was written; an empty text is not null, an amount stays text, an e-mail is not checked.
func TestData(t *testing.T) {
	for raw, want := range map[string]string{
		`{"id":7,"attributes":{"amount":"45000.0","comment":"","email":"[email protected]"},"location":null}`: "",
		`{ "id" : 7 }`: "",
		`null`:         "null",
		`[1]`:          "[1]",
		`"x"`:          `"x"`,
	} {
		r := request(`{"data": ` + raw + ` ,"action":"employee_create"}`)
		e := one(t, r)
		if raw != "null" && string(e.Data) != raw || raw == "null" && e.Data != nil {
			t.Errorf("%s: data %s", raw, e.Data)
		}
		if noted := slices.Contains(e.Notes, noteNoData); noted != (want != "") {
			t.Errorf("%s: notes %q", raw, e.Notes)
		}
		if e.Data != nil && !within(e.Data, r.Body) {
			t.Errorf("%s: data is a copy", raw)
		}
	}
	if e := one(t, request(`{"action":"employee_create"}`)); e.Data != nil || !slices.Contains(e.Notes, noteNoData) {
		t.Errorf("without data: %s, notes %q", e.Data, e.Notes)
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

func TestRefused(t *testing.T) {
	for body, want := range map[string]string{
		``:                                 "the body is not JSON",
		`secret`:                           "the body is not JSON",
		`null`:                             "the body is null, not an object",
		`[{"action":"employee_create"}]`:   "the body is an array, not an object",
		`"secret"`:                         "the body is a string, not an object",
		`{}`:                               "action is missing",
		`{"action":null}`:                  "action is missing",
		`{"Action":"employee_create"}`:     "action is missing",
		`{"action":["secret"]}`:            "action is an array, not a string",
		`{"action":1}`:                     "action is a number, not a string",
		`{"action":""}`:                    "action is empty",
		`{"action":" \t"}`:                 "action is empty",
		`{"action":"a","data":{}`:          "malformed JSON at byte 23",
		`{"action":"a","data":{"id" "b"}}`: "data: malformed JSON at byte 6",
	} {
		events, err := decoder{}.Decode(context.Background(), request(body))
		if err == nil || err.Error() != want || events != nil {
			t.Errorf("%s: %d events, error %v, want %q", body, len(events), err, want)
		}
	}
}

// Names are matched exactly, and the last of equal names wins.
func TestMembers(t *testing.T) {
	e := one(t, request(`{"action":"employee_update","data":{"id":1},`+
		`"\u0061ction":"employee_create","data":{"id":2,"ID":3}}`))
	if e.Type != "peopleforce.employee.created" || e.Subject != "employee/2" {
		t.Errorf("%q %q", e.Type, e.Subject)
	}
}

func TestCatalogue(t *testing.T) {
	want := map[string]bool{}
	for _, typ := range []string{
		"employee.created", "employee.updated", "employee.started", "employee.terminated",
		"employee.termination_reverted", "employee_position.created", "employee_position.updated",
		"employee_salary.created", "employee_salary.updated", "employee_additional_compensation.created",
		"employee_additional_compensation.updated", "employee_employment_status.created",
		"employee_employment_status.updated", "leave_request.created", "leave_request.approved",
		"leave_request.rejected", "leave_request.withdrawn", "applicant.created",
	} {
		want["peopleforce."+typ] = true
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
			if err := plugintest.CheckData(&et.Data, e.Data); err != nil {
				t.Errorf("sample %s: data: %v", s.Name, err)
			}
			for _, v := range s.Vary {
				if v.Part.Kind != sdk.PartJSONPointer || lookup(s.Body, v.Part.Name) == nil {
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

var eventType = regexp.MustCompile(`^peopleforce(\.[a-z0-9_]{1,64}){1,2}$`)

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
			check(t, request(string(b)))
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, file := range sampleFiles(f) {
		f.Add(readSample(f, file))
	}
	f.Add([]byte(`{"action":"a.B-c_d","data":{"id":"x","meta":{"updated_at":"1"}}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		r := request("")
		r.Body = body
		check(t, r)
	})
}

func BenchmarkDecode(b *testing.B) {
	for _, name := range []string{"published/employee-create", "documented/leave_request_create"} {
		b.Run(path.Base(name), func(b *testing.B) {
			body := readSample(b, "testdata/"+name+".json")
			r := request(string(body))
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
