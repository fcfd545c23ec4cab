package fake

import (
	"bytes"
	"encoding/json"
	"net/url"
	"reflect"
	"strings"
	"testing"
)

// CompareRequests compares requests with recorded ones, a JSON list of Request: method, address with its query decoded,
// authorization scheme, content type without parameters, and the body as JSON, where members may stand in any order.
func CompareRequests(t testing.TB, recorded []byte, got []Request) {
	t.Helper()
	var want []Request
	if err := json.Unmarshal(recorded, &want); err != nil {
		t.Fatal(err)
	}
	for i := range max(len(want), len(got)) {
		switch {
		case i >= len(got):
			t.Errorf("request %d is not sent: %s %s", i, want[i].Method, want[i].Path)
		case i >= len(want):
			t.Errorf("request %d is not recorded: %s %s", i, got[i].Method, got[i].Path)
		default:
			if w, g := normal(t, want[i]), normal(t, got[i]); !reflect.DeepEqual(w, g) {
				t.Errorf("request %d:\n got %+v\nwant %+v", i, g, w)
			}
		}
	}
}

func normal(t testing.TB, r Request) map[string]any {
	t.Helper()
	u, err := url.Parse(r.Path)
	if err != nil {
		t.Fatal(err)
	}
	var body any
	if r.Body != nil {
		dec := json.NewDecoder(bytes.NewReader(r.Body))
		dec.UseNumber()
		if err := dec.Decode(&body); err != nil {
			t.Fatal(err)
		}
	}
	kind, _, _ := strings.Cut(r.ContentType, ";")
	return map[string]any{
		"method": r.Method, "path": u.Path, "query": u.Query(), "authorization": r.Auth, "content_type": kind, "body": body,
	}
}
