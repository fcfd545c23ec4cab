// Package conformance reads what the file sink writes with the official CloudEvents SDK. It is a module of its own
// so that the plugin does not depend on that SDK. The lines are the plugin's golden file, which its own tests hold
// up to date.
package conformance

import (
	"bytes"
	"encoding/json"
	"os"
	"testing"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
)

func TestLinesAreCloudEvents(t *testing.T) {
	b, err := os.ReadFile("../testdata/lines.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(b, []byte("\n"))
	if len(lines) < 6 || len(lines[len(lines)-1]) != 0 {
		t.Fatalf("%d lines, the last %q", len(lines)-1, lines[len(lines)-1])
	}
	for i, line := range lines[:len(lines)-1] {
		var e cloudevents.Event
		if err := json.Unmarshal(line, &e); err != nil {
			t.Errorf("line %d: %v", i+1, err)
			continue
		}
		if err := e.Validate(); err != nil {
			t.Errorf("line %d: %v", i+1, err)
		}
		var raw map[string]json.RawMessage
		if err := json.Unmarshal(line, &raw); err != nil {
			t.Fatal(err)
		}
		text := func(name string) (s string) {
			if raw[name] != nil {
				if err := json.Unmarshal(raw[name], &s); err != nil {
					t.Errorf("line %d: %s: %v", i+1, name, err)
				}
			}
			return s
		}
		for name, got := range map[string]string{
			"specversion": e.SpecVersion(), "id": e.ID(), "source": e.Source(), "type": e.Type(), "subject": e.Subject(),
			"datacontenttype": e.DataContentType(),
		} {
			if want := text(name); got != want {
				t.Errorf("line %d: %s is %q, want %q", i+1, name, got, want)
			}
		}
		if want, err := time.Parse(time.RFC3339Nano, text("time")); err != nil || !e.Time().Equal(want) {
			t.Errorf("line %d: time is %v, want %v, %v", i+1, e.Time(), want, err)
		}
		for _, name := range []string{"partitionkey", "provider", "operation", "tenant", "deliveryid", "sequence"} {
			got, _ := e.Extensions()[name].(string)
			if want := text(name); got != want {
				t.Errorf("line %d: %s is %q, want %q", i+1, name, got, want)
			}
			delete(raw, name)
		}
		if got := string(e.Data()); got != string(raw["data"]) {
			t.Errorf("line %d: data is %s, want %s", i+1, got, raw["data"])
		}
		if len(raw) > 8 {
			t.Errorf("line %d has members that are no attributes", i+1)
		}
	}
}
