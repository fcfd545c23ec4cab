//go:build unix

package conform_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/grapnelhq/grapnel/sdk/conform"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	config = `{"url": "$FAR_END/x", "token": "hunter2-hunter2", "labels": {"a": "b"}, ` +
		`"login": {"user": "u"}, "wait": 5, "mode": "hard"}`
	// refused is that with a far end that answers 400.
	refused = `{"url": "$FAR_END/status/400", "token": "hunter2-hunter2"}`
	message = `{"text": "hello", "fields": {"a": null}, "lines": [{"n": 1}]}`
)

// programs builds the one program that is all examples and returns what makes it another.
func programs(t *testing.T) func(name string) string {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, "plugin")
	cmd := exec.Command("go", "build", "-ldflags", "-s -w", "-o", program, ".")
	cmd.Dir = filepath.Join("testdata", "plugin")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return func(name string) string {
		path := filepath.Join(dir, name)
		if err := os.Link(program, path); err != nil {
			t.Fatal(err)
		}
		return path
	}
}

func optionsFor(name string) conform.Options {
	if strings.HasPrefix(name, "decoder") {
		return conform.Options{}
	}
	return conform.Options{Config: config, Message: message, Refused: refused, RefusedMessage: ""}
}

// result is what a program's checks found.
type result struct {
	run    []string // names of checks
	failed []string // "<check>: <sentence>"
}

func check(ctx context.Context, path string, opts conform.Options) (r result) {
	conform.Program(ctx, conform.Command{Path: path}, opts, nil, func(c conform.Check) {
		if c.Skip != "" {
			return
		}
		r.run = append(r.run, c.Name)
		for _, f := range c.Run(ctx) {
			r.failed = append(r.failed, c.Name+": "+f.String())
		}
	})
	return r
}

// wanted says which checks run, or find a plugin's fault, and one sentence of theirs.
type wanted struct{ checks, sentence string }

// TestPrograms has a good sink and a good decoder, for which all checks are run and find nothing, and plugins with one
// fault each, which is found by name.
func TestPrograms(t *testing.T) {
	const ends = ", health, signals, shutdown, output, host killed, host gone"
	wants := map[string]wanted{
		"sink": {"start, describe, config, open, message, deliver, concurrent, instances, batch, state, large, cancel, " +
			"slow, down, refused" + ends, ""},
		"decoder": {"start, describe, config, open, catalogue, samples, order, instances, bytes, structure, hostile, " +
			"second process" + ends, ""},

		"sink-noisy": {"start",
			`it starts with "hello, I am starting" on standard output, but only the handshake line may stand ` +
				`there before it serves: print to standard error`},
		"sink-stdout": {"output",
			`to standard output, but standard output belongs to the handshake: print to standard error, or log`},
		"sink-deaf": {"slow",
			`Deliver still runs 2s after the call's deadline, while the far end does not answer, but a call ` +
				`returns when its context ends, for the next attempt may come while the old one still runs: give the ` +
				`call's context to everything that waits`},
		"sink-dies": {"open",
			`its process ended during Deliver (exit status 2; panic: index out of range), but it lives until its ` +
				`host ends it: catch what goes wrong in a call and answer with it`},
		"sink-panics": {"deliver, large, refused",
			`Deliver panicked (panic: index out of range), but a mistake in one delivery ends as its outcome, by ` +
				`design: mend what panicked`},
		"sink-hang": {"open",
			`Open did not answer, but the host gives it up after 5s: return as soon as the call's context ends`},
		"sink-schema": {"describe",
			`the schema that it declares refuses the message that it was to be checked with (text: is not in the ` +
				`schema; body: is not there, and the schema does not say optional), but the host hands over only ` +
				`what the declared schema allows: let the schema say what the plugin takes`},
		"sink-small": {"large, host killed, host gone",
			`Deliver of 5 MB failed over the size of a message (grpc: received message larger than max (10486185 ` +
				`vs. 4194304)), but a message has up to 64 MiB, in both directions: raise the limits of the gRPC ` +
				`library`},
		"sink-mortal": {"signals",
			`it dies of SIGTERM, but a signal to the whole service must not stop it before its host has drained ` +
				`it: catch and drop SIGTERM, SIGINT and SIGHUP; the host says when it is time`},
		"sink-orphan": {"host killed, host gone",
			`it still runs 5s after its host was killed, but a plugin ends when its host is gone, for it would ` +
				`hold on to what its successor needs: look at the parent process and at GRAPNEL_HOST_PID, some times ` +
				`per second, and exit`},
		"sink-stays": {"shutdown",
			`it still runs 5s after Shutdown, but it is killed 2 s after it was asked to end: stop serving and ` +
				`exit, whatever still runs`},
		"sink-secret": {"open",
			`it shows a secret of the configuration in an outcome ("refused <SECRET>  "), but secrets leave the ` +
				`plugin only for the far end: leave it out there, also of the errors of libraries`},
		"sink-log": {"output", `it shows a secret of the configuration in its log (`},
		"sink-open": {"open",
			`it shows a secret of the configuration in an error of Open ("unavailable: cannot log in with ` +
				`<SECRET>"), but`},
		"sink-shared": {"instances",
			`Deliver ends with retry (nobody there) where it was delivered before other instances were opened, ` +
				`with other configurations, and closed, but one process serves every block that names the plugin, ` +
				`and none knows of the others: keep what an instance needs in the instance`},
		"sink-lies": {"open",
			`it gave an outcome for delivery "dlv_other", which was not asked for, but an answer has exactly one ` +
				`entry for each that was asked for, by its id: answer for each, once`},
		"sink-wordy": {"open",
			`it gives a reference of 1000 bytes, but what is longer than 512 bytes is cut: say it shorter`},
		"sink-state": {"state", `Deliver panicked (panic: unknown state), but`},
		"sink-hasty": {"deliver, slow, down, refused",
			`Deliver says delivered, and no request has reached the far end, but delivered means that the far ` +
				`end has it: answer after the far end did`},
		"sink-gives up": {"down",
			`a delivery ends with rejected (nobody there), and the far end is not there, but that is to be ` +
				`retry: tell failures that pass from those that do not`},
		"sink-stubborn": {"refused",
			`a delivery ends with retry (400 Bad Request), and the far end refuses for good, but that is to be ` +
				`rejected or suspend: tell failures that pass from those that do not`},
		"sink-fails": {"open", `Close has something to tell (close: cannot flush), but`},
		"decoder-impure": {"samples",
			`the same request, the sample example.thing.created, gives other events the second time (first …`},
		"decoder-process": {"second process",
			`the sample example.thing.created gives other events in another process (first …`},
		"decoder-panics": {"bytes",
			`Decode panicked at the sample example.thing.created with a byte changed (panic: runtime error: ` +
				`invalid memory address or nil pointer dereference; the body is `},
		"decoder-slow": {"hostile",
			`Decode of lists nested 100 000 deep as the body did not answer, but the host gives it up after 5s: ` +
				`return as soon as the call's context ends`},
		"decoder-type": {"samples",
			`the sample example.thing.created gives an event of type thing.created, which the catalogue does not ` +
				`have, but types that a decoder knows are in its catalogue: add it, with a schema and a sample`},
		"decoder-data": {"samples",
			`the data of example.thing.created, from the sample example.thing.created, does not match its schema ` +
				`(id: is not of kind integer), but routes are checked against the schemas of the catalogue: declare ` +
				`what the provider really sends`},
		"decoder-huge": {"open",
			`Decode failed over the size of a message (trying to send message larger than max (67108938 vs. ` +
				`67108864)), but a message has up to 64 MiB`},
		"decoder-catalogue": {"catalogue",
			`example.thing.created is in the catalogue twice, but a type stands once: mend the catalogue of the ` +
				`manifest`},
	}
	program := programs(t)
	results := make(map[string]*result, len(wants))
	var running sync.WaitGroup
	free := make(chan struct{}, 6) // most of the time is waiting
	for name, want := range wants {
		r := &result{}
		results[name] = r
		path := program(name)
		running.Go(func() {
			free <- struct{}{}
			defer func() { <-free }()
			opts := optionsFor(name)
			if strings.Contains(want.sentence, "5s after") || strings.Contains(want.sentence,
				"after 5s") {
				opts.Timeout = 5 * time.Second
			}
			*r = check(t.Context(), path, opts)
		})
	}
	running.Wait()
	for name, want := range wants {
		t.Run(name, func(t *testing.T) { results[name].compare(t, want) })
	}
}

func (r *result) compare(t *testing.T, want wanted) {
	if want.sentence == "" {
		for _, f := range r.failed {
			t.Error(f)
		}
		if got := strings.Join(r.run, ", "); got != want.checks {
			t.Errorf("run were %s\nwant     %s", got, want.checks)
		}
		return
	}
	var names []string
	for _, f := range r.failed {
		n, _, _ := strings.Cut(f, ":")
		if !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	all := strings.Join(r.failed, "\n")
	if got := strings.Join(names, ", "); got != want.checks {
		t.Errorf("found by %s, want %s\n%s", got, want.checks, all)
	}
	if !strings.Contains(all, want.sentence) {
		t.Errorf("no finding says %q; there are\n%s", want.sentence, all)
	}
	if strings.Contains(all, "hunter2-hunter2") {
		t.Errorf("the findings show the secret\n%s", all)
	}
}
