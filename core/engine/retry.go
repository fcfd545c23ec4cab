package engine

import (
	"math/rand/v2"
	"time"
)

// maxAfter is how long a sink can put a delivery off.
const maxAfter = 24 * time.Hour

// RetryPolicy says when a delivery that was not delivered is tried again. Zero fields take DefaultRetry's values.
type RetryPolicy struct {
	MaxAttempts int           // charged attempts before it is dead
	MaxAge      time.Duration // from the first attempt, in the sink's active time
	Min, Max    time.Duration // bounds of the exponential pause
}

// DefaultRetry tries for about three days.
var defaultRetry = RetryPolicy{MaxAttempts: 100, MaxAge: 72 * time.Hour, Min: time.Second, Max: time.Hour}

func (p RetryPolicy) withDefaults() RetryPolicy {
	if p.MaxAttempts == 0 {
		p.MaxAttempts = defaultRetry.MaxAttempts
	}
	if p.MaxAge == 0 {
		p.MaxAge = defaultRetry.MaxAge
	}
	if p.Min == 0 {
		p.Min = defaultRetry.Min
	}
	if p.Max == 0 {
		p.Max = defaultRetry.Max
	}
	return p
}

// pause is a pure function of the attempts charged so far (at least 1) and a random number in [0, 1): the pause before the
// next try. It is exponential with full jitter, and no shorter than after, the sink's own wish, of which at most maxAfter
// counts.
func (p RetryPolicy) pause(attempts int, after time.Duration, random float64) time.Duration {
	ceiling := p.Max
	if shift := attempts - 1; shift < 32 {
		ceiling = min(p.Min<<shift, p.Max)
	}
	return max(time.Duration(random*float64(ceiling)), min(after, maxAfter))
}

// random is the jitter's source.
func random() float64 { return rand.Float64() }
