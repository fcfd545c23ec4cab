package engine

import (
	"context"
	"errors"
	"slices"
	"sync"

	"golang.org/x/time/rate"

	"github.com/grapnelhq/grapnel/core"
)

// A change of configuration puts other settings into the pipelines and dispatchers that stay, starts those that are new and
// ends those that are gone. Nothing waits for it:
//
//	pipeline     old settings: decode ─► route ─► commit, in accept order, then      new settings: decode ─► route ─► commit
//
//	dispatcher   calls under way ──► outcomes by the old settings
//	             ready, waiting  ──► if other routes rendered it: back to the store ──► claimed, rendered anew
//	             a new call      ──► by the new settings, for keys without a call under way
//
// The window of a dispatcher stays, and with it the order keys that are in a call: that is why order holds across a change
// without a pause. A pipeline takes the results of its batches in order, whoever decoded them.

// term is how long settings hold, and who still works by them. Whoever owns it guards it but for isOver and within.
type term struct {
	over context.Context // ends when others take their place
	stop context.CancelFunc
	uses int
	left func() // not nil: they are over; called when nobody works by them any more
}

func newTerm() term {
	over, stop := context.WithCancel(context.Background())
	return term{over: over, stop: stop}
}

// begin starts a use; end ends it.
func (t *term) begin() { t.uses++ }

func (t *term) end() {
	t.uses--
	t.finish()
}

// expire ends the term; left is called after its last use.
func (t *term) expire(left func()) {
	t.stop()
	t.left = left
	t.finish()
}

func (t *term) finish() {
	if t.uses == 0 && t.left != nil {
		t.left()
		t.left = nil
	}
}

func (t *term) isOver() bool { return t.over.Err() != nil }

// within is ctx that ends with the term, too.
func (t *term) within(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(t.over, cancel)
	return ctx, func() { stop(); cancel() }
}

// use returns the settings that hold, for a use of them; done ends it.
func (p *pipeline) use() *sourceConf {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conf.begin()
	return p.conf
}

func (p *pipeline) done(conf *sourceConf) {
	p.mu.Lock()
	defer p.mu.Unlock()
	conf.end()
}

// reconfigure puts other settings in the place of those that hold; left is called when nothing of the old ones is under way.
func (p *pipeline) reconfigure(s Source, left func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	old := p.conf
	p.conf = newSourceConf(s)
	old.expire(left)
}

func (d *dispatcher) done(conf *sinkConf) {
	d.mu.Lock()
	defer d.mu.Unlock()
	conf.end()
}

// holdsDead reports whether order keys wait after a dead letter.
func (d *dispatcher) holdsDead() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.conf.HoldDead
}

// reconfigure puts other settings in the place of those that hold; left is called when nothing of the old ones is under way.
// Another plugin is not judged by what the earlier one did. What it returns gives deliveries back, which may take a while.
func (d *dispatcher) reconfigure(s Sink, left func()) (giveBack func()) {
	next := newSinkConf(s)
	d.change(func() {
		old := d.conf
		d.conf = next
		switch {
		case d.limiter == nil || next.Rate <= 0:
			d.limiter = newLimiter(next.Rate)
		case next.Rate != old.Rate:
			d.limiter.SetLimit(rate.Limit(next.Rate))
			d.limiter.SetBurst(max(int(next.Rate), 1))
		}
		d.breaker.policy = next.Breaker
		if next.Plugin != old.Plugin {
			d.breaker.failures = 0
			if d.breaker.state != closed {
				d.breaker.close()
				d.onTrust = true
			}
		}
		if d.spawn != nil {
			d.spawn()
		}
		old.expire(left)
		giveBack = d.shedSoon()
	})
	return giveBack
}

// retire ends a dispatcher whose sink is gone: no new calls, and what waits goes back to the store. left is called after the
// last use of its settings, which may be before its last outcome is stored.
func (d *dispatcher) retire(left func()) (giveBack func()) {
	d.change(func() {
		d.retired = true
		d.conf.expire(left)
		giveBack = d.shedSoon()
	})
	d.stop()
	return giveBack
}

// outdated reports whether a delivery may not be called as it is: other routes rendered it than those that hold, or the sink
// is gone. d.mu is held.
func (d *dispatcher) outdated(dl *core.Delivery) bool {
	return d.retired || d.conf.Digest != "" && !dl.AsIs && dl.ConfigDigest != d.conf.Digest
}

// shed takes what is outdated out of memory, with all that waits behind it, and returns it. The caller gives it back and
// calls returned. d.mu is held.
func (d *dispatcher) shed() []core.DeliveryKey {
	var parked []core.DeliveryKey
	var heads []string
	for _, list := range []*[]*core.Delivery{&d.ready, &d.fresh} {
		*list = slices.DeleteFunc(*list, func(dl *core.Delivery) bool {
			if !d.outdated(dl) {
				return false
			}
			d.drop(dl)
			parked = append(parked, dl.Key)
			if dl.OrderKey != "" {
				heads = append(heads, dl.OrderKey)
			}
			return true
		})
	}
	for _, order := range heads {
		parked = append(parked, d.park(order)...)
	}
	for order, waiting := range d.keys { // behind one that is in a call, or stays
		if i := slices.IndexFunc(waiting, d.outdated); i >= 0 {
			for _, dl := range waiting[i:] {
				d.drop(dl)
				parked = append(parked, dl.Key)
			}
			d.keys[order] = waiting[:i:i]
		}
	}
	if len(parked) > 0 {
		d.behind = true
		d.returning += len(parked)
	}
	return parked
}

// shedSoon is shed, and a function that does the rest without d.mu.
func (d *dispatcher) shedSoon() func() {
	parked := d.shed()
	return func() {
		d.giveBack(parked)
		d.returned(len(parked))
	}
}

// members are the engine's pipelines and dispatchers, by name. A set is not changed: another takes its place.
type members struct {
	sources map[string]*pipeline
	sinks   map[string]*dispatcher
}

// ErrStopped says that the engine has stopped, or is about to.
var ErrStopped = errors.New("the engine has stopped")

// Apply makes the engine work by another configuration, which names all sources and sinks there are to be. Those of a name
// that there was before go on, with their memory, pauses and breakers, by their new settings; Sink.State is read of new
// ones only. What is under way ends by the old settings: drained is closed when all of it has. Deliveries in memory that
// other routes rendered (Sink.Digest) go back to the store and are rendered anew. Those of a sink that is gone wait there.
//
// It does not block for long, and may be called at any time after New, from any goroutine.
func (e *Engine) Apply(sources []Source, sinks []Sink) (drained <-chan struct{}, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stopped {
		return nil, ErrStopped
	}
	var old sync.WaitGroup // settings, and pipelines and dispatchers, that are still at work
	done := make(chan struct{})
	now := *e.members.Load()
	next := members{map[string]*pipeline{}, map[string]*dispatcher{}}
	var begin []func()
	for _, s := range sinks {
		if d := now.sinks[s.Name]; d != nil {
			next.sinks[s.Name] = d
			continue
		}
		d := e.newDispatcher(s)
		next.sinks[s.Name] = d
		begin = append(begin, func() { e.startSink(d) })
	}
	for _, s := range sources {
		if p := now.sources[s.Name]; p != nil {
			next.sources[s.Name] = p
			continue
		}
		p := e.newPipeline(s)
		next.sources[s.Name] = p
		begin = append(begin, func() { e.startSource(p) })
	}
	// First who takes, then who gives: a pipeline that routes by the new settings finds the dispatchers in theirs.
	e.members.Store(&next)
	var returns []func()
	for _, s := range sinks {
		if d := now.sinks[s.Name]; d != nil {
			old.Add(1)
			returns = append(returns, d.reconfigure(s, old.Done))
		}
	}
	for _, s := range sources {
		if p := now.sources[s.Name]; p != nil {
			old.Add(1)
			p.reconfigure(s, old.Done)
		}
	}
	for name, p := range now.sources {
		if next.sources[name] == nil {
			e.leave("source "+name, done, p.ended, &old)
			p.stop()
		}
	}
	for name, d := range now.sinks {
		if next.sinks[name] == nil {
			e.leave("sink "+name, done, d.ended, &old)
			old.Add(1)
			returns = append(returns, d.retire(old.Done))
		}
	}
	if e.running != nil {
		for _, start := range begin {
			start()
		}
	}
	e.working.Go(func() {
		for _, f := range returns {
			f()
		}
	})
	go func() {
		old.Wait()
		close(done)
	}()
	return done, nil
}

// leave notes that a pipeline or dispatcher leaves: whoever comes next under its name begins when done is closed. One that
// never came to begin has others before it. e.mu is held.
func (e *Engine) leave(name string, done, ended chan struct{}, old *sync.WaitGroup) {
	if e.running == nil { // it never began
		close(ended)
	}
	before := e.leaving[name]
	e.leaving[name] = done
	old.Go(func() {
		<-ended
		wait(context.Background(), before)
	})
}

// newDispatcher makes a dispatcher; it may have to wait for an earlier one of its name. e.mu is held.
func (e *Engine) newDispatcher(s Sink) *dispatcher {
	d := newDispatcher(s, e.store, e.clock, e.log.With("sink", s.Name))
	d.after, d.waits, d.onHold = e.leaving["sink "+s.Name], true, e.onHold
	d.ended, d.stop = make(chan struct{}), func() {}
	return d
}

// newPipeline is newDispatcher for a source.
func (e *Engine) newPipeline(s Source) *pipeline {
	p := newPipeline(s, e.store, e.sinks, e.log.With("source", s.Name))
	p.after = e.leaving["source "+s.Name]
	p.ended, p.stop = make(chan struct{}), func() {}
	return p
}

// startSink lets a dispatcher work. e.mu is held, and the engine runs.
func (e *Engine) startSink(d *dispatcher) {
	ctx, stop := context.WithCancel(e.running.ctx)
	d.stop = stop
	e.working.Go(func() {
		defer close(d.ended)
		defer stop()
		if wait(ctx, d.after) {
			d.run(ctx, e.running.calls)
		}
	})
}

// startSource lets a pipeline work. e.mu is held, and the engine runs.
func (e *Engine) startSource(p *pipeline) {
	taking, stop := context.WithCancel(e.running.ctx)
	p.stop = stop
	e.working.Go(func() {
		defer close(p.ended)
		defer stop()
		if wait(taking, p.after) {
			p.run(taking, e.running.ctx)
		}
	})
}

// wait waits until a channel is closed, if there is one; false: ctx ended before.
func wait(ctx context.Context, until <-chan struct{}) bool {
	if until == nil {
		return true
	}
	select {
	case <-until:
		return true
	case <-ctx.Done():
		return false
	}
}

// running is what Run gives to those that it starts.
type running struct {
	ctx   context.Context // ends when work is to end
	calls context.Context // ends when calls are to end
}
