package pluginhost

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/grapnelhq/grapnel/core"
	pluginv1 "github.com/grapnelhq/grapnel/sdk/proto/grapnel/plugin/v1"
)

const (
	maxReason          = 2 << 10 // bytes of a reason that a plugin gives
	maxReference       = 512
	maxNotes           = 16 // per answer
	maxNote            = 512
	maxAttributeErrors = 100
	faultLogPause      = time.Minute
)

// Crash is the end of a plugin process that nobody wanted.
type Crash struct {
	At     time.Time
	Reason string // how it ended, its panic and its last lines, without secrets
}

// process supervises the process of one binary: it runs the machine, owns the child, and keeps the instances.
type process struct {
	h      *Host
	key    string
	info   *core.PluginInfo
	sole   string // the block that has the process for itself; empty: shared
	log    hclog.Logger
	redact *redactor
	start  func(ctx context.Context) (*child, error)
	apart  *lane // quarantine
	users  int   // instances made or about to be; guarded by h.mu

	ctx     context.Context // ends when the host gives up on a clean end
	cancel  context.CancelFunc
	signals chan signal
	ended   chan struct{} // closed when the loop has ended

	mu        sync.Mutex
	m         machine
	gen       int // of the launch; a signal of an older one is stale
	child     *child
	launching context.CancelFunc
	launched  chan struct{} // closed when the launch is over, either way
	instances map[*instance]struct{}
	closing   bool // the loop ends when the machine stops
	changed   chan struct{}
	launches  int
	crashes   int
	last      Crash
	abandoned int
	faults    int
	faultTold time.Time
	drainBy   time.Time     // when a stop must be over; zero: the default
	trouble   chan struct{} // closed and replaced with every crash
	upgrade   string        // for Status
}

// signal is an event from the outside of the loop.
type signal struct {
	event
	gen int // 0: of no launch
}

func newProcess(h *Host, key string, info *core.PluginInfo, sole string, log hclog.Logger, redact *redactor,
	start, quarantine func(context.Context) (*child, error)) *process {
	ctx, cancel := context.WithCancel(context.Background())
	p := &process{
		h: h, key: key, info: info, sole: sole, log: log, redact: redact, start: start,
		ctx: ctx, cancel: cancel, signals: make(chan signal), ended: make(chan struct{}),
		m: newMachine(h.policy), instances: map[*instance]struct{}{}, changed: make(chan struct{}),
		trouble: make(chan struct{}),
	}
	p.apart = newLane(ctx, quarantine, h.laneIdle)
	go p.loop()
	return p
}

// loop runs the machine until the process is stopped and closing.
func (p *process) loop() {
	defer close(p.ended)
	defer p.cancel()
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	defer timer.Stop()
	for {
		var s signal
		select {
		case s = <-p.signals:
		case <-timer.C:
			s = signal{event: event{kind: evTimer}}
		}
		p.mu.Lock()
		if s.gen != 0 && s.gen != p.gen {
			p.mu.Unlock()
			continue
		}
		before := p.m.state
		var act action
		p.m, act = p.m.next(s.event, time.Now())
		state := p.m.state
		switch act.kind {
		case doLaunch:
			timer.Stop()
			p.launch()
		case doWait:
			timer.Reset(act.wait)
		case doDrain:
			p.drain()
		}
		closing := p.closing
		close(p.changed)
		p.changed = make(chan struct{})
		p.mu.Unlock()
		if state != before {
			p.tell(before, state, act)
		}
		if closing && state == Stopped {
			return
		}
	}
}

func (p *process) tell(before, state State, act action) {
	switch {
	case state == Failed:
		p.log.Error("plugin process failed, its sinks and sources wait", "next_start_in", roundly(act.wait))
	case state == Backoff:
		p.log.Warn("plugin process will be started again", "next_start_in", roundly(act.wait))
	case state == Ready:
		p.mu.Lock()
		c := p.child
		p.mu.Unlock()
		if c != nil {
			p.log.Info("plugin process is ready", "pid", c.pid, "version", p.info.Version)
		}
	default:
		p.log.Debug("plugin process", "state", state, "before", before)
	}
}

func roundly(d time.Duration) string { return d.Round(time.Millisecond).String() }

// send gives the loop an event. It must not be called with p.mu held.
func (p *process) send(s signal) {
	select {
	case p.signals <- s:
	case <-p.ended:
	}
}

// launch starts a process in the background. p.mu is held.
func (p *process) launch() {
	p.gen++
	gen := p.gen
	ctx, cancel := context.WithCancel(p.ctx)
	launched := make(chan struct{})
	p.launching, p.launched, p.child = cancel, launched, nil
	p.launches++
	go func() {
		defer cancel()
		c, err := p.start(ctx)
		if err != nil {
			close(launched)
			p.launchFailed(gen, err)
			return
		}
		p.mu.Lock()
		p.child = c
		var tried sync.WaitGroup
		for i := range p.instances {
			p.open(i, c, &tried)
		}
		p.mu.Unlock()
		close(launched)
		go p.watch(gen, c)
		tried.Wait()
		select {
		case <-c.exited: // Then this is no time to be ready.
			return
		default:
		}
		p.send(signal{event{kind: evReady}, gen})
	}()
}

// open opens an instance in c, in the background. p.mu is held.
func (p *process) open(i *instance, c *child, tried *sync.WaitGroup) {
	tried.Add(1)
	go i.openIn(c, tried.Done)
}

func (p *process) launchFailed(gen int, err error) {
	if p.ctx.Err() == nil && !errors.Is(err, context.Canceled) {
		p.log.Error("cannot start the plugin", "error", err)
	}
	number := p.crashed(gen, "it does not start: "+err.Error())
	p.send(signal{event{kind: evCrash, crash: number, random: p.h.random()}, gen})
}

// crashed records a crash and makes the instances wait.
func (p *process) crashed(gen int, reason string) (number int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.crashes++
	close(p.trouble)
	p.trouble = make(chan struct{})
	p.last = Crash{At: time.Now(), Reason: reason}
	for i := range p.instances {
		if p.gen == gen {
			i.fail(reason, nil)
		}
	}
	return p.crashes
}

// watch sees the end of a child and keeps it within its limits.
func (p *process) watch(gen int, c *child) {
	var poll <-chan time.Time
	if p.h.memoryLimit > 0 {
		ticker := time.NewTicker(p.h.memoryPoll)
		defer ticker.Stop()
		poll = ticker.C
	}
	told := false
	for {
		select {
		case <-poll:
			used := residentBytes(c.pid)
			switch {
			case used > 2*p.h.memoryLimit:
				c.die(tooMuchMemory(used, p.h.memoryLimit))
			case used > p.h.memoryLimit && !told:
				told = true
				p.log.Warn("plugin process is replaced because it uses too much memory",
					"rss_mib", used>>20, "limit_mib", p.h.memoryLimit>>20)
				p.send(signal{event{kind: evRecycle}, gen})
			}
			continue
		case <-c.exited:
		}
		break
	}
	c.calls.shut()
	if c.stopping.Load() {
		close(c.counted)
		return
	}
	reason := c.report()
	p.log.Error("plugin process died", "pid", c.pid, "reason", clean(reason))
	number := p.crashed(gen, reason)
	c.crash = number
	p.mu.Lock()
	for i := range p.instances {
		i.unset(c, reason)
	}
	if p.child == c {
		p.child = nil
	}
	p.mu.Unlock()
	p.send(signal{event{kind: evCrash, crash: number, random: p.h.random()}, gen})
	close(c.counted)
	c.shutdown()
}

// drain ends the child in the background: no new calls, wait for those in flight, close the instances, stop. p.mu is
// held.
func (p *process) drain() {
	gen, launched := p.gen, p.launched
	p.launching()
	by := p.drainBy
	if by.IsZero() {
		by = time.Now().Add(p.h.drainTimeout)
	}
	go func() {
		ctx, cancel := context.WithDeadline(p.ctx, by)
		defer cancel()
		<-launched
		p.mu.Lock()
		c := p.child
		p.mu.Unlock()
		if c == nil { // The launch ended with a crash, or it has died since: that signal is under way.
			return
		}
		c.calls.shut()
		var open []*instance
		var ids []string
		p.mu.Lock()
		for i := range p.instances {
			if o := i.current.Load(); o != nil && o.c == c {
				open, ids = append(open, i), append(ids, o.id)
			}
			i.unset(c, "its process is being replaced")
		}
		p.mu.Unlock()
		if !c.calls.drain(ctx, c.exited) {
			p.log.Warn("plugin process is stopped with calls in flight", "pid", c.pid, "calls", c.calls.inFlight())
		}
		select {
		case <-c.exited:
			if !c.stopping.Load() {
				return // watch takes it for what it is: a crash.
			}
			open = nil
		default:
		}
		c.stopping.Store(true)
		var wg sync.WaitGroup
		for n, i := range open {
			wg.Go(func() { i.closeIn(c, ids[n]) })
		}
		wg.Wait()
		c.stop(ctx)
		p.mu.Lock()
		if p.child == c {
			p.child = nil
		}
		p.mu.Unlock()
		p.send(signal{event{kind: evDrained}, gen})
	}()
}

// add makes an instance part of the process.
func (p *process) add(i *instance) {
	p.mu.Lock()
	p.instances[i] = struct{}{}
	c := p.child
	if c != nil && !c.calls.isShut() {
		go i.openIn(c, func() {})
	}
	p.mu.Unlock()
	p.send(signal{event: event{kind: evStart}})
}

// remove takes an instance out; the host stops a process that has none left.
func (p *process) remove(i *instance) {
	p.mu.Lock()
	delete(p.instances, i)
	p.mu.Unlock()
	p.h.release(p)
}

// stop ends the process for good. It returns when all of it is gone, by ctx's deadline or soon after.
func (p *process) stop(ctx context.Context) {
	p.mu.Lock()
	p.closing = true
	if by, ok := ctx.Deadline(); ok {
		p.drainBy = by
	}
	for i := range p.instances {
		i.fail("the host closes", nil)
	}
	p.mu.Unlock()
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		p.send(signal{event: event{kind: evStop}})
		<-p.ended
		p.apart.stop(ctx)
	}()
	select {
	case <-stopped:
		return
	case <-ctx.Done():
	}
	p.cancel()
	p.mu.Lock()
	if c := p.child; c != nil {
		c.stopping.Store(true)
		c.kill()
	}
	p.mu.Unlock()
	<-stopped
}

// explained takes a crash back that quarantine found the cause of.
func (p *process) explained(c *child) {
	select {
	case <-c.counted:
		p.send(signal{event: event{kind: evExplained, crash: c.crash}})
	case <-p.ended:
	}
}

// gaveUp counts a call that got no answer in time, and sees whether the process is still healthy.
func (p *process) gaveUp(c *child) {
	p.mu.Lock()
	p.abandoned++
	gen := p.gen
	current := p.child == c
	p.mu.Unlock()
	c.probe()
	if n := c.abandoned.Add(1); current && int(n) == p.h.abandonedLimit {
		p.log.Warn("plugin process is replaced because too many of its calls were given up", "calls", n)
		p.send(signal{event{kind: evRecycle}, gen})
	}
}

// fault counts an answer that breaks the contract and tells it once in a while.
func (p *process) fault(what string) {
	p.mu.Lock()
	p.faults++
	n, tell := p.faults, time.Since(p.faultTold) >= faultLogPause
	if tell {
		p.faultTold = time.Now()
	}
	p.mu.Unlock()
	if tell {
		p.log.Error("plugin is faulty: its answer breaks the contract", "fault", what, "faults", n)
	}
}

// reason makes a text of the plugin fit to be kept and shown.
func (p *process) reason(s string) string {
	if s == "" {
		return ""
	}
	return clip(clean(p.redact.text(s)), maxReason)
}

func (p *process) notes(dst []string, notes []*pluginv1.Note) []string {
	for _, n := range notes {
		if len(dst) == maxNotes {
			break
		}
		if m := n.GetMessage(); m != "" {
			dst = append(dst, clip(clean(p.redact.text(m)), maxNote))
		}
	}
	return dst
}

func (p *process) logNotes(block string, notes []*pluginv1.Note) {
	for _, n := range notes[:min(len(notes), maxNotes)] {
		level := hclog.Info
		if n.GetLevel() == pluginv1.Note_LEVEL_WARN {
			level = hclog.Warn
		}
		p.log.Log(level, "plugin remarks", "block", block, "note", clip(clean(p.redact.text(n.GetMessage())), maxNote))
	}
}

func (p *process) callContext() *pluginv1.CallContext { return p.h.callContext.Load() }

// state returns the machine's state.
func (p *process) state() State {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.m.state
}
