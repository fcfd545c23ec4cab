// Command bench measures the built host against a bare net/http server on the same machine, in one run, interleaved, as
// ratios. `make bench` runs it from the repository's root.
//
//	bare     net/http that reads the body, checks the HMAC and answers; it stores nothing
//	accept   the host with no routes: authenticated, stored, fsynced, answered, decoded
//	routesN  e2e with N routes, of which one matches: half of the others listen to other types, half say no
//	http     accept → decoder process → a route → HTTP sink process → an endpoint of this process → settled
//	e2e      accept → decoder process → a route with a 3-clause `when` and an 8-field message → file sink process → settled
//
// Throughput is closed-loop: every connection sends as soon as it is answered. Latency is open-loop: requests leave at a
// fixed rate whatever the answers do, and count from when they should have left. Every event is unique; every event of the
// e2e variant is looked up in the sink's file: lost, doubled and out of order per key are counted and must be none.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

type options struct {
	duration time.Duration
	rounds   int
	conns    []int
	rates    []int
	variants []string
	profile  string
	parked   []int
	keep     bool
}

func main() {
	var o options
	bare := flag.String("bare", "", "run the bare server on this address (used by bench itself)")
	flag.DurationVar(&o.duration, "duration", 5*time.Second, "of one measurement")
	flag.IntVar(&o.rounds, "rounds", 3, "measurements of each kind; the median counts")
	conns := flag.String("conns", "16,64,256", "connections")
	rates := flag.String("rates", "500,2000,5000", "events per second of the open-loop measurements; empty: none")
	variants := flag.String("variants", "bare,accept,e2e,http,routes10,routes1000", "what to measure")
	waiting := flag.String("parked", "100000,1000000", "deliveries that wait for a dead sink beside a working one; empty: none")
	flag.StringVar(&o.profile, "profile", "", "write CPU profiles of the host to this `folder`")
	flag.BoolVar(&o.keep, "keep", false, "keep the working folder")
	flag.Parse()
	if *bare != "" {
		fatal(serveBare(*bare))
		return
	}
	o.conns, o.rates, o.parked = numbers(*conns), numbers(*rates), numbers(*waiting)
	o.variants = strings.FieldsFunc(*variants, func(r rune) bool { return r == ',' })
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	fatal(run(ctx, o))
}

func fatal(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func numbers(list string) []int {
	var ns []int
	for _, s := range strings.FieldsFunc(list, func(r rune) bool { return r == ',' }) {
		n, err := strconv.Atoi(s)
		fatal(err)
		ns = append(ns, n)
	}
	return ns
}

// result is one measurement.
type result struct {
	perSecond float64 // events settled (e2e) or answered
	answered  float64 // answers per second while the load lasted
	p50, p99  time.Duration
	cpu       map[string]time.Duration // per event, by process
	rss       map[string]int64
	perSync   float64 // events per fsync
}

func run(ctx context.Context, o options) error {
	dir, err := os.MkdirTemp("", "grapnel-bench-")
	if err != nil {
		return err
	}
	if o.keep {
		fmt.Println("working folder:", dir)
	} else {
		defer os.RemoveAll(dir)
	}
	if len(o.variants) > 0 {
		if err := compare(ctx, o, dir); err != nil {
			return err
		}
	}
	for _, n := range o.parked {
		if err := parked(ctx, o, filepath.Join(dir, fmt.Sprint("parked", n)), n); err != nil {
			return fmt.Errorf("%d deliveries waiting: %w", n, err)
		}
	}
	return nil
}

// compare measures the variants.
func compare(ctx context.Context, o options, dir string) error {
	targets := map[string]*target{}
	defer func() {
		for _, t := range targets {
			t.stop()
		}
	}()
	for _, v := range o.variants {
		t, err := startTarget(ctx, v, filepath.Join(dir, v), o.profile)
		if err != nil {
			return fmt.Errorf("%s: %w", v, err)
		}
		targets[v] = t
	}

	fmt.Printf("closed loop, %d rounds of %s, medians; CPU is of the processes under test\n\n", o.rounds, o.duration)
	fmt.Printf("%5s  %-10s %9s %8s %9s %9s %9s  %s\n", "conns", "variant", "events/s", "× bare", "p50", "p99", "CPU/event", "by process; events/fsync; RSS")
	for _, conns := range o.conns {
		results := map[string][]result{}
		for range o.rounds {
			for _, v := range o.variants {
				r, err := targets[v].closedLoop(ctx, conns, o.duration)
				if err != nil {
					return fmt.Errorf("%s with %d connections: %w", v, conns, err)
				}
				results[v] = append(results[v], r)
			}
		}
		for _, v := range o.variants {
			print(conns, v, results[v], results["bare"])
		}
	}

	if len(o.rates) > 0 && targets["e2e"] != nil {
		fmt.Printf("\nopen loop, 64 connections, %d rounds of %s, medians; from when a request should have left\n\n", o.rounds, o.duration)
		fmt.Printf("%8s  %21s  %21s\n", "events/s", "answered p50 / p99", "in the file p50 / p99")
		for _, rate := range o.rates {
			var answered50, answered99, sunk50, sunk99 []time.Duration
			for range o.rounds {
				l, err := targets["e2e"].openLoop(ctx, 64, rate, o.duration)
				if err != nil {
					return fmt.Errorf("%d events/s: %w", rate, err)
				}
				answered50, answered99 = append(answered50, quantile(l.answered, 0.5)), append(answered99, quantile(l.answered, 0.99))
				sunk50, sunk99 = append(sunk50, quantile(l.sunk, 0.5)), append(sunk99, quantile(l.sunk, 0.99))
			}
			fmt.Printf("%8d  %9s / %9s  %9s / %9s\n", rate, round(median(answered50)), round(median(answered99)),
				round(median(sunk50)), round(median(sunk99)))
		}
	}
	for _, v := range o.variants {
		if t := targets[v]; t.tail != nil {
			if err := t.verify(); err != nil {
				return fmt.Errorf("%s: %w", v, err)
			}
		}
	}
	return nil
}

func print(conns int, variant string, rs, bare []result) {
	pick := func(f func(result) float64, of []result) float64 {
		var xs []float64
		for _, r := range of {
			xs = append(xs, f(r))
		}
		return median(xs)
	}
	rate := func(r result) float64 { return r.perSecond }
	ratio := "-"
	if len(bare) > 0 {
		var ratios []float64
		for i := range rs {
			ratios = append(ratios, rs[i].perSecond/bare[i].perSecond)
		}
		ratio = fmt.Sprintf("%.2f", median(ratios))
	}
	last := rs[len(rs)-1]
	var detail []string
	total := 0.0
	for _, name := range slices.Sorted(mapKeys(last.cpu)) {
		cpu := pick(func(r result) float64 { return float64(r.cpu[name]) }, rs)
		total += cpu
		detail = append(detail, fmt.Sprintf("%s %.1fµs", name, cpu/1e3))
	}
	tail := ""
	if last.perSync > 0 {
		tail = fmt.Sprintf("; %.1f", pick(func(r result) float64 { return r.perSync }, rs))
	}
	for _, name := range slices.Sorted(mapKeys(last.rss)) {
		tail += fmt.Sprintf("; %s %d MB", name, last.rss[name]>>20)
	}
	fmt.Printf("%5d  %-10s %9.0f %8s %9s %9s %7.1fµs  %s%s\n", conns, variant, pick(rate, rs), ratio,
		round(time.Duration(pick(func(r result) float64 { return float64(r.p50) }, rs))),
		round(time.Duration(pick(func(r result) float64 { return float64(r.p99) }, rs))), total/1e3, strings.Join(detail, " "), tail)
}

func mapKeys[V any](m map[string]V) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

func median[T float64 | time.Duration](xs []T) T {
	if len(xs) == 0 {
		return 0
	}
	s := slices.Clone(xs)
	slices.Sort(s)
	return s[len(s)/2]
}

func quantile(xs []time.Duration, q float64) time.Duration {
	if len(xs) == 0 {
		return 0
	}
	slices.Sort(xs)
	return xs[min(int(float64(len(xs))*q), len(xs)-1)]
}

func round(d time.Duration) time.Duration { return d.Round(10 * time.Microsecond) }

var errStopped = errors.New("stopped")
