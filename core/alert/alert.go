// Package alert decides when alerts fire, are reminded of and are resolved. It is pure: an Evaluator is fed with snapshots of
// the host and says which messages are to be sent; time is what the snapshots say it is.
//
// Each rule has one state per thing it watches: a sink, a source or a plugin.
//
//	        condition holds           held for Rule.For, grace is over
//	ok ──────────────────► pending ─────────────────────────────────────► firing ◄──────┐
//	▲ ▲                       │                                           │    ▲  │     │ Rule.Repeat: reminded
//	│ └──── it holds no more ─┘                             it holds no   │    │  └─────┘
//	│                                                       more          ▼    │ it holds again: nothing is said
//	└──────────────────────────────────────────────────────────────── clearing ┘
//	                              calm for Rule.Clear: resolved
//
// A message is sent with the transitions to firing and from clearing to ok, and none with the others: what flaps faster than
// Rule.Clear fires once. What fires again within an hour of its end takes twice as long to be resolved, and so on up to an
// hour. Nothing fires or is resolved in the first Rule.Grace of a host: what it finds at its start has that long to settle.
//
// Where a condition is a span (a sink is parked for so long, a source silent), a firing alert ends when the span does, not
// when it would be shorter than the rule's for a reason of its own, such as a restart.
package alert

import (
	"slices"
	"time"
)

// Condition is what a rule is about.
type Condition string

// The conditions, as their attributes are called in the configuration.
const (
	SinkParked         Condition = "sink_parked"         // a sink has not been called for longer than Span
	DeadLetters        Condition = "dead_letters"        // a sink has more than Count dead letters, or got so many Within
	OldestWaiting      Condition = "oldest_waiting"      // the oldest delivery of a sink waits for longer than Span
	PluginFailed       Condition = "plugin_failed"       // a plugin's process died again and again
	SourceSilent       Condition = "source_silent"       // a source has sent nothing for longer than Span, or than usual
	RejectedSignatures Condition = "rejected_signatures" // a source got more than Count unauthentic requests Within
)

// The kinds of things.
const (
	KindSink   = "sink"
	KindSource = "source"
	KindPlugin = "plugin"
)

// Kind is the kind of thing that the condition is about.
func (c Condition) Kind() string {
	switch c {
	case PluginFailed:
		return KindPlugin
	case SourceSilent, RejectedSignatures:
		return KindSource
	}
	return KindSink
}

// Rule is one alert block.
type Rule struct {
	Name      string
	Condition Condition
	Things    []string      // names of sinks, sources or plugins; nil: all
	States    []string      // SinkParked: in which states a sink is parked
	Count     int64         // DeadLetters, RejectedSignatures: more than so many
	Span      time.Duration // SinkParked, OldestWaiting, SourceSilent: for longer than that; 0, of SourceSilent: than usual
	AtLeast   time.Duration // SourceSilent, than usual: never before that
	Within    time.Duration // DeadLetters, RejectedSignatures: those of so long; 0, of DeadLetters: all there are now

	For    time.Duration // how long the condition has to hold
	Clear  time.Duration // how long it has to be gone
	Repeat time.Duration // between reminders; 0: none
	Grace  time.Duration // after a start
}

// watches reports whether the rule is about a thing.
func (r *Rule) watches(name string) bool { return r.Things == nil || slices.Contains(r.Things, name) }

// ParkedStates are the states in which a sink can be parked.
func ParkedStates() []string { return []string{"paused", "suspended", "failing", "down"} }

// Snapshot is what the host was like at one moment.
type Snapshot struct {
	At      time.Time
	Sinks   []Sink
	Sources []Source
	Plugins []Plugin
}

// Sink is a sink in a snapshot.
type Sink struct {
	Name   string
	State  string // "working", or one of ParkedStates
	Reason string // of that state
	// Dead letters that are there, and when the request of the oldest waiting delivery was received (zero: none waits); of
	// both, deliveries of alerts are not counted.
	Dead   int64
	Oldest time.Time
}

// Source is a source in a snapshot.
type Source struct {
	Name string
	// Since the start of the host: requests that were taken, duplicates included, and those that were refused as not authentic.
	Received, Rejected uint64
}

// Plugin is a plugin in a snapshot.
type Plugin struct {
	Name   string // "sink-file"
	State  PluginState
	Reason string // of its last crash
}

// PluginState is the state of all processes of a plugin together.
type PluginState uint8

// The states: what has failed stays so in an alert until it works.
const (
	PluginOther PluginState = iota
	PluginWorks
	PluginHasFailed
)

// Phase is where a rule stands with one thing.
type Phase string

// The phases; see the package comment.
const (
	OK       Phase = "ok"
	Pending  Phase = "pending"
	Firing   Phase = "firing"
	Clearing Phase = "clearing"
	Learning Phase = "learning" // shown instead of ok: what is usual for a source is not known yet
)

// Status is where a rule stands with one thing, for people.
type Status struct {
	Alert     string
	Condition Condition
	Subject   string // "sink/audit"
	Phase     Phase
	Since     time.Time // pending, firing, clearing: when the condition began to hold
	Value     float64   // what the condition compares, in seconds or a number
	Threshold float64
	Unit      Unit
	Text      string    // what is the matter, as a sentence; of ok: what was
	FiredAt   time.Time // the last time; zero: never
	EndedAt   time.Time // resolved, the last time
	SentAt    time.Time // the last message
	Reminders int       // of the firing one
}

// Unit is what a value is counted in.
type Unit string

// The units.
const (
	Seconds Unit = "seconds"
	Count   Unit = "count"
)
