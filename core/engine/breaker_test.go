package engine

import (
	"testing"
	"time"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/sdk"
)

// TestBreaker walks through a sink's bad day.
func TestBreaker(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	b := breaker{policy: BreakerPolicy{Failures: 3, Min: 4 * time.Second, Max: 10 * time.Second}}
	failed, worked := result{failed: true, reason: "503"}, result{}
	record := func(r result, probe bool) { b.record(r, probe, 8, now, 0.5) }
	is := func(what string, state breakerState, wait time.Duration, ramp int) {
		t.Helper()
		if b.state != state || state == open && b.until.Sub(now) != wait || b.ramp != ramp {
			t.Fatalf("%s: state %d, until %s, ramp %d", what, b.state, b.until.Sub(now), b.ramp)
		}
	}
	record(failed, false)
	record(failed, false)
	record(worked, false)
	record(failed, false)
	record(failed, false)
	is("two in a row, twice", closed, 0, 0)
	record(failed, false)
	is("three in a row", open, 4*time.Second, 0)
	record(failed, false)
	record(worked, false)
	is("calls that were still out", open, 4*time.Second, 0)
	if b.probe(now.Add(3 * time.Second)) {
		t.Error("a probe before its time")
	}
	now = now.Add(4 * time.Second)
	if !b.probe(now) || b.probe(now) {
		t.Error("not exactly one probe")
	}
	record(failed, true)
	is("the probe failed", open, 6*time.Second, 0)
	now = now.Add(6 * time.Second)
	b.probe(now)
	b.withdraw()
	if !b.probe(now) {
		t.Error("no probe after one that told nothing")
	}
	record(result{failed: true, after: time.Minute}, true)
	is("the sink wants a minute", open, time.Minute, 0)
	now = now.Add(time.Minute)
	b.probe(now)
	record(worked, true)
	is("the probe worked", closed, 0, 1)
	record(worked, false)
	is("and a call", closed, 0, 2)
	record(worked, false)
	record(worked, false)
	is("and two", closed, 0, 0)
	record(result{suspend: true, reason: "revoked"}, false)
	is("suspended", open, 4*time.Second, 0)

	for _, random := range []float64{0, 0.3, 0.999} {
		b := breaker{policy: BreakerPolicy{Failures: 1, Min: 4 * time.Second, Max: 10 * time.Second}}
		for range 5 {
			b.record(failed, b.state == probing, 8, now, random)
			if wait := b.until.Sub(now); wait < 4*time.Second || wait > 10*time.Second {
				t.Errorf("a pause of %s", wait)
			}
			now = b.until
			b.probe(now)
		}
	}

	never := breaker{policy: BreakerPolicy{Failures: -1}.withDefaults()}
	for range 1000 {
		never.record(failed, false, 8, now, 0.5)
	}
	if never.state != closed {
		t.Error("it opened, and is to stay closed")
	}
}

func TestJudge(t *testing.T) {
	retry := core.Outcome{Kind: sdk.Retried, Reason: "busy", After: time.Second}
	for name, tt := range map[string]struct {
		outcomes []core.Outcome
		want     result
	}{
		"delivered":        {[]core.Outcome{{Kind: sdk.Delivered}}, result{}},
		"rejected":         {[]core.Outcome{{Kind: sdk.Rejected, Reason: "bad"}}, result{}},
		"one of two":       {[]core.Outcome{retry, {Kind: sdk.Skipped}}, result{reason: "busy", after: time.Second}},
		"all retry":        {[]core.Outcome{retry, {Kind: core.Crashed}}, result{failed: true, reason: "busy", after: time.Second}},
		"one suspends":     {[]core.Outcome{{Kind: sdk.Delivered}, {Kind: sdk.Suspended, Reason: "gone"}}, result{suspend: true, reason: "gone"}},
		"suspend silently": {[]core.Outcome{{Kind: sdk.Suspended}}, result{failed: true, suspend: true, reason: "the sink asked for it"}},
	} {
		if got := judge(tt.outcomes); got != tt.want {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestActiveTime(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	a := activeTime{total: time.Hour}
	step := func(on bool, d time.Duration) { a.run(on, now); now = now.Add(d) }
	step(false, time.Minute)
	step(true, time.Minute)
	step(true, time.Minute)
	step(false, time.Minute)
	step(false, time.Minute)
	step(true, -time.Minute) // a clock that goes back
	if got := a.read(now); got != time.Hour+2*time.Minute {
		t.Errorf("%s", got)
	}
}
