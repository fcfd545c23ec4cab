package ingress

import (
	"math"
	"sync/atomic"
	"time"
)

// limiter lets a number of things pass per second, and some at once. It is a leaky bucket kept as the one time at which
// the bucket will be empty (GCRA), so that taking from it is one compare-and-swap.
type limiter struct {
	interval int64 // nanoseconds that one thing fills
	depth    int64 // nanoseconds that fit
	empty    atomic.Int64
}

func newLimiter(perSecond, burst float64) *limiter {
	interval := math.Max(1, float64(time.Second)/perSecond)
	interval = math.Min(interval, float64(24*time.Hour))
	depth := math.Min(interval*math.Max(burst, 1), float64(30*24*time.Hour))
	return &limiter{interval: int64(interval), depth: int64(depth)}
}

// take reports whether one more may pass at now, or else how long it has to wait.
func (l *limiter) take(now time.Time) (wait time.Duration, ok bool) {
	t := now.UnixNano()
	for {
		old := l.empty.Load()
		from := max(old, t)
		if old-t > l.depth+int64(time.Second) {
			from = t // the clock was set back; that must not hold things up for as long as it jumped
		}
		next := from + l.interval
		if over := next - t - l.depth; over > 0 {
			return time.Duration(over), false
		}
		if l.empty.CompareAndSwap(old, next) {
			return 0, true
		}
	}
}
