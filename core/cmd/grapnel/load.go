package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// maxInFlight bounds the requests of a load that wait for their answers. Those over it leave late, which counts.
const maxInFlight = 1024

// loaded is what became of a load.
type loaded struct {
	Sent      int            `json:"sent"`
	Seconds   float64        `json:"seconds"`
	PerSecond float64        `json:"per_second"`
	Statuses  map[string]int `json:"statuses"`
	Errors    map[string]int `json:"errors,omitempty"`
	P50MS     float64        `json:"p50_ms"` // from when a request should have left to its answer
	P99MS     float64        `json:"p99_ms"`
	MaxMS     float64        `json:"max_ms"`
}

// load sends copies of the samples in turn, each at its time, whatever the answers do.
func (s *sender) load(ctx context.Context, p printer) error {
	total := s.flags.count * len(s.samples)
	if s.flags.span > 0 {
		total = int(s.flags.span.Seconds() * float64(s.flags.rate))
	}
	var mu sync.Mutex
	r := loaded{Statuses: map[string]int{}, Errors: map[string]int{}}
	var took []time.Duration
	var wrong error // the first answer that should not be
	note := func(status int, answer []byte, after time.Duration, err error) {
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			r.Errors[err.Error()]++
			if wrong == nil {
				wrong = err
			}
			return
		}
		r.Statuses[fmt.Sprint(status)]++
		took = append(took, after)
		if wrong == nil {
			wrong = s.judge(status, answer)
		}
	}

	bar := newBar(p.err, "sent")
	room := make(chan struct{}, maxInFlight)
	var flying sync.WaitGroup
	start := time.Now()
	for i := range total {
		due := start.Add(time.Duration(float64(i) * float64(time.Second) / float64(s.flags.rate)))
		k := i % len(s.samples)
		smp, err := s.next(k)
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Until(due)):
		}
		if ctx.Err() != nil {
			break // what is under way counts
		}
		req, err := s.request(context.WithoutCancel(ctx), typedSample{s.samples[k].eventType, smp})
		if err != nil {
			return err
		}
		room <- struct{}{}
		r.Sent++
		flying.Go(func() {
			status, answer, err := s.exchange(req)
			note(status, answer, time.Since(due), err)
			<-room
		})
		if i%max(1, s.flags.rate/4) == 0 {
			bar.show(i, total)
		}
	}
	flying.Wait()
	bar.clear()
	s.client.CloseIdleConnections()

	r.Seconds = time.Since(start).Seconds()
	r.PerSecond = float64(r.Sent) / r.Seconds
	slices.Sort(took)
	at := func(q float64) float64 {
		if len(took) == 0 {
			return 0
		}
		return float64(took[int(q*float64(len(took)-1))]) / float64(time.Millisecond)
	}
	r.P50MS, r.P99MS, r.MaxMS = at(0.5), at(0.99), at(1)
	if err := p.loaded(r); err != nil {
		return err
	}
	return wrong
}

func (p printer) loaded(r loaded) error {
	if p.json {
		return p.value(r)
	}
	var parts []string
	for _, s := range slices.Sorted(maps.Keys(r.Statuses)) {
		parts = append(parts, fmt.Sprintf("%d × %s", r.Statuses[s], s))
	}
	for _, e := range slices.Sorted(maps.Keys(r.Errors)) {
		parts = append(parts, fmt.Sprintf("%d × %s", r.Errors[e], e))
	}
	_, err := fmt.Fprintf(p.out, "%d requests in %.1fs (%.0f/s): %s\nanswered in %.1fms (median), %.1fms (p99), %.1fms (longest)\n",
		r.Sent, r.Seconds, r.PerSecond, strings.Join(parts, ", "), r.P50MS, r.P99MS, r.MaxMS)
	return err
}
