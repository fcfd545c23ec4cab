package main

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/grapnelhq/grapnel/sdk/plugintest"
)

func TestReadme(t *testing.T) { plugintest.Readme(t, factory(), "README.md") }

func TestPlugin(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		if r.Header.Get("Authorization") != "Bearer t0ken-t0ken" {
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	defer server.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	down := "http://" + l.Addr().String()
	l.Close()
	for _, mode := range []string{modeStructured, modeBatch} {
		t.Run(mode, func(t *testing.T) {
			more := `"mode": "` + mode + `", "bearer_token": "t0ken-t0ken", "signing": {"keys": ["` + goodKey + `"]}`
			plugintest.Sink(t, factory(), plugintest.Options{
				Config: configFor(server.URL, more), Down: configFor(down, more),
				Slow: configFor("$FAR_END", more), Refused: configFor("$FAR_END/status/400", more),
				Message: `{"path": "a/b", "headers": {"x-a": "b"}, "body": {"x": 1.10}}`, Data: `{"id": 4101}`,
				NoProgram: mode == modeBatch,
			})
		})
	}
}
