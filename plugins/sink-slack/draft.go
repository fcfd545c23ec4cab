package main

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/grapnelhq/grapnel/sdk"
)

// ValidateMessage implements sdk.MessageValidator: what Deliver would reject whatever the event is.
func (c *Config) ValidateMessage(d *sdk.Draft[Message]) error {
	var errs []error
	wrong := func(name, summary, detail string) {
		e := &sdk.AttributeError{Summary: summary, Detail: detail}
		if name != "" {
			e.Path = []string{name}
		}
		errs = append(errs, e)
	}
	m := &d.Message
	if !d.Varies("text") && blank(m.Text) && noBlocks(d) {
		wrong("", "it has neither text nor blocks", `Write text = "…", or blocks.`)
	}
	if c.Mode == modeWebhook {
		known := *m // what varies is not set in it
		if d.Varies("metadata") {
			known.Metadata = nil
		}
		if name := known.botsOnly(); name != "" {
			wrong(name, "a webhook has none", fmt.Sprintf(`With mode = "bot" and a token, %s can be used.`, name))
		}
		return errors.Join(errs...)
	}
	if !d.Varies("channel") {
		if m.Channel == "" && c.Channel == "" {
			wrong("", "neither the message nor the sink names a channel", `Write channel = "C0123456789" in one of them.`)
		} else if why := checkChannel(m.Channel); m.Channel != "" && why != "" {
			wrong("channel", why, "Write the channel's ID, as in C0123456789, or #name.")
		}
	}
	if m.Broadcast && !d.Varies("thread") && !d.Varies("update") && (m.threadKey() == "" || m.Update) {
		wrong("broadcast", "is for replies: it needs thread, and no update", "")
	}
	if n := length(m.Username); n > maxUsername {
		wrong("username", fmt.Sprintf("has %d characters, at most %d are possible", n, maxUsername), "")
	}
	return errors.Join(errs...)
}

// noBlocks reports whether there are no blocks for any event.
func noBlocks(d *sdk.Draft[Message]) bool {
	if d.Varies("blocks") {
		return false
	}
	for i, b := range d.Message.Blocks {
		if string(b) != "null" || d.Varies("blocks", strconv.Itoa(i)) {
			return false
		}
	}
	return true
}
