package main

import (
	"errors"
	"net"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/grapnelhq/grapnel/sdk"
)

// Config is the sink's block.
type Config struct {
	Mode       string        `json:"mode,omitempty" enum:"webhook|bot" default:"webhook" doc:"What posts."`
	WebhookURL sdk.Secret    `json:"webhook_url,omitempty" doc:"Webhook: its address, https://hooks.slack.com/services/…"`
	Token      sdk.Secret    `json:"token,omitempty" doc:"Bot: the Bot User OAuth Token, xoxb-…"`
	Channel    string        `json:"channel,omitempty" doc:"Bot: where messages go that name no channel; ID or #name."`
	Spacing    time.Duration `json:"spacing,omitempty" default:"1s" doc:"Least time between two messages to a channel."`
	BaseURL    string        `json:"base_url,omitempty" doc:"Another server than Slack's: a proxy in front of it, a test."`
}

const (
	modeWebhook = "webhook"
	modeBot     = "bot"

	slackAPI   = "https://slack.com/api/"
	maxSpacing = time.Minute
)

// hookHosts are the hosts of incoming webhooks; the second is that of GovSlack.
var hookHosts = []string{"hooks.slack.com", "hooks.slack-gov.com"}

var (
	// A token holds its workspace, its bot and its secret; Slack promises no more than the prefix.
	botToken = regexp.MustCompile(`^xoxb-[0-9A-Za-z-]{8,}$`)
	hookPath = regexp.MustCompile(`^/services/[0-9A-Za-z]+/[0-9A-Za-z]+/[0-9A-Za-z]+$`)
)

// Validate implements sdk.Validator.
func (c *Config) Validate() error {
	var errs []error
	wrong := func(name, summary, detail string) {
		errs = append(errs, &sdk.AttributeError{Path: []string{name}, Summary: summary, Detail: detail})
	}
	base, why := parseBase(c.BaseURL)
	if why != "" {
		wrong("base_url", why, "Write an address like https://slack.example/api/; http only for this machine.")
	}
	switch c.Mode {
	case modeWebhook:
		if c.WebhookURL.IsZero() {
			wrong("webhook_url", "is missing",
				`It is what an app's page "Incoming Webhooks" shows. To post with a token, write mode = "bot".`)
		} else if summary, detail := checkHook(c.WebhookURL.Reveal(), base); summary != "" {
			wrong("webhook_url", summary, detail)
		}
		if !c.Token.IsZero() {
			wrong("token", "belongs to a bot", `Write mode = "bot", or leave it out.`)
		}
		if c.Channel != "" {
			wrong("channel", "belongs to a bot",
				`A webhook posts to the channel that it was made for. Write mode = "bot", or leave it out.`)
		}
	case modeBot:
		switch {
		case c.Token.IsZero():
			wrong("token", "is missing", `It is the "Bot User OAuth Token" of the app's page "OAuth & Permissions".`)
		case !botToken.MatchString(c.Token.Reveal()):
			wrong("token", "is no bot token", tokenAdvice(c.Token.Reveal()))
		}
		if !c.WebhookURL.IsZero() {
			wrong("webhook_url", "belongs to a webhook", `Write mode = "webhook", or leave it out.`)
		}
		if c.Channel != "" {
			if why := checkChannel(c.Channel); why != "" {
				wrong("channel", why, "Write the channel's ID, as in C0123456789, or #name.")
			}
		}
	}
	if c.Spacing < 0 || c.Spacing > maxSpacing {
		wrong("spacing", "is not between 0 and 1m", "")
	}
	return errors.Join(errs...)
}

// parseBase reads a base_url; nil: there is none.
func parseBase(text string) (base *url.URL, why string) {
	if text == "" {
		return nil, ""
	}
	base, err := url.Parse(text)
	switch {
	case err != nil || base.Host == "" || base.Opaque != "":
		return nil, "is no address"
	case base.User != nil || base.RawQuery != "" || base.Fragment != "":
		return nil, "holds more than a scheme, a host and a path"
	case base.Scheme == "https":
		return base, ""
	case base.Scheme != "http":
		return nil, "is neither https nor http"
	}
	if ip := net.ParseIP(base.Hostname()); base.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, "would send secrets in clear"
	}
	return base, ""
}

// checkHook says what is wrong with a webhook's address; it repeats nothing of it.
func checkHook(text string, base *url.URL) (summary, detail string) {
	const advice = "It looks like https://hooks.slack.com/services/T…/B…/…"
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return "is no address", advice
	}
	if base != nil {
		if u.Scheme != base.Scheme || u.Host != base.Host || !strings.HasPrefix(u.Path, base.Path) || u.User != nil {
			return "does not begin with base_url", "Leave base_url out to post to Slack itself."
		}
		return "", ""
	}
	known := false
	for _, host := range hookHosts {
		known = known || u.Host == host
	}
	switch {
	case u.Scheme != "https" || !known || u.User != nil:
		return "is no address at hooks.slack.com", advice + " For another server set base_url."
	case strings.HasPrefix(u.Path, "/workflows/") || strings.HasPrefix(u.Path, "/triggers/"):
		return "starts a workflow instead of posting a message", advice
	case !hookPath.MatchString(u.Path) || u.RawQuery != "" || u.Fragment != "":
		return "is not a whole webhook address", advice
	}
	return "", ""
}

func tokenAdvice(token string) string {
	switch {
	case strings.HasPrefix(token, "xoxe."):
		return "It expires: turn token rotation off for the app, and use the token that begins with xoxb-."
	case strings.HasPrefix(token, "xoxp-"):
		return `It is a user's token. Use the "Bot User OAuth Token", which begins with xoxb-.`
	case strings.HasPrefix(token, "xapp-"):
		return `It is an app-level token. Use the "Bot User OAuth Token", which begins with xoxb-.`
	}
	return `Use the "Bot User OAuth Token" of the app's page "OAuth & Permissions", which begins with xoxb-.`
}

// checkChannel says what is wrong with a channel's ID or name.
func checkChannel(channel string) string {
	name := strings.TrimPrefix(channel, "#")
	switch {
	case name == "":
		return "names no channel"
	case len(name) > 255:
		return "is longer than a channel's name can be"
	}
	for _, c := range name {
		if c <= ' ' || c == 0x7f || strings.ContainsRune(`#@<>&,:/"'\`, c) {
			return "is neither a channel's ID nor its name"
		}
	}
	return ""
}
