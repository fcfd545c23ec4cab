package alert

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// readSink evaluates a condition on a sink.
func (e *Evaluator) readSink(r *Rule, en *entry, s *Sink, now time.Time) reading {
	switch r.Condition {
	case SinkParked:
		return e.readParked(r, en, s, now)
	case DeadLetters:
		return e.readDead(r, en, s, now)
	}
	got := reading{
		Threshold: r.Span.Seconds(), Cured: fmt.Sprintf("nothing waits that long for the sink %s any more", s.Name),
		Text: fmt.Sprintf("Nothing waits for the sink %s", s.Name),
	}
	if s.Oldest.IsZero() {
		return got
	}
	age := now.Sub(s.Oldest)
	got.Value, got.Holds = age.Seconds(), age > r.Span
	got.Text = fmt.Sprintf("The oldest delivery that waits for the sink %s was received %s ago", s.Name, spell(age))
	return got
}

func (e *Evaluator) readParked(r *Rule, en *entry, s *Sink, now time.Time) reading {
	got := reading{
		Threshold: r.Span.Seconds(), Reason: s.Reason, Cured: fmt.Sprintf("the sink %s works again", s.Name),
		Text: fmt.Sprintf("The sink %s works", s.Name),
	}
	p := e.s.Parked[s.Name]
	if p == nil {
		return got
	}
	if !slices.Contains(r.States, s.State) {
		got.Cured = fmt.Sprintf("the sink %s is %s now", s.Name, s.State)
		return got
	}
	span := now.Sub(p.Since)
	got.Value, got.From = span.Seconds(), p.Since
	got.Holds = span >= r.Span || en.firing()
	got.Text = withReason(fmt.Sprintf("The sink %s has been %s for %s", s.Name, s.State, spell(span)), s.Reason)
	return got
}

func (e *Evaluator) readDead(r *Rule, en *entry, s *Sink, now time.Time) reading {
	got := reading{Threshold: float64(r.Count), Value: float64(s.Dead)}
	if r.Within == 0 {
		got.Holds = s.Dead > r.Count
		got.Text = fmt.Sprintf("The sink %s has %s, more than %d", s.Name, plural(s.Dead, "dead letter"), r.Count)
		got.Cured = fmt.Sprintf("the sink %s has %s", s.Name, plural(s.Dead, "dead letter"))
		return got
	}
	var fresh int64
	if before, known := e.before[KindSink+"/"+s.Name]; known {
		fresh = max(0, s.Dead-before.dead)
	}
	n := en.count(fresh, now, r.Within)
	got.Value, got.Holds = float64(n), n > r.Count
	got.Text = fmt.Sprintf("%s of the sink %s within %s, more than %d", plural(n, "new dead letter"), s.Name,
		spell(r.Within), r.Count)
	got.Cured = fmt.Sprintf("%s within %s", plural(n, "new dead letter"), spell(r.Within))
	return got
}

// readSource evaluates a condition on a source.
func (e *Evaluator) readSource(r *Rule, en *entry, s *Source, now time.Time) reading {
	if r.Condition == SourceSilent {
		return e.readSilent(r, en, s, now)
	}
	before := e.before[KindSource+"/"+s.Name] // of a new source, and of a new host: nothing
	fresh := int64(s.Rejected) - int64(before.rejected)
	if fresh < 0 {
		fresh = int64(s.Rejected) // it counts from the start again
	}
	n := en.count(fresh, now, r.Within)
	return reading{
		Threshold: float64(r.Count), Value: float64(n), Holds: n > r.Count,
		Text: fmt.Sprintf("The source %s refused %s as not authentic within %s, more than %d", s.Name,
			plural(n, "request"), spell(r.Within), r.Count),
		Cured: fmt.Sprintf("%s within %s", plural(n, "such request"), spell(r.Within)),
	}
}

func (e *Evaluator) readSilent(r *Rule, en *entry, s *Source, now time.Time) reading {
	q := e.s.Quiet[s.Name]
	span, limit, known := now.Sub(q.Last), r.Span, true
	got := reading{Value: span.Seconds(), From: q.Last, Cured: fmt.Sprintf("the source %s sends again", s.Name)}
	compared := "more than " + spell(limit)
	if limit == 0 {
		var usual time.Duration
		usual, known = q.usual(now)
		limit = max(r.AtLeast, unusual*usual)
		compared = "usual at this time is at most " + spell(usual)
	}
	got.Threshold = limit.Seconds()
	got.Text = fmt.Sprintf("The source %s has sent nothing for %s, %s", s.Name, spell(span), compared)
	if !known {
		got.Learning = true
		got.Text = fmt.Sprintf("The source %s has sent nothing for %s", s.Name, spell(span))
	}
	if en.firing() { // until it sends again: what is usual changes with the hours
		got.Holds = q.Came == en.Came
		return got
	}
	en.Came = q.Came
	got.Holds = known && span > limit
	return got
}

// readPlugin evaluates a condition on a plugin.
func readPlugin(_ *Rule, en *entry, p *Plugin) reading {
	got := reading{
		Reason: p.Reason, Text: withReason(fmt.Sprintf("The plugin %s has failed", p.Name), p.Reason),
		Cured: fmt.Sprintf("the plugin %s works again", p.Name), Threshold: 1,
	}
	if got.Holds = p.State == PluginHasFailed || en.firing() && p.State != PluginWorks; got.Holds {
		got.Value = 1
	}
	return got
}

// windowParts is in how many pieces a window is counted.
const windowParts = 60

// count adds to the entry's window and returns what is in it.
func (en *entry) count(fresh int64, now time.Time, within time.Duration) int64 {
	en.Window = slices.DeleteFunc(en.Window, func(b bucket) bool { return now.Sub(b.From) >= within })
	if fresh > 0 {
		last := len(en.Window) - 1
		if last < 0 || now.Sub(en.Window[last].From) >= within/windowParts {
			en.Window = append(en.Window, bucket{From: now})
			last++
		}
		en.Window[last].N += fresh
	}
	var n int64
	for _, b := range en.Window {
		n += b.N
	}
	return n
}

func withReason(text, reason string) string {
	reason = strings.TrimRight(strings.TrimSpace(reason), ".")
	if reason == "" {
		return text
	}
	return text + ": " + reason
}

func plural(n int64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// spell writes a span for people: its two largest units.
func spell(d time.Duration) string {
	switch d = max(d, 0); {
	case d < 10*time.Second:
		return strings.TrimSuffix(d.Round(100*time.Millisecond).String(), ".0s")
	case d < time.Minute:
		return d.Round(time.Second).String()
	case d < time.Hour:
		return trimZero(d.Round(time.Second).String(), "0s")
	case d < 24*time.Hour:
		return trimZero(strings.TrimSuffix(d.Round(time.Minute).String(), "0s"), "0m")
	}
	hours := int(d.Round(time.Hour) / time.Hour)
	return trimZero(fmt.Sprintf("%dd%dh", hours/24, hours%24), "0h")
}

// trimZero cuts a last unit that is nothing: 12m0s is 12m, 10m10s stays.
func trimZero(text, zero string) string {
	cut, ok := strings.CutSuffix(text, zero)
	if !ok || cut == "" || cut[len(cut)-1] >= '0' && cut[len(cut)-1] <= '9' {
		return text
	}
	return cut
}
