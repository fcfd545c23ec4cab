package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/auth"
	"github.com/grapnelhq/grapnel/core/config"
	"github.com/grapnelhq/grapnel/core/httpfile"
	"github.com/grapnelhq/grapnel/core/ingress"
	"github.com/grapnelhq/grapnel/core/sample"
	"github.com/grapnelhq/grapnel/core/store"
	"github.com/grapnelhq/grapnel/sdk"
)

// gates are the endpoints of a configuration, for requests that are looked at and not stored.
type gates struct {
	cfg    *config.Config
	server *ingress.Server
}

// newGates makes the endpoints. A source whose secrets are not there takes every request. Addresses are not asked for:
// a file does not say where a request came from.
func newGates(cfg *config.Config) (*gates, error) {
	sources := withBuiltin(cfg)
	endpoints := make([]ingress.Endpoint, len(sources))
	for i, s := range sources {
		if len(s.Unset) > 0 {
			s.Scheme, s.Secrets = nil, nil
		}
		e, err := endpoint(s, 0)
		if err != nil && len(s.Unset) > 0 { // a handshake that proves to know the secret
			e.Handshake, e.Unsigned, err = nil, true, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%s: source %q: %w", s.Range, s.Name, err)
		}
		e.AllowIPs = nil
		endpoints[i] = e
	}
	server, err := ingress.New(ingress.Config{
		Endpoints: endpoints, Acceptor: nobody{}, Rejections: nobody{}, Logger: hclog.NewNullLogger(),
		Limits: ingress.Limits{MaxBody: cfg.Server.Limits.MaxBody},
	})
	return &gates{cfg, server}, err
}

// withBuiltin lists the sources of a configuration with the built-in one, which has an endpoint among gates only.
func withBuiltin(cfg *config.Config) []config.Source {
	if cfg.Builtin == nil {
		return cfg.Sources
	}
	return append(slices.Clone(cfg.Sources), *cfg.Builtin)
}

// nobody stands where a server wants a store.
type nobody struct{}

// Accept implements ingress.Acceptor. Nothing calls it.
func (nobody) Accept(context.Context, *core.Request) (store.Acceptance, error) {
	return "", errors.New("nothing is stored")
}

// RecordRejection implements ingress.Rejections.
func (nobody) RecordRejection(core.Rejection) {}

// source finds an enabled source.
func findSource(cfg *config.Config, name string) (*config.Source, error) {
	if cfg.Builtin != nil && name == core.BuiltinSource {
		return cfg.Builtin, nil
	}
	var names []string
	for i := range cfg.Sources {
		if cfg.Sources[i].Name == name {
			return &cfg.Sources[i], nil
		}
		names = append(names, cfg.Sources[i].Name)
	}
	for _, d := range cfg.Disabled {
		if d.Kind == "source" && d.Name == name {
			return nil, fmt.Errorf("the source %q is disabled, at %s", name, d.Range)
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("the configuration has no enabled source %q, and no other", name)
	}
	return nil, fmt.Errorf("the configuration has no enabled source %q; it has %s", name, strings.Join(names, ", "))
}

// findSample finds a sample of an event type: the first, or the one of that name.
func findSample(src *config.Source, eventType, name string) (sdk.Sample, error) {
	p := src.Info.Provider
	s, err := sample.Find(p, eventType)
	if err != nil {
		return s, err
	}
	if name != "" {
		var names []string
		for _, e := range p.Events {
			if e.Type != eventType {
				continue
			}
			for _, other := range e.Samples {
				if other.Name == name {
					return complete(other, p), nil
				}
				names = append(names, fmt.Sprintf("%q", other.Name))
			}
		}
		return s, fmt.Errorf("%s has no sample %q; it has %s", eventType, name, strings.Join(names, ", "))
	}
	return complete(s, p), nil
}

// sampleRequest makes a request of a sample, with the credentials of the source's first secret where there is one.
func sampleRequest(ctx context.Context, src *config.Source, smp typedSample, at time.Time) (*http.Request, error) {
	in := auth.Input{Header: http.Header{}, RawQuery: smp.Query, Body: smp.Body, Form: sample.IsForm(smp.Headers)}
	for _, h := range smp.Headers {
		in.Header.Set(h.Name, h.Value)
	}
	if src.Scheme != nil && len(src.Secrets) > 0 {
		if err := auth.Sign(*src.Scheme, &in, src.Secrets[0], at); err != nil {
			return nil, signError(src.Scheme, smp, in.Header, err)
		}
	}
	target := src.Path
	if in.PathToken != "" {
		target += "/" + in.PathToken
	}
	if in.RawQuery != "" {
		target += "?" + in.RawQuery
	}
	f := httpfile.Request{Method: smp.Method, Target: target, Header: in.Header, Body: smp.Body}
	r, err := f.HTTP(ctx)
	if err != nil {
		return nil, fmt.Errorf("the sample does not make a request to source %s", src.Name) // err would show the path token
	}
	return r, nil
}

// fileRequest makes a request of a file. Its path says which source it is for, unless one is named: then the path may
// be another one, or none.
func (g *gates) fileRequest(ctx context.Context, f *httpfile.Request, source string) (*http.Request, error) {
	c := *f
	if source != "" {
		src, err := findSource(g.cfg, source)
		if err != nil {
			return nil, err
		}
		path, query, asked := strings.Cut(c.Target, "?")
		if path != src.Path && !strings.HasPrefix(path, src.Path+"/") {
			c.Target = src.Path
			if asked {
				c.Target += "?" + query
			}
		}
	}
	if c.Target == "" {
		return nil, errors.New("the file has no request line, so it does not say for which source it is: " +
			"name one with --source")
	}
	for i := range g.cfg.Sources { // whose token is not known: it is cut here
		src := &g.cfg.Sources[i]
		path, query, asked := strings.Cut(c.Target, "?")
		token, below := strings.CutPrefix(path, src.Path+"/")
		if below && len(src.Unset) > 0 && takesPathToken(src.Scheme) && !strings.Contains(token, "/") {
			c.Target = src.Path
			if asked {
				c.Target += "?" + query
			}
		}
	}
	return c.HTTP(ctx)
}

func takesPathToken(s *sdk.Scheme) bool {
	if s == nil || s.Token == nil {
		return false
	}
	return slices.ContainsFunc(append([]sdk.Part{s.Token.Part}, s.Token.Alternatives...), func(p sdk.Part) bool {
		return p.Kind == sdk.PartPathToken
	})
}

// looked is what the gates say of a request.
type looked struct {
	ingress.Inspection                    // as if the request were authentic
	First              ingress.Inspection // as it is
	Unset              []string           // the secrets that are not there to check it
}

// look takes a request through the gates. One that is refused because it is not authentic is looked at again as if it
// were: what would become of it is still worth knowing.
func (g *gates) look(r *http.Request, at time.Time) (looked, error) {
	var body []byte
	if r.Body != nil {
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			return looked{}, err
		}
	}
	again := func() *http.Request {
		c := r.Clone(r.Context())
		c.Body = io.NopCloser(bytes.NewReader(body))
		return c
	}
	first := g.server.Inspect(again(), at, false)
	l := looked{Inspection: first, First: first}
	for i := range g.cfg.Sources {
		if src := &g.cfg.Sources[i]; src.Name == first.Source {
			l.Unset = src.Unset
		}
	}
	if first.Cause == "" {
		return l, nil
	}
	if slices.Contains(auth.Causes(), first.Cause) {
		l.Inspection = g.server.Inspect(again(), at, true)
	}
	return l, nil
}

// partNames writes the parts of a dedupe key for people.
func partNames(key sdk.DedupeKey) string {
	names := make([]string, len(key))
	for i, p := range key {
		switch p.Kind {
		case sdk.PartHeader:
			names[i] = "header " + p.Name
		case sdk.PartQuery:
			names[i] = "parameter " + p.Name
		case sdk.PartJSONPointer:
			names[i] = p.Name
		case sdk.PartLiteral:
			names[i] = fmt.Sprintf("%q", p.Name)
		default:
			names[i] = strings.ReplaceAll(string(p.Kind), "_", " ")
		}
	}
	return strings.Join(names, ", ")
}
