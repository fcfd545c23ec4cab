package main

import (
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// maxLanes bounds the channels that a pacer knows at a time.
const maxLanes = 10_000

// pacer spaces the messages to each channel. All sinks of a process share one, since Slack counts by channel and app,
// not by block. A lane is what is spaced: a webhook, or a channel of a token.
type pacer struct {
	mu    sync.Mutex
	lanes map[laneKey]*lane
	most  int
}

type laneKey struct {
	account string // digest of the credential
	channel string
	every   time.Duration
}

type lane struct {
	turns  *rate.Limiter // nil: no spacing
	closed time.Time     // Slack wants nothing before
	tail   time.Time     // when the last one that was sent away may come back
}

func newPacer() *pacer { return &pacer{lanes: map[laneKey]*lane{}, most: maxLanes} }

// enter waits for the lane's next turn and takes it. Where that comes after latest, it returns at once how long to stay
// away: each that is sent away gets a time of its own, so that they do not come back all together.
func (p *pacer) enter(ctx context.Context, key laneKey, latest time.Time) (away time.Duration, err error) {
	for {
		p.mu.Lock()
		now := time.Now()
		l := p.lane(key, now)
		if l == nil {
			p.mu.Unlock()
			return time.Second, nil
		}
		// Never earlier than the last time that the limiter was asked about: it could not cope with that.
		from := later(now, l.closed)
		at := from
		var turn *rate.Reservation
		if l.turns != nil {
			turn = l.turns.ReserveN(from, 1)
			at = from.Add(turn.DelayFrom(from))
		}
		if at.After(latest) {
			if turn != nil {
				turn.CancelAt(from)
			}
			back := later(l.tail, at)
			l.tail = back.Add(key.every)
			p.mu.Unlock()
			return back.Sub(now), nil
		}
		p.mu.Unlock()
		if err := sleepUntil(ctx, at); err != nil {
			if turn != nil {
				p.mu.Lock()
				turn.CancelAt(later(time.Now(), l.closed))
				p.mu.Unlock()
			}
			return 0, err
		}
		p.mu.Lock()
		shut := l.closed.After(time.Now()) // while it waited
		p.mu.Unlock()
		if !shut {
			return 0, nil
		}
	}
}

// shut lets nothing into a lane for a while.
func (p *pacer) shut(key laneKey, d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if l := p.lane(key, now); l != nil {
		l.closed = later(l.closed, now.Add(d))
	}
}

// lane finds or makes a lane; nil: there are too many. p.mu is held.
func (p *pacer) lane(key laneKey, now time.Time) *lane {
	if l := p.lanes[key]; l != nil {
		return l
	}
	if len(p.lanes) >= p.most {
		for k, l := range p.lanes {
			if l.idle(now) {
				delete(p.lanes, k)
			}
		}
		if len(p.lanes) >= p.most {
			return nil
		}
	}
	l := &lane{}
	if key.every > 0 {
		l.turns = rate.NewLimiter(rate.Every(key.every), 1)
	}
	p.lanes[key] = l
	return l
}

// idle reports whether a new lane would do as well.
func (l *lane) idle(now time.Time) bool {
	return !l.closed.After(now) && !l.tail.After(now) && (l.turns == nil || l.turns.TokensAt(now) >= 1)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func sleepUntil(ctx context.Context, at time.Time) error {
	d := time.Until(at)
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
