package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/grapnelhq/grapnel/core"
)

// judgeMessages asks the sinks that can tell about the messages of all routes to them, as far as those are the same for
// every event: what would be a dead letter each time is a mistake.
func (l *loader) judgeMessages() {
	judge, ok := l.catalog.(MessageCatalog)
	if !ok {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(l.sinks)) {
		s := l.sinks[name]
		if s.config == nil || len(s.sent) == 0 || !s.info.Has(core.JudgesMessages) {
			continue
		}
		drafts := make([]core.Draft, len(s.sent))
		for i, m := range s.sent {
			drafts[i].Message, drafts[i].Varies = m.message.Draft(&s.info.Message)
		}
		what := fmt.Sprintf("sink %q", name)
		verdicts, err := judge.ValidateMessages(l.ctx, s.plugin, s.config, drafts)
		if err != nil || len(verdicts) != len(drafts) {
			if err == nil {
				err = fmt.Errorf("it answers about %d messages of %d", len(verdicts), len(drafts))
			}
			l.say(Error, l.cfg.Sinks[s.index].Range, fmt.Sprintf("The messages to %s cannot be checked", what),
				sentence(l.hush(err.Error())))
			continue
		}
		for i, errs := range verdicts {
			for _, e := range errs {
				at, found := s.sent[i].message.Range(e.Path)
				if !found {
					at = s.sent[i].at
				}
				summary := fmt.Sprintf("the message to %s: %s", what, e.Summary)
				if len(e.Path) > 0 {
					summary = fmt.Sprintf("%q of the message to %s: %s", strings.Join(e.Path, "."), what, e.Summary)
				}
				l.error(at, sentence2(l.hush(summary)), sentence(l.hush(e.Detail)))
			}
		}
	}
}
