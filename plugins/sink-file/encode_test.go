//go:build unix

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnelhq/grapnel/sdk"
	"github.com/grapnelhq/grapnel/sdk/plugintest"
)

// goldenDeliveries make testdata/lines.jsonl, which the module in conformance reads with the official CloudEvents
// SDK.
func goldenDeliveries() []*sdk.Delivery[Message] {
	full := &sdk.Delivery[Message]{
		ID:       "dlv_01",
		Sequence: 7,
		Event: sdk.Envelope{
			ID: "evt_01", Source: "urn:grapnel:source:people", Type: "peopleforce.employee.updated",
			Subject: "employee/4101", Time: "2026-01-15T10:20:30.4999782Z", PartitionKey: "employee/4101",
			Provider: "peopleforce", Operation: "updated", Tenant: "acme",
		},
		Data: json.RawMessage("{\n  \"id\": 4101,\r\n\t\"salary\": 1.10E+2, \"big\": 12345678901234567890.000,\n" +
			" \"name\": \"Zo\u00eb \\u00eb \\\"a  b\\\" \\\\\",\n \"list\": [ 1 , 2.0, null, true ], \"empty\": { }\n}\n"),
	}
	least := &sdk.Delivery[Message]{
		ID: "dlv_02",
		Event: sdk.Envelope{
			ID: "evt_02", Source: "urn:grapnel:source:hr", Type: "youforce.person.deleted", Time: "2026-01-15T10:20:30+01:00",
		},
	}
	odd := &sdk.Delivery[Message]{
		ID:       "dlv_03",
		Sequence: 9223372036854775807,
		Event: sdk.Envelope{
			ID: "evt_03", Source: "urn:grapnel:source:hr", Type: "youforce.employment.updated",
			Subject: `employment/843847 "5" \ é` + "\u2028", Time: "2026-01-15T10:20:30Z",
			PartitionKey: "123456/employment/843847 5",
		},
		Data: json.RawMessage(`{ "kept":   "as it is: no line break", "sep": "` + "\u2028" + `" }`),
	}
	text := delivery("dlv_04", "", `"only a text"`)
	number := delivery("dlv_05", "", `-0.0e-0`)
	return []*sdk.Delivery[Message]{full, least, odd, text, number}
}

func TestLines(t *testing.T) {
	dir := t.TempDir()
	s := openSink(t, config(dir), nil)
	ds := goldenDeliveries()
	deliver(t, s, ds...)
	got, err := os.ReadFile(filepath.Join(dir, defaultPath))
	if err != nil {
		t.Fatal(err)
	}
	golden := filepath.Join("testdata", "lines.jsonl")
	if plugintest.Update() {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("lines differ (-want +got):\n%s", diff)
	}
	for i, m := range readLines(t, golden) {
		e := ds[i].Event
		for name, want := range map[string]string{
			"specversion": "1.0", "id": e.ID, "source": e.Source, "type": e.Type, "subject": e.Subject, "time": e.Time,
			"datacontenttype": "application/json", "partitionkey": e.PartitionKey, "provider": e.Provider,
			"operation": e.Operation, "tenant": e.Tenant, "deliveryid": ds[i].ID,
		} {
			if got, _ := m[name].(string); got != want {
				t.Errorf("line %d: %s is %q, want %q", i+1, name, got, want)
			}
			if _, there := m[name]; there && want == "" {
				t.Errorf("line %d: empty %s is written", i+1, name)
			}
		}
		if _, there := m["data"]; !there {
			t.Errorf("line %d: no data", i+1)
		}
	}
}

func TestRecord(t *testing.T) {
	dir := t.TempDir()
	s := openSink(t, config(dir), nil)
	var ds []*sdk.Delivery[Message]
	for i, record := range []string{`{"a": 1.50}`, "[\n1,\n2]", `"text"`, `12`, `null`, ``} {
		d := delivery(string(rune('a'+i)), "", `{}`)
		d.Message.Record = json.RawMessage(record)
		ds = append(ds, d)
	}
	deliver(t, s, ds...)
	b, err := os.ReadFile(filepath.Join(dir, defaultPath))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(b), "\n")
	want := []string{`{"a": 1.50}`, `[1,2]`, `"text"`, `12`, `{"specversion":"1.0"`, `{"specversion":"1.0"`, ""}
	if len(lines) != len(want) {
		t.Fatalf("got %d lines: %q", len(lines), lines)
	}
	for i, w := range want {
		if strings.HasPrefix(w, `{"spec`) {
			lines[i] = lines[i][:len(w)] + "\n"
		}
		if w != "" {
			w += "\n"
		}
		if lines[i] != w {
			t.Errorf("line %d is %q, want %q", i+1, lines[i], w)
		}
	}
}

// A text that is no JSON must not break the line structure for its neighbours.
func TestInvalidData(t *testing.T) {
	dir := t.TempDir()
	s := openSink(t, config(dir), nil)
	errs := s.DeliverBatch(t.Context(), []*sdk.Delivery[Message]{
		delivery("1", "", `{}`), delivery("2", "", "{\"a\":\"b\nc\"}"), delivery("3", "", `{}`),
	})
	if errs[0] != nil || errs[2] != nil || kind(errs[1]) != sdk.Rejected {
		t.Errorf("got %v", errs)
	}
	if got := ids(t, dir, defaultPath); got != "1 3" {
		t.Errorf("file has %q", got)
	}
}
