package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/admin"
	"github.com/grapnelhq/grapnel/core/config"
	"github.com/grapnelhq/grapnel/core/dryrun"
	"github.com/grapnelhq/grapnel/core/httpfile"
	"github.com/grapnelhq/grapnel/core/route"
	"github.com/grapnelhq/grapnel/core/store"
)

// explainFlags are the flags of explain.
type explainFlags struct {
	config, file, body, source, sample, route string
	at                                        time.Time
	all, json                                 bool
}

func newExplain() *cobra.Command {
	c := &cobra.Command{
		Use:   "explain [ID | SOURCE EVENT_TYPE]",
		Short: "Explain what becomes of a request, route by route",
		Long: `Take a request through the configuration and say why: authentication, dedupe key, events, each route with the
value of every part of its condition, and the messages. Nothing is stored or sent, and no sink is opened.

The request is one that the host has stored (ID; the id of an event or delivery names its request), a sample of the
decoder's catalogue (SOURCE EVENT_TYPE), or the text of an HTTP request in a file (--file).`,
		Example: `  grapnel explain people peopleforce.employee.created
  grapnel explain req_0f5c4e1d7a3b49f2a6d8c0b1e2f3a4b5
  grapnel explain --file request.http --route new_hires
  curl -v -d @body.json … 2>&1 | grapnel explain --file - --body body.json --source people`,
		Args: cobra.MaximumNArgs(2),
	}
	var f explainFlags
	fs := c.Flags()
	fs.StringVar(&f.config, "config", "config.hcl", "configuration `file` or folder")
	fs.StringVar(&f.file, "file", "", "a `file` with an HTTP request: headers, blank line, body; - is standard input")
	fs.StringVar(&f.body, "body", "", "with --file: take the body from this `file`")
	fs.StringVar(&f.source, "source", "", "with --file: the `name` of the source, where the request line does not tell")
	fs.StringVar(&f.sample, "sample", "", "with SOURCE EVENT_TYPE: the `name` of a sample that is not the first")
	fs.StringVar(&f.route, "route", "", "only this `route`")
	fs.BoolVar(&f.all, "all", false, "show the parts of messages and order keys, too")
	fs.BoolVar(&f.json, "json", false, "print one JSON text")
	fs.Func("at", "when it is supposed to come in, as a `time` of RFC 3339 (default: now)", func(v string) (err error) {
		if f.at, err = time.Parse(time.RFC3339Nano, v); err != nil {
			return fmt.Errorf("%q is no time like 2026-01-31T08:00:00Z", v)
		}
		return nil
	})
	c.RunE = func(c *cobra.Command, args []string) error {
		switch {
		case f.file == "" && len(args) == 0:
			return usage(c, "it takes an ID, SOURCE EVENT_TYPE, or --file")
		case f.file != "" && len(args) > 0:
			return usage(c, "it takes --file or arguments, not both")
		case f.file == "" && (f.body != "" || f.source != ""):
			return usage(c, "--body and --source go with --file")
		case f.sample != "" && len(args) != 2:
			return usage(c, "--sample goes with SOURCE EVENT_TYPE")
		case f.body == "-" && f.file == "-":
			return usage(c, "--file and --body cannot both be standard input")
		}
		return explain(c, args, f)
	}
	return c
}

// What explain finds out is said as the control API says it.
type (
	explanation      = admin.Explanation
	explainedRequest = admin.ExplainedRequest
	authentication   = admin.Authentication
	rejection        = admin.Refusal
	dedupe           = admin.Dedupe
	storedBefore     = admin.StoredBefore
	explainedEvent   = admin.ExplainedEvent
	explainedRoute   = admin.ExplainedRoute
)

func explain(c *cobra.Command, args []string, f explainFlags) (err error) {
	ctx := c.Context()
	cfg, err := loadToLook(c, f.config)
	if err != nil {
		return err
	}
	if f.route != "" {
		if err := findRoute(cfg, f.route); err != nil {
			return err
		}
	}
	x := &explainer{cfg: cfg, flags: f, out: &explanation{Events: []explainedEvent{}}}
	if x.flags.at.IsZero() {
		x.flags.at = time.Now()
	}
	ctl, done, noControl := openControl(ctx, f.config)
	if noControl == nil {
		x.ctl = ctl
		defer func() { err = errors.Join(err, done()) }()
	}
	switch len(args) {
	case 1:
		err = x.stored(ctx, args[0], noControl)
	case 2:
		err = x.sample(ctx, args[0], args[1])
	default:
		err = x.file(ctx, c.InOrStdin())
	}
	if err != nil {
		return err
	}
	if x.req != nil {
		if err := x.run(ctx); err != nil {
			return err
		}
	}
	p := newPrinter(c, f.json)
	if f.json {
		b, err := jsonWithout(cfg.Secrets, x.out)
		if err != nil {
			return err
		}
		_, err = p.out.Write(b)
		return err
	}
	v := newView(p.out, cfg.Secrets)
	v.explanation(x.out, f.all)
	return v.flush()
}

func findRoute(cfg *config.Config, name string) error {
	var names []string
	for _, r := range cfg.Routes {
		if r.Name == name {
			return nil
		}
		names = append(names, r.Name)
	}
	for _, d := range cfg.Disabled {
		if d.Kind == "route" && d.Name == name {
			return fmt.Errorf("the route %q is disabled, at %s", name, d.Range)
		}
	}
	return fmt.Errorf("the configuration has no route %q; it has %s", name, strings.Join(names, ", "))
}

// explainer makes an explanation.
type explainer struct {
	cfg   *config.Config
	flags explainFlags
	ctl   admin.Control // nil: there is no host and no database

	out  *explanation
	req  *core.Request // nil: there is none to decode
	only string        // id of an event; empty: all
}

// stored takes a request from the host or its store.
func (x *explainer) stored(ctx context.Context, id string, noControl error) error {
	requestID, eventID, err := core.Locate(id)
	if err != nil {
		return fmt.Errorf("%w; a sample is named by its source and event type, a file by --file", err)
	}
	x.only = eventID
	if x.ctl == nil {
		return noControl
	}
	v, err := x.ctl.Request(ctx, requestID)
	if err != nil {
		return err
	}
	x.out.From, x.out.Authentication.Result = "store", "stored"
	if x.req, err = v.Stored(); err != nil {
		return err
	}
	src, err := findSource(x.cfg, v.Source)
	if err != nil {
		return fmt.Errorf("nobody can decode the request: %w", err)
	}
	x.describe(src)
	x.out.Dedupe = &dedupe{Key: hex.EncodeToString(x.req.Dedupe[:])}
	return nil
}

// describe says which request it is.
func (x *explainer) describe(src *config.Source) {
	r := x.req
	x.out.Request = &explainedRequest{
		ID: r.ID(), Source: r.Source, Decoder: src.Plugin, Tenant: r.Tenant, ReceivedAt: r.ReceivedAt, Method: r.Method,
		Query: r.Query, Headers: r.Headers, Bytes: len(r.Body),
	}
}

// sample takes a sample of a decoder's catalogue.
func (x *explainer) sample(ctx context.Context, source, eventType string) error {
	src, err := findSource(x.cfg, source)
	if err != nil {
		return err
	}
	smp, err := findSample(src, eventType, x.flags.sample)
	if err != nil {
		return err
	}
	g, err := newGates(x.cfg)
	if err != nil {
		return err
	}
	r, err := sampleRequest(ctx, src, typedSample{eventType, smp}, x.flags.at)
	if err != nil {
		return err
	}
	l, err := g.look(r, x.flags.at)
	if err != nil {
		return err
	}
	x.out.From, x.out.Sample = "sample", smp.Name
	return x.looked(ctx, l)
}

// file takes a request from a file.
func (x *explainer) file(ctx context.Context, stdin io.Reader) error {
	f, err := readRequestFile(x.flags.file, x.flags.body, stdin)
	if err != nil {
		return err
	}
	g, err := newGates(x.cfg)
	if err != nil {
		return err
	}
	look := func() (looked, error) {
		r, err := g.fileRequest(ctx, f, x.flags.source)
		if err != nil {
			return looked{}, err
		}
		return g.look(r, x.flags.at)
	}
	l, err := look()
	if err != nil {
		return err
	}
	x.out.From = "file"
	if err := x.looked(ctx, l); err != nil || x.out.Authentication.Result != "refused" {
		return err
	}
	if old := strings.HasPrefix(l.First.Cause, "timestamp_"); old {
		x.out.Authentication.Hint = "--at says when the request came in"
	}
	if f.Ends == "" {
		return nil
	}
	// An editor's line break at the end of the file is the likeliest mistake of all.
	f.Body = f.Body[:len(f.Body)-len(f.Ends)]
	if l, err := look(); err == nil && l.First.Cause == "" {
		x.out.Authentication.Hint = "without the line break at the end of the file it would be accepted: take that away, " +
			"or write a Content-Length"
	}
	return nil
}

// maxRequestFile bounds a file with a request, in bytes: more than a body may have.
const maxRequestFile = 40 << 20

// readRequestFile reads a file with an HTTP request, or with the head of one whose body is another file.
func readRequestFile(file, body string, stdin io.Reader) (*httpfile.Request, error) {
	head, err := readBounded(file, stdin)
	if err != nil {
		return nil, err
	}
	var f *httpfile.Request
	if body == "" {
		f, err = httpfile.Parse(head)
	} else {
		var b []byte
		if b, err = readBounded(body, stdin); err != nil {
			return nil, err
		}
		f, err = httpfile.ParseHead(head, b)
	}
	if e, ok := errors.AsType[*httpfile.Error](err); ok {
		return nil, fmt.Errorf("%s:%d: %s", file, e.Line, e.Text)
	}
	return f, err
}

func readBounded(file string, stdin io.Reader) ([]byte, error) {
	in := stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, maxRequestFile+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxRequestFile {
		return nil, fmt.Errorf("%s has more than %d MiB", file, maxRequestFile>>20)
	}
	return b, nil
}

// looked takes over what the gates say.
func (x *explainer) looked(ctx context.Context, l looked) error {
	out := x.out
	var src *config.Source
	if l.First.Source != "" {
		var err error
		if src, err = findSource(x.cfg, l.First.Source); err != nil {
			return err
		}
	}
	a := &out.Authentication
	if a.Result = "not_checked"; src != nil {
		a.Result = "none"
	}
	if src != nil && src.Scheme != nil {
		a.Scheme, a.Secrets, a.Result = src.Scheme.Name, len(src.Secrets), "accepted"
	}
	why := rejection{Status: l.First.Status, Cause: l.First.Cause, Detail: l.First.Detail}
	switch {
	case l.First.Cause != "" && l.First.Cause != l.Inspection.Cause:
		a.Result, a.Refusal = "refused", why
	case len(l.Unset) > 0:
		a.Result, a.Unset = "not_checked", l.Unset
	case l.First.Secret >= 0:
		a.Secret = &l.First.Secret
	case a.Result == "accepted": // it did not come so far
		a.Result = "not_checked"
	}
	if l.Cause != "" {
		out.Rejection = &rejection{Status: l.Status, Cause: l.Cause, Detail: l.Detail}
	}
	if l.Handshake {
		text := string(l.Answer)
		out.Handshake = &text
	}
	if x.req = l.Request; x.req == nil {
		return nil
	}
	x.describe(src)
	keys := src.Info.Provider.Dedupe
	out.Dedupe = &dedupe{Key: hex.EncodeToString(x.req.Dedupe[:]), Alternatives: len(keys)}
	if l.Dedupe >= 0 && l.Dedupe < len(keys) {
		out.Dedupe.Alternative, out.Dedupe.Parts = l.Dedupe+1, keys[l.Dedupe]
	}
	return x.before(ctx)
}

// before finds out whether the request is a duplicate. Repeats of a key have ids that count up; old ones may be gone.
func (x *explainer) before(ctx context.Context) error {
	if x.ctl == nil {
		return nil
	}
	const gap = 3
	var last *admin.Request
	for repeat, missing := 0, 0; missing < gap; repeat++ {
		v, err := x.ctl.Request(ctx, core.RequestID(x.req.Dedupe, repeat))
		switch {
		case errors.Is(err, store.ErrNotFound):
			missing++
		case err != nil:
			return err
		default:
			last, missing = &v, 0
		}
	}
	duplicate := last != nil && x.flags.at.Sub(last.ReceivedAt) < x.cfg.Storage.DedupeWindow
	x.out.Dedupe.Duplicate = &duplicate
	if last != nil {
		x.out.Dedupe.Stored = &storedBefore{ID: last.ID, State: last.State, ReceivedAt: last.ReceivedAt}
	}
	return nil
}

// run decodes the request and has the routes explained.
func (x *explainer) run(ctx context.Context) error {
	d, err := openDryRun(ctx, x.cfg, hclog.NewNullLogger(), x.req.Source)
	if err != nil {
		return err
	}
	defer d.close()
	results, err := d.Run(ctx, []*core.Request{x.req})
	if err != nil {
		return err
	}
	return x.routes(d.table, &results[0])
}

// routes has the routes of a table explained on the events of a result.
func (x *explainer) routes(table *route.Table, res *dryrun.Result) error {
	x.out.Refusal, x.out.Notes = res.Refusal, res.Notes
	explainer := table.Explainer()
	for i := range res.Events {
		ev := &res.Events[i]
		if x.only != "" && x.only != ev.ID {
			continue
		}
		routes, err := explainer.Explain(x.req, ev)
		if err != nil {
			return err
		}
		v := explainedEvent{
			Event:    admin.Event{Envelope: ev.Envelope, Data: ev.Data, Changes: ev.Changes},
			Unrouted: true, Routes: []explainedRoute{},
		}
		for _, r := range routes {
			v.Unrouted = v.Unrouted && len(r.To) == 0
			if x.flags.route == "" || r.Route == x.flags.route {
				v.Routes = append(v.Routes, x.view(r))
			}
		}
		x.out.Events = append(x.out.Events, v)
	}
	if x.only != "" && res.Refusal == "" && len(x.out.Events) == 0 {
		return fmt.Errorf("the decoder makes %s of the request now, and not %s", plural(len(res.Events), "event"), x.only)
	}
	for _, off := range x.cfg.Disabled {
		if off.Kind == "route" {
			x.out.Disabled = append(x.out.Disabled, off.Name)
		}
	}
	return nil
}

// view is what a route says, as shown, with the disabled sinks that would get something of it.
func (x *explainer) view(r route.Explanation) explainedRoute {
	v := explainedRoute{
		Route: r.Route, Range: r.Range, Verdict: string(r.Verdict), From: r.From, On: r.On, Matches: r.Matches, When: r.When,
		Error: r.Error, Sinks: r.Sinks,
	}
	for _, s := range r.To {
		v.To = append(v.To, admin.ExplainedSend(s))
	}
	for _, i := range x.cfg.Idle {
		if i.Route == r.Route && r.Verdict == route.Sends {
			v.Disabled = append(v.Disabled, i.Sink)
		}
	}
	return v
}
