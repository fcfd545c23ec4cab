package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/grapnelhq/grapnel/sdk"
	pluginv1 "github.com/grapnelhq/grapnel/sdk/proto/grapnel/plugin/v1"
)

// ErrNotReady is wrapped by the errors of calls that were not made: nothing is known about their items, and nobody is
// to be charged. WaitReady returns when another try makes sense.
var ErrNotReady = errors.New("the plugin is not ready")

// instance is one configured block in the process of one program. It outlives the restarts of the process; a swap of the
// program makes another one.
type instance struct {
	p        *process
	block    string // the block's second label
	config   []byte
	maxBatch int    // deliveries per call
	fill     []byte // members that every message gets, `,"name":value`: the routes do not know their defaults yet
	calls    gate   // uses by the block, from Handle.enter to their end, quarantine included

	current atomic.Pointer[opened] // nil: not ready
	closing atomic.Bool
	suspect atomic.Bool // a process died while it was opened there
	trial   atomic.Bool // it may be taken back: what dies in it is nobody's fault and is tried again

	mu      sync.Mutex
	changed chan struct{} // closed and replaced when current changes
	reason  string        // why it is not ready
	attrs   []sdk.AttributeError
	first   chan struct{} // closed after the first attempt to open it
	tried   bool
	gone    chan struct{} // closed by close
}

// opened is an instance in a process.
type opened struct {
	c  *child
	id string
}

func newInstance(p *process, block string, config []byte) *instance {
	return &instance{
		p: p, block: block, config: config, maxBatch: max(p.info.MaxBatch, 1), reason: "it was not opened yet",
		changed: make(chan struct{}), first: make(chan struct{}), gone: make(chan struct{}),
	}
}

// acquire begins a call; release ends it.
func (i *instance) acquire() (*opened, error) {
	if o := i.current.Load(); o != nil && o.c.calls.enter() {
		return o, nil
	}
	return nil, fmt.Errorf("%w: %s", ErrNotReady, i.why())
}

func (i *instance) release(o *opened) { o.c.calls.exit() }

func (i *instance) faulty(what string) string {
	return fmt.Sprintf("plugin %q is faulty: %s", i.p.info.Name, what)
}

// why says why the instance is not ready; empty if it is.
func (i *instance) why() string {
	why, _ := i.state()
	return why
}

// state says why the instance is not ready, and with it what is wrong with its configuration, if it is that.
func (i *instance) state() (why string, attrs []sdk.AttributeError) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.current.Load() != nil {
		return "", nil
	}
	return i.reason, i.attrs
}

// errMoved says that the block lives in another instance by now.
var errMoved = errors.New("it has moved")

// waitReady returns nil when the instance is open in a process that takes calls, errMoved when moved is closed before.
func (i *instance) waitReady(ctx context.Context, moved <-chan struct{}) error {
	for {
		i.mu.Lock()
		ready, changed, reason := i.current.Load() != nil, i.changed, i.reason
		i.mu.Unlock()
		if ready {
			return nil
		}
		select {
		case <-changed:
		case <-moved:
			return errMoved
		case <-i.gone:
			return fmt.Errorf("%w: %s is closed", ErrNotReady, i.block)
		case <-ctx.Done():
			return fmt.Errorf("%w (%s): %w", ErrNotReady, reason, context.Cause(ctx))
		}
	}
}

// set makes the instance ready.
func (i *instance) set(o *opened) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.conclude()
	if o.c.calls.isShut() { // It began to drain meanwhile; unset may have come before.
		return
	}
	i.current.Store(o)
	i.reason, i.attrs = "", nil
	i.wake()
}

// unset makes the instance not ready, if it was open in c.
func (i *instance) unset(c *child, reason string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if o := i.current.Load(); o != nil && o.c != c {
		return
	}
	i.current.Store(nil)
	i.reason = reason
	i.wake()
}

// fail records an attempt to open that failed.
func (i *instance) fail(reason string, attrs []sdk.AttributeError) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.reason, i.attrs = reason, attrs
	i.conclude()
}

func (i *instance) conclude() {
	if !i.tried {
		i.tried = true
		close(i.first)
	}
}

func (i *instance) wake() {
	close(i.changed)
	i.changed = make(chan struct{})
}

// openIn opens the instance in a process, again and again with growing pauses until it is open, closed, or the
// process is gone. tried is called once, after the first attempt. An instance whose Open was under way when a process
// died may be what killed it: it is opened in quarantine first, so that the process's other instances do not suffer
// from it again.
func (i *instance) openIn(c *child, tried func()) {
	for n := 0; ; n++ {
		var id string
		var attrs []sdk.AttributeError
		err := i.clear()
		if err == nil {
			id, attrs, err = i.open(c)
		}
		switch {
		case err == nil:
			i.set(&opened{c: c, id: id})
		case errors.Is(err, errDied):
			i.suspect.Store(true)
		case len(attrs) > 0:
			i.fail("its configuration is refused: "+attrs[0].Error(), attrs)
		default:
			i.fail(err.Error(), nil)
		}
		if n == 0 {
			tried()
		}
		if errors.Is(err, errDied) {
			return
		}
		if err == nil {
			select {
			case <-i.gone: // Closed meanwhile, and the closer has not seen this process.
				i.closeIn(c, id)
			default:
			}
			return
		}
		pause := min(i.p.h.openRetry<<min(n, 10), maxOpenRetry)
		pause = pause/2 + time.Duration(i.p.h.random()*float64(pause/2))
		i.p.log.Warn("cannot open a plugin's instance", "block", i.block, "error", err, "retry_in", roundly(pause))
		select {
		case <-time.After(pause):
		case <-c.exited:
			return
		case <-i.gone:
			return
		case <-i.p.ctx.Done():
			return
		}
	}
}

// errDied says that the process ended while an instance was being opened in it.
var errDied = errors.New("the process died")

// clear opens a suspect in quarantine. nil: it is no suspect, or not any more.
func (i *instance) clear() error {
	if !i.suspect.Load() {
		return nil
	}
	lane := i.p.apart
	err := lane.use(i.p.ctx, func(c *child) error {
		_, err := lane.open(c, i)
		if errors.Is(err, errDied) {
			return fmt.Errorf("opening it kills the process: %s", i.p.redact.text(c.report()))
		}
		return err
	})
	if err == nil {
		i.suspect.Store(false)
	}
	return err
}

// open makes one attempt. Errors about attributes come as both.
func (i *instance) open(c *child) (id string, attrs []sdk.AttributeError, err error) {
	ctx, cancel := context.WithTimeout(i.p.ctx, i.p.h.openTimeout)
	defer cancel()
	// An id of its own per attempt: the plugin may still be busy with the last one.
	id = i.block + "-" + strconv.FormatInt(i.p.h.ids.Add(1), 10)
	r, err := c.plugin.Open(ctx, &pluginv1.OpenRequest{
		Context: i.p.callContext(), Instance: id, Name: i.block, Config: i.config,
	})
	switch {
	case err == nil:
	case overdue(ctx, err):
		c.probe()
		return "", nil, fmt.Errorf("Open gave no answer within %s", i.p.h.openTimeout)
	case ctx.Err() == nil && crashed(c, err):
		return "", nil, errDied
	default:
		return "", nil, errors.New(i.p.reason(brokenReason(err)))
	}
	i.p.logNotes(i.block, r.GetNotes())
	if attrs := attributeErrors(r.GetErrors(), i.p.redact); len(attrs) > 0 {
		return "", attrs, joinAttributes(attrs)
	}
	if why := r.GetUnavailable(); why != "" {
		return "", nil, errors.New(i.p.reason(why))
	}
	return id, nil, nil
}

// closeIn tells the process that the instance is over.
func (i *instance) closeIn(c *child, id string) {
	ctx, cancel := context.WithTimeout(context.Background(), i.p.h.closeTimeout)
	defer cancel()
	r, err := c.plugin.Close(ctx, &pluginv1.CloseRequest{Context: i.p.callContext(), Instance: id})
	if err != nil {
		i.p.log.Debug("a plugin's instance did not close well", "block", i.block, "error", err)
		return
	}
	i.p.logNotes(i.block, r.GetNotes())
}

// check asks the plugin to reach the far end.
func (i *instance) check(ctx context.Context) ([]sdk.AttributeError, error) {
	o, err := i.acquire()
	if err != nil {
		return nil, err
	}
	defer i.release(o)
	r, err := o.c.plugin.Check(ctx, &pluginv1.CheckRequest{Context: i.p.callContext(), Instance: o.id})
	if err != nil {
		return nil, fmt.Errorf("check: %s", i.p.redact.text(err.Error()))
	}
	i.p.logNotes(i.block, r.GetNotes())
	if attrs := attributeErrors(r.GetErrors(), i.p.redact); len(attrs) > 0 {
		return attrs, nil
	}
	if why := r.GetUnavailable(); why != "" {
		return nil, errors.New(i.p.reason(why))
	}
	return nil, nil
}

// close ends the instance: it awaits calls until ctx is done, closes it in its process, and gives the process up if
// it was the last.
func (i *instance) close(ctx context.Context) error {
	if !i.closing.CompareAndSwap(false, true) {
		return nil
	}
	idle := i.calls.drain(ctx, nil)
	close(i.gone)
	if o := i.current.Load(); o != nil {
		i.unset(o.c, "it is closed")
		select {
		case <-o.c.exited:
		default:
			i.closeIn(o.c, o.id)
		}
	}
	i.p.remove(i)
	if !idle {
		return fmt.Errorf("close %s: calls were still in flight: %w", i.block, context.Cause(ctx))
	}
	return nil
}

func joinAttributes(attrs []sdk.AttributeError) error {
	errs := make([]error, len(attrs))
	for i := range attrs {
		errs[i] = &attrs[i]
	}
	return errors.Join(errs...)
}

// attributeErrors takes a bounded number of errors, without secrets.
func attributeErrors(list []*pluginv1.AttributeError, redact *redactor) []sdk.AttributeError {
	var attrs []sdk.AttributeError
	for _, e := range list[:min(len(list), maxAttributeErrors)] {
		attrs = append(attrs, sdk.AttributeError{
			Path:    slices.Clone(e.GetPath()),
			Summary: clip(clean(redact.text(e.GetSummary())), maxReason),
			Detail:  clip(clean(redact.text(e.GetDetail())), maxReason),
		})
	}
	return attrs
}
