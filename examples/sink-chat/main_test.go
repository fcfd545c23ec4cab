package main

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/grapnelhq/grapnel/sdk"
	"github.com/grapnelhq/grapnel/sdk/plugintest"
)

func TestConformance(t *testing.T) {
	chat := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer a-secret-token" || r.Header.Get("Idempotency-Key") == "" {
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	defer chat.Close()
	plugintest.Sink(t, sdk.NewSink(info, open), plugintest.Options{
		Config:  `{"url": "` + chat.URL + `", "token": "a-secret-token"}`,
		Message: `{"text": "hello"}`,
		Down:    `{"url": "$FAR_END", "token": "a-secret-token"}`, // where nobody is
		Slow:    `{"url": "$FAR_END", "token": "a-secret-token"}`, // where nobody answers
	})
}
