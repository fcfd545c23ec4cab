package doctor

import (
	"context"
	"errors"
	"sync"
	"time"
)

// ErrNoAnswer is the result of a check that takes longer than anybody waits.
var ErrNoAnswer = errors.New("no answer in time")

// Probe makes a check for all who want to know its result, one at a time. Its fields are not changed after the first Ask.
type Probe struct {
	Check    func(ctx context.Context) error // called on a goroutine of its own; ctx ends after Patience
	Every    time.Duration                   // a result is good for so long
	Patience time.Duration                   // a check that takes longer has failed, though it may go on

	mu      sync.Mutex
	running *check // nil: none
	last    error
	at      time.Time // when the last check ended; zero: none has
}

type check struct {
	began time.Time
	done  chan struct{}
}

// Ask returns the newest result, or waits for one. It may be called from any number of goroutines; it returns within
// Patience, or with ctx's error when that ends before. While a check is stuck no further one begins.
func (p *Probe) Ask(ctx context.Context) error {
	p.mu.Lock()
	if p.running == nil {
		if !p.at.IsZero() && time.Since(p.at) < p.Every {
			defer p.mu.Unlock()
			return p.last
		}
		p.begin()
	}
	c := p.running
	p.mu.Unlock()
	left := time.NewTimer(p.Patience - time.Since(c.began))
	defer left.Stop()
	select {
	case <-c.done:
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.last
	case <-left.C:
		return ErrNoAnswer
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// begin starts a check; with mu.
func (p *Probe) begin() {
	c := &check{time.Now(), make(chan struct{})}
	p.running = c
	go func() {
		// Not the asker's: others go by the result as well.
		ctx, cancel := context.WithTimeout(context.Background(), p.Patience)
		defer cancel()
		err := p.Check(ctx)
		p.mu.Lock()
		defer p.mu.Unlock()
		p.running, p.last, p.at = nil, err, time.Now()
		close(c.done)
	}()
}
