package cloudevents

import (
	"bytes"
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/grapnelhq/grapnel/sdk"
)

func deliveries() []*sdk.Delivery[struct{}] {
	return []*sdk.Delivery[struct{}]{
		{
			ID:       "dlv_01",
			Sequence: 7,
			Event: sdk.Envelope{
				ID: "evt_01", Source: "urn:grapnel:source:people", Type: "peopleforce.employee.updated",
				Subject: "employee/4101", Time: "2026-01-15T10:20:30.4999782Z", PartitionKey: "employee/4101",
				Provider: "peopleforce", Operation: "updated", Tenant: "Bücher AG",
			},
			Data: json.RawMessage("{\n \"big\": 12345678901234567890.000, \"list\": [ 1 , 2.0 ] }\n"),
		},
		{
			ID: "dlv_02",
			Event: sdk.Envelope{
				ID: "evt_02", Source: "urn:grapnel:source:hr", Type: "youforce.person.deleted", Time: "2026-01-15T10:20:30+01:00",
				Subject: `person/8 "5" \`,
			},
		},
	}
}

func TestAppend(t *testing.T) {
	want := []string{
		`{"specversion":"1.0","id":"evt_01","source":"urn:grapnel:source:people","type":"peopleforce.employee.updated",` +
			`"subject":"employee/4101","time":"2026-01-15T10:20:30.4999782Z","datacontenttype":"application/json",` +
			`"partitionkey":"employee/4101","provider":"peopleforce","operation":"updated","tenant":"Bücher AG",` +
			`"deliveryid":"dlv_01","sequence":"0000000000000000007","data":{"big":12345678901234567890.000,"list":[1,2.0]}}`,
		`{"specversion":"1.0","id":"evt_02","source":"urn:grapnel:source:hr","type":"youforce.person.deleted",` +
			`"subject":"person/8 \"5\" \\","time":"2026-01-15T10:20:30+01:00","datacontenttype":"application/json",` +
			`"deliveryid":"dlv_02","data":null}`,
	}
	for i, d := range deliveries() {
		got := Append([]byte("x"), d, d.Data)
		if diff := cmp.Diff("x"+want[i], string(got)); diff != "" {
			t.Errorf("%d: -want +got\n%s", i, diff)
		}
	}
}

// TestAttributes holds the two ways to write an event together.
func TestAttributes(t *testing.T) {
	for i, d := range deliveries() {
		var members map[string]any
		if err := json.Unmarshal(Append(nil, d, d.Data), &members); err != nil {
			t.Fatal(err)
		}
		delete(members, "data")
		delete(members, "datacontenttype")
		got := map[string]any{}
		for _, a := range Attributes(d) {
			got[a.Name] = a.Value
		}
		if diff := cmp.Diff(members, got); diff != "" {
			t.Errorf("%d: -json +attributes\n%s", i, diff)
		}
	}
}

func TestAppendJSON(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{`{"a": 1}`, `{"a": 1}`},
		{"{\n\"a\":\t1 }", `{"a":1}`},
		{"{\r\"a\" : \"x y\"}", `{"a":"x y"}`},
		{"[1 ,\n 2e5,-0.10 , true, null ]", `[1,2e5,-0.10,true,null]`},
		{"\n\"a\\\"  \\\\\"\n", `"a\"  \\"`},
		{"{\n\"\u2028\":\"\u2029\"}", "{\"\u2028\":\"\u2029\"}"},
		{"\n", ""},
		{"[\n\"torn \\", `["torn \`},
		{"[\n\x01\"\"]", "[\x01\"\"]"},
	} {
		if got := string(AppendJSON([]byte("x"), []byte(c.in))); got != "x"+c.want {
			t.Errorf("AppendJSON(%q) = %q, want %q", c.in, got, "x"+c.want)
		}
	}
}

func TestHeaderValue(t *testing.T) {
	for in, want := range map[string]string{
		"":                  "",
		"employee/4101":     "employee/4101",
		"Euro € 😀":          "Euro%20%E2%82%AC%20%F0%9F%98%80", // the binding's own example
		`a"b%c`:             "a%22b%25c",
		"843847 5":          "843847%205",
		"\r\nX-Evil: 1\x7f": "%0D%0AX-Evil:%201%7F",
		"\xff":              "%EF%BF%BD",
		"~!":                "~!",
	} {
		if got := HeaderValue(in); got != want {
			t.Errorf("HeaderValue(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzAppendJSON(f *testing.F) {
	for _, d := range deliveries() {
		f.Add([]byte(d.Data))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		got := AppendJSON(nil, in)
		if len(got) > len(in) {
			t.Fatalf("%q grew to %q", in, got)
		}
		if !json.Valid(in) {
			return
		}
		if bytes.ContainsAny(got, "\r\n") {
			t.Fatalf("%q keeps a line break: %q", in, got)
		}
		var want, again bytes.Buffer
		if json.Compact(&want, in) != nil || json.Compact(&again, got) != nil || !bytes.Equal(want.Bytes(), again.Bytes()) {
			t.Fatalf("%q became %q", in, got)
		}
	})
}

func FuzzText(f *testing.F) {
	for _, s := range []string{"", "a\"b\\", "\x00\n\x1f\x7f", "é\u2028\xff\xc3", "\xed\xa0\x80", "\uFFFD", "a b%20"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		// encoding/json replaces byte by byte as well; strings.ToValidUTF8 would replace runs.
		var want strings.Builder
		for _, r := range s {
			want.WriteRune(r)
		}
		got := AppendString(nil, s)
		var back string
		if err := json.Unmarshal(got, &back); err != nil {
			t.Fatalf("%q became %q: %v", s, got, err)
		}
		if back != want.String() || !utf8.Valid(got) {
			t.Fatalf("%q became %q, which is %q", s, got, back)
		}
		header := HeaderValue(s)
		for _, c := range []byte(header) {
			if c <= ' ' || c > '~' || c == '"' {
				t.Fatalf("%q became the header %q", s, header)
			}
		}
		if back, err := url.PathUnescape(header); err != nil || back != want.String() {
			t.Fatalf("%q became the header %q, which is %q, %v", s, header, back, err)
		}
	})
}
