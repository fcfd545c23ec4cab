// Command fuzzall runs every fuzz target of every module for some time each; `go test -fuzz` takes one at a time. It stops
// at the first finding, which go test leaves as a seed in the package's testdata/fuzz. Run it from the repository's root.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"time"
)

func main() {
	each := flag.Duration("time", 10*time.Second, "of each target")
	only := flag.String("only", "", "only targets whose package and name contain this")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *each, *only); err != nil {
		fmt.Fprintln(os.Stderr, "fuzzall:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, each time.Duration, only string) error {
	list := exec.CommandContext(ctx, "go", "test", "-list", "^Fuzz", "work")
	list.Stderr = os.Stderr
	out, err := list.Output()
	if err != nil {
		return fmt.Errorf("list the targets: %w", err)
	}
	var names []string
	ran := 0
	// The names of a package's targets come before its "ok" line.
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		switch {
		case len(fields) == 1 && strings.HasPrefix(fields[0], "Fuzz"):
			names = append(names, fields[0])
		case len(fields) >= 2 && fields[0] == "ok":
			for _, name := range names {
				if !strings.Contains(fields[1]+" "+name, only) {
					continue
				}
				if err := fuzz(ctx, fields[1], name, each); err != nil {
					return err
				}
				ran++
			}
			names = nil
		}
	}
	if ran == 0 {
		return fmt.Errorf("no fuzz target matches %q", only)
	}
	fmt.Printf("%d targets, no finding\n", ran)
	return nil
}

func fuzz(ctx context.Context, pkg, name string, each time.Duration) error {
	fmt.Printf("%s %s\n", pkg, name)
	// Minimizing an interesting input counts towards nothing: keep it short.
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-fuzz", "^"+name+"$", "-fuzztime", each.String(),
		"-fuzzminimizetime", "10x", pkg)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w\n%s", pkg, name, err, out)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	for _, l := range lines[max(0, len(lines)-3):] {
		if strings.HasPrefix(l, "fuzz:") {
			fmt.Println("  " + l)
		}
	}
	return nil
}
