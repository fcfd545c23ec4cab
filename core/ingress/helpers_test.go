package ingress

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/auth"
	"github.com/grapnelhq/grapnel/core/store"
	"github.com/grapnelhq/grapnel/sdk"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is an Acceptor and a list of rejections. hook runs before an acceptance is recorded.
type memory struct {
	hook func(ctx context.Context, r *core.Request) error

	mu         sync.Mutex
	requests   []*core.Request
	known      map[core.DedupeKey]bool
	rejections []core.Rejection
}

func (m *memory) Accept(ctx context.Context, r *core.Request) (store.Acceptance, error) {
	if m.hook != nil {
		if err := m.hook(ctx, r); err != nil {
			return "", err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.known[r.Dedupe] {
		return store.Duplicate, nil
	}
	if m.known == nil {
		m.known = map[core.DedupeKey]bool{}
	}
	m.known[r.Dedupe] = true
	m.requests = append(m.requests, r)
	return store.Accepted, nil
}

func (m *memory) RecordRejection(r core.Rejection) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rejections = append(m.rejections, r)
}

func (m *memory) accepted() []*core.Request {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]*core.Request(nil), m.requests...)
}

func (m *memory) rejected() []core.Rejection {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]core.Rejection(nil), m.rejections...)
}

// wantRejection waits for the last rejection, which net/http may cause after the client has its answer.
func (m *memory) wantRejection(t *testing.T, status int, cause string) core.Rejection {
	t.Helper()
	var last core.Rejection
	for range 200 {
		if all := m.rejected(); len(all) > 0 {
			if last = all[len(all)-1]; last.Cause == cause && last.Status == status {
				return last
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("last rejection %+v, want %d %s", last, status, cause)
	return last
}

// syncBuffer collects logs.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// host is a running server.
type host struct {
	*memory
	server *Server
	addr   string
	url    string
	client *http.Client
	logs   *syncBuffer
}

const testSecret = "test-vwd-secret-1"

func vwdEndpoint(t testing.TB, source string) Endpoint {
	t.Helper()
	return Endpoint{
		Source: source, Verifier: verifier(t, "vwd", testSecret), KeepHeaders: []string{"x-vwd-*"},
		Dedupe: []sdk.DedupeKey{
			{{Kind: sdk.PartHeader, Name: "X-Vwd-Notification-Id"}},
			{{Kind: sdk.PartHeader, Name: "X-Vwd-Event-Id"}, {Kind: sdk.PartBody}},
		},
	}
}

func verifier(t testing.TB, preset string, secrets ...string) *auth.Verifier {
	t.Helper()
	s, ok := sdk.Preset(preset)
	if !ok {
		t.Fatalf("no preset %q", preset)
	}
	v, err := auth.New(s, secrets, nil)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// start runs a server until the test ends; change may alter its configuration first.
func start(t testing.TB, change func(c *Config, m *memory)) *host {
	t.Helper()
	h := &host{memory: &memory{}, logs: &syncBuffer{}}
	cfg := Config{
		Listen: "127.0.0.1:0", Acceptor: h.memory, Rejections: h.memory,
		Logger: hclog.New(&hclog.LoggerOptions{Output: h.logs, Level: hclog.Trace}),
	}
	change(&cfg, h.memory)
	var err error
	if h.server, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	addr, err := h.server.Listen()
	if err != nil {
		t.Fatal(err)
	}
	h.addr = addr.String()
	h.url = "http://" + h.addr
	h.client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}, Timeout: 20 * time.Second}
	served := make(chan error, 1)
	go func() { served <- h.server.Serve() }()
	t.Cleanup(func() {
		h.client.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := h.server.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
		if n := len(h.server.conns); n != 0 {
			t.Errorf("%d connections after shutdown", n)
		}
		if n := h.server.bodyMemory.Load(); n != 0 {
			t.Errorf("%d bytes for bodies after shutdown", n)
		}
	})
	return h
}

// signed builds a request that the VWD endpoint /hooks/hr accepts.
func (h *host) signed(t testing.TB, body string, headers ...string) *http.Request {
	t.Helper()
	return h.signedFor(t, "vwd", testSecret, "/hooks/hr", body, headers...)
}

func (h *host) signedFor(t testing.TB, preset, secret, path, body string, headers ...string) *http.Request {
	t.Helper()
	r, err := http.NewRequest(http.MethodPost, h.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	s, _ := sdk.Preset(preset)
	in := &auth.Input{Header: r.Header, Body: []byte(body)}
	if err := auth.Sign(s, in, secret, time.Now()); err != nil {
		t.Fatal(err)
	}
	if in.PathToken != "" {
		r.URL.Path += "/" + in.PathToken
	}
	return r
}

// answer is a response, read to its end.
type answer struct {
	status int
	header http.Header
	body   string
}

func (h *host) do(t testing.TB, r *http.Request) answer {
	t.Helper()
	a, err := h.try(r)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (h *host) try(r *http.Request) (answer, error) {
	resp, err := h.client.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return answer{}, err
	}
	return answer{resp.StatusCode, resp.Header, string(b)}, nil
}

// raw writes text to a connection of its own and reads the first response; the rest of the connection is drained.
func (h *host) raw(t testing.TB, parts ...string) (answer, error) {
	t.Helper()
	c := h.dial(t)
	defer c.Close()
	for _, p := range parts {
		if _, err := io.WriteString(c, p); err != nil {
			break // the server may have seen enough
		}
	}
	return readAnswer(c)
}

func (h *host) dial(t testing.TB) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", h.addr)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.SetDeadline(time.Now().Add(15 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

func readAnswer(c net.Conn) (answer, error) {
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, string(b)}, err
}

// send writes to a connection that the server may have closed by now.
func send(c net.Conn, text string) { _, _ = io.WriteString(c, text) }

func head(lines ...string) string { return strings.Join(lines, "\r\n") + "\r\n\r\n" }

var errBroken = errors.New("broken store")

func chunked(parts ...string) string {
	var b strings.Builder
	for _, p := range parts {
		fmt.Fprintf(&b, "%x\r\n%s\r\n", len(p), p)
	}
	b.WriteString("0\r\n\r\n")
	return b.String()
}
