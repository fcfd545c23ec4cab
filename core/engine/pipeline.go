package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/store"
)

const (
	decodeBatch    = 256      // requests per call to a decoder
	decodeBytes    = 8 << 20  // bodies per call to a decoder
	decodeInFlight = 2        // calls to a decoder at the same time, of one source
	decodeBeside   = 64       // requests that are worth a call beside another one
	inboxRequests  = 2048     // requests of a source held in memory before the rest is left to the store
	inboxBytes     = 16 << 20 // likewise
)

// pipeline takes one source's requests from acceptance to the commit of their deliveries, strictly in accept order.
//
// Its settings may change while it works, see reconfigure. A batch belongs to the settings that it was taken by, from the
// call to the decoder to the commit.
type pipeline struct {
	Name  string
	store Store
	sinks func() map[string]*dispatcher // as they are now
	log   hclog.Logger

	// For the engine alone:
	after <-chan struct{}    // closed when it may begin: an earlier pipeline of its name has ended; nil: at once
	stop  context.CancelFunc // has it take nothing more
	ended chan struct{}      // closed when it has ended

	mu    sync.Mutex
	conf  *sourceConf
	inbox []*core.Request // contiguous in accept order, above taken
	bytes int
	// behind: requests above the inbox are in the store only. Every source starts behind, to find what a stop left.
	behind   bool
	left     int   // requests left to the store so far
	reopened int   // requests reopened so far
	taken    int64 // sequence of the last request that left the inbox
	calls    int   // to the decoder, under way
	wake     chan struct{}
}

// sourceConf is a source's settings, and how long they hold.
type sourceConf struct {
	Source
	term
}

func newSourceConf(s Source) *sourceConf {
	if s.Observer == nil {
		s.Observer = unobserved{}
	}
	return &sourceConf{s, newTerm()}
}

func newPipeline(s Source, st Store, sinks func() map[string]*dispatcher, log hclog.Logger) *pipeline {
	return &pipeline{
		Name: s.Name, conf: newSourceConf(s), store: st, sinks: sinks, log: log, behind: true,
		wake: make(chan struct{}, 1),
	}
}

// accepted is called by the store's writer, in sequence order but for reopened requests.
func (p *pipeline) accepted(r *core.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case r.Reopened:
		// Read again from there. What is under way meanwhile comes twice and is found stale when it is committed. A read
		// under way does not count: it may have passed this request while it was still dead.
		p.taken = min(p.taken, r.Seq-1)
		p.inbox, p.bytes, p.behind = nil, 0, true
		p.left++
		p.reopened++
	case r.Seq <= p.taken: // the store was read before its writer came here
		return
	case p.behind || len(p.inbox) >= inboxRequests || p.bytes+len(r.Body) > inboxBytes:
		p.behind = true
		p.left++
	default:
		p.inbox = append(p.inbox, r)
		p.bytes += len(r.Body)
	}
	p.signal()
}

func (p *pipeline) signal() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// batch is one call to the decoder; done is closed when decoded is there.
type batch struct {
	requests []*core.Request
	conf     *sourceConf // by which it is decoded and routed
	decoded  []core.Decoded
	done     chan struct{}
}

// run works until ctx ends; after the end of taking, it ends what is under way. Decoding runs ahead; the channel of batches
// keeps accept order for routing.
func (p *pipeline) run(taking, ctx context.Context) {
	batches := make(chan *batch, decodeInFlight-1)
	var last *batch // that nobody routes any more
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(batches)
		for {
			rs := p.next(taking)
			if rs == nil {
				return
			}
			b := &batch{requests: rs, conf: p.use(), done: make(chan struct{})}
			wg.Go(func() {
				defer close(b.done)
				p.decode(taking, ctx, b)
				p.mu.Lock()
				p.calls--
				p.mu.Unlock()
				p.signal()
			})
			select {
			case batches <- b:
			case <-ctx.Done():
				last = b
				return
			}
		}
	})
	for b := range batches {
		<-b.done
		if b.decoded != nil {
			p.route(ctx, b)
		}
		p.done(b.conf)
	}
	wg.Wait()
	if last != nil {
		p.done(last.conf)
	}
}

// next takes the oldest requests, waiting until there are some; nil: ctx ended. While a call is under way it waits for
// more than a few, because calls cost more than requests and the few go out when the call returns.
func (p *pipeline) next(ctx context.Context) []*core.Request {
	for failures := 0; ; {
		p.mu.Lock()
		n := len(p.inbox)
		mayCall := p.calls == 0 || p.calls < decodeInFlight && (n >= decodeBeside || p.behind)
		if n > 0 && mayCall {
			rs := p.take()
			p.calls++
			p.mu.Unlock()
			return rs
		}
		if n > 0 || !mayCall {
			p.mu.Unlock()
			select {
			case <-p.wake:
				continue
			case <-ctx.Done():
				return nil
			}
		}
		behind, left, reopened, after := p.behind, p.left, p.reopened, p.taken
		p.mu.Unlock()
		if behind {
			rs, err := p.store.ClaimRequests(ctx, p.Name, after, decodeBatch)
			if err != nil {
				if ctx.Err() != nil {
					return nil
				}
				failures++
				p.log.Error("cannot read requests from the store", "error", err)
				sleep(ctx, backoff(failures))
				continue
			}
			failures = 0
			p.mu.Lock()
			if p.reopened == reopened { // else read again from the reopened request
				if len(rs) > 0 {
					p.taken = rs[len(rs)-1].Seq
					p.calls++
				} else if p.left == left {
					p.behind = false // nothing was left to the store since before the read
				}
			} else {
				rs = nil
			}
			p.mu.Unlock()
			if len(rs) > 0 {
				return rs
			}
			continue
		}
		select {
		case <-p.wake:
		case <-ctx.Done():
			return nil
		}
	}
}

// take removes a batch from the inbox; p.mu is held and the inbox is not empty.
func (p *pipeline) take() []*core.Request {
	n, bytes := 0, 0
	for n < len(p.inbox) && n < decodeBatch && (n == 0 || bytes+len(p.inbox[n].Body) <= decodeBytes) {
		bytes += len(p.inbox[n].Body)
		n++
	}
	rs := p.inbox[:n:n]
	p.inbox = p.inbox[n:]
	p.bytes -= bytes
	p.taken = rs[n-1].Seq
	return rs
}

// decode answers for every request of a batch, whatever the plugin does: it tries until the decoder has decided, or ctx
// ends, or, when the plugin is not there, taking ends: then there is no answer. A request that kills decoder processes when
// it is alone with them is refused in the end. A batch without an answer goes over to the settings that hold.
func (p *pipeline) decode(taking, ctx context.Context, b *batch) {
	rs := b.requests
	results := make([]core.Decoded, len(rs))
	open := make([]int, len(rs)) // indexes without a result
	for i := range rs {
		open[i] = i
	}
	for failures := 0; len(open) > 0; {
		ask := make([]*core.Request, len(open))
		for i, at := range open {
			ask[i] = rs[at]
		}
		traced := b.conf.decoding(ask)
		began := time.Now()
		answers, err := b.conf.Decoder.Decode(ctx, ask)
		took := time.Since(began)
		if err == nil && len(answers) != len(ask) {
			err = fmt.Errorf("%d results for %d requests", len(answers), len(ask))
		}
		if traced != nil {
			traced(answers, err)
		}
		if err != nil {
			if ctx.Err() != nil {
				return
			}
			b.conf.Observer.DecodeFailed()
			if !p.waitReady(taking, b, &failures, err) {
				return
			}
			continue
		}
		b.conf.Observer.Decoded(len(ask), took)
		still := open[:0]
		for i, at := range open {
			r := rs[at]
			if !answers[i].Crashed {
				results[at] = answers[i]
				continue
			}
			r.Crashes++
			if r.Crashes >= core.MaxCrashes {
				results[at] = core.Decoded{
					Refused: core.CrashedTooOften(r.Crashes, answers[i].Refused), Notes: answers[i].Notes,
				}
				continue
			}
			p.commit(ctx, nil, []*store.Decision{{Request: r, Retry: true, Crashes: r.Crashes, Notes: answers[i].Notes}})
			still = append(still, at)
		}
		open = still
	}
	b.decoded = results
}

// waitReady waits until another try to decode makes sense, by the settings that hold then; false: it does not.
func (p *pipeline) waitReady(ctx context.Context, b *batch, failures *int, why error) bool {
	if !b.conf.isOver() {
		*failures++
		p.log.Warn("the decoder is not available, its requests wait", "error", why)
		wait, cancel := b.conf.within(ctx)
		err := b.conf.Decoder.WaitReady(wait)
		ready := err == nil && sleep(wait, backoff(*failures))
		cancel()
		if ready {
			return true
		}
	}
	if ctx.Err() != nil || !b.conf.isOver() {
		return false
	}
	next := p.use()
	p.done(b.conf)
	b.conf, *failures = next, 0
	return true
}

// route turns a decoded batch into deliveries, commits them and hands them to the dispatchers.
func (p *pipeline) route(ctx context.Context, b *batch) {
	decisions := make([]*store.Decision, len(b.requests))
	traced := b.conf.routing(b.requests)
	began := time.Now()
	for i, r := range b.requests {
		decisions[i] = decide(b.conf.Router, r, &b.decoded[i])
	}
	b.conf.Observer.Routed(time.Since(began))
	sinks := p.sinks() // the same until they have what they gave room to
	reserve(sinks, decisions)
	committed := p.commit(ctx, sinks, decisions)
	if traced != nil {
		traced(decisions, committed)
	}
	p.handOver(sinks, decisions, committed)
	if committed {
		b.conf.observe(decisions)
	}
	for _, d := range decisions {
		if committed && d.Dead != "" {
			p.log.Warn("the request is dead", d.Request.Trace.Log("request_id", d.Request.ID(), "reason", d.Dead)...)
		}
	}
}

// decide routes the events of one request.
func decide(router Router, r *core.Request, d *core.Decoded) *store.Decision {
	dec := &store.Decision{Request: r, Crashes: r.Crashes, Notes: d.Notes}
	if dec.Deliveries, dec.Dead = core.Decide(r, d, router.Route); dec.Dead == "" {
		dec.Events = d.Events
	}
	for _, dl := range dec.Deliveries {
		dl.Trace = r.Trace
	}
	return dec
}

// reserve asks each sink for room in memory and leases the deliveries that get it. Dead ones hold their order keys where
// their sink says so.
func reserve(sinks map[string]*dispatcher, ds []*store.Decision) {
	for _, dec := range ds {
		dec.Lease = make([]store.Lease, len(dec.Deliveries))
		dec.Hold = nil
		for i, d := range dec.Deliveries {
			switch sink := sinks[d.Sink]; {
			case sink == nil:
			case d.State == core.DeliveryPending:
				dec.Lease[i] = sink.reserve(d)
			case d.State == core.DeliveryDead && d.OrderKey != "" && sink.holdsDead():
				if dec.Hold == nil {
					dec.Hold = make([]bool, len(dec.Deliveries))
				}
				dec.Hold[i] = true
			}
		}
	}
}

// handOver gives leased deliveries to their dispatchers after the commit, in order, and tells them of the others.
func (p *pipeline) handOver(sinks map[string]*dispatcher, ds []*store.Decision, committed bool) {
	ready := map[*dispatcher]*handed{}
	for _, dec := range ds {
		for i, d := range dec.Deliveries {
			if d.State == core.DeliveryDead && committed && !dec.Stale {
				p.log.Warn("the delivery is dead", d.Trace.Log("delivery_id", d.ID, "sink", d.Sink, "route", d.Route,
					"reason", d.Reason)...)
			}
			sink := sinks[d.Sink]
			if sink == nil || d.State != core.DeliveryPending {
				continue
			}
			h := ready[sink]
			if h == nil {
				h = &handed{}
				ready[sink] = h
			}
			stored, wish := committed && !dec.Stale, dec.Lease[i]
			leased := stored && dec.Leased[i]
			if wish == store.LeaseIfFree {
				h.entered++
			}
			switch {
			case leased && wish == store.LeaseIfFree:
				h.free = append(h.free, d)
			case leased:
				h.leased = append(h.leased, d)
			case wish != store.NoLease:
				h.withdrawn = append(h.withdrawn, d)
			}
			if stored && !leased {
				h.left++
			}
		}
	}
	for sink, h := range ready {
		sink.handed(h)
	}
}

// commit stores decisions, one by one if they fail together, and tries for as long as ctx lasts: a request is never given
// up because the store is full. One that alone cannot be stored is dead with the store's reason. It reports whether the
// decisions are committed.
func (p *pipeline) commit(ctx context.Context, sinks map[string]*dispatcher, ds []*store.Decision) bool {
	for failures := 0; ; {
		err := p.store.Route(ctx, ds)
		if err == nil {
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		failures++
		p.log.Error("cannot store decoded requests", "error", err)
		if len(ds) == 1 && failures > 3 && !errors.Is(err, store.ErrFull) {
			d := ds[0]
			p.handOver(sinks, ds, false)
			d.Dead, d.Events, d.Deliveries = fmt.Sprintf("cannot be stored: %v", err), nil, nil
			d.Lease, d.Hold = nil, nil
		} else if len(ds) > 1 && !errors.Is(err, store.ErrFull) {
			for i := range ds {
				if !p.commit(ctx, sinks, ds[i:i+1]) {
					return false
				}
			}
			return true
		}
		if !sleep(ctx, backoff(failures)) {
			return false
		}
	}
}
