package main

import (
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/grapnelhq/grapnel/sdk"
)

// request is a request as testdata/recorded/requests.json has it.
type request struct {
	Method  string            `json:"method"`
	Path    string            `json:"path"`
	Headers map[string]string `json:"headers"`
	Body    string            `json:"body"`
}

// said is what a request says, however it is written.
type said struct {
	Method, Path, Type, Token string
	Args                      map[string]any
}

func (r *request) said(t *testing.T) said {
	t.Helper()
	kind, _, err := mime.ParseMediaType(r.Headers["content-type"])
	if err != nil && r.Body != "" {
		t.Fatal(err)
	}
	s := said{Method: r.Method, Path: r.Path, Type: kind, Args: map[string]any{}}
	s.Token = strings.TrimPrefix(r.Headers["authorization"], "Bearer ")
	if kind == "application/json" {
		if err := json.Unmarshal([]byte(r.Body), &s.Args); err != nil {
			t.Fatal(err)
		}
		return s
	}
	values, err := url.ParseQuery(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	for name, v := range values {
		switch {
		case name == "token": // Slack takes it here or there
			s.Token = v[0]
		case name == "blocks", name == "metadata":
			var value any
			if err := json.Unmarshal([]byte(v[0]), &value); err != nil {
				t.Fatal(err)
			}
			s.Args[name] = value
		default:
			s.Args[name] = v[0]
		}
	}
	return s
}

// TestRecorded compares the sink's requests with those of Slack's own SDKs.
func TestRecorded(t *testing.T) {
	b, err := os.ReadFile("testdata/recorded/requests.json")
	if err != nil {
		t.Fatal(err)
	}
	var recorded struct{ Requests map[string]request }
	if err := json.Unmarshal(b, &recorded); err != nil {
		t.Fatal(err)
	}
	const blocks = `[{"type": "header", "text": {"type": "plain_text", "text": "New hire"}},
		{"type": "section", "text": {"type": "mrkdwn", "text": "*Zoë* &amp; co <https://x.example/?a=1&b=2|profile> 😀"},
			"fields": [{"type": "mrkdwn", "text": "Team\nR&amp;D"}],
			"accessory": {"type": "image", "image_url": "https://x.example/i.png?a=1&amp;b=2", "alt_text": "photo"}}, null,
		{"type": "actions", "elements": [{"type": "button", "text": {"type": "plain_text", "text": "Open"},
			"url": "https://x.example/?a=1&amp;b=2", "value": "1"}]}]`
	parentOf := func(channel string) []byte {
		none := &threads{}
		return none.with(parent{Key: digest(threadOfKey, channel), Channel: "C01", Timestamp: "1767225600.000001"}).state()
	}
	messages := map[string]string{
		"post_text":       `{"channel": "#people", "text": "Hi <!here> &amp; \"all\" é 😀"}`,
		"post_blocks":     `{"channel": "C01", "text": "New hire", "blocks": ` + blocks + `}`,
		"post_unfurled":   `{"channel": "C01", "text": "https://x.example", "unfurl_links": true, "unfurl_media": true}`,
		"post_reply":      `{"channel": "C01", "text": "a reply", "thread": "true"}`,
		"post_broadcast":  `{"channel": "C01", "text": "a reply", "thread": "true", "broadcast": true}`,
		"post_customized": `{"channel": "C01", "text": "a", "username": "HR & more", "icon_emoji": ":wave:", "icon_url": "https://x.example/i.png"}`,
		"post_metadata": `{"channel": "C01", "text": "a", "metadata": {"event_type": "hired",
			"event_payload": {"id": 4101, "name": "Zoë", "tags": ["a", "b"]}}}`,
		"update_text":   `{"channel": "C01", "text": "changed", "update": true}`,
		"update_blocks": `{"channel": "C01", "text": "changed", "update": true, "blocks": ` + blocks + `}`,
		"auth_test":     "",
		"hook_text":     `{"text": "Hi <!here> &amp; \"all\" é 😀"}`,
		"hook_blocks":   `{"text": "New hire", "blocks": ` + blocks + `}`,
		"hook_unfurled": `{"text": "https://x.example", "unfurl_links": true, "unfurl_media": true}`,
	}
	for name, want := range recorded.Requests {
		t.Run(name, func(t *testing.T) {
			message, ok := messages[name]
			if !ok {
				t.Fatal("there is no message for it")
			}
			c := botConfig()
			if strings.HasPrefix(name, "hook_") {
				c = webhookConfig()
			}
			var got []request
			h := newHarness(t, quick(c), fakeOptions(), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, err := io.ReadAll(r.Body)
				if err != nil {
					t.Error(err)
				}
				headers := map[string]string{
					"content-type": r.Header.Get("Content-Type"), "authorization": r.Header.Get("Authorization"),
				}
				got = append(got, request{Method: r.Method, Path: r.URL.RequestURI(), Body: string(body), Headers: headers})
				fmt.Fprint(w, `{"ok":true,"channel":"C01","ts":"1767225600.000001"}`)
			}))
			if name == "auth_test" {
				if err := h.in.Sink().(sdk.Checker).Check(t.Context()); err != nil {
					t.Fatal(err)
				}
			} else {
				if slices.Contains([]string{"post_reply", "post_broadcast", "update_text", "update_blocks"}, name) {
					h.state["ann"] = parentOf("C01")
				}
				h.must("ann", message)
			}
			if len(got) != 1 {
				t.Fatalf("%d requests", len(got))
			}
			if diff := cmp.Diff(want.said(t), got[0].said(t)); diff != "" {
				t.Errorf("the SDK (-) and the sink (+) differ:\n%s", diff)
			}
		})
	}
	if len(messages) != len(recorded.Requests) {
		t.Errorf("%d messages for %d requests", len(messages), len(recorded.Requests))
	}
}
