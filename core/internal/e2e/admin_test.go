//go:build unix

package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/grapnelhq/grapnel/core/admin"
	"github.com/grapnelhq/grapnel/core/internal/e2e/harness"
	"github.com/grapnelhq/grapnel/core/store"
	"github.com/grapnelhq/grapnel/sdk"
)

// adminToken is the token of the admin listeners of this package.
const adminToken = "e2e-admin-token-7f03"

// people is a client of an admin listener.
type people struct {
	t   *testing.T
	url string
}

// ask makes a request; header overwrites, and Host goes where it belongs.
func (p people) ask(method, path, body string, header map[string]string) (int, string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), harness.Patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, p.url+path, strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	for k, v := range header {
		if r.Header.Set(k, v); k == "Host" {
			r.Host = v
		}
	}
	// A redirect is an answer.
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}
	resp, err := client.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// TestAdminListener checks on a real host that who has no token, a page of another origin, and a page whose name was made to
// point to the host get nothing from the admin listener, with a token and without one.
func TestAdminListener(t *testing.T) {
	t.Parallel()
	for name, token := range map[string]string{"token": adminToken, "no token": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := programs.FreeAddress(t)
			h := programs.NewHost(t, harness.Options{Config: harness.YouforceToFile + fmt.Sprintf(`
admin {
  listen = %q
  token  = env("ADMIN_TOKEN", null)
}
alert "dying" {
  dead_letters = 1
  to "file" "out" {
    record = event.data
  }
}
`, address), Env: []string{"ADMIN_TOKEN=" + token}})
			h.Start()
			h.MustPost(harness.Youforce("hr", "a secret person", 1))
			h.WaitSettled(10 * time.Second)
			page, err := h.Control.Requests(t.Context(), store.RequestFilter{})
			if err != nil || len(page.Items) != 1 {
				t.Fatalf("%+v, %v", page, err)
			}
			id := page.Items[0].ID
			p := people{t, "http://" + address}
			good := map[string]string{}
			if token != "" {
				good["Authorization"] = "Bearer " + token
			}
			with := func(more ...string) map[string]string {
				m := map[string]string{}
				for k, v := range good {
					m[k] = v
				}
				for i := 0; i < len(more); i += 2 {
					m[more[i]] = more[i+1]
				}
				return m
			}
			refused := map[string]struct {
				status int
				header map[string]string
			}{
				"rebinding":           {421, with("Host", "evil.example:8081")},
				"rebinding, sneaky":   {421, with("Host", "127.0.0.1.evil.example")},
				"another page reads":  {403, with("Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "cors", "Origin", "https://evil.example")},
				"another page embeds": {403, with("Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors")},
				"another page, old":   {403, with("Origin", "https://evil.example")},
			}
			if token != "" {
				refused["nobody"] = struct {
					status int
					header map[string]string
				}{401, nil}
				refused["a wrong token"] = struct {
					status int
					header map[string]string
				}{401, map[string]string{"Authorization": "Bearer " + token + "x"}}
			}
			paths := []string{
				"/", "/v1/status", "/v1/requests", "/v1/requests/" + id, "/v1/requests/" + id + "/body", "/v1/requests/export", "/v1/tail",
				"/v1/deliveries", "/metrics", "/v1/openapi.json",
			}
			for what, c := range refused {
				for _, path := range paths {
					if what == "a wrong token" && path != "/v1/status" {
						continue // ten of them, and the address has to wait
					}
					if status, body := p.ask("GET", path, "", c.header); status != c.status || strings.Contains(body, "secret person") {
						t.Errorf("%s: GET %s: %d %s", what, path, status, body)
					}
				}
				if what == "a wrong token" {
					continue
				}
				for _, path := range []string{"/v1/sinks/out/pause", "/v1/requests/erase", "/v1/deliveries/replay"} {
					body := `{"reason":"x"}`
					if status, answer := p.ask("POST", path, body, c.header); status != c.status {
						t.Errorf("%s: POST %s: %d %s", what, path, status, answer)
					}
				}
			}
			// A form needs no script and no consent of ours.
			form := with("Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document", "Origin", "null",
				"Content-Type", "text/plain")
			if status, body := p.ask("POST", "/v1/sinks/out/pause", "{}", form); status != 403 {
				t.Errorf("a foreign form pauses: %d %s", status, body)
			}
			if s := h.Status(); s.Sinks[0].State != "working" {
				t.Errorf("the sink is %s", s.Sinks[0].State)
			}
			if status, body := p.ask("POST", "/v1/plugins/upgrade", `{"plugin":"sink-file","program":"/bin/true"}`, good); status < 400 {
				t.Errorf("an upgrade by the listener: %d %s", status, body)
			}

			// Who may gets it all: byte for byte, explained, and as it happens.
			if status, body := p.ask("GET", "/v1/requests/"+id+"/body", "", good); status != 200 ||
				body != string(harness.Youforce("hr", "a secret person", 1).Body) {
				t.Errorf("body: %d %s", status, body)
			}
			status, body := p.ask("GET", "/v1/requests/"+id+"/explanation", "", good)
			var x admin.Explanation
			if err := json.Unmarshal([]byte(body), &x); err != nil || status != 200 || len(x.Events) != 1 ||
				x.Events[0].Routes[0].Verdict != admin.VerdictSends || x.Events[0].Routes[0].To[0].Sink != "out" {
				t.Errorf("explanation: %d %s", status, body)
			}
			given := admin.GivenRequest{Source: "hr", Body: string(harness.Youforce("hr", "else", 2).Body)}
			for k, vs := range harness.Youforce("hr", "else", 2).Header {
				given.Headers = append(given.Headers, sdkHeader(k, vs[0]))
			}
			b, err := json.Marshal(given)
			if err != nil {
				t.Fatal(err)
			}
			status, body = p.ask("POST", "/v1/explain", string(b), good)
			x = admin.Explanation{}
			if err := json.Unmarshal([]byte(body), &x); err != nil || status != 200 || x.Authentication.Result != "accepted" ||
				len(x.Events) != 1 || x.Events[0].Subject != "employment/else" || x.Events[0].Unrouted {
				t.Errorf("explanation of a given request: %d %s", status, body)
			}
			status, body = p.ask("GET", "/metrics", "", good)
			if n := strings.Count(body, `grapnel_alert_firing{alert="dying"} 0`); status != 200 || n != 1 {
				t.Errorf("the metrics tell %d times of the alert: %d", n, status)
			}
			if log := h.Log(); strings.Contains(log, "error gathering metrics") {
				t.Errorf("not all metrics can be shown:\n%s", log)
			}
			p.tail(h, good)
			tailCommand(t, h)
			h.Stop()
		})
	}
}

// tail watches a webhook come in and be delivered, loses its connection, and comes back to what it missed.
func (p people) tail(h *harness.Host, header map[string]string) {
	p.t.Helper()
	open := func(last string) (next func() (id, event, data string), hangUp func()) {
		ctx, cancel := context.WithTimeout(p.t.Context(), harness.Patience)
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url+"/v1/tail", nil)
		if err != nil {
			p.t.Fatal(err)
		}
		for k, v := range header {
			r.Header.Set(k, v)
		}
		if last != "" {
			r.Header.Set("Last-Event-ID", last)
		}
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		resp, err := client.Do(r)
		if err != nil {
			p.t.Fatal(err)
		}
		if got := resp.Header.Get("Content-Type"); resp.StatusCode != http.StatusOK || got != "text/event-stream" {
			p.t.Fatalf("tail: %s, %s", resp.Status, got)
		}
		lines := bufio.NewScanner(resp.Body)
		next = func() (id, event, data string) {
			for lines.Scan() {
				name, value, _ := strings.Cut(lines.Text(), ": ")
				switch name {
				case "id":
					id = value
				case "event":
					event = value
				case "data":
					data = value
				case "":
					if data != "" {
						return id, event, data
					}
				}
			}
			p.t.Fatalf("the tail ended: %v", lines.Err())
			return "", "", ""
		}
		return next, func() { cancel(); resp.Body.Close() }
	}
	next, hangUp := open("")
	if _, event, _ := next(); event != admin.ChangeReady {
		p.t.Errorf("begins with %s", event)
	}
	until := func(subject, state string) (id string) {
		for {
			id, event, data := next()
			if event == admin.ChangeDelivery && strings.Contains(data, subject) && strings.Contains(data, `"state":"`+state+`"`) {
				return id
			}
		}
	}
	h.MustPost(harness.Youforce("hr", "first", 10))
	posted := time.Now()
	last := until("employment/first", "delivered")
	if took := time.Since(posted); took > 10*time.Second { // a second on a machine that has nothing else to do
		p.t.Errorf("it took %s to be told", took)
	}
	hangUp()
	h.MustPost(harness.Youforce("hr", "second", 11))
	h.WaitSettled(10 * time.Second)
	next, hangUp = open(last)
	defer hangUp()
	until("employment/second", "pending")
	until("employment/second", "delivered")
}

func sdkHeader(name, value string) sdk.Header { return sdk.Header{Name: name, Value: value} }

// tailCommand watches the same with the command.
func tailCommand(t *testing.T, h *harness.Host) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), harness.Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, programs.Grapnel(t), "tail", "--json", "--sink", "out", "--config", h.Path("config.hcl"))
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	seen := make(chan admin.Change, 1000)
	go func() {
		defer close(seen)
		for dec := json.NewDecoder(out); ; {
			var c admin.Change
			if dec.Decode(&c) != nil {
				return
			}
			seen <- c
		}
	}()
	for n := 100; ; n++ { // until it watches
		h.MustPost(harness.Youforce("hr", "watched", n))
		select {
		case c := <-seen:
			if c.Kind != admin.ChangeDelivery || c.Delivery.Sink != "out" {
				t.Errorf("%+v", c)
			}
			cancel()
			for range seen {
			}
			if err := cmd.Wait(); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
			return
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			t.Fatal("the command shows nothing")
		}
	}
}
