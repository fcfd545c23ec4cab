package engine

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/time/rate"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/store"
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

	// Beside a backlog, what is new gets one call in freshShare, and as much of the window.
	freshShare = 4

	saveActiveEvery = 10 * time.Second // while deliveries wait in the store
)

// dispatcher calls one sink. It holds a bounded window of leased deliveries:
//
//	ready    next to be called, the oldest first
//	fresh    likewise, made while there was a backlog
//	keys     the order keys of which a delivery is ready, fresh or in a call, with those that wait behind it
//
// A delivery that has to wait (a retry) goes back to the store, and with it what waits behind its key, so that memory holds
// nothing that is not about to be called. From then on the dispatcher is behind: claims bring in what is in the store,
// the oldest first, which is how order holds across retries. A new delivery comes in beside them only if the store has
// nothing of its key. The dispatcher is no longer behind when a claim left nothing.
//
// No calls go out while the host holds them, an operator has paused the sink, its plugin is down, or its breaker is open.
// Deliveries wait then, and their ages stand still.
//
// Its settings may change while it works, see reconfigure. A call belongs to the settings that it began with, until its
// outcomes are stored.
type dispatcher struct {
	Name  string
	store Store
	clock *clock
	log   hclog.Logger

	// For the engine alone:
	after <-chan struct{}    // closed when it may begin: an earlier dispatcher of its name has ended; nil: at once
	stop  context.CancelFunc // ends run
	ended chan struct{}      // closed when it has ended

	mu       sync.Mutex
	changed  *sync.Cond
	conf     *sinkConf
	limiter  *rate.Limiter // of calls; nil: none
	workers  int           // goroutines that make calls
	spawn    func()        // starts those that conf asks for; nil: it does not run
	waits    bool          // it may not begin yet
	retired  bool          // the sink is not in the configuration any more
	stopping bool
	onHold   bool   // by the host: no calls
	paused   bool   // by an operator: no calls
	why      string // paused: the operator's words
	down     int    // goroutines that wait for the plugin
	missing  string // down: why
	breaker  breaker
	onTrust  bool // the sink failed, and it is an operator's word that it works
	active   activeTime
	ready    []*core.Delivery
	fresh    []*core.Delivery
	turn     int                         // calls so far, to share them between ready and fresh
	entering int                         // deliveries that were given room while there was a backlog and are being committed
	keys     map[string][]*core.Delivery // waiting deliveries by order key; the key is there while one is ready or in a call
	inMemory int                         // deliveries: reserved, ready, waiting, in calls
	bytes    int
	inFlight int       // deliveries in calls
	calls    int       // under way
	lastCall time.Time // when the last one went out
	wake     time.Time // a timer will look whether another call may go out; zero: none

	behind    bool
	left      int // deliveries left to the store so far, counted when a claim can find them
	returning int // deliveries on their way back there: a commit or the end of a lease is under way
	claiming  chan struct{}

	erased map[core.DeliveryKey]struct{} // in a call, or on their way here
}

// handed is what a pipeline's commit means for a sink.
type handed struct {
	leased    []*core.Delivery // committed, leased to this dispatcher
	free      []*core.Delivery // likewise, and the store had nothing else of their order keys
	withdrawn []*core.Delivery // had room reserved, were not leased
	left      int              // left to the store
	entered   int              // committed or not, of those that had room beside a backlog
}

// settled pairs outcomes with what the window has to do once they are committed.
type settled struct {
	settlements []store.Settlement
	deliveries  []*core.Delivery // what they are of
	conf        *sinkConf        // of the call
	after       func()           // after the commit, may be nil
}

// sinkConf is a sink's settings, and how long they hold.
type sinkConf struct {
	Sink
	term
}

func newSinkConf(s Sink) *sinkConf {
	s.Retry, s.Breaker = s.Retry.withDefaults(), s.Breaker.withDefaults()
	s.Batch, s.Concurrency = max(s.Batch, 1), max(s.Concurrency, 1)
	if s.Observer == nil {
		s.Observer = unobserved{}
	}
	if s.Timeout == 0 {
		s.Timeout = 30 * time.Second
	}
	return &sinkConf{s, newTerm()}
}

func newDispatcher(s Sink, st Store, c *clock, log hclog.Logger) *dispatcher {
	conf := newSinkConf(s)
	d := &dispatcher{
		Name: s.Name, conf: conf, store: st, clock: c, log: log,
		keys: map[string][]*core.Delivery{}, behind: true, claiming: make(chan struct{}, 1),
		breaker: breaker{policy: conf.Breaker},
		active:  activeTime{total: s.State.Active},
		paused:  !s.State.PausedAt.IsZero(), why: s.State.PauseReason,
		limiter: newLimiter(s.Rate),
	}
	d.changed = sync.NewCond(&d.mu)
	return d
}

// newLimiter makes a limiter of calls per second; what a second allows may go out at once.
func newLimiter(perSecond float64) *rate.Limiter {
	if perSecond <= 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(perSecond), max(int(perSecond), 1))
}

func size(d *core.Delivery) int {
	n := len(d.Message) + 256
	if d.Event != nil {
		n += len(d.Event.Data)
	}
	return n
}

// reserve asks for room for a delivery that is about to be committed, and says how to commit it. Without a lease it is left
// to the store.
func (d *dispatcher) reserve(dl *core.Delivery) store.Lease {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.outdated(dl) { // the store gives it out again, rendered by the routes as they are now
		d.behind = true
		return store.NoLease
	}
	n, most, mostBytes, lease := size(dl), windowDeliveries, windowBytes, store.LeaseAlways
	if d.conf.HoldDead {
		lease = store.LeaseIfFree
	}
	if d.behind {
		if !d.mayWork() || d.entering+len(d.fresh) >= windowDeliveries/freshShare {
			return store.NoLease
		}
		// The backlog may have filled its window.
		most, mostBytes, lease = most+most/freshShare, mostBytes+mostBytes/freshShare, store.LeaseIfFree
	}
	if d.inMemory >= most || d.bytes+n > mostBytes {
		d.behind = true
		return store.NoLease
	}
	if lease == store.LeaseIfFree {
		d.entering++
	}
	d.inMemory++
	d.bytes += n
	return lease
}

// handed takes over after the commit that follows reserve, or after it failed.
func (d *dispatcher) handed(h *handed) {
	var parked []core.DeliveryKey
	park := func(dl *core.Delivery) {
		d.drop(dl)
		d.behind = true
		d.returning++
		parked = append(parked, dl.Key)
	}
	d.mu.Lock()
	if h.left > 0 {
		d.behind = true
		d.left += h.left
	}
	for _, dl := range h.withdrawn {
		d.drop(dl)
	}
	d.entering -= h.entered
	for _, dl := range h.free {
		if d.outdated(dl) { // by other settings since it got its room
			park(dl)
			continue
		}
		d.enqueue(dl, d.behind)
	}
	for _, dl := range h.leased {
		// The dispatcher may have fallen behind after it gave the room: an earlier delivery of this key may wait in the store.
		if d.behind && dl.OrderKey != "" || d.outdated(dl) {
			park(dl)
			continue
		}
		d.enqueue(dl, false)
	}
	d.mu.Unlock()
	d.changed.Broadcast()
	if h.left > 0 {
		d.claimSoon()
	}
	d.giveBack(parked)
	d.returned(len(parked))
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

// enqueue makes a held delivery ready or fresh, or lets it wait behind its key. d.mu is held.
func (d *dispatcher) enqueue(dl *core.Delivery, fresh bool) {
	if d.dropErased(dl) {
		return
	}
	if dl.OrderKey != "" {
		if waiting, busy := d.keys[dl.OrderKey]; busy {
			d.keys[dl.OrderKey] = append(waiting, dl)
			return
		}
		d.keys[dl.OrderKey] = nil
	}
	if fresh {
		d.fresh = append(d.fresh, dl)
		return
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
	st := Status{Sink: d.Name, State: Working, InMemory: d.inMemory, InFlight: d.inFlight, Behind: d.behind}
	st.Breaker = d.breaker.state.String()
	switch {
	case d.paused:
		st.State, st.Reason = Paused, d.why
	case d.breaker.state != closed && d.breaker.asked:
		st.State, st.Reason, st.Until = Suspended, d.breaker.reason, d.breaker.until
	case d.breaker.state != closed:
		st.State, st.Reason, st.Until = Failing, d.breaker.reason, d.breaker.until
	case d.down > 0:
		st.State, st.Reason = Down, d.missing
	case d.onHold:
		st.State = OnHold
	}
	return st
}

// run works until ctx ends; calls under way end with calls at the latest.
func (d *dispatcher) run(ctx, calls context.Context) {
	outcomes := make(chan settled, settleQueue)
	var settling, working sync.WaitGroup
	settling.Go(func() { d.settleAll(calls, outcomes) })
	working.Go(func() { d.claimAll(ctx) })
	working.Go(func() { d.saveActive(ctx) })
	working.Go(func() {
		<-ctx.Done()
		d.mu.Lock()
		d.stopping, d.spawn = true, nil
		d.mu.Unlock()
		d.changed.Broadcast()
	})
	d.change(func() { // its time begins
		d.waits = false
		d.spawn = func() {
			for ; d.workers < d.conf.Concurrency; d.workers++ {
				working.Go(func() { d.work(ctx, calls, outcomes) })
			}
		}
		d.spawn()
	})
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
		conf := d.conf
		if behind && !full {
			conf.begin()
		}
		d.mu.Unlock()

		var next time.Time
		if behind && !full {
			ds, backlog, err := d.store.ClaimDeliveries(ctx, d.Name, d.clock.now(), room, conf.HoldDead)
			var live []*core.Delivery
			if err == nil {
				live, err = d.renew(ctx, conf, ds)
			}
			if err != nil {
				d.done(conf)
				if ctx.Err() != nil {
					return
				}
				failures++
				d.log.Error("cannot claim deliveries from the store", "error", err)
				sleep(ctx, backoff(failures))
				continue
			}
			failures = 0
			var parked []core.DeliveryKey
			d.mu.Lock()
			conf.end()
			for _, dl := range live {
				if d.outdated(dl) { // other settings hold since the claim
					d.returning++
					parked = append(parked, dl.Key)
					continue
				}
				d.inMemory++
				d.bytes += size(dl)
				d.enqueue(dl, false)
			}
			if !backlog.Left && d.left == left && d.returning == 0 {
				d.behind = false
			}
			d.mu.Unlock()
			d.giveBack(parked)
			d.returned(len(parked))
			if len(ds) > 0 {
				d.changed.Broadcast()
				continue
			}
			next = backlog.Next
		}
		// Whatever clocks do, a due time does not wait for ever: look again at least every minute.
		pause := time.Minute
		if !next.IsZero() {
			pause = min(max(next.Sub(d.clock.now()), time.Millisecond), pause)
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
func (d *dispatcher) renew(ctx context.Context, conf *sinkConf, ds []*core.Delivery) ([]*core.Delivery, error) {
	if conf.Renew == nil {
		return ds, nil
	}
	live := make([]*core.Delivery, 0, len(ds))
	var ended []store.Settlement
	why := map[string]*endedFor{}
	var err error
	for _, dl := range ds {
		if err = conf.Renew(ctx, dl); err != nil {
			err = fmt.Errorf("render %s: %w", dl.ID, err)
			break
		}
		if !dl.State.Settled() {
			live = append(live, dl)
			continue
		}
		ended = append(ended, store.Settlement{
			Key: dl.Key, Of: dl, State: dl.State, Crashes: dl.Crashes, Reason: dl.Reason, RouteRange: dl.RouteRange,
			Sink: d.Name, OrderKey: dl.OrderKey, Hold: conf.HoldDead && dl.State == core.DeliveryDead,
		})
		// A route that is gone may end a whole backlog: one line per claim and reason tells enough.
		if first, ok := why[dl.Reason]; ok {
			first.n++
		} else {
			why[dl.Reason] = &endedFor{dl, 1}
		}
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
	for reason, e := range why {
		d.log.Warn("waiting deliveries end, as the routes are now", "delivery_id", e.first.ID, "route", e.first.Route,
			"state", e.first.State, "reason", reason, "count", e.n)
	}
	return live, nil
}

// endedFor is what ended for one reason.
type endedFor struct {
	first *core.Delivery
	n     int
}

// work calls the sink, one call at a time, until ctx ends or fewer calls are wanted.
func (d *dispatcher) work(ctx, calls context.Context, outcomes chan<- settled) {
	for {
		ds, conf, probe := d.take(ctx)
		if ds == nil {
			return
		}
		if conf.WantsState && !d.readStates(ctx, ds) {
			d.putBack(ds, conf, probe)
			return
		}
		call, cancel := context.WithTimeout(calls, conf.Timeout)
		started := time.Now()
		traced := conf.delivering(ds)
		results, err := conf.Plugin.Deliver(call, ds)
		took := time.Since(started)
		cancel()
		if traced != nil {
			traced(results, err)
		}
		if err == nil && len(results) == len(ds) {
			conf.Observer.Called(len(ds), took)
			outcomes <- d.apply(conf, ds, results, probe, started, took)
			continue
		}
		d.putBack(ds, conf, probe)
		if ctx.Err() != nil {
			return
		}
		if conf.isOver() { // by now it may be another plugin
			continue
		}
		conf.Observer.CallFailed()
		if err == nil {
			err = fmt.Errorf("it answered %d of %d deliveries", len(results), len(ds))
		}
		if !d.waitReady(ctx, conf, err) {
			return
		}
	}
}

// waitReady waits until the plugin may be back, or other settings hold; false: ctx ended. why is the first to be told of
// all that wait.
func (d *dispatcher) waitReady(ctx context.Context, conf *sinkConf, why error) bool {
	d.change(func() {
		if d.down++; d.down == 1 {
			d.missing = why.Error()
			d.log.Warn("the sink's plugin is not available, its deliveries wait", "error", why)
		}
	})
	defer d.change(func() { d.down-- })
	wait, cancel := conf.within(ctx)
	defer cancel()
	err := conf.Plugin.WaitReady(wait)
	return conf.isOver() && ctx.Err() == nil || err == nil && sleep(wait, backoff(1))
}

// take waits for deliveries that may be called and takes as many as go into one call, which may be a probe. nil: ctx ended,
// or fewer calls are wanted.
func (d *dispatcher) take(ctx context.Context) (ds []*core.Delivery, conf *sinkConf, probe bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for {
		if d.stopping || ctx.Err() != nil || d.workers > d.conf.Concurrency {
			d.workers--
			return nil, nil, false
		}
		if len(d.ready)+len(d.fresh) > 0 && d.mayCall(time.Now()) {
			break
		}
		d.changed.Wait()
	}
	conf = d.conf
	conf.begin()
	most := conf.Batch
	if probe = d.breaker.state == probing; probe {
		most = 1
	}
	first, second := &d.ready, &d.fresh
	if d.turn++; d.turn%freshShare == 0 {
		first, second = second, first
	}
	bytes := 0
	for _, from := range []*[]*core.Delivery{first, second} {
		n := 0
		for _, dl := range *from {
			if len(ds) == most || len(ds) > 0 && bytes+size(dl) > callBytes {
				break
			}
			ds = append(ds, dl)
			bytes += size(dl)
			n++
		}
		*from = append((*from)[:0], (*from)[n:]...)
	}
	d.inFlight += len(ds)
	d.calls++
	d.lastCall = time.Now()
	return ds, conf, probe
}

// change changes what decides whether the sink is called.
func (d *dispatcher) change(how func()) {
	d.mu.Lock()
	how()
	d.active.run(d.mayWork(), time.Now())
	d.mu.Unlock()
	d.changed.Broadcast()
}

// mayWork reports whether nothing but its breaker's probes keeps the sink from work. d.mu is held.
func (d *dispatcher) mayWork() bool {
	return !d.waits && !d.onHold && !d.paused && d.down == 0 && d.breaker.state == closed
}

// hold stops calls, or lets them go on.
func (d *dispatcher) hold(on bool) { d.change(func() { d.onHold = on }) }

// pause stops calls until an operator lets them go on. Without a reason it keeps the one there is.
func (d *dispatcher) pause(why string) {
	d.change(func() {
		d.paused, d.why = true, cmp.Or(why, d.why)
		d.log.Warn("an operator pauses the sink, its deliveries wait", "reason", d.why)
	})
}

// resume lets calls go on, few at first, and reports whether anything but the host kept them.
func (d *dispatcher) resume() (changed bool) {
	d.change(func() {
		ailing := d.breaker.state != closed
		if changed = d.paused || ailing; !changed {
			return
		}
		d.breaker.close() // the operator knows better
		d.paused, d.why, d.onTrust = false, "", d.onTrust || ailing
		d.log.Info("an operator resumes the sink")
	})
	return changed
}

// mayCall decides whether a call goes out now, and charges the rate for it. When only time is missing, it sets a timer.
// d.mu is held, and something is ready or fresh.
func (d *dispatcher) mayCall(now time.Time) bool {
	if d.onHold || d.paused {
		return false
	}
	if d.breaker.state != closed {
		if d.breaker.state == open && now.Before(d.breaker.until) {
			d.wakeAt(d.breaker.until)
			return false
		}
		return d.breaker.probe(now)
	}
	if d.breaker.ramp > 0 && d.calls >= d.breaker.ramp {
		return false
	}
	if d.calls > 0 && len(d.ready)+len(d.fresh) < d.conf.Batch/besideShare {
		if due := d.lastCall.Add(besideAfter); now.Before(due) {
			d.wakeAt(due)
			return false
		}
	}
	if d.limiter != nil && !d.limiter.AllowN(now, 1) {
		r := d.limiter.ReserveN(now, 1)
		wait := r.DelayFrom(now)
		r.CancelAt(now)
		d.wakeAt(now.Add(max(wait, time.Millisecond)))
		return false
	}
	return true
}

// wakeAt makes those that wait look again at a time. d.mu is held.
func (d *dispatcher) wakeAt(at time.Time) {
	if !d.wake.IsZero() && !at.Before(d.wake) {
		return
	}
	d.wake = at
	time.AfterFunc(time.Until(at), func() {
		d.mu.Lock()
		d.wake = time.Time{}
		d.mu.Unlock()
		d.changed.Broadcast()
	})
}

// putBack returns deliveries to the head of ready: they were not called, or nothing is known of their call.
func (d *dispatcher) putBack(ds []*core.Delivery, conf *sinkConf, probe bool) {
	d.mu.Lock()
	d.inFlight -= len(ds)
	d.calls--
	var free []string
	ds = slices.DeleteFunc(slices.Clone(ds), func(dl *core.Delivery) bool {
		gone := d.dropErased(dl)
		if gone {
			free = append(free, dl.OrderKey)
		}
		return gone
	})
	d.ready = append(ds, d.ready...)
	for _, order := range free {
		d.release(order)
	}
	if probe && conf.Plugin == d.conf.Plugin {
		d.breaker.withdraw()
	}
	parked := d.shed() // other settings may hold since the call
	conf.end()
	d.mu.Unlock()
	d.changed.Broadcast()
	d.giveBack(parked)
	d.returned(len(parked))
}

// saveActive stores the sink's active time now and then, while there is a delivery whose age is counted in it.
func (d *dispatcher) saveActive(ctx context.Context) {
	for last := false; !last; {
		last = !sleep(ctx, saveActiveEvery)
		d.mu.Lock()
		behind, active := d.behind, d.active.read(time.Now())
		d.mu.Unlock()
		if !behind {
			continue
		}
		if err := d.store.SaveActive(context.WithoutCancel(ctx), d.Name, active); err != nil {
			d.log.Warn("cannot store how long the sink was active", "error", err)
		}
	}
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
func (d *dispatcher) apply(
	conf *sinkConf, ds []*core.Delivery, results []core.Outcome, probe bool, started time.Time, took time.Duration,
) settled {
	now := started.Add(took)
	out := settled{settlements: make([]store.Settlement, len(ds)), deliveries: ds, conf: conf}
	var parked []core.DeliveryKey // leases to give back
	var release []string          // keys to free
	waits := 0                    // that go back to the store, or hold what is there
	d.mu.Lock()
	a := attempt{started: started, took: took, ended: d.clock.now(), active: d.active.read(started), probe: probe}
	d.mu.Unlock()
	for i, dl := range ds {
		a.random = random()
		conf.Observer.Attempted(results[i].Kind)
		s := settlement(dl, results[i], conf.Retry, a)
		if len(s.AttributePath) > 0 && conf.Locate != nil {
			s.RouteRange = conf.Locate(dl.Route, s.AttributePath)
		}
		s.Hold = conf.HoldDead && s.State == core.DeliveryDead && dl.OrderKey != ""
		out.settlements[i] = s
	}

	d.mu.Lock()
	d.inFlight -= len(ds)
	d.calls--
	for i, dl := range ds {
		d.drop(dl)
		delete(d.erased, dl.Key)
		switch s := &out.settlements[i]; {
		case !s.State.Settled() || s.Hold:
			// What comes after it under its key waits in the store from here on, with it or because of it.
			d.behind = true
			waits++
			parked = append(parked, d.park(dl.OrderKey)...)
		case conf.WantsState:
			release = append(release, dl.OrderKey)
		default:
			d.release(dl.OrderKey)
		}
	}
	d.returning += waits + len(parked)
	if conf.Plugin == d.conf.Plugin { // else it tells of what is not called any more
		d.judge(judge(results), probe, now)
	}
	d.mu.Unlock()
	d.changed.Broadcast()

	// The reasons are with the deliveries: they are the far end's words, which may quote what it was sent.
	for i, dl := range ds {
		switch s := &out.settlements[i]; s.State {
		case core.DeliveryDelivered:
		case core.DeliveryDead:
			d.log.Warn("the delivery is dead", dl.Trace.Log("delivery_id", dl.ID, "route", dl.Route,
				"attempt", s.Attempt.Number, "outcome", s.Attempt.Outcome)...)
		default:
			d.log.Info("delivery attempted", dl.Trace.Log("delivery_id", dl.ID, "route", dl.Route,
				"attempt", s.Attempt.Number, "outcome", s.Attempt.Outcome, "state", s.State)...)
		}
	}
	if waits > 0 || len(release) > 0 {
		out.after = func() {
			d.giveBack(parked)
			d.returned(waits + len(parked))
			d.releaseAll(release)
		}
	}
	return out
}

// judge lets the breaker take a call's result, and tells of its changes. d.mu is held.
func (d *dispatcher) judge(r result, probe bool, now time.Time) {
	before, reason := d.breaker.state, d.breaker.reason
	d.breaker.record(r, probe, d.conf.Concurrency, now, random())
	d.active.run(d.mayWork(), now)
	after := d.breaker.state
	if after == open {
		d.onTrust = false
	}
	switch {
	case after == open && (before == closed || reason != d.breaker.reason) && d.breaker.asked:
		d.log.Error("the sink is suspended, its deliveries wait", "reason", d.breaker.reason,
			"probe_in", roughly(d.breaker.until.Sub(now)))
	case after == open && before == closed:
		d.log.Error("the sink fails again and again, its deliveries wait", "reason", d.breaker.reason,
			"probe_in", roughly(d.breaker.until.Sub(now)))
	case after == closed && (before != closed || d.onTrust && !r.failed && !r.suspend):
		d.onTrust = false
		d.log.Info("the sink works again")
	}
}

// roughly writes a duration for the log.
func roughly(d time.Duration) string { return d.Round(time.Millisecond).String() }

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
				d.over(group)
				for s := range outcomes { // nobody may wait for this queue
					d.over([]settled{s})
				}
				return
			}
		}
		for i := range group {
			group[i].observe()
		}
		for _, s := range group {
			if s.after != nil {
				s.after()
			}
		}
		if d.over(group) {
			d.claimSoon()
		}
	}
}

// over ends the uses of settings by calls whose outcomes need nothing more.
func (d *dispatcher) over(group []settled) (behind bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range group {
		s.conf.end()
	}
	return d.behind
}
