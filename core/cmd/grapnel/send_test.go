package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/grapnelhq/grapnel/core/config"
	"github.com/grapnelhq/grapnel/sdk"
)

// TestSampleWithoutSignedHeader has a sample that lacks what the scheme signs.
func TestSampleWithoutSignedHeader(t *testing.T) {
	scheme := &sdk.Scheme{Name: "odd", HMAC: &sdk.HMAC{
		Headers: []string{"X-Sig"}, Encoding: sdk.Hex,
		SignedContent: []sdk.Part{{Kind: sdk.PartHeader, Name: "X-Id"}, {Kind: sdk.PartBody}},
	}}
	src := &config.Source{Name: "a", Path: "/hooks/a", Scheme: scheme, Secrets: []string{"s3cret"}}
	smp := typedSample{"a.b", sdk.Sample{Name: "first", Method: "POST", Body: []byte("{}")}}
	want := `sample "first" of a.b lacks the header X-Id that the scheme signs: add it to the sample (Go: Sample.Headers; ` +
		`decoder json: sample = { headers = { "X-Id" = "…" } })`
	if _, err := sampleRequest(t.Context(), src, smp, time.Now()); err == nil || err.Error() != want {
		t.Errorf("explain: %v", err)
	}
	s := &sender{source: *src, url: "http://127.0.0.1:1/hooks/a"}
	if _, err := s.request(t.Context(), smp); err == nil || err.Error() != want {
		t.Errorf("send: %v", err)
	}
	smp.Headers = []sdk.Header{{Name: "x-id", Value: "1"}}
	if _, err := s.request(t.Context(), smp); err != nil {
		t.Error(err)
	}
}

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
