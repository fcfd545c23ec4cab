package engine

import "time"

// activeTime counts how long a sink could be called: the clock of its deliveries' ages, which stands still while the sink
// is left alone. It goes on from what was stored, so it stands still while the host is down, too.
type activeTime struct {
	total time.Duration // up to since
	since time.Time     // zero: it stands still
}

func (a *activeTime) read(now time.Time) time.Duration {
	if a.since.IsZero() {
		return a.total
	}
	return a.total + max(now.Sub(a.since), 0)
}

// run lets it go on, or stops it.
func (a *activeTime) run(on bool, now time.Time) {
	if on == !a.since.IsZero() {
		return
	}
	a.total = a.read(now)
	a.since = time.Time{}
	if on {
		a.since = now
	}
}
