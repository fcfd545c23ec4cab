package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/grapnelhq/grapnel/sdk"
)

// TestSendAdvice sends to hosts that are not there, and to one that is spoken to in the wrong way.
func TestSendAdvice(t *testing.T) {
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = hclog.NewNullLogger().StandardLogger(nil) // it is spoken to in the wrong way on purpose
	server.StartTLS()
	defer server.Close()
	plain := strings.Replace(server.URL, "https://", "http://", 1)
	for base, want := range map[string]string{
		"http://127.0.0.1:1": "(is it running?)",
		plain:                "the host speaks TLS: write --url " + server.URL,
		server.URL:           "cannot send to the host at " + server.URL + "/hooks/people: tls: ",
	} {
		var out bytes.Buffer
		s := &sender{base: base, url: base + "/hooks/people", client: &http.Client{}}
		err := s.send(t.Context(), printer{out: &out, err: &out}, "a.b", sdk.Sample{Method: "POST", Body: []byte("{}")})
		if err == nil || !strings.Contains(err.Error(), want) ||
			strings.Contains(err.Error(), "is it running?") != strings.Contains(want, "is it running?") {
			t.Errorf("%s: %v", base, err)
		}
	}
}
