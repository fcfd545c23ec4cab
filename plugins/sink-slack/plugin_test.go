package main

import (
	"fmt"
	"net/http/httptest"
	"testing"

	"github.com/grapnelhq/grapnel/plugins/sink-slack/internal/fakeslack"
	"github.com/grapnelhq/grapnel/sdk/plugintest"
)

func TestPlugin(t *testing.T) {
	fake := fakeslack.New(fakeOptions())
	server := httptest.NewServer(fake)
	t.Cleanup(server.Close)
	const message = `{"text": "hello", "blocks": [{"type": "divider"},
		{"type": "section", "text": {"type": "mrkdwn", "text": "*hi*"}}]}`
	t.Run("webhook", func(t *testing.T) {
		config := func(base string) string {
			return fmt.Sprintf(`{"mode": "webhook", "webhook_url": %q, "base_url": %q, "spacing": 0}`, base+hookAt, base)
		}
		plugintest.Sink(t, factory(), plugintest.Options{
			Config: config(server.URL), Down: config("$FAR_END"), Slow: config("$FAR_END"),
			Refused: config("$FAR_END/status/400"), Message: message,
		})
	})
	t.Run("bot", func(t *testing.T) {
		config := func(base string) string {
			return fmt.Sprintf(`{"mode": "bot", "token": %q, "channel": "#people", "base_url": %q, "spacing": 0}`,
				testToken, base+"/api/")
		}
		plugintest.Sink(t, factory(), plugintest.Options{
			Config: config(server.URL), Down: config("$FAR_END"), Slow: config("$FAR_END"),
			RefusedMessage: `{"text": "hello", "channel": "#nowhere"}`, Message: message, NoProgram: true,
		})
	})
	for _, p := range fake.Problems() {
		t.Error(p)
	}
	if len(fake.Messages()) < 25 {
		t.Errorf("only %d messages", len(fake.Messages()))
	}
}

func TestReadme(t *testing.T) { plugintest.Readme(t, factory(), "README.md") }
