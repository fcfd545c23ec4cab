package pluginhost

import (
	"context"
	"sync"
)

// gate counts calls in flight and closes for good. The zero value is open.
type gate struct {
	mu    sync.Mutex
	calls int
	idle  chan struct{} // not nil: closing; closed when no call is in flight
	rest  chan struct{} // not nil: closed when no call is in flight; the gate may be open
}

// enter begins a call; false: the gate is closed. exit ends it.
func (g *gate) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.idle != nil {
		return false
	}
	g.calls++
	return true
}

func (g *gate) exit() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.calls--
	if g.calls > 0 {
		return
	}
	if g.idle != nil {
		close(g.idle)
	}
	if g.rest != nil {
		close(g.rest)
		g.rest = nil
	}
}

// quiet returns a channel that is closed as soon as no call is in flight. The gate stays as it is.
func (g *gate) quiet() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.rest != nil {
		return g.rest
	}
	rest := make(chan struct{})
	if g.calls == 0 {
		close(rest)
	} else {
		g.rest = rest
	}
	return rest
}

func (g *gate) inFlight() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.calls
}

// shut closes the gate without waiting.
func (g *gate) shut() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.idle == nil {
		g.idle = make(chan struct{})
		if g.calls == 0 {
			close(g.idle)
		}
	}
	return g.idle
}

func (g *gate) isShut() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.idle != nil
}

// drain closes the gate and returns when no call is in flight (true), or gone is closed or ctx is done.
func (g *gate) drain(ctx context.Context, gone <-chan struct{}) bool {
	idle := g.shut()
	select {
	case <-idle:
		return true
	default:
	}
	select {
	case <-idle:
		return true
	case <-gone:
	case <-ctx.Done():
	}
	return false
}
