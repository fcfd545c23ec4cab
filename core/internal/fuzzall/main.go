// Command fuzzall runs every fuzz target of every module for some time each; `go test -fuzz` takes one at a time. It stops
// at the first finding, which go test leaves as a seed in the package's testdata/fuzz. Run it from the repository's root.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"strings"
	"sync"
	"time"
)

func main() {
	each := flag.Duration("time", 10*time.Second, "of each target")
	only := flag.String("only", "", "only targets whose package and name, with a space between, match this `expression`")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	pattern, err := regexp.Compile(*only)
	if err == nil {
		err = run(ctx, *each, pattern)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "fuzzall:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, each time.Duration, only *regexp.Regexp) error {
	list := exec.CommandContext(ctx, "go", "test", "-list", "^Fuzz", "work")
	list.Stderr = os.Stderr
	out, err := list.Output()
	if err != nil {
		return fmt.Errorf("list the targets: %w", err)
	}
	// Two at a time with one worker each: a target's start, which is compiling, takes longer than its ten seconds in CI.
	targets := make(chan target)
	failed := make(chan error, lanes)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var running sync.WaitGroup
	for range lanes {
		running.Go(func() {
			for t := range targets {
				if err := fuzz(ctx, t, each); err != nil {
					failed <- err
					cancel()
					return
				}
			}
		})
	}
	ran := 0
	for _, t := range find(string(out), only) {
		select {
		case targets <- t:
			ran++
		case <-ctx.Done():
		}
	}
	close(targets)
	running.Wait()
	close(failed)
	var errs []error
	for err := range failed {
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if ran == 0 {
		return fmt.Errorf("no fuzz target matches %q", only)
	}
	fmt.Printf("%d targets, no finding\n", ran)
	return ctx.Err()
}

const lanes = 2

type target struct{ pkg, name string }

// find reads what go test -list printed.
func find(list string, only *regexp.Regexp) []target {
	var names []string
	var found []target
	// The names of a package's targets come before its "ok" line.
	for line := range strings.Lines(list) {
		fields := strings.Fields(line)
		switch {
		case len(fields) == 1 && strings.HasPrefix(fields[0], "Fuzz"):
			names = append(names, fields[0])
		case len(fields) >= 2 && fields[0] == "ok":
			for _, name := range names {
				if only.MatchString(fields[1] + " " + name) {
					found = append(found, target{fields[1], name})
				}
			}
			names = nil
		}
	}
	return found
}

func fuzz(ctx context.Context, t target, each time.Duration) error {
	// Minimizing an interesting input counts towards nothing: keep it short.
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-fuzz", "^"+t.name+"$", "-fuzztime", each.String(),
		"-fuzzminimizetime", "10x", "-parallel", "1", t.pkg)
	out, err := cmd.CombinedOutput()
	if err != nil && ctx.Err() == nil && !timeIsUp(string(out)) { // else another one failed
		return fmt.Errorf("%s %s: %w\n%s", t.pkg, t.name, err, out)
	}
	last := ""
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "fuzz:") {
			last = strings.TrimSpace(line)
		}
	}
	fmt.Printf("%s %s\n  %s\n", t.pkg, t.name, last)
	return nil
}

// timeIsUp tells go test's failure at the end of -fuzztime from a finding: the deadline of its coordinator sometimes
// passes before the context that it derives from it knows, and then it reports the deadline itself as the target's error
// (golang.org/issue/75804, mended in Go 1.27). A finding always names the input that it wrote.
func timeIsUp(out string) bool {
	return strings.Contains(out, "\n    context deadline exceeded\n") && !strings.Contains(out, "Failing input written")
}
