package main

import (
	"bytes"
	"context"
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
	"unsafe"

	"github.com/google/go-cmp/cmp"

	"github.com/grapnelhq/grapnel/sdk"
	"github.com/grapnelhq/grapnel/sdk/plugintest"
)

// sampleFiles are the requests in testdata; the published inner event is none.
func sampleFiles(t testing.TB) []string {
	t.Helper()
	var files []string
	err := fs.WalkDir(samples, ".", func(file string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && path.Base(file) != "milestone-event-inner.json" {
			files = append(files, file)
		}
		return err
	})
	if err != nil || len(files) < 25 {
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
	return &sdk.Request{ID: "r1", Source: "roofs", Method: "POST", Body: []byte(body)}
}

func one(t testing.TB, r *sdk.Request) sdk.Event {
	t.Helper()
	events, err := decoder{}.Decode(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
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
	Notes        []string        `json:"notes,omitempty"`
}

// TestSamples decodes every sample and compares the event with its golden file.
func TestSamples(t *testing.T) {
	for _, file := range sampleFiles(t) {
		t.Run(path.Base(file), func(t *testing.T) {
			e := one(t, request(string(readSample(t, file))))
			if e.Changes != nil {
				t.Error("changes, which the provider does not send")
			}
			var got bytes.Buffer
			enc := json.NewEncoder(&got)
			enc.SetEscapeHTML(false)
			enc.SetIndent("", "  ")
			err := enc.Encode(goldenEvent{e.Type, e.Subject, e.PartitionKey, e.Operation, e.Tenant, e.Time, e.Data, e.Notes})
			if err != nil {
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
				t.Errorf("event (-want +got):\n%s", diff)
			}
		})
	}
}

func TestTypes(t *testing.T) {
	long := strings.Repeat("a", 150)
	for _, c := range []struct{ topic, typ, operation, note string }{
		{"contact_added", "contact.added", "created", ""},
		{"contact_changed", "contact.changed", "updated", ""},
		{"contact.custom-field.status_changed", "contact.custom_field.status_changed", "updated", ""},
		{"contact.custom-field.value_changed", "contact.custom_field.value_changed", "updated", ""},
		{"job_created", "job.created", "created", ""},
		{"job_updated", "job.updated", "updated", ""},
		{"job.accounting.integration-status.current_changed", "job.accounting.integration_status.current_changed", "updated",
			""},
		{"job.appointments.initial_created", "job.appointments.initial_created", "created", ""},
		{"job.appointments.initial_updated", "job.appointments.initial_updated", "updated", ""},
		{"job.category_changed", "job.category_changed", "updated", ""},
		{"job.contacts.primary_changed", "job.contacts.primary_changed", "updated", ""},
		{"job.custom-field.status_changed", "job.custom_field.status_changed", "updated", ""},
		{"job.custom-field.value_changed", "job.custom_field.value_changed", "updated", ""},
		{"job.financials.approved-value_changed", "job.financials.approved_value_changed", "updated", ""},
		{"job.invoice_updated", "job.invoice_updated", "updated", ""},
		{"job.invoice_voided", "job.invoice_voided", "voided", ""},
		{"job.milestone.current_changed", "job.milestone.current_changed", "updated", ""},
		{"job.milestone.status.current_changed", "job.milestone.status.current_changed", "updated", ""},
		{"job.representatives.company_assigned", "job.representatives.company_assigned", "assigned", ""},
		{"job.representatives.company_changed", "job.representatives.company_changed", "updated", ""},
		{"job.trade-type_changed", "job.trade_type_changed", "updated", ""},
		{"job.work-type_changed", "job.work_type_changed", "updated", ""},
		{"job-milestone-changed", "job.milestone_changed", "updated", ""},

		{"job.financials.approvedValue_changed", "job.financials.approved_value_changed", "updated", noteAlias},
		{"JOB.FINANCIALS.APPROVEDVALUE_CHANGED", "job.financials.approved_value_changed", "updated", noteAlias},
		{"Job_Created", "job.created", "created", ""},
		{" Job-Milestone-Changed\n", "job.milestone_changed", "updated", ""},
		{"custom-field_added", "custom_field.added", "created", ""},
		{"job.primary.contact_changed", "job.primary.contact_changed", "updated", ""},
		{"ping", "ping", "ping", ""},
		{"job_", "job", "job", ""},
		{"..job..x_deleted.", "job.x_deleted", "deleted", ""},
		{"job.größe_changed", "job.gr____e_changed", "updated", ""},
		{"a.b/c d_e_", "a.b_c_d_e_", "e", ""},
		{long + "." + long, strings.Repeat("a", 64) + "." + strings.Repeat("a", 49), strings.Repeat("a", 49), noteLong},
	} {
		body, err := json.Marshal(map[string]any{
			"topicName": c.topic, "eventId": "1", "eventDateTime": "2026-01-15T10:00:00Z", "event": map[string]any{"jobId": "7"},
		})
		if err != nil {
			t.Fatal(err)
		}
		e := one(t, request(string(body)))
		if e.Type != "acculynx."+c.typ || e.Operation != c.operation || strings.Join(e.Notes, "|") != c.note {
			t.Errorf("%q: %q %q %q, want %q %q %q", c.topic, e.Type, e.Operation, e.Notes, c.typ, c.operation, c.note)
		}
	}
}

func TestEnvelope(t *testing.T) {
	const rest = `,"eventDateTime":"2026-01-15T10:00:00Z","event":{"jobId":"7"}}`
	for _, c := range []struct{ body, want string }{
		// Spellings.
		{`{"topicName":"job_created","eventId":"1"` + rest, "acculynx.job.created"},
		{`{"topicNamee":"job_created","eventId":"1"` + rest, "acculynx.job.created"},
		{`{"type":"job_created","eventId":"1"` + rest, "acculynx.job.created"},
		{`{"topic":"job_created","eventId":"1"` + rest, "acculynx.job.created"},
		{`{"TOPICNAME":"job_created","EventID":"1"` + rest, "acculynx.job.created"},
		{`{"topic\u004eame":"job_created","eventId":"1"` + rest, "acculynx.job.created"},
		{`{"topicName":"job_created","eventId":12` + rest, "acculynx.job.created"},
		// Several that agree, and some that say nothing.
		{`{"topicName":"job_created","Type":"Job_Created","eventId":"1"` + rest, "acculynx.job.created"},
		{`{"topicName":null,"topic":"job_created","eventId":"1"` + rest, "acculynx.job.created"},
		{`{"topicName":"job_created","topicName":"job_created","eventId":"1"` + rest, "acculynx.job.created"},
		{`{"topicName":"job_created","eventId":"1","other":{"topic":"x"},"topicNameee":"y"` + rest, "acculynx.job.created"},
		// Refused.
		{`{"topicName":"job_created","type":"job_updated","eventId":"1"` + rest, "topicName and type hold different topics"},
		{`{"topic":"a","topicNamee":"b","eventId":"1"` + rest, "topicNamee and topic hold different topics"},
		{`{"topicName":"a","TopicName":"b","eventId":"1"` + rest, "topicname is there twice with different values"},
		{`{"topicName":"a","eventId":"1","EventId":"2"` + rest, "eventid is there twice with different values"},
		{`{"topicName":"a","eventId":"1","Event":{}` + rest, "event is there twice with different values"},
		{`{"topicName":7,"eventId":"1"` + rest, "topicName is a number, not a string"},
		{`{"topicName":"a","type":["a"],"eventId":"1"` + rest, "type is an array, not a string"},
		{`{"topicName":"","eventId":"1"` + rest, "topicName is empty"},
		{`{"topicName":" \n","eventId":"1"` + rest, "topicName is empty"},
		{`{"topicName":"._-.","eventId":"1"` + rest, "the topic has no letter or digit"},
		{`{"topicName":null,"eventId":"1"` + rest, "topicName is missing"},
		{`{"eventId":"1"` + rest, "topicName is missing"},
		{`{"topicName":"a"` + rest, "eventId is missing"},
		{`{"topicName":"a","eventId":null` + rest, "eventId is missing"},
		{`{"topicName":"a","eventId":""` + rest, "eventId is empty"},
		{`{"topicName":"a","eventId":"  "` + rest, "eventId is empty"},
		{`{"topicName":"a","eventId":{}` + rest, "eventId is an object, not a string"},
		{``, "the body is not JSON"},
		{`secret`, "the body is not JSON"},
		{`null`, "the body is null, not an object"},
		{`[{"topicName":"a","eventId":"1"}]`, "the body is an array, not an object"},
		{`{"topicName":"a","eventId":"1"`, "malformed JSON at byte 30"},
		{string(readSample(t, "testdata/published/milestone-event-inner.json")), "eventId is missing"},
	} {
		events, err := decoder{}.Decode(context.Background(), request(c.body))
		got := ""
		if err != nil {
			got = err.Error()
			if events != nil {
				t.Errorf("%s: events and an error", c.body)
			}
		} else {
			got = events[0].Type
		}
		if got != c.want {
			t.Errorf("%s: got %q, want %q", c.body, got, c.want)
		}
	}
}

func TestTime(t *testing.T) {
	for _, c := range []struct{ in, want, note string }{
		{`"2026-01-15T10:26:00Z"`, "2026-01-15T10:26:00Z", ""},
		{`"2026-01-15T10:26:00.1Z"`, "2026-01-15T10:26:00.1Z", ""},
		{`"2026-01-15T10:26:00.123456Z"`, "2026-01-15T10:26:00.123456Z", ""},
		{`"2026-01-15T10:26:00.1234567Z"`, "2026-01-15T10:26:00.1234567Z", ""},
		{`"2026-01-15T10:26:00.123456789Z"`, "2026-01-15T10:26:00.123456789Z", ""},
		{`"2026-01-15T10:26:00.5-05:00"`, "2026-01-15T10:26:00.5-05:00", ""},
		{`"2026-01-15T10:26:00"`, "2026-01-15T10:26:00Z", noteNoZone},
		{`"2026-01-15T10:26:00.6019456"`, "2026-01-15T10:26:00.6019456Z", noteNoZone},
		{`"2026-01-15"`, "", noteTime},
		{`"2026-13-15T10:26:00Z"`, "", noteTime},
		{`"2026-01-15 10:26:00"`, "", noteTime},
		{`"now"`, "", noteTime},
		{`""`, "", noteTime},
		{`1768472760`, "", noteTime},
		{`null`, "", noteNoTime},
	} {
		e := one(t, request(`{"topicName":"job_created","eventId":"1","eventDateTime":`+c.in+`,"event":{"jobId":"7"}}`))
		if e.Time != c.want || strings.Join(e.Notes, "|") != c.note {
			t.Errorf("%s: %q %q, want %q %q", c.in, e.Time, e.Notes, c.want, c.note)
		}
	}
}

func TestData(t *testing.T) {
	for _, c := range []struct{ event, subject, data, note string }{
		// Live, legacy, and either in other spellings.
		{`{"job":{"id":"7","x":1.0}}`, "job/7", `{"job":{"id":"7","x":1.0}}`, ""},
		{`{"jobId":"7"}`, "job/7", `{"jobId":"7"}`, ""},
		{`{"job":{"id":"7"},"jobId":"8"}`, "job/7", `{"job":{"id":"7"},"jobId":"8"}`, ""},
		{`{"job":{"id":null},"jobId":"8"}`, "job/8", `{"job":{"id":null},"jobId":"8"}`, ""},
		{`{"job":"x","contact":{"id":"9"}}`, "contact/9", `{"job":"x","contact":{"id":"9"}}`, ""},
		{`{"job":{"id":"7"},"contact":{"id":"9"}}`, "job/7", `{"job":{"id":"7"},"contact":{"id":"9"}}`, ""},
		{`{"customField":{"id":5},"contact":{"id":"9"}}`, "contact/9", `{"customField":{"id":5},"contact":{"id":"9"}}`, ""},
		{`{"customField":{"id":"5"}}`, "custom_field/5", `{"customField":{"id":"5"}}`, ""},
		{`{"Job": {"Id": "7", "_Link": "X"}}`, "job/7", `{"job": {"id": "7", "_link": "X"}}`, ""},
		{`{"JOB":{"ID":7}}`, "job/7", `{"job":{"id":7}}`, ""},
		{`{"JobId" : "7"}`, "job/7", `{"jobId" : "7"}`, ""},
		// Keys only; tokens and white space stay.
		{`{"jobId":"7","A":"A","B":["B",{"C":"D:","URLPath":1.10E+2}],` + "\n" + `"E" :null}`, "job/7",
			`{"jobId":"7","a":"A","b":["B",{"c":"D:","urlPath":1.10E+2}],` + "\n" + `"e" :null}`, ""},
		{`{"jobId":"7","\u0041b\u003c":1,"\u0061\"":2,"É":3,"_":4,"":5,"9A":6}`, "job/7",
			`{"jobId":"7","ab\u003c":1,"\u0061\"":2,"É":3,"_":4,"":5,"9A":6}`, ""},
		// Less than expected.
		{`{}`, "", `{}`, noteNoID},
		{`{"job":{"id":""},"contact":{"id":[]}}`, "", `{"job":{"id":""},"contact":{"id":[]}}`, noteNoID},
		{`null`, "", ``, noteNoData},
		{`"text"`, "", `"text"`, noteNoObject},
		{`[{"JobId":1}]`, "", `[{"JobId":1}]`, noteNoObject},
	} {
		body := `{"topicName":"job_created","eventId":"1","eventDateTime":"2026-01-15T10:00:00Z","event":` + c.event + `}`
		r := request(body)
		e := one(t, r)
		if e.Subject != c.subject || e.PartitionKey != c.subject {
			t.Errorf("%s: subject %q, partitionkey %q, want %q", c.event, e.Subject, e.PartitionKey, c.subject)
		}
		if string(e.Data) != c.data || (c.data == "") != (e.Data == nil) {
			t.Errorf("%s: data %s, want %s", c.event, e.Data, c.data)
		}
		if got := strings.Join(e.Notes, "|"); got != c.note {
			t.Errorf("%s: notes %q, want %q", c.event, got, c.note)
		}
		if e.Data != nil && c.event == c.data && !within(e.Data, r.Body) {
			t.Errorf("%s: data is a copy", c.event)
		}
		if string(r.Body) != body {
			t.Errorf("%s: the body was changed", c.event)
		}
	}
	e := one(t, request(`{"topicName":"job_created","eventId":"1","eventDateTime":"2026-01-15T10:00:00Z"}`))
	if e.Data != nil || strings.Join(e.Notes, "|") != noteNoData {
		t.Errorf("without event: %s %q", e.Data, e.Notes)
	}
}

// within reports whether part is a slice of whole.
func within(part, whole []byte) bool {
	if len(part) == 0 || len(whole) == 0 {
		return len(part) == 0
	}
	start := uintptr(unsafe.Pointer(&part[0]))
	first := uintptr(unsafe.Pointer(&whole[0]))
	return start >= first && start+uintptr(len(part)) <= first+uintptr(len(whole))
}

func TestCamelKey(t *testing.T) {
	for in, want := range map[string]string{
		"JobId": "jobId", "ID": "id", "Id": "id", "URL": "url", "URLPath": "urlPath", "IDNumber2": "idNumber2", "A": "a",
		"AdminID": "adminID", "_Link": "_link", "X1": "x1", "jobId": "jobId", "_link": "_link", "": "", "_": "_",
		"Á": "Á", "1A": "1A",
	} {
		token := []byte(`"` + in + `"`)
		if isCamel(token) != (want == in) {
			t.Errorf("isCamel(%q) = %t", in, want != in)
		}
		if got := string(appendCamel([]byte("x"), token)); got != `x"`+want+`"` {
			t.Errorf("%q: got %s, want %s", in, got, want)
		}
	}
}

// TestPlugin runs the plugin over the wire, as the host does. The samples that are not in the catalogue are above.
func TestPlugin(t *testing.T) {
	plugintest.Decoder(t, sdk.NewDecoder(manifest(), open), plugintest.Options{})
}

func TestManifest(t *testing.T) {
	p := manifest()
	s := p.Schemes[0]
	if len(p.Schemes) != 1 || s.Attribute != "path_token" || s.Token.Part.Kind != sdk.PartPathToken ||
		s.Token.Alternatives[0] != (sdk.Part{Kind: sdk.PartQuery, Name: "token"}) || len(s.Allow) != 1 ||
		s.Allow[0].Attribute != "subscriptions" {
		t.Errorf("scheme %+v", s)
	}
	if p.Reply.Status != 0 || p.Reply.Body != nil || p.Methods != nil || p.ContentTypes != nil {
		t.Errorf("%+v", p)
	}
}

// TestCatalogue holds the catalogue against the topics that the provider confirms.
func TestCatalogue(t *testing.T) {
	want := map[string]bool{}
	for _, topic := range []string{
		"contact_added", "contact_changed", "contact.custom-field.status_changed", "contact.custom-field.value_changed",
		"job_created", "job_updated", "job.accounting.integration-status.current_changed", "job.appointments.initial_created",
		"job.appointments.initial_updated", "job.category_changed", "job.contacts.primary_changed",
		"job.custom-field.status_changed", "job.custom-field.value_changed", "job.financials.approved-value_changed",
		"job.invoice_updated", "job.invoice_voided", "job.milestone.current_changed", "job.milestone.status.current_changed",
		"job.representatives.company_assigned", "job.representatives.company_changed", "job.trade-type_changed",
		"job.work-type_changed", "job-milestone-changed",
	} {
		typ, _ := typeOf(topic)
		want["acculynx."+typ] = true
	}
	if len(want) != 23 {
		t.Fatalf("%d types", len(want))
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
			e := one(t, s.Request())
			if e.Type != et.Type {
				t.Errorf("sample %s is %s, not %s", s.Name, e.Type, et.Type)
			}
			if len(e.Notes) > 0 || e.Subject == "" {
				t.Errorf("sample %s has subject %q and notes %q", s.Name, e.Subject, e.Notes)
			}
			if err := plugintest.CheckData(&et.Data, e.Data); err != nil {
				t.Errorf("sample %s: data: %v", s.Name, err)
			}
			var top map[string]any
			if err := json.Unmarshal(s.Body, &top); err != nil {
				t.Fatal(err)
			}
			if len(s.Vary) != 2 {
				t.Errorf("sample %s has %d variations", s.Name, len(s.Vary))
			}
			for _, v := range s.Vary {
				if _, ok := top[strings.TrimPrefix(v.Part.Name, "/")].(string); !ok || v.Part.Kind != sdk.PartJSONPointer {
					t.Errorf("sample %s varies %s, which it does not have", s.Name, v.Part.Name)
				}
			}
		}
	}
	if len(want) > 0 {
		t.Errorf("missing: %v", want)
	}
}

var eventType = regexp.MustCompile(`^acculynx(\.[a-z0-9_]{1,64})+$`)

// check holds for the event of any request whatever.
func check(t testing.TB, body []byte) {
	t.Helper()
	r := &sdk.Request{ID: "r1", Body: body}
	before := bytes.Clone(body)
	events, err := decoder{}.Decode(context.Background(), r)
	again, err2 := decoder{}.Decode(context.Background(), r)
	if !reflect.DeepEqual(events, again) || fmt.Sprint(err) != fmt.Sprint(err2) {
		t.Fatalf("decoded twice, not the same: %+v, %v and %+v, %v", events, err, again, err2)
	}
	if !bytes.Equal(before, r.Body) {
		t.Fatal("the body was changed")
	}
	if (err == nil) != (len(events) == 1) {
		t.Fatalf("%d events, error %v", len(events), err)
	}
	if err != nil {
		if len(err.Error()) > 120 {
			t.Fatalf("an error with payload: %v", err)
		}
		return
	}
	e := events[0]
	if !eventType.MatchString(e.Type) || len(e.Type) > 220 || e.Operation == "" {
		t.Fatalf("type %q, operation %q", e.Type, e.Operation)
	}
	if e.Time != "" && !sdk.ValidTime(e.Time) {
		t.Fatalf("time %q", e.Time)
	}
	if !json.Valid(body) || e.Data == nil {
		return
	}
	// Only keys may differ, and only in the case of letters.
	var members map[string]json.RawMessage
	if err := json.Unmarshal(body, &members); err != nil {
		t.Fatal(err)
	}
	for name, event := range members {
		if strings.EqualFold(name, "event") && !sameButKeys(t, event, e.Data) {
			t.Fatalf("%s became %s", event, e.Data)
		}
	}
}

func sameButKeys(t testing.TB, a, b []byte) bool {
	t.Helper()
	da, db := json.NewDecoder(bytes.NewReader(a)), json.NewDecoder(bytes.NewReader(b))
	da.UseNumber()
	db.UseNumber()
	for {
		ta, ea := da.Token()
		tb, eb := db.Token()
		if ea != nil || eb != nil {
			return fmt.Sprint(ea) == fmt.Sprint(eb)
		}
		sa, ok := ta.(string)
		if sb, _ := tb.(string); ta != tb && (!ok || !strings.EqualFold(sa, sb)) {
			return false
		}
	}
}

// TestMutations breaks every sample in many ways.
func TestMutations(t *testing.T) {
	const alphabet = "{}[]\":,\\0123456789.eE+-tfn \n\x00\xffabcABC_"
	for i, file := range sampleFiles(t) {
		body := readSample(t, file)
		rng := rand.New(rand.NewPCG(uint64(i), 1))
		for range 400 {
			b := bytes.Clone(body)
			for range 1 + rng.IntN(4) {
				if len(b) == 0 {
					break
				}
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
			}
			check(t, b)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, file := range sampleFiles(f) {
		f.Add(readSample(f, file))
	}
	f.Add([]byte(`{"TYPE":"a-B.c_D","EVENTID":1,"EVENT":{"Job":{"\u0049d":"\ud800"},"É":[{"A\\":"B\""}]}}`))
	f.Fuzz(func(t *testing.T, body []byte) { check(t, body) })
}

func BenchmarkDecode(b *testing.B) {
	for _, file := range []string{"captured/job.invoice_updated", "synthesized/legacy-table-spelling"} {
		b.Run(path.Base(file), func(b *testing.B) {
			r := request(string(readSample(b, "testdata/"+file+".json")))
			b.SetBytes(int64(len(r.Body)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := (decoder{}).Decode(context.Background(), r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
