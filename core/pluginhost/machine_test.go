package pluginhost

import (
	"testing"
	"time"
)

// TestMachine walks through the picture of the package comment.
func TestMachine(t *testing.T) {
	type step struct {
		at    time.Duration // since the start
		ev    event
		state State
		act   actionKind
		wait  time.Duration
	}
	crash := func(n int) event { return event{kind: evCrash, crash: n, random: 1} }
	ev := func(k eventKind) event { return event{kind: k} }
	const s = time.Second
	for _, test := range []struct {
		name  string
		steps []step
	}{
		{"start and stop", []step{
			{0, ev(evStart), Starting, doLaunch, 0},
			{0, ev(evStart), Starting, doNothing, 0},
			{1 * s, ev(evReady), Ready, doNothing, 0},
			{2 * s, ev(evStop), Draining, doDrain, 0},
			{3 * s, ev(evDrained), Stopped, doNothing, 0},
			{4 * s, ev(evTimer), Stopped, doNothing, 0},
			{4 * s, crash(1), Stopped, doNothing, 0},
			{5 * s, ev(evStart), Starting, doLaunch, 0},
		}},
		{"restart at once, then after a pause, then failed, then probes", []step{
			{0, ev(evStart), Starting, doLaunch, 0},
			{1 * s, ev(evReady), Ready, doNothing, 0},
			{2 * s, crash(1), Starting, doLaunch, 0},
			{3 * s, ev(evReady), Ready, doNothing, 0},
			{4 * s, crash(2), Backoff, doWait, 500 * time.Millisecond},
			{5 * s, ev(evReady), Backoff, doNothing, 0},
			{5 * s, ev(evTimer), Starting, doLaunch, 0},
			{6 * s, crash(3), Failed, doWait, 30 * s},
			{36 * s, ev(evTimer), Failed, doLaunch, 0},
			{37 * s, crash(4), Failed, doWait, 30 * s},
			{67 * s, ev(evTimer), Failed, doLaunch, 0},
			{68 * s, ev(evReady), Ready, doNothing, 0},
			// One more within a minute of two others.
			{69 * s, crash(5), Backoff, doWait, 4 * s},
		}},
		{"slow crashes back off and do not fail", []step{
			{0, ev(evStart), Starting, doLaunch, 0},
			{0, ev(evReady), Ready, doNothing, 0},
			{31 * s, crash(1), Starting, doLaunch, 0},
			{31 * s, ev(evReady), Ready, doNothing, 0},
			{62 * s, crash(2), Backoff, doWait, 500 * time.Millisecond},
			{63 * s, ev(evTimer), Starting, doLaunch, 0},
			{63 * s, ev(evReady), Ready, doNothing, 0},
			{94 * s, crash(3), Backoff, doWait, 1 * s},
			{95 * s, ev(evTimer), Starting, doLaunch, 0},
			{95 * s, ev(evReady), Ready, doNothing, 0},
			{155 * s, crash(4), Starting, doLaunch, 0}, // up for a minute: all is forgotten
		}},
		{"a process that never starts", []step{
			{0, ev(evStart), Starting, doLaunch, 0},
			{0, crash(1), Starting, doLaunch, 0},
			{0, crash(2), Backoff, doWait, 500 * time.Millisecond},
			{1 * s, ev(evTimer), Starting, doLaunch, 0},
			{1 * s, crash(3), Failed, doWait, 30 * s},
			{2 * s, ev(evStop), Stopped, doNothing, 0},
		}},
		{"recycle", []step{
			{0, ev(evStart), Starting, doLaunch, 0},
			{0, ev(evRecycle), Starting, doNothing, 0},
			{0, ev(evReady), Ready, doNothing, 0},
			{1 * s, ev(evRecycle), Draining, doDrain, 0},
			{1 * s, ev(evRecycle), Draining, doNothing, 0},
			{2 * s, ev(evDrained), Starting, doLaunch, 0},
			{2 * s, ev(evReady), Ready, doNothing, 0},
			{3 * s, ev(evRecycle), Draining, doDrain, 0},
			{3 * s, crash(1), Starting, doLaunch, 0}, // died while it drained: replaced all the same, not counted
			{3 * s, ev(evReady), Ready, doNothing, 0},
			{4 * s, ev(evRecycle), Draining, doDrain, 0},
			{4 * s, ev(evStop), Draining, doNothing, 0},
			{5 * s, ev(evDrained), Stopped, doNothing, 0},
		}},
		{"an instance comes while the last one is going", []step{
			{0, ev(evStart), Starting, doLaunch, 0},
			{0, ev(evReady), Ready, doNothing, 0},
			{1 * s, ev(evStop), Draining, doDrain, 0},
			{1 * s, ev(evStart), Draining, doNothing, 0},
			{2 * s, ev(evDrained), Starting, doLaunch, 0},
		}},
		{"stop while it starts, waits, probes", []step{
			{0, ev(evStart), Starting, doLaunch, 0},
			{0, ev(evStop), Draining, doDrain, 0},
			{0, crash(1), Stopped, doNothing, 0},
			{1 * s, ev(evStart), Starting, doLaunch, 0},
			{1 * s, crash(2), Starting, doLaunch, 0},
			{1 * s, crash(3), Backoff, doWait, 500 * time.Millisecond},
			{1 * s, ev(evStop), Stopped, doNothing, 0},
			{2 * s, ev(evStart), Starting, doLaunch, 0},
			{2 * s, crash(4), Failed, doWait, 30 * s},
			{32 * s, ev(evTimer), Failed, doLaunch, 0},
			{33 * s, ev(evStop), Draining, doDrain, 0},
			{34 * s, ev(evDrained), Stopped, doNothing, 0},
		}},
		{"explained crashes do not count", []step{
			{0, ev(evStart), Starting, doLaunch, 0},
			{0, ev(evReady), Ready, doNothing, 0},
			{1 * s, crash(1), Starting, doLaunch, 0},
			{1 * s, event{kind: evExplained, crash: 1}, Starting, doNothing, 0},
			{1 * s, event{kind: evExplained, crash: 1}, Starting, doNothing, 0},
			{1 * s, ev(evReady), Ready, doNothing, 0},
			{2 * s, crash(2), Starting, doLaunch, 0},
			{2 * s, ev(evReady), Ready, doNothing, 0},
			{3 * s, crash(3), Backoff, doWait, 500 * time.Millisecond},
			{4 * s, ev(evTimer), Starting, doLaunch, 0},
			{4 * s, ev(evReady), Ready, doNothing, 0},
			{5 * s, crash(4), Failed, doWait, 30 * s},
			{6 * s, event{kind: evExplained, crash: 4}, Starting, doLaunch, 0},
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newMachine(defaultPolicy())
			start := time.Unix(1_800_000_000, 0)
			for i, step := range test.steps {
				var act action
				m, act = m.next(step.ev, start.Add(step.at))
				if m.state != step.state || act.kind != step.act || act.wait != step.wait {
					t.Fatalf("step %d, %s: %s, %q, %s; want %s, %q, %s",
						i, step.ev.kind, m.state, act.kind, act.wait, step.state, step.act, step.wait)
				}
			}
		})
	}
}

// TestMachineIsPure shows that a machine that was kept is not changed by what came after.
func TestMachineIsPure(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	a, _ := newMachine(defaultPolicy()).next(event{kind: evStart}, now)
	a, _ = a.next(event{kind: evCrash, crash: 1}, now)
	b, _ := a.next(event{kind: evCrash, crash: 2}, now)
	c, _ := a.next(event{kind: evCrash, crash: 3}, now)
	if b.recent[1].number != 2 || c.recent[1].number != 3 || len(a.recent) != 1 {
		t.Errorf("machines share memory: %v %v %v", a.recent, b.recent, c.recent)
	}
}

func TestMachineJitter(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	for _, random := range []float64{0, 0.5, 0.999} {
		m, _ := newMachine(defaultPolicy()).next(event{kind: evStart}, now)
		m, _ = m.next(event{kind: evCrash, crash: 1}, now)
		_, act := m.next(event{kind: evCrash, crash: 2, random: random}, now)
		if act.wait < 250*time.Millisecond || act.wait > 500*time.Millisecond {
			t.Errorf("random %v: pause %s is not within half and whole", random, act.wait)
		}
	}
}
