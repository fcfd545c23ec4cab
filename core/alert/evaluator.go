package alert

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// Evaluator holds the state of all rules. It is used from one goroutine at a time. Its order of use, again and again:
//
//	Evaluate(snapshot) → Save, if Dirty → send what is in Outbox, oldest first → Sent for each → Save
//
// so that a message is in the saved state before it is sent: after a crash it is sent again, and is the same message.
type Evaluator struct {
	rules []Rule
	start time.Time
	s     saved
	dirty bool

	before map[string]counted // by subject, at the last snapshot
	seen   map[string]bool    // keys of entries, in the last snapshot
}

// saved is what outlives the host.
type saved struct {
	At      time.Time          `json:"at"`      // of the last snapshot
	Next    int64              `json:"next"`    // Event.Number of the last firing
	Entries map[string]*entry  `json:"entries"` // by alert, condition and subject: see keyOf
	Parked  map[string]*parked `json:"parked,omitempty"`
	Quiet   map[string]*quiet  `json:"quiet,omitempty"` // by source
	Outbox  []Event            `json:"outbox,omitempty"`
}

// entry is where a rule stands with one thing.
type entry struct {
	Phase     Phase     `json:"phase"`
	Since     time.Time `json:"since,omitzero"` // the condition began to hold
	Began     time.Time `json:"began,omitzero"` // firing: of what it is about, such as the sink's pause
	Calm      time.Time `json:"calm,omitzero"`  // clearing: it ceased to
	Came      int64     `json:"came,omitempty"` // quiet.Came, when it was not firing
	Fired     time.Time `json:"fired,omitzero"`
	Ended     time.Time `json:"ended,omitzero"` // resolved, the last time
	Sent      time.Time `json:"sent,omitzero"`  // the last message
	Number    int64     `json:"number,omitempty"`
	Reminders int       `json:"reminders,omitempty"`
	Again     int       `json:"again,omitempty"` // how often it has fired within an hour of its end
	Last      reading   `json:"last"`
	Window    []bucket  `json:"window,omitempty"`
}

func (en *entry) began() time.Time {
	if en.Began.IsZero() {
		return en.Since
	}
	return en.Began
}

func (en *entry) firing() bool { return en.Phase == Firing || en.Phase == Clearing }

// keyOf is the key of a rule's state of a thing.
func keyOf(r *Rule, subject string) string {
	return r.Name + "\x00" + string(r.Condition) + "\x00" + subject
}

// ruleOf finds the rule of a key; nil: there is none.
func ruleOf(rules []Rule, key string) (r *Rule, subject string) {
	name, rest, _ := strings.Cut(key, "\x00")
	condition, subject, _ := strings.Cut(rest, "\x00")
	i := slices.IndexFunc(rules, func(r Rule) bool { return r.Name == name && string(r.Condition) == condition })
	if i < 0 {
		return nil, subject
	}
	return &rules[i], subject
}

// bucket counts what happened in a piece of a window.
type bucket struct {
	From time.Time `json:"from"`
	N    int64     `json:"n"`
}

// parked is since when a sink has been parked.
type parked struct {
	Since time.Time `json:"since"`
	State string    `json:"state"`
}

// counted is what of a thing was counted before.
type counted struct {
	dead               int64
	received, rejected uint64
}

// reading is what a condition finds.
type reading struct {
	Holds     bool      `json:"-"`
	Learning  bool      `json:"learning,omitempty"`
	Value     float64   `json:"value"`
	Threshold float64   `json:"threshold"`
	Reason    string    `json:"reason,omitempty"`
	From      time.Time `json:"from,omitzero"`  // when what it is about began, if that was before the condition did
	Text      string    `json:"text,omitempty"` // a sentence without its end
	Cured     string    `json:"cured,omitempty"`
}

// New makes an evaluator that goes on from what Save gave, empty for none. start is the host's.
func New(state []byte, start time.Time) (*Evaluator, error) {
	e := &Evaluator{start: start, before: map[string]counted{}}
	var err error
	if len(state) > 0 {
		if err = json.Unmarshal(state, &e.s); err != nil {
			e.s, err = saved{}, fmt.Errorf("the saved state of alerts cannot be read, they start anew: %w", err)
		}
	}
	for k, v := range e.s.Entries {
		if v == nil {
			delete(e.s.Entries, k)
		}
	}
	if e.s.Entries == nil {
		e.s.Entries = map[string]*entry{}
	}
	if e.s.Parked == nil {
		e.s.Parked = map[string]*parked{}
	}
	if e.s.Quiet == nil {
		e.s.Quiet = map[string]*quiet{}
	}
	// What nobody listened to was no silence of a source.
	if down := start.Sub(e.s.At); !e.s.At.IsZero() && down > 0 {
		for _, q := range e.s.Quiet {
			if q != nil {
				q.Last = q.Last.Add(down)
			}
		}
	}
	return e, err
}

// SetRules swaps the rules. States of rules that keep their name and condition go on; those of others are forgotten, without
// a message.
func (e *Evaluator) SetRules(rules []Rule) {
	for key, en := range e.s.Entries {
		if r, _ := ruleOf(rules, key); r == nil {
			e.dirty = e.dirty || en.Phase != OK
			delete(e.s.Entries, key)
		}
	}
	e.rules = slices.Clone(rules)
}

// Dirty reports whether something changed that must not be lost since the last Save.
func (e *Evaluator) Dirty() bool { return e.dirty }

// Save returns the state for New.
func (e *Evaluator) Save() ([]byte, error) {
	b, err := json.Marshal(&e.s)
	if err == nil {
		e.dirty = false
	}
	return b, err
}

// Outbox is what is to be sent, oldest first.
func (e *Evaluator) Outbox() []Event { return slices.Clone(e.s.Outbox) }

// Sent takes the first n of the outbox out of it.
func (e *Evaluator) Sent(n int) {
	e.s.Outbox = slices.Delete(e.s.Outbox, 0, n)
	e.dirty = e.dirty || n > 0
}

// Evaluate looks at the host once. What is to be said of it goes to the outbox.
func (e *Evaluator) Evaluate(s Snapshot) {
	e.seen = map[string]bool{}
	for i := range s.Sinks {
		e.park(&s.Sinks[i], s.At)
	}
	for i := range s.Sources {
		e.listen(&s.Sources[i], s.At)
	}
	for i := range e.rules {
		r := &e.rules[i]
		switch r.Condition.Kind() {
		case KindSink:
			for i := range s.Sinks {
				e.judge(r, s.Sinks[i].Name, s.At, func(en *entry) reading { return e.readSink(r, en, &s.Sinks[i], s.At) })
			}
		case KindSource:
			for i := range s.Sources {
				e.judge(r, s.Sources[i].Name, s.At, func(en *entry) reading { return e.readSource(r, en, &s.Sources[i], s.At) })
			}
		case KindPlugin:
			for i := range s.Plugins {
				e.judge(r, s.Plugins[i].Name, s.At, func(en *entry) reading { return readPlugin(r, en, &s.Plugins[i]) })
			}
		}
	}
	e.forgetGone(&s)
	for i := range s.Sinks {
		e.before[KindSink+"/"+s.Sinks[i].Name] = counted{dead: s.Sinks[i].Dead}
	}
	for i := range s.Sources {
		e.before[KindSource+"/"+s.Sources[i].Name] = counted{received: s.Sources[i].Received, rejected: s.Sources[i].Rejected}
	}
	e.s.At = s.At
}

// park notes since when a sink has been parked.
func (e *Evaluator) park(s *Sink, now time.Time) {
	p := e.s.Parked[s.Name]
	switch {
	case s.State == "working":
		delete(e.s.Parked, s.Name)
	case p == nil:
		e.s.Parked[s.Name] = &parked{Since: now, State: s.State}
	default:
		p.State = s.State // failing becomes suspended: it has been left alone all the time
	}
}

// judge takes one rule's state of one thing further.
func (e *Evaluator) judge(r *Rule, name string, now time.Time, read func(*entry) reading) {
	if !r.watches(name) {
		return
	}
	subject := r.Condition.Kind() + "/" + name
	key := keyOf(r, subject)
	e.seen[key] = true
	en := e.s.Entries[key]
	if en == nil {
		en = &entry{Phase: OK}
		e.s.Entries[key] = en
	}
	got := read(en)
	if got.Holds || en.Phase == OK {
		en.Last = got
	} else {
		en.Last.Value, en.Last.Threshold, en.Last.Cured = got.Value, got.Threshold, got.Cured
	}
	settled := !now.Before(e.start.Add(r.Grace))
	if got.Holds {
		e.holds(r, en, subject, now, settled)
		return
	}
	switch en.Phase {
	case Pending:
		en.Phase, en.Since = OK, time.Time{}
	case Firing:
		en.Phase, en.Calm = Clearing, now
		e.dirty = true
	}
	if en.Phase == Clearing && settled && now.Sub(en.Calm) >= r.clear(en.Again) {
		e.resolve(r, en, subject, now, "Resolved", en.Last.Cured)
	}
}

// holds is judge for a condition that holds.
func (e *Evaluator) holds(r *Rule, en *entry, subject string, now time.Time, settled bool) {
	if en.Phase == OK {
		en.Phase, en.Since = Pending, now
	}
	switch {
	case en.Phase == Clearing:
		en.Phase, en.Calm = Firing, time.Time{}
		e.dirty = true
	case en.Phase == Pending && settled && now.Sub(en.Since) >= r.For:
		e.s.Next++
		if en.Again++; en.Ended.IsZero() || now.Sub(en.Ended) > againWithin {
			en.Again = 0
		}
		en.Phase, en.Fired, en.Number, en.Reminders, en.Began = Firing, now, e.s.Next, 0, en.Since
		if !en.Last.From.IsZero() && en.Last.From.Before(en.Since) {
			en.Began = en.Last.From
		}
		e.say(r, en, subject, Fired, now, en.Last.Text+".")
	case en.Phase == Firing && r.Repeat > 0 && settled && now.Sub(en.Sent) >= r.Repeat:
		en.Reminders++
		e.say(r, en, subject, Reminded, now, en.Last.Text+".")
	}
}

const (
	againWithin = time.Hour // what fires again within so long of its end takes longer to end
	mostClear   = time.Hour
)

// clear is how long a condition has to be gone that has fired again and again.
func (r *Rule) clear(again int) time.Duration {
	return max(r.Clear, min(r.Clear<<min(again, 10), mostClear))
}

// resolve ends a firing alert.
func (e *Evaluator) resolve(r *Rule, en *entry, subject string, now time.Time, word, why string) {
	ended := now
	if !en.Calm.IsZero() {
		ended = en.Calm
	}
	en.Last.Reason = ""
	lasted := ended.Sub(en.Began)
	e.sayLasted(r, en, subject, Resolved, now, lasted, fmt.Sprintf("%s after %s: %s.", word, spell(lasted), why))
	en.Phase, en.Since, en.Began, en.Calm, en.Ended, en.Reminders = OK, time.Time{}, time.Time{}, time.Time{}, now, 0
}

func (e *Evaluator) say(r *Rule, en *entry, subject string, state State, now time.Time, text string) {
	e.sayLasted(r, en, subject, state, now, now.Sub(en.Began), text)
}

func (e *Evaluator) sayLasted(
	r *Rule, en *entry, subject string, state State, now time.Time, lasted time.Duration, text string,
) {
	kind, name, _ := strings.Cut(subject, "/")
	en.Sent = now
	e.s.Outbox = append(e.s.Outbox, Event{
		Alert: r.Name, State: state, Text: text, Subject: subject, Kind: kind, Name: name, Condition: r.Condition,
		Reason: en.Last.Reason, Value: round(en.Last.Value), Threshold: en.Last.Threshold, Unit: r.unit(),
		Since: en.Began.UTC().Truncate(time.Millisecond), At: now.UTC().Truncate(time.Millisecond),
		Lasted: round(lasted.Seconds()), Number: en.Number, Reminder: en.Reminders,
	})
	e.dirty = true
}

// round cuts a number of seconds to milliseconds.
func round(v float64) float64 { return math.Round(v*1000) / 1000 }

// unit is what the rule's condition compares.
func (r *Rule) unit() Unit {
	if r.Condition == DeadLetters || r.Condition == RejectedSignatures || r.Condition == PluginFailed {
		return Count
	}
	return Seconds
}

// forgetGone ends what is about things that are no more.
func (e *Evaluator) forgetGone(s *Snapshot) {
	for key, en := range e.s.Entries {
		if e.seen[key] {
			continue
		}
		if r, subject := ruleOf(e.rules, key); r != nil && en.firing() {
			e.resolve(r, en, subject, s.At, "Ended", "it is not watched any more")
		}
		delete(e.s.Entries, key)
	}
	for name := range e.s.Parked {
		if !slices.ContainsFunc(s.Sinks, func(x Sink) bool { return x.Name == name }) {
			delete(e.s.Parked, name)
		}
	}
	// Sources keep what was learned of them: they may come back.
}

// Statuses lists where each rule stands with each thing, in order of rules and names.
func (e *Evaluator) Statuses() []Status {
	var all []Status
	for i := range e.rules {
		r := &e.rules[i]
		from := len(all)
		for key, en := range e.s.Entries {
			of, subject := ruleOf(e.rules, key)
			if of != r {
				continue
			}
			st := Status{
				Alert: r.Name, Condition: r.Condition, Subject: subject, Phase: en.Phase, Since: en.began(),
				Value: en.Last.Value, Threshold: en.Last.Threshold, Unit: r.unit(), FiredAt: en.Fired, EndedAt: en.Ended,
				SentAt: en.Sent, Reminders: en.Reminders,
			}
			if en.Phase != OK {
				st.Text = en.Last.Text + "."
			} else if en.Last.Learning {
				st.Phase = Learning
			}
			all = append(all, st)
		}
		slices.SortFunc(all[from:], func(a, b Status) int { return cmp.Compare(a.Subject, b.Subject) })
	}
	return all
}

// Every is how often the rules want to be evaluated: ten seconds, more often where their spans are short.
func Every(rules []Rule) time.Duration {
	every := 10 * time.Second
	for i := range rules {
		for _, d := range []time.Duration{rules[i].Span, rules[i].Within, rules[i].For, rules[i].Clear, rules[i].Repeat} {
			if d > 0 {
				every = min(every, d/4)
			}
		}
	}
	return max(every, 100*time.Millisecond)
}
