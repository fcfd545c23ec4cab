package main

import (
	"net"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/grapnelhq/grapnel/sdk"
)

func TestConfig(t *testing.T) {
	hook := func(u string) Config {
		return Config{Mode: modeWebhook, WebhookURL: sdk.NewSecret(u), Spacing: time.Second}
	}
	token := func(s string) Config { return Config{Mode: modeBot, Token: sdk.NewSecret(s), Spacing: time.Second} }
	with := func(c Config, change func(*Config)) Config { change(&c); return c }
	for _, tt := range []struct {
		name string
		c    Config
		want string // "" is good; "attribute: text"
	}{
		{"webhook", hook(testHook), ""},
		{"government", hook("https://hooks.slack-gov.com/services/T1/B1/abc"), ""},
		{"bot", token(testToken), ""},
		{"bot with a channel", botConfig(), ""},
		{"no webhook", hook(""), "webhook_url: is missing"},
		{"no address", hook("%"), "webhook_url: is no address"},
		{"a word", hook("secret"), "webhook_url: is no address"},
		{"http", hook("http://hooks.slack.com/services/T1/B1/abc"), "webhook_url: is no address at hooks.slack.com"},
		{"another host", hook("https://evil.example/services/T1/B1/abc"), "webhook_url: is no address at hooks.slack.com"},
		{"a look-alike", hook("https://hooks.slack.com.evil.example/services/T1/B1/abc"),
			"webhook_url: is no address at hooks.slack.com"},
		{"a user", hook("https://hooks.slack.com@evil.example/services/T1/B1/abc"),
			"webhook_url: is no address at hooks.slack.com"},
		{"a port", hook("https://hooks.slack.com:444/services/T1/B1/abc"), "webhook_url: is no address at hooks.slack.com"},
		{"a workflow", hook("https://hooks.slack.com/workflows/T1/A1/1/abc"), "webhook_url: starts a workflow"},
		{"a trigger", hook("https://hooks.slack.com/triggers/T1/1/abc"), "webhook_url: starts a workflow"},
		{"a part", hook("https://hooks.slack.com/services/T1/B1"), "webhook_url: is not a whole webhook address"},
		{"a query", hook(testHook + "?a=b"), "webhook_url: is not a whole webhook address"},
		{"webhook with a token", with(hook(testHook), func(c *Config) { c.Token = sdk.NewSecret(testToken) }),
			"token: belongs to a bot"},
		{"webhook with a channel", with(hook(testHook), func(c *Config) { c.Channel = "#a" }), "channel: belongs to a bot"},
		{"no token", token(""), "token: is missing"},
		{"a user's token", token("xoxp-1-2-3-abcdefgh"), "token: is no bot token"},
		{"an app's token", token("xapp-1-A1-2-abcdefgh"), "token: is no bot token"},
		{"a rotated token", token("xoxe.xoxb-1-abcdefgh"), "token: is no bot token"},
		{"a token with a newline", token(testToken + "\n"), "token: is no bot token"},
		{"bot with a webhook", with(botConfig(), func(c *Config) { c.WebhookURL = sdk.NewSecret(testHook) }),
			"webhook_url: belongs to a webhook"},
		{"a channel with a space", with(botConfig(), func(c *Config) { c.Channel = "#a b" }), "channel: is neither"},
		{"a mention", with(botConfig(), func(c *Config) { c.Channel = "<!here>" }), "channel: is neither"},
		{"no name", with(botConfig(), func(c *Config) { c.Channel = "#" }), "channel: names no channel"},
		{"a long name", with(botConfig(), func(c *Config) { c.Channel = strings.Repeat("a", 256) }), "channel: is longer"},
		{"spacing", with(botConfig(), func(c *Config) { c.Spacing = -1 }), "spacing: is not between"},
		{"long spacing", with(botConfig(), func(c *Config) { c.Spacing = time.Hour }), "spacing: is not between"},
		{"a base", with(botConfig(), func(c *Config) { c.BaseURL = "https://slack.example/api" }), ""},
		{"a local base", with(botConfig(), func(c *Config) { c.BaseURL = "http://127.0.0.1:80/api/" }), ""},
		{"a local name", with(botConfig(), func(c *Config) { c.BaseURL = "http://localhost:80/" }), ""},
		{"a base in clear", with(botConfig(), func(c *Config) { c.BaseURL = "http://slack.example/api" }),
			"base_url: would send secrets in clear"},
		{"a base of files", with(botConfig(), func(c *Config) { c.BaseURL = "file://x/etc" }),
			"base_url: is neither https nor http"},
		{"a base with a password", with(botConfig(), func(c *Config) { c.BaseURL = "https://a:b@slack.example/" }),
			"base_url: holds more"},
		{"no base", with(botConfig(), func(c *Config) { c.BaseURL = "slack" }), "base_url: is no address"},
		{"webhook below the base", with(hook("http://127.0.0.1:80/services/x"),
			func(c *Config) { c.BaseURL = "http://127.0.0.1:80" }), ""},
		{"webhook beside the base", with(hook("http://127.0.0.1:81/services/x"),
			func(c *Config) { c.BaseURL = "http://127.0.0.1:80" }),
			"webhook_url: does not begin with base_url"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.c.Validate()
			if tt.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			list := sdk.AttributeErrors(err)
			if len(list) != 1 || !strings.HasPrefix(list[0].Error(), tt.want) {
				t.Fatalf("got %v, want %s", err, tt.want)
			}
			for _, secret := range []string{tt.c.Token.Reveal(), tt.c.WebhookURL.Reveal()} {
				if len(secret) > 8 && strings.Contains(list[0].Summary+list[0].Detail, secret) {
					t.Errorf("shows the secret: %+v", list[0])
				}
			}
		})
	}
}

// FuzzConfig checks whatever may stand in a block. What passes goes to Slack, or where base_url says.
func FuzzConfig(f *testing.F) {
	f.Add(testHook, "", testToken, "#people")
	f.Add("https://hooks.slack.com@evil.example/services/T1/B1/x", "https://slack.example", "xoxe.xoxb-1-x", "<!here>")
	f.Add("http://127.0.0.1:80/services/x", "http://127.0.0.1:80", "xoxp-1", "C01")
	f.Fuzz(func(t *testing.T, hook, base, token, channel string) {
		webhook := Config{Mode: modeWebhook, WebhookURL: sdk.NewSecret(hook), BaseURL: base}
		if err := webhook.Validate(); err == nil {
			u, err := url.Parse(hook)
			if err != nil {
				t.Fatal(err)
			}
			if base == "" && (u.Scheme != "https" || !slices.Contains(hookHosts, u.Host)) {
				t.Errorf("%s passes", hook)
			}
			if b, err := url.Parse(base); base != "" && (err != nil || u.Host != b.Host || u.Scheme != b.Scheme) {
				t.Errorf("%s passes for %s", hook, base)
			}
			if u.Scheme == "http" && u.Hostname() != "localhost" && !net.ParseIP(u.Hostname()).IsLoopback() {
				t.Errorf("%s passes", hook)
			}
		}
		bot := Config{Mode: modeBot, Token: sdk.NewSecret(token), Channel: channel}
		if err := bot.Validate(); err == nil {
			if !strings.HasPrefix(token, "xoxb-") || strings.ContainsAny(token, "\r\n ") || strings.ContainsAny(channel, "<>&\n ") {
				t.Errorf("%q in %q passes", token, channel)
			}
		} else if len(token) > 20 && strings.Contains(err.Error(), token) {
			t.Errorf("shows the token: %v", err)
		}
	})
}

// FuzzThreads reads whatever may be in keyed state, and what it makes of it.
func FuzzThreads(f *testing.F) {
	f.Add([]byte(`{"p":[{"k":"a","c":"C1","t":"1.2","s":"x","q":7}]}`), "a")
	f.Add([]byte(`{"p":null}`), "")
	f.Fuzz(func(t *testing.T, state []byte, key string) {
		threads := readThreads(state)
		changed := threads.with(parent{Key: key, Channel: "C1", Timestamp: "1.2"})
		b := changed.state()
		if len(b) > sdk.MaxState {
			t.Errorf("%d bytes", len(b))
		}
		again := readThreads(b)
		if len(key) < 500 && utf8.ValidString(key) && again.find(key) == nil {
			t.Errorf("%q is lost in %s", key, b)
		}
		gone := again.without(key)
		if gone.find(key) != nil {
			t.Errorf("%q stays", key)
		}
	})
}
