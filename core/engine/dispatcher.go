package engine

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/store"
	"github.com/grapnelhq/grapnel/sdk"
)

const (
	windowDeliveries = 4096     // deliveries of a sink held in memory before the rest is left to the store
	windowBytes      = 32 << 20 // likewise, messages and event data
	claimBatch       = 512      // deliveries per claim from the store
	settleBatch      = 512      // settlements per commit of a sink
	settleQueue      = 8        // calls whose outcomes may wait for their commit before new calls wait too
	callBytes        = 8 << 20  // messages and event data per call

	// A sink that takes batches gets another call beside those under way when it would be a quarter full, or when the last
	// call went out this long ago: many small calls cost it more than one that is a little later.
	besideShare = 4
	besideAfter = 5 * time.Millisecond

	firstSuspension = 5 * time.Second // pause of a suspended sink before a probe; doubles up to
	lastSuspension  = 5 * time.Minute
)

// dispatcher calls one sink. It holds a bounded window of leased deliveries:
//
//	ready    in accept order, next to be called
//	keys     the order keys of which a delivery is ready or in a call, with those that wait behind it
//
// A delivery that has to wait (a retry) goes back to the store, and with it what waits behind its key, so that memory holds
// nothing that is not about to be called. From then on the dispatcher is behind: new deliveries are left to the store, and
// claims bring them in, which is how order holds across retries. It is no longer behind when a claim left nothing.
type dispatcher struct {
	Sink
	store Store
	log   hclog.Logger

	mu       sync.Mutex
	changed  *sync.Cond
	stopping bool
	onHold   bool // by the host: no calls
	ready    []*core.Delivery
	keys     map[string][]*core.Delivery // waiting deliveries by order key; the key is there while one is ready or in a call
	inMemory int                         // deliveries: reserved, ready, waiting, in calls
	bytes    int
	inFlight int       // deliveries in calls
	calls    int       // under way
	lastCall time.Time // when the last one went out
	waking   bool      // a timer will look whether another call may go out

	behind    bool
	left      int // deliveries left to the store so far, counted when a claim can find them
	returning int // deliveries on their way there: a commit or the end of a lease is under way
	claiming  chan struct{}

	suspended string // why
	pause     time.Duration
	until     time.Time // suspended: no call before
	probing   bool      // suspended: one call is out to see
}

// handed is what a pipeline's commit means for a sink.
type handed struct {
	leased    []*core.Delivery // committed, leased to this dispatcher
	withdrawn []*core.Delivery // had room reserved, were not committed
	left      int              // left to the store, committed or not
}

// settled pairs outcomes with what the window has to do once they are committed.
type settled struct {
	settlements []store.Settlement
	after       func() // after the commit, may be nil
}

func newDispatcher(s Sink, st Store, log hclog.Logger) *dispatcher {
	s.Retry = s.Retry.withDefaults()
	s.Batch, s.Concurrency = max(s.Batch, 1), max(s.Concurrency, 1)
	if s.Timeout == 0 {
		s.Timeout = 30 * time.Second
	}
	d := &dispatcher{
		Sink: s, store: st, log: log,
		keys: map[string][]*core.Delivery{}, behind: true, claiming: make(chan struct{}, 1),
	}
	d.changed = sync.NewCond(&d.mu)
	return d
}

func size(d *core.Delivery) int {
	n := len(d.Message) + 256
	if d.Event != nil {
		n += len(d.Event.Data)
	}
	return n
}

// reserve asks for room for a delivery that is about to be committed. true: commit it leased and hand it over; false: it
// is left to the store.
func (d *dispatcher) reserve(dl *core.Delivery) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := size(dl)
	if d.behind || d.inMemory >= windowDeliveries || d.bytes+n > windowBytes {
		d.behind = true
		d.returning++
		return false
	}
	d.inMemory++
	d.bytes += n
	return true
}

// handed takes over after the commit that follows reserve.
func (d *dispatcher) handed(h *handed) {
	var parked []core.DeliveryKey
	d.mu.Lock()
	for _, dl := range h.withdrawn {
		d.drop(dl)
	}
	for _, dl := range h.leased {
		if d.behind && dl.OrderKey != "" {
			// The dispatcher fell behind after it gave the room: an earlier delivery of this key may wait in the store.
			d.drop(dl)
			d.returning++
			parked = append(parked, dl.Key)
			continue
		}
		d.enqueue(dl)
	}
	d.mu.Unlock()
	d.changed.Broadcast()
	d.giveBack(parked)
	d.returned(h.left + len(parked))
}

// returned counts n deliveries, returning until now, as left to the store.
func (d *dispatcher) returned(n int) {
	if n == 0 {
		return
	}
	d.mu.Lock()
	d.returning -= n
	d.left += n
	d.mu.Unlock()
	d.claimSoon()
}

// giveBack ends leases without an outcome.
func (d *dispatcher) giveBack(keys []core.DeliveryKey) {
	if len(keys) == 0 {
		return
	}
	// The embedded store's leases are in its memory: this needs no disk, and a start frees them anyway.
	if err := d.store.Release(context.Background(), keys); err != nil {
		d.log.Error("cannot give leases back", "error", err)
	}
}

// fallBehind makes the dispatcher look into the store.
func (d *dispatcher) fallBehind() {
	d.mu.Lock()
	d.behind = true
	d.left++
	d.mu.Unlock()
	d.claimSoon()
}

func (d *dispatcher) claimSoon() {
	select {
	case d.claiming <- struct{}{}:
	default:
	}
}

// enqueue makes a held delivery ready, or lets it wait behind its key. d.mu is held.
func (d *dispatcher) enqueue(dl *core.Delivery) {
	if dl.OrderKey != "" {
		if waiting, busy := d.keys[dl.OrderKey]; busy {
			d.keys[dl.OrderKey] = append(waiting, dl)
			return
		}
		d.keys[dl.OrderKey] = nil
	}
	d.ready = append(d.ready, dl)
}

// drop forgets a held delivery. d.mu is held.
func (d *dispatcher) drop(dl *core.Delivery) {
	d.inMemory--
	d.bytes -= size(dl)
}

// release lets the next delivery of a key be called. d.mu is held.
func (d *dispatcher) release(key string) {
	if key == "" {
		return
	}
	waiting := d.keys[key]
	if len(waiting) == 0 {
		delete(d.keys, key)
		return
	}
	d.keys[key] = waiting[1:]
	d.ready = append(d.ready, waiting[0])
}

// park gives what waits behind a key back to the store and returns it. d.mu is held.
func (d *dispatcher) park(key string) []core.DeliveryKey {
	var parked []core.DeliveryKey
	for _, dl := range d.keys[key] {
		parked = append(parked, dl.Key)
		d.drop(dl)
	}
	delete(d.keys, key)
	return parked
}

func (d *dispatcher) status() Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	return Status{Sink: d.Name, InMemory: d.inMemory, InFlight: d.inFlight, Behind: d.behind, Suspended: d.suspended}
}

// run works until ctx ends; calls under way end with calls at the latest.
func (d *dispatcher) run(ctx, calls context.Context) {
	outcomes := make(chan settled, settleQueue)
	var settling, working sync.WaitGroup
	settling.Go(func() { d.settleAll(calls, outcomes) })
	working.Go(func() { d.claimAll(ctx) })
	for range d.Concurrency {
		working.Go(func() { d.work(ctx, calls, outcomes) })
	}
	defer context.AfterFunc(ctx, func() {
		d.mu.Lock()
		d.stopping = true
		d.mu.Unlock()
		d.changed.Broadcast()
	})()
	working.Wait()
	close(outcomes)
	settling.Wait()
}

// claimAll brings deliveries in from the store while the dispatcher is behind.
func (d *dispatcher) claimAll(ctx context.Context) {
	for failures := 0; ; {
		d.mu.Lock()
		behind, left := d.behind, d.left
		room := min(windowDeliveries-d.inMemory, claimBatch)
		full := room < claimBatch && d.inMemory > 0 || d.bytes >= windowBytes
		d.mu.Unlock()

		var next time.Time
		if behind && !full {
			ds, backlog, err := d.store.ClaimDeliveries(ctx, d.Name, time.Now(), room)
			var live []*core.Delivery
			if err == nil {
				live, err = d.renew(ctx, ds)
			}
			if err != nil {
				if ctx.Err() != nil {
					return
				}
				failures++
				d.log.Error("cannot claim deliveries from the store", "error", err)
				sleep(ctx, backoff(failures))
				continue
			}
			failures = 0
			d.mu.Lock()
			for _, dl := range live {
				d.inMemory++
				d.bytes += size(dl)
				d.enqueue(dl)
			}
			if !backlog.Left && d.left == left && d.returning == 0 {
				d.behind = false
			}
			d.mu.Unlock()
			if len(ds) > 0 {
				d.changed.Broadcast()
				continue
			}
			next = backlog.Next
		}
		// A clock that jumps must not make a due time wait for ever: look again at least every minute.
		pause := time.Minute
		if !next.IsZero() {
			pause = min(max(time.Until(next), time.Millisecond), pause)
		}
		timer := time.NewTimer(pause)
		select {
		case <-d.claiming:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

// renew brings claimed deliveries up to the running configuration and settles those that end by it. After an error all
// of them are back in the store.
func (d *dispatcher) renew(ctx context.Context, ds []*core.Delivery) ([]*core.Delivery, error) {
	if d.Renew == nil {
		return ds, nil
	}
	live := make([]*core.Delivery, 0, len(ds))
	var ended []store.Settlement
	var err error
	for _, dl := range ds {
		if err = d.Renew(ctx, dl); err != nil {
			err = fmt.Errorf("render %s: %w", dl.ID, err)
			break
		}
		if !dl.State.Settled() {
			live = append(live, dl)
			continue
		}
		ended = append(ended, store.Settlement{
			Key: dl.Key, State: dl.State, Crashes: dl.Crashes, Reason: dl.Reason, RouteRange: dl.RouteRange,
			Sink: d.Name, OrderKey: dl.OrderKey,
		})
		d.log.Warn("a delivery cannot be rendered by the configuration as it is now", "delivery_id", dl.ID,
			"route", dl.Route, "state", dl.State, "reason", dl.Reason)
	}
	if err == nil && len(ended) > 0 {
		err = d.store.Settle(ctx, ended)
	}
	if err != nil {
		var keys []core.DeliveryKey
		for _, dl := range ds {
			keys = append(keys, dl.Key)
		}
		d.giveBack(keys)
		return nil, err
	}
	return live, nil
}

// work calls the sink, one call at a time, until ctx ends.
func (d *dispatcher) work(ctx, calls context.Context, outcomes chan<- settled) {
	for {
		ds, probe := d.take(ctx)
		if ds == nil {
			return
		}
		if d.WantsState && !d.readStates(ctx, ds) {
			d.putBack(ds, probe)
			return
		}
		call, cancel := context.WithTimeout(calls, d.Timeout)
		started := time.Now()
		results, err := d.Plugin.Deliver(call, ds)
		took := time.Since(started)
		cancel()
		if err == nil && len(results) == len(ds) {
			outcomes <- d.apply(ds, results, probe, started, took)
			continue
		}
		d.putBack(ds, probe)
		if ctx.Err() != nil {
			return
		}
		d.log.Warn("the sink's plugin is not available, its deliveries wait", "error", err)
		if d.Plugin.WaitReady(ctx) != nil || !sleep(ctx, backoff(1)) {
			return
		}
	}
}

// take waits for ready deliveries and takes as many as go into one call; nil: ctx ended. The call may be the probe of a
// suspended sink.
func (d *dispatcher) take(ctx context.Context) (ds []*core.Delivery, probe bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for {
		if d.stopping || ctx.Err() != nil {
			return nil, false
		}
		if len(d.ready) > 0 && d.mayCall() {
			break
		}
		d.changed.Wait()
	}
	most := d.Batch
	if d.suspended != "" {
		d.probing, probe, most = true, true, 1
	}
	n, bytes := 0, 0
	for n < len(d.ready) && n < most && (n == 0 || bytes+size(d.ready[n]) <= callBytes) {
		bytes += size(d.ready[n])
		n++
	}
	ds = make([]*core.Delivery, n)
	copy(ds, d.ready)
	d.ready = append(d.ready[:0], d.ready[n:]...)
	d.inFlight += n
	d.calls++
	d.lastCall = time.Now()
	return ds, probe
}

// hold stops calls, or lets them go on.
func (d *dispatcher) hold(on bool) {
	d.mu.Lock()
	d.onHold = on
	d.mu.Unlock()
	d.changed.Broadcast()
}

// mayCall reports whether the sink may be called now; a suspended one is probed now and then. d.mu is held.
func (d *dispatcher) mayCall() bool {
	switch {
	case d.onHold:
		return false
	case d.suspended != "":
		return !d.probing && !time.Now().Before(d.until)
	case d.calls == 0 || len(d.ready) >= d.Batch/besideShare:
		return true
	}
	if wait := besideAfter - time.Since(d.lastCall); wait > 0 {
		if !d.waking {
			d.waking = true
			time.AfterFunc(wait, func() {
				d.mu.Lock()
				d.waking = false
				d.mu.Unlock()
				d.changed.Broadcast()
			})
		}
		return false
	}
	return true
}

// putBack returns deliveries to the head of ready: they were not called, or nothing is known of their call.
func (d *dispatcher) putBack(ds []*core.Delivery, probe bool) {
	d.mu.Lock()
	d.ready = append(append(make([]*core.Delivery, 0, len(ds)+len(d.ready)), ds...), d.ready...)
	d.inFlight -= len(ds)
	d.calls--
	d.probing = d.probing && !probe
	d.mu.Unlock()
	d.changed.Broadcast()
}

// readStates fills the keyed state of deliveries that did not come through a claim.
func (d *dispatcher) readStates(ctx context.Context, ds []*core.Delivery) bool {
	for _, dl := range ds {
		if dl.StateRead || dl.OrderKey == "" {
			continue
		}
		for failures := 1; ; failures++ {
			state, err := d.store.KeyState(ctx, d.Name, dl.OrderKey)
			if err == nil {
				dl.KeyState, dl.StateRead = state, true
				break
			}
			if ctx.Err() != nil {
				return false
			}
			d.log.Error("cannot read keyed state from the store", "error", err)
			sleep(ctx, backoff(failures))
		}
	}
	return true
}

// apply turns a call's outcomes into settlements and moves the window on. A delivery that is final frees its key at once,
// so that the next one does not wait for the commit; only a sink with keyed state has to.
func (d *dispatcher) apply(ds []*core.Delivery, results []core.Outcome, probe bool, started time.Time, took time.Duration) settled {
	out := settled{settlements: make([]store.Settlement, len(ds))}
	var parked []core.DeliveryKey // leases to give back
	var release []string          // keys to free
	retried := 0
	for i, dl := range ds {
		s := settlement(dl, results[i], d.Retry, started, took, random())
		if len(s.AttributePath) > 0 && d.Locate != nil {
			s.RouteRange = d.Locate(dl.Route, s.AttributePath)
		}
		out.settlements[i] = s
	}

	d.mu.Lock()
	d.inFlight -= len(ds)
	d.calls--
	for i, dl := range ds {
		d.drop(dl)
		switch s := &out.settlements[i]; {
		case !s.State.Settled():
			// It waits in the store from here on, and what comes after it under its key waits there too.
			d.behind = true
			retried++
			parked = append(parked, d.park(dl.OrderKey)...)
		case d.WantsState:
			release = append(release, dl.OrderKey)
		default:
			d.release(dl.OrderKey)
		}
	}
	d.returning += retried + len(parked)
	d.judge(results, probe)
	d.mu.Unlock()
	d.changed.Broadcast()

	for i, dl := range ds {
		switch s := &out.settlements[i]; s.State {
		case core.DeliveryDelivered:
		case core.DeliveryDead:
			d.log.Warn("the delivery is dead", "delivery_id", dl.ID, "route", dl.Route, "attempt", s.Attempt.Number,
				"outcome", s.Attempt.Outcome, "reason", s.Reason)
		default:
			d.log.Info("delivery attempted", "delivery_id", dl.ID, "route", dl.Route, "attempt", s.Attempt.Number,
				"outcome", s.Attempt.Outcome, "state", s.State, "reason", s.Reason)
		}
	}
	if retried > 0 || len(release) > 0 {
		out.after = func() {
			d.giveBack(parked)
			d.returned(retried + len(parked))
			d.releaseAll(release)
		}
	}
	return out
}

// judge suspends or resumes the sink by the outcomes of a call. Only a probe makes the pause longer: calls that were out
// together say the same thing once. d.mu is held.
func (d *dispatcher) judge(results []core.Outcome, probe bool) {
	reason := ""
	for _, o := range results {
		if o.Kind == sdk.Suspended {
			reason = cmp.Or(o.Reason, "the sink asked for it")
		}
	}
	switch {
	case reason != "" && (probe || d.suspended == ""):
		d.pause = min(max(2*d.pause, firstSuspension), lastSuspension)
		if d.suspended != reason {
			d.log.Error("the sink is suspended, its deliveries wait", "reason", reason, "probe_in", d.pause)
		}
		d.suspended, d.until = reason, time.Now().Add(d.pause)
		time.AfterFunc(d.pause, d.changed.Broadcast)
	case reason == "" && probe:
		d.log.Info("the sink works again")
		d.suspended, d.pause = "", 0
	}
	d.probing = d.probing && !probe
}

func (d *dispatcher) releaseAll(keys []string) {
	if len(keys) == 0 {
		return
	}
	d.mu.Lock()
	for _, key := range keys {
		d.release(key)
	}
	d.mu.Unlock()
	d.changed.Broadcast()
}

// settleAll commits outcomes until the channel is closed. An outcome that cannot be stored is tried again until calls
// end: its delivery stays leased, so that nothing comes twice for lack of space.
func (d *dispatcher) settleAll(calls context.Context, outcomes <-chan settled) {
	for first := range outcomes {
		group := []settled{first}
		all := first.settlements
	more:
		for len(all) < settleBatch {
			select {
			case s, ok := <-outcomes:
				if !ok {
					break more
				}
				group = append(group, s)
				all = append(all, s.settlements...)
			default:
				break more
			}
		}
		for failures := 1; ; failures++ {
			// Not calls: what was delivered is to be remembered even when the host stops.
			err := d.store.Settle(context.WithoutCancel(calls), all)
			if err == nil {
				break
			}
			d.log.Error("cannot store outcomes", "error", err)
			if !sleep(calls, backoff(failures)) {
				for range outcomes { // nobody may wait for this queue
				}
				return
			}
		}
		for _, s := range group {
			if s.after != nil {
				s.after()
			}
		}
		d.mu.Lock()
		behind := d.behind
		d.mu.Unlock()
		if behind {
			d.claimSoon()
		}
	}
}
