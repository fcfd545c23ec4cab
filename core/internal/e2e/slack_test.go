//go:build unix

package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/internal/e2e/harness"
)

// slackFake is the fake of Slack that the Slack sink's own tests run against, as a process.
type slackFake struct {
	t                *testing.T
	address, control string
}

type slackMessage struct {
	Channel  string          `json:"channel"`
	TS       string          `json:"ts"`
	ThreadTS string          `json:"thread_ts"`
	Text     string          `json:"text"`
	Blocks   json.RawMessage `json:"blocks"`
	Hook     bool            `json:"hook"`
	Updates  int             `json:"updates"`
}

const (
	slackToken = "xoxb-000000000000-e2e-token-of-a-bot"
	slackHook  = "/services/T00000000/B00000000/e2e0webhook0of0an0app0000"
)

func startSlack(t *testing.T) *slackFake {
	t.Helper()
	// Twenty messages a second, and ten at once: so that a slow machine is not taken for a sink that sends too fast.
	stdout := harness.StartFake(t, "./plugins/sink-slack/internal/fakeslack/serve",
		"-token", slackToken, "-hook", slackHook+"=C01", "-channel", "C01=people", "-channel", "C02=status",
		"-spacing", "50ms", "-burst", "10")
	f := &slackFake{t: t}
	lines := bufio.NewScanner(stdout)
	for _, line := range []*string{&f.address, &f.control} {
		if !lines.Scan() {
			t.Fatalf("fakeslack prints no address: %v", lines.Err())
		}
		*line = lines.Text()
	}
	return f
}

func (f *slackFake) get(path string, v any) {
	f.t.Helper()
	resp, err := http.Get(f.control + path)
	if err != nil {
		f.t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(v); err != nil {
		f.t.Fatal(err)
	}
}

func (f *slackFake) post(path, body string) {
	f.t.Helper()
	resp, err := http.Post(f.control+path, "application/json", strings.NewReader(body))
	if err != nil {
		f.t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		f.t.Fatalf("%s: %s", path, resp.Status)
	}
}

// TestSlack has a host post to the fake of Slack, as a bot with a thread and a status message per person and through a
// webhook: escaped, in order, across a 429, refused blocks, a kill of the host and a token that is revoked for a while.
func TestSlack(t *testing.T) {
	t.Parallel()
	far := startSlack(t)
	h := programs.NewHost(t, harness.Options{
		Env: []string{"SLACK_BOT_TOKEN=" + slackToken, "SLACK_WEBHOOK_URL=" + far.address + slackHook},
		Config: harness.YouforceSource + fmt.Sprintf(`
sink "slack" "bot" {
  mode     = "bot"
  token    = env("SLACK_BOT_TOKEN")
  channel  = "#people"
  base_url = "%[1]s/api/"
  spacing  = "60ms"
  delivery {
    retry {
      min = "20ms"
      max = "100ms"
    }
    breaker {
      min = "200ms"
      max = "400ms"
    }
  }
}
sink "slack" "hook" {
  webhook_url = env("SLACK_WEBHOOK_URL")
  base_url    = "%[1]s"
  spacing     = "60ms"
}
route "thread" {
  to "slack" "bot" {
    thread = true
    text   = "${event.subject} ${event.raw.number}"
    blocks = [
      { type = "section", text = { type = "mrkdwn", text = "<https://x.example|link> ${event.raw.name}" } },
      event.raw.photo == null ? null : { type = "image", image_url = event.raw.photo, alt_text = event.raw.name },
    ]
  }
}
route "status" {
  when = event.raw.number < 100
  to "slack" "bot" {
    channel = "C02"
    update  = true
    text    = "${event.subject} is ${event.raw.number}"
  }
}
route "hook" {
  when = event.raw.number >= 100
  to "slack" "hook" {
    text = "hook ${event.raw.name}"
  }
}
`, far.address),
	})
	h.Start()
	if out := h.MustRun("validate"); strings.Contains(out, "warning") {
		t.Errorf("validate: %s", out)
	}
	people := []string{"ann", "bob", "cat"}
	last := 0
	post := func(person string, number int) {
		h.MustPost(harness.SignYouforce("hr", "EMPLOYMENT_CHANGED", fmt.Sprint(person, number), fmt.Appendf(nil,
			`{"id":%q,"operation":"Update","tenantId":"1","timestamp":"2026-01-15T10:12:35Z","value":`+
				`{"number":%d,"name":"<!channel> & co","photo":"https://x.example/p?a=1&b=2"}}`, person, number)))
	}
	round := func(n int) {
		for range n {
			last++
			for _, person := range people {
				post(person, last)
			}
		}
	}
	round(2)
	h.WaitSettled(30 * time.Second)
	far.post("/fail", `{"method": "chat.postMessage", "word": "ratelimited", "status": 429, "retry_after": "1", "times": 2}`)
	round(2)
	h.WaitSettled(30 * time.Second)
	h.Restart() // threads and status messages are in the store
	far.post("/fail", `{"method": "chat.postMessage", "word": "invalid_blocks"}`)
	round(1)
	h.WaitSettled(30 * time.Second)

	// The token is revoked: the bot waits, the webhook beside it does not.
	far.post("/fail", `{"method": "chat.postMessage", "word": "token_revoked", "times": -1}`)
	far.post("/fail", `{"method": "chat.update", "word": "token_revoked", "times": -1}`)
	round(1)
	state := func() string {
		for _, s := range h.Status().Sinks {
			if s.Sink == "bot" {
				return s.State
			}
		}
		return ""
	}
	h.Eventually(20*time.Second, "the bot is suspended", func() bool { return state() == "suspended" })
	if out := h.MustRun("status"); !strings.Contains(out, "token_revoked") {
		t.Errorf("status: %s", out)
	}
	post("ann", 100)
	h.Eventually(20*time.Second, "the webhook works", func() bool {
		return h.Count("hook",
			core.DeliveryDelivered) == 1
	})
	if h.Settled() {
		t.Error("nothing waits for the bot")
	}
	far.post("/reset", "")
	h.WaitSettled(30 * time.Second) // by itself: a probe finds the token good again

	var messages []slackMessage
	far.get("/messages", &messages)
	threads := map[string][]string{} // by the parent's ts, the texts in order
	degraded, hooks := 0, 0
	for _, m := range messages {
		switch {
		case m.Hook:
			hooks++
			if m.Text != "hook &lt;!channel&gt; &amp; co" {
				t.Errorf("the webhook got %q", m.Text)
			}
			continue
		case m.Channel == "C02":
			want := fmt.Sprintf(" is %d", last)
			if !strings.HasSuffix(m.Text, want) || m.Updates != last-1 || m.ThreadTS != "" {
				t.Errorf("status %+v, want%s", m, want)
			}
			continue
		case m.Blocks == nil:
			degraded++
			m.Text, _, _ = strings.Cut(m.Text, "\n")
		default:
			want := `[{"text":{"text":"<https://x.example|link> &lt;!channel&gt; &amp; co","type":"mrkdwn"},"type":"section"},` +
				`{"alt_text":"<!channel> & co","image_url":"https://x.example/p?a=1&b=2","type":"image"}]`
			var got, wanted any
			if json.Unmarshal(m.Blocks, &got) != nil || json.Unmarshal([]byte(want),
				&wanted) != nil || fmt.Sprint(got) != fmt.Sprint(wanted) {
				t.Errorf("blocks %s", m.Blocks)
			}
		}
		parent := m.ThreadTS
		if parent == "" {
			parent = m.TS
		}
		threads[parent] = append(threads[parent], m.Text)
	}
	var got []string
	for _, texts := range threads {
		got = append(got, strings.Join(texts, ", "))
	}
	slices.Sort(got)
	var want []string
	for _, person := range people {
		var texts []string
		for n := 1; n <= last; n++ {
			texts = append(texts, fmt.Sprintf("employment/%s %d", person, n))
		}
		if person == "ann" {
			texts = append(texts, "employment/ann 100")
		}
		want = append(want, strings.Join(texts, ", "))
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("threads\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if degraded != 1 || hooks != 1 {
		t.Errorf("%d messages as text, %d of the webhook", degraded, hooks)
	}
	var problems []string
	far.get("/problems", &problems)
	for _, p := range problems {
		t.Errorf("the fake complains: %s", p)
	}
	if n := h.Count("bot", core.DeliveryDead); n != 0 {
		t.Errorf("%d dead letters", n)
	}
	db, err := os.ReadFile(h.Path("data/grapnel.db"))
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{slackToken, slackHook} {
		if strings.Contains(h.Log(), secret) || bytes.Contains(db, []byte(secret)) {
			t.Errorf("a secret shows")
		}
	}
	h.Stop()
}

// TestSlackReadme runs the examples of the Slack sink's README on samples of their events.
func TestSlackReadme(t *testing.T) {
	t.Parallel()
	far := startSlack(t)
	readme, err := os.ReadFile("../../../plugins/sink-slack/README.md")
	if err != nil {
		t.Fatal(err)
	}
	config := "source \"peopleforce\" \"people\" {\n  secrets = [env(\"PEOPLEFORCE_SECRET\")]\n}\n"
	for _, part := range strings.Split(string(readme), "\n```hcl\n")[1:] {
		block, _, _ := strings.Cut(part, "```")
		if !strings.HasPrefix(block, "metadata") { // of a message
			config += block
		}
	}
	config = strings.NewReplacer(
		`env("SLACK_WEBHOOK_URL")`, fmt.Sprintf("env(\"SLACK_WEBHOOK_URL\")\n base_url = %q\n spacing = \"60ms\"",
			far.address),
		`env("SLACK_BOT_TOKEN")`, fmt.Sprintf("env(\"SLACK_BOT_TOKEN\")\n base_url = \"%s/api\"\n spacing = \"60ms\"",
			far.address),
		"C0123456789", "C01", "C0987654321", "C02",
	).Replace(config)
	h := programs.NewHost(t, harness.Options{Config: config, Env: []string{
		"SLACK_BOT_TOKEN=" + slackToken, "SLACK_WEBHOOK_URL=" + far.address + slackHook,
	}})
	h.Start()
	if out := h.MustRun("validate"); strings.Contains(out, "warning") {
		t.Errorf("validate: %s", out)
	}
	for _, kind := range []string{"employee.created", "employee.updated", "employee.updated", "leave_request.approved"} {
		h.MustRun("send", "people", "peopleforce."+kind)
	}
	h.WaitSettled(30 * time.Second)
	for sink, want := range map[string]int64{"people_ops": 1, "hr": 6} { // an update is two messages
		if got := h.Count(sink, core.DeliveryDelivered); got != want {
			t.Errorf("%s: %d delivered, want %d\n%s", sink, got, want, h.MustRun("deliveries", "list"))
		}
	}
	var messages []slackMessage
	far.get("/messages", &messages)
	for _, m := range messages {
		if strings.Contains(m.Text, "null") || m.Text == "" {
			t.Errorf("%+v", m)
		}
	}
	var problems []string
	far.get("/problems", &problems)
	for _, p := range problems {
		t.Errorf("the fake complains: %s", p)
	}
	h.Stop()
}
