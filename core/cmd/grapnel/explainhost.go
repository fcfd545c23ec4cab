package main

import (
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/admin"
	"github.com/grapnelhq/grapnel/core/dryrun"
	"github.com/grapnelhq/grapnel/core/httpfile"
)

// hostExplainer explains by what a host runs by.
type hostExplainer struct {
	h   *host
	ctl admin.Control // for duplicates
}

// Stored implements admin.Explainer.
func (e *hostExplainer) Stored(ctx context.Context, r *core.Request, events []core.Event, only string) (
	admin.Explanation, error) {
	now := e.h.current.Load()
	src, err := findSource(now.cfg, r.Source)
	if err != nil {
		return admin.Explanation{}, err
	}
	x := e.explainer(now)
	x.req, x.only = r, only
	x.out.From, x.out.Authentication.Result = "store", "stored"
	x.out.Dedupe = &dedupe{Key: hex.EncodeToString(r.Dedupe[:])}
	x.describe(src)
	if events == nil {
		return x.decodeHere(ctx, now)
	}
	err = x.routes(now.table, &dryrun.Result{Request: r, Events: events, Notes: r.Notes})
	return *x.out, err
}

// Given implements admin.Explainer.
func (e *hostExplainer) Given(ctx context.Context, g admin.GivenRequest) (admin.Explanation, error) {
	now := e.h.current.Load()
	x := e.explainer(now)
	if x.flags.at = time.Now(); g.At != nil {
		x.flags.at = *g.At
	}
	f := &httpfile.Request{
		Method: cmp.Or(strings.ToUpper(g.Method), http.MethodPost), Target: g.Target, Header: http.Header{}, Body: []byte(g.Body),
	}
	if g.BodyBase64 != nil {
		f.Body = g.BodyBase64
	}
	for _, h := range g.Headers {
		f.Header.Add(h.Name, h.Value)
	}
	gates, err := newGates(now.cfg)
	if err != nil {
		return admin.Explanation{}, err
	}
	r, err := gates.fileRequest(ctx, f, g.Source)
	if err != nil {
		return admin.Explanation{}, admin.Mistaken(err)
	}
	l, err := gates.look(r, x.flags.at)
	if err != nil {
		return admin.Explanation{}, err
	}
	x.out.From = "request"
	if err := x.looked(ctx, l); err != nil {
		return admin.Explanation{}, err
	}
	if x.req == nil {
		return *x.out, nil
	}
	return x.decodeHere(ctx, now)
}

func (e *hostExplainer) explainer(now *running) *explainer {
	return &explainer{cfg: now.cfg, ctl: e.ctl, out: &explanation{Events: []explainedEvent{}}}
}

// decodeHere decodes the request in the quarantine of the decoder that runs: what it does to its process, it does to
// nobody else's.
func (x *explainer) decodeHere(ctx context.Context, now *running) (admin.Explanation, error) {
	var decoder dryrun.Decoder = builtinDecoder{}
	if d := now.sources[x.req.Source]; d != nil {
		decoder = d
	} else if x.req.Source != core.BuiltinSource {
		return admin.Explanation{}, fmt.Errorf("the source %q has no decoder that runs", x.req.Source)
	}
	r := *x.req
	r.Crashes = 1
	x.req = &r
	run := dryrun.New([]dryrun.Source{{Name: r.Source, Decoder: decoder, Router: now.table.Router(r.Source)}})
	results, err := run.Run(ctx, []*core.Request{&r})
	if err != nil {
		return admin.Explanation{}, err
	}
	err = x.routes(now.table, &results[0])
	return *x.out, err
}
