package pluginhost

import "time"

// State is the state of a plugin process.
type State string

// The states of a plugin process; the package comment draws the transitions.
const (
	Stopped  State = "stopped"  // no process: nothing needs one, or the host closes
	Starting State = "starting" // launched, instances are being opened
	Ready    State = "ready"
	Draining State = "draining" // no new calls; those in flight are awaited
	Backoff  State = "backoff"  // died, will be started after a pause
	Failed   State = "failed"   // died three times within a minute; probed slowly
)

// policy holds the times of supervision.
type policy struct {
	backoff    time.Duration // pause before the second start in a row; doubles with each
	maxBackoff time.Duration
	window     time.Duration // crashes within it count together; being up for so long forgets them
	crashes    int           // so many within the window make it failed
	probe      time.Duration // between starts while failed
}

func defaultPolicy() policy {
	return policy{
		backoff: 500 * time.Millisecond, maxBackoff: 30 * time.Second,
		window: time.Minute, crashes: 3, probe: 30 * time.Second,
	}
}

type eventKind string

// What happens to a plugin process.
const (
	evStart     eventKind = "start"     // an instance needs it
	evReady     eventKind = "ready"     // launched, and each instance was tried
	evCrash     eventKind = "crash"     // it died, or could not be launched
	evTimer     eventKind = "timer"     // the pause of the last action is over
	evRecycle   eventKind = "recycle"   // it should be replaced by a fresh one
	evStop      eventKind = "stop"      // nothing needs it any more
	evDrained   eventKind = "drained"   // it drained and is gone
	evExplained eventKind = "explained" // quarantine showed that an item caused the crash with this number
)

type event struct {
	kind   eventKind
	crash  int     // evCrash, evExplained: the crash's number
	random float64 // evCrash: in [0, 1), for the jitter
}

type actionKind string

// What the supervisor does next.
const (
	doNothing actionKind = ""
	doLaunch  actionKind = "launch"
	doWait    actionKind = "wait" // then evTimer
	doDrain   actionKind = "drain"
)

type action struct {
	kind actionKind
	wait time.Duration
}

type crash struct {
	number int
	at     time.Time
}

// machine is the supervision of one process. It is a value: next returns the new one.
type machine struct {
	policy
	state   State
	recycle bool // draining: start again afterwards
	again   bool // draining to stop, but an instance came meanwhile: start again afterwards
	probing bool // failed: a probe is launched
	streak  int  // crashes since it was last up for a whole window
	ready   time.Time
	recent  []crash // within the window, oldest first
}

func newMachine(p policy) machine { return machine{policy: p, state: Stopped} }

// next is the state machine of the package comment. Events that mean nothing in a state change nothing.
func (m machine) next(ev event, now time.Time) (machine, action) {
	switch ev.kind {
	case evStart:
		switch {
		case m.state == Stopped:
			m.state = Starting
			return m, action{kind: doLaunch}
		case m.state == Draining:
			m.again = true
		}

	case evReady:
		if m.state == Starting || m.state == Failed && m.probing {
			m.state, m.probing, m.ready = Ready, false, now
		}

	case evCrash:
		return m.crashed(ev, now)

	case evTimer:
		switch {
		case m.state == Backoff:
			m.state = Starting
			return m, action{kind: doLaunch}
		case m.state == Failed && !m.probing:
			m.probing = true
			return m, action{kind: doLaunch}
		}

	case evRecycle:
		if m.state == Ready {
			m.state, m.recycle = Draining, true
			return m, action{kind: doDrain}
		}

	case evStop:
		switch m.state {
		case Ready, Starting:
			m.state, m.recycle, m.again = Draining, false, false
			return m, action{kind: doDrain}
		case Draining:
			m.recycle, m.again = false, false
		case Backoff:
			m.state = Stopped
		case Failed:
			if m.probing {
				m.state, m.probing, m.recycle, m.again = Draining, false, false, false
				return m, action{kind: doDrain}
			}
			m.state = Stopped
		}

	case evDrained:
		if m.state == Draining {
			return m.drained()
		}

	case evExplained:
		kept := make([]crash, 0, len(m.recent))
		for _, c := range m.recent {
			if c.number != ev.crash {
				kept = append(kept, c)
			}
		}
		if len(kept) == len(m.recent) {
			break
		}
		m.recent, m.streak = kept, max(m.streak-1, 0)
		if m.state == Failed && !m.probing && len(m.within(now)) < m.crashes {
			m.state = Starting
			return m, action{kind: doLaunch}
		}
	}
	return m, action{}
}

func (m machine) crashed(ev event, now time.Time) (machine, action) {
	switch m.state {
	case Stopped, Backoff:
		return m, action{}
	case Draining:
		return m.drained()
	case Ready:
		if now.Sub(m.ready) >= m.window {
			m.streak = 0
		}
	}
	m.streak++
	m.recent = append(m.within(now), crash{ev.crash, now})
	m.probing = false
	switch {
	case len(m.recent) >= m.crashes || m.state == Failed:
		m.state = Failed
		return m, action{doWait, m.probe}
	case m.streak == 1:
		m.state = Starting
		return m, action{kind: doLaunch}
	}
	m.state = Backoff
	pause := min(m.backoff<<min(m.streak-2, 16), m.maxBackoff)
	return m, action{doWait, pause/2 + time.Duration(ev.random*float64(pause/2))}
}

func (m machine) drained() (machine, action) {
	start := m.recycle || m.again
	m.recycle, m.again = false, false
	if start {
		m.state = Starting
		return m, action{kind: doLaunch}
	}
	m.state = Stopped
	return m, action{}
}

// within returns the crashes inside the window before now, in memory of its own.
func (m machine) within(now time.Time) []crash {
	recent := make([]crash, 0, len(m.recent)+1)
	for _, c := range m.recent {
		if now.Sub(c.at) < m.window {
			recent = append(recent, c)
		}
	}
	return recent
}
