package web

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/grapnelhq/grapnel/core/admin"
)

// keptWork is how many retries and replays are remembered that have ended, since the start of the host.
const keptWork = 50

// works are the retries and replays that pages have begun. They go on when their page is closed, until they end, are
// stopped, or the host stops.
type works struct {
	ctx    context.Context // ends with the site
	cancel context.CancelFunc
	now    func() time.Time
	done   sync.WaitGroup

	mu  sync.Mutex
	all []*work // oldest first
}

// work is one retry or replay.
type work struct {
	ID    string
	Order order
	Began time.Time

	cancel context.CancelFunc
	ended  chan struct{}

	mu    sync.Mutex
	tally admin.Tally
	items []admin.Item
	err   error
	end   time.Time // zero: under way
}

// workState is a work at one moment.
type workState struct {
	*work
	Tally   admin.Tally
	Items   []admin.Item
	Failure string
	Stopped bool // by somebody
	End     time.Time
}

func newWorks(now func() time.Time) *works {
	ctx, cancel := context.WithCancel(context.Background())
	return &works{ctx: ctx, cancel: cancel, now: now}
}

// close stops what is under way, and returns when all has ended.
func (w *works) close() {
	w.cancel()
	w.done.Wait()
}

// begin begins an order.
func (w *works) begin(control admin.Control, o order) *work {
	id := make([]byte, 8)
	_, _ = rand.Read(id) // never fails
	ctx, cancel := context.WithCancel(w.ctx)
	k := &work{
		ID: hex.EncodeToString(id), Order: o, Began: w.now(), cancel: cancel, ended: make(chan struct{}),
	}
	w.mu.Lock()
	if len(w.all) >= keptWork {
		if i := slices.IndexFunc(w.all, func(k *work) bool { return !k.state().End.IsZero() }); i >= 0 {
			w.all = slices.Delete(w.all, i, i+1)
		}
	}
	w.all = append(w.all, k)
	w.mu.Unlock()
	w.done.Go(func() {
		defer cancel()
		t, err := o.carryOut(ctx, control, false, k.report)
		k.mu.Lock()
		k.tally, k.err, k.end = t, err, w.now()
		k.mu.Unlock()
		close(k.ended)
	})
	return k
}

// find finds a work; nil: it is unknown, or forgotten.
func (w *works) find(id string) *work {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, k := range w.all {
		if k.ID == id {
			return k
		}
	}
	return nil
}

// list is all that is remembered, the newest first.
func (w *works) list() []workState {
	w.mu.Lock()
	defer w.mu.Unlock()
	var states []workState
	for _, k := range slices.Backward(w.all) {
		states = append(states, k.state())
	}
	return states
}

func (k *work) report(r admin.Report) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case r.Item != nil:
		k.items = append(k.items, *r.Item)
	case r.Progress != nil:
		k.tally = *r.Progress
	}
}

func (k *work) state() workState {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := workState{work: k, Tally: k.tally, Items: slices.Clone(k.items), End: k.end}
	if s.Stopped = errors.Is(k.err, context.Canceled); k.err != nil && !s.Stopped {
		s.Failure = k.err.Error()
	}
	return s
}

// Word is its state in a word.
func (s workState) Word() string {
	switch {
	case s.End.IsZero():
		return "under way"
	case s.Failure != "":
		return "failed"
	case s.Stopped:
		return "stopped"
	default:
		return "done"
	}
}
