package ingress

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/auth"
	"github.com/grapnelhq/grapnel/core/store"
	"github.com/grapnelhq/grapnel/sdk"
)

// nothing accepts without storing, so that only the ingress is measured.
type nothing struct{}

// Accept implements Acceptor.
func (nothing) Accept(context.Context, *core.Request) (store.Acceptance, error) {
	return store.Accepted, nil
}

// RecordRejection implements Rejections.
func (nothing) RecordRejection(core.Rejection) {}

// benchBody is a JSON body of 900 bytes.
func benchBody() []byte {
	body := []byte(`{"id":"843847 5","operation":"Update","tenantId":"1234","changedFields":{` +
		`"workingAmount.amountOfWork":{"oldValue":36.0,"newValue":40.0}},"value":{`)
	for i := 0; len(body) < 860; i++ {
		body = append(body, fmt.Sprintf(`"field%d":"value %d",`, i, i)...)
	}
	body = append(body, `"last":"`...)
	return append(body, strings.Repeat("x", 900-len(body)-3)+`"}}`...)
}

func benchRequest(b *testing.B, body []byte) *http.Request {
	b.Helper()
	r := httptest.NewRequest(http.MethodPost, "/hooks/hr", nil)
	r.Header.Set("Content-Type", "application/json")
	for _, name := range []string{"Event-Id", "Notification-Id", "Subscription-Id", "Tenant-Id", "Webhook-Timestamp"} {
		r.Header.Set("X-Vwd-"+name, "0f9d4a0e-7f5b-4d7b-9c36-000000000001")
	}
	s, _ := sdk.Preset("vwd")
	if err := auth.Sign(s, &auth.Input{Header: r.Header, Body: body}, testSecret, time.Now()); err != nil {
		b.Fatal(err)
	}
	r.ContentLength = int64(len(body))
	return r
}

// discardWriter is a response that goes nowhere.
type discardWriter struct{ h http.Header }

func (w *discardWriter) Header() http.Header         { return w.h }
func (w *discardWriter) Write(p []byte) (int, error) { return len(p), nil }
func (w *discardWriter) WriteHeader(int)             {}

// BenchmarkHandler is the part of a request that is ours: from the handler's entry to its end, without the store.
func BenchmarkHandler(b *testing.B) {
	s, err := New(Config{
		Acceptor: nothing{}, Rejections: nothing{}, Logger: discard(), Endpoints: []Endpoint{vwdEndpoint(b, "hr")},
	})
	if err != nil {
		b.Fatal(err)
	}
	body := benchBody()
	r := benchRequest(b, body)
	var reader bytes.Reader
	r.Body = io.NopCloser(&reader)
	w := &discardWriter{http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		reader.Reset(body)
		s.ServeHTTP(w, r)
	}
	if n := s.Stats().Sources["hr"].Accepted; n != uint64(b.N) {
		b.Fatalf("%d accepted of %d", n, b.N)
	}
}

// bare is what a server has to do at the least: read the body and check its MAC.
func bare(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	want, err := base64.StdEncoding.DecodeString(r.Header.Get("X-Vwd-Signature-V1"))
	m := hmac.New(sha256.New, []byte(testSecret))
	m.Write(body)
	if err != nil || !hmac.Equal(m.Sum(nil), want) {
		w.WriteHeader(http.StatusUnauthorized)
	}
}

// BenchmarkBareHandler is the same for a handler that only reads the body and checks its MAC.
func BenchmarkBareHandler(b *testing.B) {
	body := benchBody()
	r := benchRequest(b, body)
	var reader bytes.Reader
	r.Body = io.NopCloser(&reader)
	w := &discardWriter{http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		reader.Reset(body)
		bare(w, r)
	}
}
