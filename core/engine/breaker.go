package engine

import (
	"time"
)

// BreakerPolicy says when a sink that fails is left alone for a while. Zero fields take their defaults.
type BreakerPolicy struct {
	Failures int           // consecutive failed calls before it is left alone; default 10, negative: never
	Min, Max time.Duration // bounds of the pause before a probe, which grows; default 5 s and 5 min
}

func (p BreakerPolicy) withDefaults() BreakerPolicy {
	if p.Failures == 0 {
		p.Failures = 10
	}
	if p.Min == 0 {
		p.Min = 5 * time.Second
	}
	if p.Max == 0 {
		p.Max = 5 * time.Minute
	}
	return p
}

// breaker decides whether a sink may be called. It is pure: times and random numbers come from its caller, who guards it.
//
//	        Failures failed calls in a row, or a suspend
//	closed ─────────────────────────────────────────────► open ◄──────────┐
//	  ▲                                                    │ pause over   │ failed: a longer pause
//	  │                  worked                            ▼              │
//	  └──────────────────────────────────────────────── probing ──────────┘
//
// A probe is one call with one delivery. After one that worked, calls come back one, two, four… at a time.
type breaker struct {
	policy   BreakerPolicy
	state    breakerState
	failures int    // calls in a row
	reason   string // open and probing: why
	asked    bool   // open and probing: the sink itself asked to be left alone
	pause    time.Duration
	until    time.Time // open: no probe before
	ramp     int       // closed: calls that may be under way; 0: as many as the sink is configured for
}

type breakerState uint8

const (
	closed breakerState = iota
	open
	probing
)

func (s breakerState) String() string {
	switch s {
	case open:
		return "open"
	case probing:
		return "probing"
	default:
		return "closed"
	}
}

// result is what a call says about its sink.
type result struct {
	failed  bool // every delivery of it is to be tried again
	suspend bool // the sink asked to be left alone
	reason  string
	after   time.Duration // failed: how long the sink wants to be left alone
}

// probe reports whether a probe may go out now, and takes it. The breaker is not closed.
func (b *breaker) probe(now time.Time) bool {
	if b.state != open || now.Before(b.until) {
		return false
	}
	b.state = probing
	return true
}

// withdraw takes back a probe that told nothing.
func (b *breaker) withdraw() {
	if b.state == probing {
		b.state = open
	}
}

// record takes the result of a call. Results of calls that were out when the breaker opened say the same thing once.
func (b *breaker) record(r result, wasProbe bool, most int, now time.Time, random float64) {
	switch {
	case b.state != closed && !wasProbe:
	case r.suspend, r.failed && wasProbe:
		b.open(r, now, random)
	case r.failed:
		b.failures++
		b.ramp = min(b.ramp, 1)
		if b.policy.Failures > 0 && b.failures >= b.policy.Failures {
			b.open(r, now, random)
		}
	case wasProbe:
		b.close()
	default:
		b.failures = 0
		if b.ramp *= 2; b.ramp >= most {
			b.ramp = 0
		}
	}
}

func (b *breaker) open(r result, now time.Time, random float64) {
	b.pause = min(max(2*b.pause, b.policy.Min), b.policy.Max)
	wait := max(b.pause/2+time.Duration(random*float64(b.pause/2)), b.policy.Min)
	b.state, b.reason, b.asked = open, r.reason, r.suspend
	b.until = now.Add(max(wait, min(r.after, maxAfter)))
}

// close lets calls go out again, few at first.
func (b *breaker) close() {
	*b = breaker{policy: b.policy, ramp: 1}
}
