package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/grapnelhq/grapnel/sdk"
)

// Message is what a route says to this sink.
type Message struct {
	Text        string            `json:"text,omitempty" escape:"slack_mrkdwn" doc:"The message, or what blocks say."`
	Blocks      []json.RawMessage `json:"blocks,omitempty" escape:"slack_mrkdwn" doc:"Block Kit. Nulls are left out."`
	UnfurlLinks bool              `json:"unfurl_links,omitempty" doc:"Whether pages that are linked get a preview; left out: false."`
	UnfurlMedia bool              `json:"unfurl_media,omitempty" doc:"Whether images and videos that are linked show; left out: false."`
	Channel     string            `json:"channel,omitempty" doc:"Bot: the channel instead of the sink's."`
	Thread      string            `json:"thread,omitempty" doc:"Bot: true, or a text: a thread per order key and text."`
	Broadcast   bool              `json:"broadcast,omitempty" doc:"Bot: whether a reply shows in the channel, too."`
	Update      bool              `json:"update,omitempty" doc:"Bot: whether the thread's parent is replaced."`
	Username    string            `json:"username,omitempty" doc:"Bot: the name that it posts under."`
	IconEmoji   string            `json:"icon_emoji,omitempty" doc:"Bot: an emoji as icon, as in :wave:"`
	IconURL     string            `json:"icon_url,omitempty" doc:"Bot: the address of an image as icon."`
	Metadata    *Metadata         `json:"metadata,omitempty" doc:"Bot: data that other apps can read."`
}

// Metadata is data that Slack keeps with a message.
type Metadata struct {
	EventType string         `json:"event_type" doc:"What it is about."`
	Payload   map[string]any `json:"event_payload,omitempty" doc:"The data."`
}

const (
	maxText       = 40_000 // Slack cuts at it without a word
	maxUpdateText = 4_000  // chat.update refuses more
	maxFallback   = 4_000  // what notifications and screen readers get, where it is made of the blocks
	maxUsername   = 80
	maxMetadata   = 8_000 // bytes
)

// content is what a message says, within Slack's limits.
type content struct {
	text   string          // never empty
	blocks json.RawMessage // nil: none
	plain  string          // the same without blocks
	notes  []string        // what was changed
}

// compose makes a message's content. subject is what is said where blocks hold no text at all; most is the length that
// a text may have. Errors are rejections.
func compose(m *Message, subject string, most int) (content, error) {
	blocks, err := decodeBlocks(m.Blocks)
	if err != nil {
		return content{}, err
	}
	full := fallback(blocks) // before anything is left out
	f := &fitter{}
	blocks = f.fit(blocks)
	c := content{text: m.Text, plain: m.Text}
	switch {
	case len(blocks) == 0 && blank(m.Text):
		return content{}, sdk.Reject(errNothing, "text")
	case len(blocks) == 0:
	case blank(m.Text):
		c.plain = cmp.Or(full, subject, "a message")
		c.text = cut(c.plain, maxFallback)
	case !strings.Contains(full, m.Text):
		c.plain = m.Text + "\n" + full
	default:
		c.plain = full
	}
	if n := length(c.text); n > most {
		f.note("text has %d characters and is cut to %d", n, most)
		c.text = cut(c.text, most)
	}
	c.plain = cut(c.plain, most)
	if len(blocks) > 0 {
		if c.blocks, err = encodeBlocks(blocks); err != nil {
			return content{}, sdk.Reject(fmt.Errorf("blocks cannot be written: %w", err), "blocks")
		}
		if n := len(c.blocks); n > maxBlockBytes {
			f.note("the blocks have %d bytes, of which Slack takes about %d: they are sent as text", n, maxBlockBytes)
			c.text, c.blocks = c.plain, nil
		}
	}
	c.notes = f.all()
	return c, nil
}

// onlyBots rejects what a webhook would ignore or cannot do. To ignore it would post to another channel than the route
// says.
func (m *Message) onlyBots() error {
	name := m.botsOnly()
	if name == "" {
		return nil
	}
	return sdk.Reject(fmt.Errorf(`a webhook has no %s; it takes mode = "bot"`, name), name)
}

// botsOnly names the first attribute that is set and that only a bot has; "": none is.
func (m *Message) botsOnly() string {
	switch {
	case m.Channel != "":
		return "channel"
	case m.Update:
		return "update"
	case m.threadKey() != "":
		return "thread"
	case m.Broadcast:
		return "broadcast"
	case m.Username != "":
		return "username"
	case m.IconEmoji != "":
		return "icon_emoji"
	case m.IconURL != "":
		return "icon_url"
	case m.Metadata != nil:
		return "metadata"
	}
	return ""
}

// Values of Message.Thread that are no text of their own; the host makes texts of bools.
const (
	threadOfKey = "true"
	noThread    = "false"
)

// threadKey tells threads of one order key apart; "" is no thread.
func (m *Message) threadKey() string {
	switch {
	case m.Thread == noThread || m.Thread == "":
		if m.Update {
			return threadOfKey
		}
		return ""
	}
	return m.Thread
}

// check rejects what a bot cannot send.
func (m *Message) check() error {
	if m.Broadcast && (m.threadKey() == "" || m.Update) {
		return sdk.Reject(errors.New("broadcast is for replies: it needs thread, and no update"), "broadcast")
	}
	if n := length(m.Username); n > maxUsername {
		return sdk.Reject(fmt.Errorf("username has %d characters, at most %d are possible", n, maxUsername), "username")
	}
	if m.IconURL != "" && length(m.IconURL) > maxImageURL {
		return sdk.Reject(fmt.Errorf("icon_url is longer than %d characters", maxImageURL), "icon_url")
	}
	if m.Metadata != nil {
		if m.Metadata.EventType == "" {
			return sdk.Reject(errors.New("metadata needs an event_type"), "metadata")
		}
		if b, err := json.Marshal(m.Metadata); err != nil || len(b) > maxMetadata {
			return sdk.Reject(fmt.Errorf("metadata is longer than %d bytes", maxMetadata), "metadata")
		}
	}
	return nil
}
