package engine

import (
	"sync"
	"time"
)

// clock is what due times are counted by: the wall clock, since they are stored, but for its steps backwards. Were it
// followed there, all that is due already would wait until it comes to that time again. A step forward stays for the same
// reason. Deliveries whose due times came from an earlier run of the host are made due at its start.
type clock struct {
	began time.Time

	mu    sync.Mutex
	ahead time.Duration // by which the wall clock was set forward since, at most
}

func newClock() *clock { return &clock{began: time.Now()} }

func (c *clock) now() time.Time {
	t := time.Now()
	return c.at(t.Round(0), t.Sub(c.began)) // the difference is that of the monotonic clock
}

// at is now, given what the wall clock shows and how much time has passed.
func (c *clock) at(wall time.Time, passed time.Duration) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	began := c.began.Round(0)
	c.ahead = max(c.ahead, wall.Sub(began)-passed)
	return began.Add(passed + c.ahead)
}
