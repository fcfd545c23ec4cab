package sdk

import (
	"encoding/json"
	"net/http"
	"testing"
)

func TestSampleShown(t *testing.T) {
	for _, c := range []struct {
		sample Sample
		want   string
	}{
		{Sample{Name: "a", Body: []byte(`{"n": 1.0}`)}, `{"name":"a","body":{"n":1.0}}`},
		{Sample{Name: "b", Body: []byte("a=1&b=%22")}, `{"name":"b","body":"a=1\u0026b=%22"}`},
		{Sample{Name: "c", Method: "GET", Query: "a=1"}, `{"name":"c","method":"GET","query":"a=1"}`},
	} {
		got, err := json.Marshal(EventType{Samples: []Sample{c.sample}})
		if err != nil {
			t.Fatal(err)
		}
		var v struct{ Samples []json.RawMessage }
		if err := json.Unmarshal(got, &v); err != nil || string(v.Samples[0]) != c.want {
			t.Errorf("%s, want %s (%v)", got, c.want, err)
		}
	}
	r := (&Sample{Method: "PUT", Query: "a=1"}).Request()
	if r.Method != http.MethodPut || r.Query != "a=1" || (&Sample{}).Request().Method != http.MethodPost {
		t.Errorf("%+v", r)
	}
}
