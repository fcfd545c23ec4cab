// Package conformance reads what the HTTP sink sends with the official CloudEvents SDK. It is a module of its own so that
// the plugin does not depend on that SDK. The plugin's program runs as the host runs it.
package conformance

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"

	"github.com/grapnelhq/grapnel/sdk"
	"github.com/grapnelhq/grapnel/sdk/plugintest"
)

func deliveries() []*sdk.Delivery[json.RawMessage] {
	full := plugintest.Delivery(7, `{}`, "{\n \"id\": 4101, \"big\": 12345678901234567890.000, \"name\": \"Zo\u00eb \\u00eb\" }\n")
	full.Event = sdk.Envelope{
		ID: "evt_01", Source: "urn:grapnel:source:people", Type: "peopleforce.employee.updated",
		Subject: `employee/8 "5" 100% é`, Time: "2026-01-15T10:20:30.4999782Z", PartitionKey: "employee/4101",
		Provider: "peopleforce", Operation: "updated", Tenant: "Bücher AG €😀",
	}
	least := plugintest.Delivery(8, `{}`, `null`)
	least.Event = sdk.Envelope{
		ID: "evt_02", Source: "urn:grapnel:source:hr", Type: "youforce.person.deleted", Time: "2026-01-15T10:20:30+01:00",
	}
	return []*sdk.Delivery[json.RawMessage]{full, least}
}

func TestRequestsAreCloudEvents(t *testing.T) {
	var mu sync.Mutex
	var events []event.Event
	var wrong []error
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got, err := read(r)
		mu.Lock()
		defer mu.Unlock()
		events = append(events, got...)
		if err != nil {
			wrong = append(wrong, err)
			w.WriteHeader(http.StatusBadRequest)
			io.WriteString(w, err.Error())
		}
	}))
	defer server.Close()
	client := plugintest.Launch(t, plugintest.Build(t, ".."))
	for _, mode := range []string{"structured", "binary", "batch"} {
		t.Run(mode, func(t *testing.T) {
			events, wrong = nil, nil
			in, err := client.Open(t.Context(), `{"url": "`+server.URL+`", "allow_private": true, "mode": "`+mode+`"}`)
			if err != nil {
				t.Fatal(err)
			}
			ds := deliveries()
			outcomes, err := in.Deliver(t.Context(), ds...)
			if err != nil {
				t.Fatal(err)
			}
			for i, o := range outcomes {
				if o.Kind != sdk.Delivered {
					t.Errorf("%d: %+v", i, o)
				}
			}
			if len(events) != len(ds) || len(wrong) > 0 {
				t.Fatalf("%d events, %v", len(events), wrong)
			}
			for i, d := range ds {
				compare(t, mode, d, &events[i])
			}
			if err := in.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// read has the SDK read a request.
func read(r *http.Request) ([]event.Event, error) {
	var events []event.Event
	if cehttp.IsHTTPBatch(r.Header) {
		all, err := cehttp.NewEventsFromHTTPRequest(r)
		if err != nil {
			return nil, err
		}
		events = all
	} else {
		e, err := binding.ToEvent(r.Context(), cehttp.NewMessageFromHttpRequest(r))
		if err != nil {
			return nil, err
		}
		events = append(events, *e)
	}
	for i := range events {
		if err := events[i].Validate(); err != nil {
			return events, err
		}
	}
	return events, nil
}

func compare(t *testing.T, mode string, d *sdk.Delivery[json.RawMessage], e *event.Event) {
	t.Helper()
	text := func(s string) string { return s }
	if mode == "binary" {
		// The SDK does not decode the percent-encoding of header values, which the HTTP binding asks receivers to do.
		text = func(s string) string {
			decoded, err := url.PathUnescape(s)
			if err != nil {
				t.Errorf("%q: %v", s, err)
			}
			return decoded
		}
	}
	for name, pair := range map[string][2]string{
		"specversion": {e.SpecVersion(), "1.0"}, "id": {e.ID(), d.Event.ID}, "source": {e.Source(), d.Event.Source},
		"type": {e.Type(), d.Event.Type}, "subject": {text(e.Subject()), d.Event.Subject},
		"datacontenttype": {e.DataContentType(), "application/json"},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s is %q, want %q", name, pair[0], pair[1])
		}
	}
	if want, err := time.Parse(time.RFC3339Nano, d.Event.Time); err != nil || !e.Time().Equal(want) {
		t.Errorf("time is %v, want %v, %v", e.Time(), want, err)
	}
	n := 0
	for name, want := range map[string]string{
		"partitionkey": d.Event.PartitionKey, "provider": d.Event.Provider, "operation": d.Event.Operation,
		"tenant": d.Event.Tenant, "deliveryid": d.ID,
	} {
		got, _ := e.Extensions()[name].(string)
		if text(got) != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
		if want != "" {
			n++
		}
	}
	if e.Extensions()["sequence"] != nil {
		n++
	}
	if len(e.Extensions()) != n {
		t.Errorf("extensions %v", e.Extensions())
	}
	var want, got bytes.Buffer
	if json.Compact(&want, d.Data) != nil || json.Compact(&got, e.Data()) != nil || want.String() != got.String() {
		t.Errorf("data is %s, want %s", e.Data(), d.Data)
	}
}
