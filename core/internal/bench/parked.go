package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// parkedConfig has a sink that is down beside one that works. Events of persons are for the first, others for the second.
const parkedConfig = routeConfig + `
sink "http" "dead" {
  url           = "http://%s/"
  allow_private = true
}
route "parked" {
  on = ["youforce.person.*"]
  to "http" "dead" {}
}
`

// parked measures a host whose one sink has n deliveries waiting, against a host that has none, in turns.
func parked(ctx context.Context, o options, dir string, n int) error {
	// Nobody listens here until the end, and nobody else may.
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	address := dead.Addr().String()
	if err := dead.Close(); err != nil {
		return err
	}
	config := fmt.Sprintf(parkedConfig, address)
	full, err := startHost(ctx, "full", filepath.Join(dir, "full"), config)
	if err != nil {
		return err
	}
	defer func() { full.stop() }()
	empty, err := startHost(ctx, "empty", filepath.Join(dir, "empty"), config)
	if err != nil {
		return err
	}
	defer empty.stop()

	started := time.Now()
	if err := fill(ctx, full, n); err != nil {
		return err
	}
	fmt.Printf("\n%d deliveries wait for a sink that refuses connections (accepted in %s)\n\n", n, time.Since(started).Round(time.Second))

	targets := []*target{full, empty}
	var p99, throughput []float64
	var rss int64
	for turn := range o.rounds {
		var tails [2]time.Duration
		var rates [2]float64
		// In turns, and each way round: who comes first pays for what the throughput before it left to the disk.
		order := []int{turn % 2, 1 - turn%2}
		for _, i := range order {
			t := targets[i]
			// Long: in five seconds, one stall of the disk is the slowest hundredth.
			l, err := t.openLoop(ctx, 64, 2000, 4*o.duration)
			if err != nil {
				return fmt.Errorf("%s: %w", t.variant, err)
			}
			tails[i] = quantile(l.sunk, 0.99)
		}
		for _, i := range order {
			t := targets[i]
			r, err := t.closedLoop(ctx, 64, o.duration)
			if err != nil {
				return fmt.Errorf("%s: %w", t.variant, err)
			}
			rates[i] = r.perSecond
			if i == 0 {
				rss = r.rss["grapnel"]
			}
		}
		fmt.Printf("  working sink beside it: p99 at 2000/s %9s, alone %9s; throughput %6.0f/s, alone %6.0f/s\n",
			round(tails[0]), round(tails[1]), rates[0], rates[1])
		p99 = append(p99, float64(tails[0])/float64(tails[1]))
		throughput = append(throughput, rates[0]/rates[1])
	}
	fmt.Printf("medians: p99 %.2f ×, throughput %.2f ×; RSS of the host %d MB\n", median(p99), median(throughput), rss>>20)

	status, err := full.control.Status(ctx)
	if err != nil {
		return err
	}
	if got := status.Stats.Deliveries["dead"]["pending"]; got != int64(n) {
		return fmt.Errorf("%d deliveries wait, not %d", got, n)
	}
	for _, t := range targets {
		if err := t.verify(); err != nil {
			return err
		}
	}
	return restart(ctx, full, address)
}

// fill makes n deliveries for the dead sink.
func fill(ctx context.Context, t *target, n int) error {
	const conns = 64
	var wg sync.WaitGroup
	errs := make([]error, conns)
	for i := range conns {
		wg.Go(func() {
			c, err := dial(ctx, t.address, t.path, fmt.Sprintf("fill-%d", i))
			if err != nil {
				errs[i] = err
				return
			}
			defer c.conn.Close()
			c.event = "PERSON_CHANGED"
			for k := i; k < n && ctx.Err() == nil; k += conns {
				if errs[i] = c.send(); errs[i] != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for {
		s, err := t.control.Status(ctx)
		if err != nil {
			return err
		}
		if s.Stats.Requests["received"] == 0 {
			return ctx.Err()
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// restart kills the host, lets the dead sink's endpoint work, and measures how long the first delivery takes from the
// start of the process.
func restart(ctx context.Context, t *target, address string) error {
	if err := t.cmd.Process.Kill(); err != nil {
		return err
	}
	_ = t.cmd.Wait() // it was killed
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	first := make(chan time.Time, 1)
	srv := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // what does not come is sent again
		select {
		case first <- time.Now():
		default:
		}
	})}
	defer func() { _ = srv.Close() }() // the measurement is over
	go func() { _ = srv.Serve(l) }()
	t.command()
	started := time.Now()
	if err := t.cmd.Start(); err != nil {
		return err
	}
	select {
	case at := <-first:
		fmt.Printf("from a start after kill -9 to the first delivery: %s\n", at.Sub(started).Round(time.Millisecond))
		return nil
	case <-time.After(time.Minute):
		return errors.New("no delivery within a minute of the start")
	case <-ctx.Done():
		return errStopped
	}
}

// startHost starts a host with blocks of its own beside the usual ones.
func startHost(ctx context.Context, name, dir, config string) (*target, error) {
	t, err := newTarget(name, dir)
	if err != nil {
		return nil, err
	}
	if err := t.prepareHost(config, ""); err != nil {
		return nil, err
	}
	t.tail = newTail(t.dir)
	t.cmd.Stderr = os.Stderr
	if err := t.cmd.Start(); err != nil {
		return nil, err
	}
	return t, t.waitReady(ctx)
}
