package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/grapnelhq/grapnel/plugins/sink-slack/internal/fakeslack"
	"github.com/grapnelhq/grapnel/sdk"
)

func TestWebhook(t *testing.T) {
	h := newHarness(t, quick(webhookConfig()), fakeOptions(), nil)
	o := h.must("k", `{"text": "Hi <https://x.example|*there*> &amp; you"}`)
	if o.StateSet || o.Reference != "" || len(o.Notes) > 0 {
		t.Errorf("outcome %+v", o)
	}
	m := h.last()
	if m.Text != "Hi <https://x.example|*there*> &amp; you" || m.Channel != "C01" || m.Links || m.Media || !m.Hook ||
		m.Blocks != nil {
		t.Errorf("posted %+v", m)
	}
	h.must("k", `{"text": "a", "unfurl_links": true, "unfurl_media": true}`)
	if m := h.last(); !m.Links || !m.Media {
		t.Errorf("posted %+v", m)
	}
	h.noProblems()
}

// TestOnlyBots has a webhook refuse what it cannot do, with the attribute to blame.
func TestOnlyBots(t *testing.T) {
	h := newHarness(t, quick(webhookConfig()), fakeOptions(), nil)
	for name, value := range map[string]string{
		"channel": `"#payroll"`, "thread": `"true"`, "broadcast": `true`, "update": `true`, "username": `"x"`,
		"icon_emoji": `":x:"`, "icon_url": `"https://x.example/x.png"`, "metadata": `{"event_type": "x"}`,
	} {
		o := h.deliver("k", fmt.Sprintf(`{"text": "a", %q: %s}`, name, value))
		if o.Kind != sdk.Rejected || strings.Join(o.AttributePath, ".") != name {
			t.Errorf("%s: %+v", name, o)
		}
	}
	h.must("k", `{"text": "a", "thread": "false", "channel": "", "broadcast": false}`)
	if n := len(h.fake.Messages()); n != 1 {
		t.Errorf("%d messages", n)
	}
}

func TestBot(t *testing.T) {
	h := newHarness(t, quick(botConfig()), fakeOptions(), nil)
	o := h.must("k", `{"text": "a"}`)
	if m := h.last(); o.Reference != "C01/"+m.TS || m.Channel != "C01" || m.Links || m.Media {
		t.Errorf("%+v %+v", o, m)
	}
	h.must("k", `{"text": "b", "channel": "C02", "username": "HR", "icon_emoji": ":wave:", "icon_url": "https://x.example/i.png",
		"unfurl_links": true, "unfurl_media": true, "metadata": {"event_type": "hired", "event_payload": {"id": 12345678901234567890.10}}}`)
	m := h.last()
	if m.Channel != "C02" || m.Username != "HR" || m.IconEmoji != ":wave:" || m.IconURL == "" || !m.Links || !m.Media ||
		string(m.Metadata) != `{"event_type":"hired","event_payload":{"id":12345678901234567890.10}}` {
		t.Errorf("posted %+v %s", m, m.Metadata)
	}
	for message, path := range map[string]string{
		`{"text": "a", "channel": "a b"}`:                  "channel",
		`{"text": "a", "broadcast": true}`:                 "broadcast",
		`{"text": "a", "broadcast": true, "update": true}`: "broadcast",
		`{"text": "a", "username": "` + strings.Repeat("x",
			81) + `"}`: "username",
		`{"text": "a", "icon_url": "https://` + strings.Repeat("x",
			3000) + `"}`: "icon_url",
		`{"text": "a", "metadata": {"event_type": ""}}`: "metadata",
		`{"text": "a", "metadata": {"event_type": "x", "event_payload": {"a": "` + strings.Repeat("x",
			9000) + `"}}}`: "metadata",
		`{"text": " "}`: "text",
		`{}`:            "text",
		`{"blocks": [{"type": "section", "text": {"type": "mrkdwn", "text": ""}}]}`: "text",
		`{"text": "a", "blocks": [1]}`:                                              "blocks.0",
		`{"text": "a", "blocks": [{"type": "divider"}, {"text": "a"}]}`:             "blocks.1",
		`{"text": "a", "blocks": [` + strings.Repeat(`{"type":"x","a":`, 40) + `1` + strings.Repeat(`}`,
			40) + `]}`: "blocks.0",
	} {
		if o := h.deliver("k", message); o.Kind != sdk.Rejected || strings.Join(o.AttributePath, ".") != path {
			t.Errorf("%.80s: %+v", message, o)
		}
	}
	if n := len(h.fake.Messages()); n != 2 {
		t.Errorf("%d messages", n)
	}
	cfg := quick(botConfig())
	cfg.Channel = ""
	h = newHarness(t, cfg, fakeOptions(), nil)
	if o := h.deliver("k", `{"text": "a"}`); o.Kind != sdk.Rejected || o.AttributePath[0] != "channel" {
		t.Errorf("no channel: %+v", o)
	}
	h.must("k", `{"text": "a", "channel": "#payroll"}`)
	h.noProblems()
}

func TestThreads(t *testing.T) {
	h := newHarness(t, quick(botConfig()), fakeOptions(), nil)
	posted := func() []string { // text, and the text of what it replies to
		var all []string
		byTS := map[string]string{}
		for _, m := range h.fake.Messages() {
			byTS[m.TS] = m.Text
			line := m.Channel + " " + m.Text
			if m.ThreadTS != "" {
				line += " < " + byTS[m.ThreadTS]
			}
			if m.Broadcast {
				line += " !"
			}
			if m.Updates > 0 {
				line += fmt.Sprint(" *", m.Updates)
			}
			all = append(all, line)
		}
		return all
	}
	h.must("ann", `{"text": "ann 1", "thread": "true"}`)
	h.must("bob", `{"text": "bob 1", "thread": "true"}`)
	h.must("ann", `{"text": "ann 2", "thread": "true"}`)
	h.must("ann", `{"text": "leave 1", "thread": "leave"}`)
	h.must("ann", `{"text": "leave 2", "thread": "leave", "broadcast": true}`)
	h.must("ann", `{"text": "no thread"}`)
	h.must("ann", `{"text": "other channel", "thread": "true", "channel": "C02"}`)
	h.must("ann", `{"text": "ann 3", "thread": "true", "channel": "#people"}`)
	h.must("bob", `{"text": "bob 2", "thread": "true"}`)
	h.must("ann", `{"text": "ann 1b", "update": true}`)
	h.must("ann", `{"text": "leave 1b", "thread": "leave", "update": true}`)
	h.must("cat", `{"text": "cat 1", "update": true}`)
	h.must("cat", `{"text": "cat 2", "update": true}`)
	h.must("cat", `{"text": "cat reply", "thread": "true"}`)
	want := []string{
		"C01 ann 1b *1", "C01 bob 1", "C01 ann 2 < ann 1b", "C01 leave 1b *1", "C01 leave 2 < leave 1b !", "C01 no thread",
		"C02 other channel", "C01 ann 3 < ann 1b", "C01 bob 2 < bob 1", "C01 cat 2 *1", "C01 cat reply < cat 2",
	}
	if got := posted(); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("posted\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	h.noProblems()

	// Without a key there is nothing to hang a thread on.
	if o := h.must("", `{"text": "x", "thread": "true"}`); len(o.Notes) != 1 || h.last().ThreadTS != "" {
		t.Errorf("%+v", o)
	}
}

// TestParentGone deletes the message that a thread hangs on.
func TestParentGone(t *testing.T) {
	h := newHarness(t, quick(botConfig()), fakeOptions(), nil)
	h.must("ann", `{"text": "1", "thread": "true"}`)
	first := h.last()
	h.fake.Delete(first.TS)
	o := h.must("ann", `{"text": "2", "thread": "true"}`) // Slack posts it as a message of its own
	second := h.last()
	if second.ThreadTS != "" || len(o.Notes) != 1 {
		t.Errorf("%+v %+v", second, o)
	}
	h.must("ann", `{"text": "3", "thread": "true"}`)
	if m := h.last(); m.ThreadTS != second.TS {
		t.Errorf("%+v", m)
	}
	// An update of what is gone begins anew with the next attempt.
	h.fake.Delete(second.TS)
	for i, word := range []string{"", "cant_update_message", "edit_window_closed"} {
		if word != "" {
			h.fake.Fail(fakeslack.Failure{Method: "chat.update", Word: word})
		}
		before := len(h.fake.Messages())
		if o := h.deliver("ann", `{"text": "4", "update": true}`); o.Kind != sdk.Retried || len(o.Notes) != 1 || !o.StateSet {
			t.Fatalf("%d: %+v", i, o)
		}
		h.must("ann", `{"text": "4", "update": true}`)
		if after := len(h.fake.Messages()); after != before+1 {
			t.Errorf("%d: %d messages more", i, after-before)
		}
	}
	// A reply that cannot be one, likewise.
	h.fake.Fail(fakeslack.Failure{Method: "chat.postMessage", Word: "thread_not_found"})
	if o := h.deliver("ann", `{"text": "5", "thread": "true"}`); o.Kind != sdk.Retried {
		t.Fatalf("%+v", o)
	}
	h.must("ann", `{"text": "5", "thread": "true"}`)
	if m := h.last(); m.ThreadTS != "" {
		t.Errorf("%+v", m)
	}
}

// TestStale delivers events in the wrong order.
func TestStale(t *testing.T) {
	h := newHarness(t, quick(botConfig()), fakeOptions(), nil)
	deliver := func(source string, seq int64, force bool) sdk.OutcomeKind {
		return h.deliverAs(t.Context(), &sdk.Delivery[json.RawMessage]{
			OrderKey: "ann", Sequence: seq, Force: force, Message: []byte(fmt.Sprintf(`{"text": "%d", "update": true}`, seq)),
			Event: sdk.Envelope{Type: "a.b", Source: source},
		}).Kind
	}
	for i, step := range []struct {
		source string
		seq    int64
		force  bool
		want   sdk.OutcomeKind
		text   string
	}{
		{"a", 10, false, sdk.Delivered, "10"},
		{"a", 12, false, sdk.Delivered, "12"},
		{"a", 11, false, sdk.Skipped, "12"},
		{"a", 12, false, sdk.Delivered, "12"}, // its outcome was lost
		{"a", 11, true, sdk.Delivered, "11"},
		{"a", 12, false, sdk.Delivered, "12"},
		{"b", 3, false, sdk.Delivered, "3"}, // another source counts for itself
		{"a", 13, false, sdk.Delivered, "13"},
	} {
		if got := deliver(step.source, step.seq, step.force); got != step.want || h.last().Text != step.text {
			t.Errorf("step %d: %s, %+v", i, got, h.last())
		}
	}
	if n := len(h.fake.Messages()); n != 1 {
		t.Errorf("%d messages", n)
	}
}

// TestStaleByTime delivers events whose own times say another order than that in which they came.
func TestStaleByTime(t *testing.T) {
	h := newHarness(t, quick(botConfig()), fakeOptions(), nil)
	now := time.Now().UTC().Truncate(time.Second)
	at := func(seconds int) string { return now.Add(time.Duration(seconds) * time.Second).Format(time.RFC3339) }
	for i, step := range []struct {
		text   string
		source string
		seq    int64
		time   string
		replay bool
		want   sdk.OutcomeKind
	}{
		{"first", "a", 1, at(4), false, sdk.Delivered},
		{"an older one, accepted later", "a", 2, at(3), false, sdk.Skipped},
		{"an older one of another source", "b", 2, at(3), false, sdk.Skipped},
		{"at the same time", "b", 1, at(4), false, sdk.Delivered},
		{"accepted before, but newer", "b", 0, at(5), false, sdk.Delivered},
		{"replay of another at its place", "b", 0, at(5), true, sdk.Skipped},
		{"without a time", "b", 5, "", false, sdk.Delivered},
		{"accepted before what has no time", "b", 4, at(9), false, sdk.Skipped},
		{"accepted after what has no time", "b", 6, at(1), false, sdk.Delivered},
		{"from the future", "b", 7, now.AddDate(9, 0, 0).Format(time.RFC3339), false, sdk.Delivered},
		{"after it", "b", 8, now.AddDate(1, 0, 0).Format(time.RFC3339), false, sdk.Delivered},
	} {
		got := h.deliverAs(t.Context(), &sdk.Delivery[json.RawMessage]{
			OrderKey: "ann", Sequence: step.seq, Replay: step.replay,
			Message: []byte(fmt.Sprintf(`{"text": %q, "update": true}`, step.text)),
			Event:   sdk.Envelope{ID: fmt.Sprint(i), Type: "a.b", Source: step.source, Time: step.time},
		}).Kind
		if shown := h.last().Text == step.text; got != step.want || shown != (got == sdk.Delivered) {
			t.Errorf("%s: %s; the message shows %q", step.text, got, h.last().Text)
		}
	}
}

// TestManyThreads has more threads under one key than the state can hold.
func TestManyThreads(t *testing.T) {
	h := newHarness(t, quick(botConfig()), fakeOptions(), nil)
	for i := range 40 {
		h.must("ann", fmt.Sprintf(`{"text": "p%d", "thread": "t%d"}`, i, i))
		h.must("ann", `{"text": "first", "thread": "t0"}`) // used again and again, so it stays
	}
	parents := 0
	for _, m := range h.fake.Messages() {
		if m.ThreadTS == "" {
			parents++
		}
	}
	if parents != 40 {
		t.Errorf("%d parents", parents)
	}
	if n := len(readThreads(h.state["ann"]).Parents); n < 6 {
		t.Errorf("only %d threads are kept in %d bytes", n, len(h.state["ann"]))
	}
	for _, bad := range []string{"", "{", `{"p":3}`, "\x00"} {
		h.state["bob"] = []byte(bad)
		h.must("bob", `{"text": "x", "thread": "true"}`)
	}
}

func TestRefusedBlocks(t *testing.T) {
	const message = `{"text": "short", "blocks": [{"type": "header", "text": {"type": "plain_text", "text": "Head"}},
		{"type": "section", "text": {"type": "mrkdwn", "text": "*body*"}}]}`
	for _, c := range []Config{webhookConfig(), botConfig()} {
		for _, word := range []string{"invalid_blocks", "invalid_blocks_format", "msg_blocks_too_long",
			"invalid_blocks_of_tomorrow"} {
			h := newHarness(t, quick(c), fakeOptions(), nil)
			h.fake.Fail(fakeslack.Failure{Word: word})
			o := h.must("k", message)
			if m := h.last(); m.Blocks != nil || m.Text != "short\nHead\n*body*" {
				t.Errorf("%s: %+v", word, m)
			}
			if len(o.Notes) != 1 || !strings.Contains(o.Notes[0], word) {
				t.Errorf("%s: notes %q", word, o.Notes)
			}
			h.fake.Fail(fakeslack.Failure{Word: word, Times: 2})
			if o := h.deliver("k", message); o.Kind != sdk.Rejected || o.AttributePath[0] != "blocks" {
				t.Errorf("%s twice: %+v", word, o)
			}
			if n := h.fake.Requests(); n != 4 {
				t.Errorf("%d requests", n)
			}
		}
	}
	// What the fake refuses by itself: a block that this program does not know.
	h := newHarness(t, quick(botConfig()), fakeOptions(), nil)
	h.must("k", `{"blocks": [{"type": "hologram", "text": {"type": "mrkdwn", "text": "hi"}}]}`)
	if m := h.last(); m.Text != "hi" || m.Blocks != nil {
		t.Errorf("%+v", m)
	}
	// An update without blocks takes the old ones away.
	h.must("ann", `{"text": "a", "update": true, "blocks": [{"type": "divider"}]}`)
	h.must("ann", `{"text": "b", "update": true}`)
	if m := h.last(); m.Text != "b" || string(m.Blocks) != "[]" || m.Parse != "none" {
		t.Errorf("%+v %s", m, m.Blocks)
	}
}

// TestUnclearEnd has the connection break after the message was posted: the delivery comes again and says why.
func TestUnclearEnd(t *testing.T) {
	for _, c := range []Config{webhookConfig(), botConfig()} {
		h := newHarness(t, quick(c), fakeOptions(), nil)
		h.fake.Fail(fakeslack.Failure{Posted: true, Drop: true})
		if o := h.deliver("k", `{"text": "a"}`); o.Kind != sdk.Retried || !strings.Contains(o.Reason, "cannot be reached") {
			t.Errorf("%+v", o)
		}
		h.must("k", `{"text": "a"}`)
		if n := len(h.fake.Messages()); n != 2 {
			t.Errorf("%d messages", n)
		}
	}
}

// TestOddAnswers are answers that slack.Client would misread.
func TestOddAnswers(t *testing.T) {
	for _, tt := range []struct {
		name  string
		f     fakeslack.Failure
		hook  sdk.OutcomeKind // "" is not tried
		bot   sdk.OutcomeKind
		after time.Duration
	}{
		{"429 without a time", fakeslack.Failure{Status: 429}, sdk.Retried, sdk.Retried, defaultPause},
		{"429 with seconds", fakeslack.Failure{Status: 429, RetryAfter: "30"}, sdk.Retried, sdk.Retried, 30 * time.Second},
		{"429 with nonsense", fakeslack.Failure{Status: 429, RetryAfter: "soon"}, sdk.Retried, sdk.Retried, defaultPause},
		{"429 for ever", fakeslack.Failure{Status: 429, RetryAfter: "999999999999"}, sdk.Retried, sdk.Retried,
			24 * time.Hour},
		{"429 with a page", fakeslack.Failure{Status: 429, Body: "<html>slow down</html>"}, sdk.Retried, sdk.Retried,
			defaultPause},
		{"429 in JSON", fakeslack.Failure{Status: 429, Body: `{"retry_after":7,"ok":false,"error":"rate_limited"}`},
			sdk.Retried, sdk.Retried, 7 * time.Second},
		{"200 ratelimited", fakeslack.Failure{Status: 200, RetryAfter: "9", Body: `{"ok":false,"error":"ratelimited"}`},
			sdk.Retried, sdk.Retried, 9 * time.Second},
		{"200 rate_limited", fakeslack.Failure{Status: 200, Body: `{"ok":false,"error":"rate_limited"}`},
			sdk.Retried, sdk.Retried, defaultPause},
		{"503 with a time", fakeslack.Failure{Status: 503, RetryAfter: "60"}, sdk.Retried, sdk.Retried, time.Minute},
		{"500 with a page", fakeslack.Failure{Status: 500, Body: "<html>"}, sdk.Retried, sdk.Retried, 0},
		{"not ok, no word", fakeslack.Failure{Status: 200, Body: `{"ok":false}`}, sdk.Retried, sdk.Retried, 0},
		{"a page", fakeslack.Failure{Status: 200, Body: "<html>Welcome to Hotel Wi-Fi</html>"}, sdk.Suspended,
			sdk.Suspended, 0},
		{"an array", fakeslack.Failure{Status: 200, Body: "[]"}, sdk.Suspended, sdk.Suspended, 0},
		{"ok is a text", fakeslack.Failure{Status: 200, Body: `{"ok":"true"}`}, "", sdk.Suspended, 0},
		{"a redirect", fakeslack.Failure{Status: 302}, sdk.Suspended, sdk.Suspended, 0},
		{"unknown 403", fakeslack.Failure{Status: 403, Body: "no_way"}, sdk.Suspended, sdk.Suspended, 0},
		{"unknown 410", fakeslack.Failure{Status: 410}, sdk.Suspended, sdk.Suspended, 0},
		{"unknown 400", fakeslack.Failure{Status: 400, Body: "no_way"}, sdk.Rejected, sdk.Rejected, 0},
		{"unknown 422", fakeslack.Failure{Status: 422}, sdk.Rejected, sdk.Rejected, 0},
		{"unknown 500", fakeslack.Failure{Status: 500, Body: "no_way"}, sdk.Retried, sdk.Retried, 0},
		{"unknown word", fakeslack.Failure{Status: 200, Body: `{"ok":false,"error":"no_way"}`}, sdk.Rejected,
			sdk.Rejected, 0},
		{"a sentence", fakeslack.Failure{Status: 200, Body: `{"ok":false,"error":"No way!"}`}, sdk.Suspended,
			sdk.Suspended, 0},
		{"posted, oddly", fakeslack.Failure{Status: 200,
			Body: `{"ok":true,"channel":{"id":"C1"},"ts":5,"errors":[7],"message":{"blocks":3}}`},
			sdk.Delivered, sdk.Delivered, 0},
		{"the address", fakeslack.Failure{Status: 404, Body: "no route for POST " + hookAt}, sdk.Suspended, "", 0},
		{"the address, escaped", fakeslack.Failure{Status: 404, Body: `["` + strings.ReplaceAll(hookAt, "/", `\/`) + `"]`},
			sdk.Suspended, "", 0},
		{"two megabytes", fakeslack.Failure{Status: 200, Body: `{"ok":true,"x":"` + strings.Repeat("x", 2<<20) + `"}`},
			sdk.Retried, sdk.Retried, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for i, c := range []Config{webhookConfig(), botConfig()} {
				want := []sdk.OutcomeKind{tt.hook, tt.bot}[i]
				if want == "" {
					continue
				}
				h := newHarness(t, quick(c), fakeOptions(), nil)
				h.fake.Fail(tt.f)
				o := h.deliver("k", `{"text": "a", "blocks": [{"type": "divider"}]}`)
				if o.Kind != want || o.After != tt.after {
					t.Errorf("%s: %+v", c.Mode, o)
				}
				if len(o.Reason) > 600 || strings.Contains(o.Reason, "<html>") || c.Mode == modeWebhook &&
					strings.Contains(o.Reason, path.Base(hookAt)) {
					t.Errorf("%s: reason %q", c.Mode, o.Reason)
				}
			}
		})
	}
}

// TestSwitchedProtocols: an answer that makes the connection another one is no answer, and nobody waits for its end.
func TestSwitchedProtocols(t *testing.T) {
	far := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n")
		conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("the connection stays open: %v", err)
		}
	}))
	defer far.Close()
	client := newClient()
	for _, to := range []transport{&hook{client, far.URL}, newBot(client, testToken, far.URL+"/")} {
		a := to.send(t.Context(), &post{text: "a", channel: "C01", extra: &Message{}})
		if a.err == nil || !strings.Contains(a.err.Error(), "101 Switching Protocols") {
			t.Errorf("%+v", a)
		}
	}
}

// TestDate gives Retry-After as a date.
func TestDate(t *testing.T) {
	h := newHarness(t, quick(webhookConfig()), fakeOptions(), nil)
	h.fake.Fail(fakeslack.Failure{Status: 429, RetryAfter: time.Now().Add(time.Minute).UTC().Format(http.TimeFormat)})
	if o := h.deliver("k", `{"text": "a"}`); o.Kind != sdk.Retried || o.After < 30*time.Second || o.After > time.Minute {
		t.Errorf("%+v", o)
	}
}

// TestChannels has channels that cannot be posted to: the sink's own stops the sink, one of a route only its delivery.
func TestChannels(t *testing.T) {
	h := newHarness(t, quick(botConfig()), fakeOptions(), nil)
	for channel, word := range map[string]string{"C99": "channel_not_found", "#old": "is_archived",
		"C04": "not_in_channel"} {
		o := h.deliver("k", fmt.Sprintf(`{"text": "a", "channel": %q}`, channel))
		if o.Kind != sdk.Rejected || o.AttributePath[0] != "channel" || !strings.Contains(o.Reason, word) {
			t.Errorf("%s: %+v", channel, o)
		}
		cfg := quick(botConfig())
		cfg.Channel = channel
		own := newHarness(t, cfg, fakeOptions(), nil)
		for _, message := range []string{`{"text": "a"}`, fmt.Sprintf(`{"text": "a", "channel": %q}`, channel)} {
			if o := own.deliver("k", message); o.Kind != sdk.Suspended || !strings.Contains(o.Reason, word) {
				t.Errorf("%s: %+v", channel, o)
			}
		}
	}
	h = newHarness(t, quick(webhookConfig()), fakeOptions(), nil)
	h.fake.SetChannel("C01", fakeslack.Channel{Archived: true})
	if o := h.deliver("k", `{"text": "a"}`); o.Kind != sdk.Suspended || !strings.Contains(o.Reason,
		"channel_is_archived (410)") {
		t.Errorf("%+v", o)
	}
}

func TestCheck(t *testing.T) {
	check := func(h *harness) error {
		h.t.Helper()
		return h.in.Sink().(sdk.Checker).Check(h.t.Context())
	}
	o := fakeOptions()
	h := newHarness(t, botConfig(), o, nil)
	if err := check(h); err != nil {
		t.Error(err)
	}
	for _, word := range []string{"invalid_auth", "token_revoked", "ratelimited", "internal_error"} {
		h.fake.Fail(fakeslack.Failure{Method: "auth.test", Word: word})
		if err := check(h); err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%s: %v", word, err)
		}
	}
	o.Scopes = "channels:read, chat:write.public"
	if err := check(newHarness(t, botConfig(), o, nil)); err == nil || !strings.Contains(err.Error(), "chat:write") {
		t.Errorf("without the scope: %v", err)
	}
	o = fakeOptions()
	o.Token = "another"
	if err := check(newHarness(t, botConfig(), o, nil)); err == nil || !strings.Contains(err.Error(), "invalid_auth") {
		t.Errorf("another token: %v", err)
	}
	h = newHarness(t, webhookConfig(), fakeOptions(), nil)
	if err := check(h); err != nil {
		t.Error(err)
	}
	if len(h.fake.Messages()) > 0 || h.fake.Requests() > 0 {
		t.Error("the check of a webhook posts")
	}
	broken := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	for _, c := range []Config{webhookConfig(), botConfig()} {
		err := check(newHarness(t, c, fakeOptions(), broken))
		if err == nil || strings.Contains(err.Error(), hookAt) || strings.Contains(err.Error(), testToken) {
			t.Errorf("%s: %v", c.Mode, err)
		}
	}
}

// TestRequest looks at what goes over the wire besides the message.
func TestRequest(t *testing.T) {
	for _, c := range []Config{webhookConfig(), botConfig()} {
		var got *http.Request
		h := newHarness(t, quick(c), fakeOptions(), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			got = r
			fmt.Fprint(w, `{"ok":true,"channel":"C01","ts":"1.2"}`)
		}))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		h.deliverAs(ctx, &sdk.Delivery[json.RawMessage]{Message: []byte(`{"text": "a"}`)})
		if got.Header.Get("User-Agent") != userAgent() || strings.Contains(got.URL.String(), testToken) {
			t.Errorf("%v %v", got.URL, got.Header)
		}
	}
}
