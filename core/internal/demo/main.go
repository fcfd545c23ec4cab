// Command demo shows Grapnel at work: it starts the built host on the repository's config.hcl with secrets made up for this
// run, has `grapnel send` post a correctly signed sample of every event type of every source, and prints what came in and
// where it went, compared with the files that the sink wrote. `make demo` runs it from the repository's root.
//
// With -once it then stops the host and exits 0, or 1 if an event is missing or its data differs from what was sent.
package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/grapnelhq/grapnel/core/admin"
	"github.com/grapnelhq/grapnel/core/store"
)

const (
	binary  = "bin/grapnel"
	dataDir = "data"                     // of config.hcl
	events  = "data/events/events.jsonl" // of config.hcl's file sink
	patient = 30 * time.Second
)

// sources are the source blocks of config.hcl and the variable that holds the secret of each.
var sources = [...]struct{ name, variable string }{
	{"hr", "YOUFORCE_SECRET"},
	{"people", "PEOPLEFORCE_SECRET"},
	{"roofing", "ACCULYNX_TOKEN"},
}

func main() {
	once := flag.Bool("once", false, "stop after the table")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *once)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, once bool) error {
	env := append(os.Environ(), "SLACK_WEBHOOK_URL=") // samples are for nobody's channel
	for _, s := range sources {
		env = append(env, s.variable+"="+rand.Text())
	}
	listen, err := freeAddress("127.0.0.1:8080")
	if err != nil {
		return err
	}
	people, err := freeAddress("127.0.0.1:8081")
	if err != nil {
		return err
	}
	env = append(env, "GRAPNEL_LISTEN="+listen, "GRAPNEL_ADMIN_LISTEN="+people)

	socket, err := admin.SocketPath(dataDir)
	if err != nil {
		return err
	}
	control := admin.NewClient(socket)
	defer control.Close()
	if _, err := control.Status(ctx); err == nil {
		return fmt.Errorf("a host runs on %s already: stop it first", dataDir)
	}

	fmt.Printf("starting %s run --config config.hcl on http://%s, for people on http://%s\n\n", binary, listen, people)
	started := time.Now()
	host := exec.Command(binary, "run", "--config", "config.hcl")
	host.Env, host.Stdout, host.Stderr = env, os.Stderr, os.Stderr
	if err := host.Start(); err != nil {
		return fmt.Errorf("%w (run make build first)", err)
	}
	exited := make(chan error, 1)
	go func() { exited <- host.Wait() }()
	halt := func() error {
		_ = host.Process.Signal(syscall.SIGTERM) // it may be gone already
		select {
		case err := <-exited:
			return err
		case <-time.After(patient):
			_ = host.Process.Kill()
			return errors.New("the host did not stop")
		}
	}
	if err := show(ctx, control, env, started, exited); err != nil {
		return errors.Join(err, halt())
	}
	if once {
		return halt()
	}
	fmt.Printf(`
The host is running: http://%s in a browser. In another terminal:
  tail -f %s
  bin/grapnel requests list
  bin/grapnel deliveries list
Stop it with Ctrl-C.
`, people, events)
	select {
	case <-ctx.Done():
		return halt()
	case err := <-exited:
		return fmt.Errorf("the host stopped by itself: %w", err)
	}
}

// show sends everything and prints what became of it.
func show(ctx context.Context, control *admin.Client, env []string, started time.Time, exited chan error) error {
	if err := wait(ctx, exited, func() (bool, error) {
		s, err := control.Status(ctx)
		return err == nil && s.Running, nil
	}); err != nil {
		return fmt.Errorf("the host does not start: %w", err)
	}
	for _, s := range sources {
		send := exec.CommandContext(ctx, binary, "send", s.name, "*", "--config", "config.hcl")
		send.Env = env
		if out, err := send.CombinedOutput(); err != nil {
			return fmt.Errorf("grapnel send %s: %w\n%s", s.name, err, out)
		}
	}
	var deliveries []admin.Delivery
	if err := wait(ctx, exited, func() (done bool, err error) {
		deliveries, done, err = settled(ctx, control, started)
		return done, err
	}); err != nil {
		return fmt.Errorf("the deliveries do not settle: %w", err)
	}
	return table(ctx, control, deliveries, started)
}

// wait polls until done, the host's end or the end of patience.
func wait(ctx context.Context, exited chan error, done func() (bool, error)) error {
	deadline := time.Now().Add(patient)
	for {
		ok, err := done()
		if ok || err != nil {
			return err
		}
		select {
		case err := <-exited:
			exited <- nil // whoever halts the host finds it gone
			return fmt.Errorf("the host stopped by itself: %w", cmp.Or(err, errors.New("exit status 0")))
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("still waiting after %s", patient)
		}
	}
}

// settled returns the deliveries of what was received since a time, and whether nothing of it waits.
func settled(ctx context.Context, control *admin.Client, since time.Time) ([]admin.Delivery, bool, error) {
	waiting, err := control.Requests(ctx, store.RequestFilter{Since: since, State: "received", Limit: 1})
	if err != nil || len(waiting.Items) > 0 || waiting.Next != "" {
		return nil, false, err
	}
	var all []admin.Delivery
	for f := (store.DeliveryFilter{Since: since, Limit: 1000}); ; {
		page, err := control.Deliveries(ctx, f)
		if err != nil {
			return nil, false, err
		}
		for _, d := range page.Items {
			if d.SettledAt == nil {
				return nil, false, nil
			}
		}
		all = append(all, page.Items...)
		if page.Next == "" {
			return all, true, nil
		}
		f.Cursor = page.Next
	}
}

// line is what the demo reads of a line of the file sink.
type line struct {
	ID   string          `json:"id"`
	Data json.RawMessage `json:"data"`
}

// table prints a line per delivery and compares every event's data with what the file sink wrote.
func table(ctx context.Context, control *admin.Client, deliveries []admin.Delivery, since time.Time) error {
	written, err := readLines(events)
	if err != nil {
		return err
	}
	slices.SortFunc(deliveries, func(a, b admin.Delivery) int { return cmp.Compare(a.Sequence, b.Sequence) })
	checked := map[string]string{}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "SOURCE\tEVENT\tSUBJECT\tROUTE\tSINK\tSTATE\tDATA IN FILE")
	failures := 0
	for _, d := range deliveries {
		verdict, ok := checked[d.EventID]
		if !ok {
			if verdict, err = compare(ctx, control, d.ID, written); err != nil {
				return err
			}
			checked[d.EventID] = verdict
		}
		if verdict != same || d.State != "delivered" {
			failures++
		}
		source := strings.TrimPrefix(d.Source, "urn:grapnel:source:")
		fmt.Fprintln(w, strings.Join([]string{source, d.Type, d.Subject, d.Route, d.Sink, d.State, verdict}, "\t"))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	requests, err := control.Requests(ctx, store.RequestFilter{Since: since, Limit: 1000})
	if err != nil {
		return err
	}
	dead := 0
	for _, r := range requests.Items {
		if r.State == "dead" {
			dead++
			fmt.Printf("dead: %s: %s\n", r.ID, r.Reason)
		}
	}
	fmt.Printf("\n%d requests, %d events, %d deliveries, %d not as they should be; lines in %s\n",
		len(requests.Items), len(checked), len(deliveries), failures+dead, events)
	if failures+dead > 0 || len(deliveries) == 0 {
		return errors.New("not everything arrived as it was sent")
	}
	return nil
}

const same = "same bytes"

// compare looks an event up in the file sink's lines. Only white space between tokens may differ.
func compare(ctx context.Context, control *admin.Client, delivery string, written map[string]json.RawMessage) (string, error) {
	d, err := control.Delivery(ctx, delivery)
	if err != nil {
		return "", err
	}
	got, ok := written[d.Event.ID]
	if !ok {
		return "MISSING", nil
	}
	want := d.Event.Data
	if want == nil {
		want = json.RawMessage("null")
	}
	var a, b bytes.Buffer
	if err := errors.Join(json.Compact(&a, want), json.Compact(&b, got)); err != nil {
		return "", err
	}
	if !bytes.Equal(a.Bytes(), b.Bytes()) {
		return "DIFFERENT", nil
	}
	return same, nil
}

func readLines(path string) (map[string]json.RawMessage, error) {
	f, err := os.Open(filepath.FromSlash(path))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	all := map[string]json.RawMessage{}
	s := bufio.NewScanner(f)
	s.Buffer(nil, 16<<20)
	for n := 1; s.Scan(); n++ {
		var l line
		if err := json.Unmarshal(s.Bytes(), &l); err != nil {
			return nil, fmt.Errorf("%s:%s: %w", path, strconv.Itoa(n), err)
		}
		all[l.ID] = l.Data
	}
	return all, s.Err()
}

// freeAddress returns address, or another port of the same host if that one is taken.
func freeAddress(address string) (string, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		host, _, _ := net.SplitHostPort(address)
		if l, err = net.Listen("tcp", net.JoinHostPort(host, "0")); err != nil {
			return "", err
		}
	}
	defer l.Close()
	return l.Addr().String(), nil
}
