package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/auth"
	"github.com/grapnelhq/grapnel/core/config"
	"github.com/grapnelhq/grapnel/core/ingress"
	"github.com/grapnelhq/grapnel/core/sample"
	"github.com/grapnelhq/grapnel/sdk"
	"github.com/grapnelhq/grapnel/sdk/conform"
)

// gateChecks are the checks of a decoder's manifest that only the host can make: it takes the samples through the gates
// of the ingress, signed as each scheme says, and damaged.
func gateChecks(p *sdk.Provider) []conform.Check {
	checks := []conform.Check{{Name: "samples",
		Run: func(context.Context) []conform.Finding { return checkGateSamples(p) }}}
	for _, s := range p.Schemes {
		checks = append(checks, conform.Check{Name: "auth " + s.Name, Run: func(context.Context) []conform.Finding {
			return checkScheme(p, s)
		}})
	}
	checks = append(checks, conform.Check{Name: "dedupe",
		Run: func(context.Context) []conform.Finding { return checkDedupe(p) }})
	if p.Handshake != nil {
		checks = append(checks, conform.Check{Name: "handshake", Run: func(context.Context) []conform.Finding {
			return checkHandshake(p)
		}})
	}
	return checks
}

// gate is an ingress with one source of a provider.
type gate struct {
	provider *sdk.Provider
	scheme   *sdk.Scheme // nil: none
	secret   string
	private  ed25519.PrivateKey // for a scheme with public keys
	lends    bool               // requests without the id that is signed get one
	server   *ingress.Server
	now      time.Time
}

const gatePath = "/hooks/test"

func newGate(p *sdk.Provider, scheme *sdk.Scheme) (*gate, error) {
	g := &gate{provider: p, scheme: scheme, now: time.Now()}
	src := config.Source{Name: "test", Path: gatePath, Scheme: scheme, Info: &core.PluginInfo{Provider: p}}
	if scheme != nil {
		// A manifest that offers presets to choose from has no samples for each: their ids are lent. Those of a scheme of
		// its own are not, or what send cannot sign would pass.
		_, preset := sdk.Preset(scheme.Name)
		g.lends = preset && len(p.Schemes) > 1
		g.secret = "s3cret-of-the-conformance-kit-01"
		switch {
		case scheme.Basic != nil:
			g.secret = "user:" + g.secret
		case scheme.Ed25519 != nil:
			g.private = ed25519.NewKeyFromSeed([]byte(g.secret))
			g.secret = base64.StdEncoding.EncodeToString(g.private.Public().(ed25519.PublicKey))
		case scheme.HMAC != nil && scheme.HMAC.KeyFormat == sdk.KeyHex:
			g.secret = hex.EncodeToString([]byte(g.secret))
		case scheme.HMAC != nil && (scheme.HMAC.KeyFormat == sdk.KeyBase64 || scheme.HMAC.KeyFormat == sdk.KeyWhsec):
			g.secret = base64.StdEncoding.EncodeToString([]byte(g.secret))
		}
		src.Secrets = []string{g.secret}
	}
	e, err := endpoint(src, 0)
	if err != nil {
		return nil, err
	}
	g.server, err = ingress.New(ingress.Config{
		Endpoints: []ingress.Endpoint{e}, Acceptor: nobody{}, Rejections: nobody{}, Logger: hclog.NewNullLogger(),
	})
	return g, err
}

// signed is a request with its credentials.
func (g *gate) signed(s sdk.Sample) (*auth.Input, error) {
	in := &auth.Input{Header: http.Header{}, RawQuery: s.Query, Body: s.Body, Form: sample.IsForm(s.Headers)}
	for _, h := range s.Headers {
		in.Header.Add(h.Name, h.Value)
	}
	if g.scheme == nil {
		return in, nil
	}
	for name := missingHeader(g.scheme, in.Header); name != "" && g.lends; name = missingHeader(g.scheme, in.Header) {
		name, _, _ = strings.Cut(name, ",")
		sum := sha256.Sum256(append([]byte(s.Query), s.Body...))
		in.Header.Set(strings.TrimSpace(name), "id-"+hex.EncodeToString(sum[:8]))
	}
	if g.scheme.Ed25519 != nil {
		return in, auth.SignEd25519(*g.scheme.Ed25519, in, g.private, g.now)
	}
	return in, auth.Sign(*g.scheme, in, g.secret, g.now)
}

// inspect takes a request through the gates.
func (g *gate) inspect(method string, in *auth.Input, at time.Time) ingress.Inspection {
	target := "http://host" + gatePath
	if in.PathToken != "" {
		target += "/" + url.PathEscape(in.PathToken)
	}
	r, err := http.NewRequest(method, target, bytes.NewReader(in.Body))
	if err != nil {
		return ingress.Inspection{Cause: "method", Detail: err.Error()}
	}
	r.URL.RawQuery, r.Header = in.RawQuery, in.Header
	return g.server.Inspect(r, at, false)
}

// all are the samples of a catalogue, as they are sent.
func catalogueSamples(p *sdk.Provider) (list []typedSample) {
	for _, e := range p.Events {
		for _, s := range e.Samples {
			list = append(list, typedSample{e.Type, complete(s, p)})
		}
	}
	return list
}

func (s typedSample) title() string {
	if s.Name == "" {
		return s.eventType
	}
	return s.eventType + " (" + s.Name + ")"
}

func finding(contract, do, did string, args ...any) conform.Finding {
	return conform.Finding{Did: fmt.Sprintf(did, args...), Contract: contract, Do: do}
}

// schemeFor is the scheme that samples are sent with where it does not matter: the first, or none.
func schemeFor(p *sdk.Provider) *sdk.Scheme {
	if len(p.Schemes) == 0 {
		return nil
	}
	return &p.Schemes[0]
}

func checkGateSamples(p *sdk.Provider) (found []conform.Finding) {
	g, err := newGate(p, schemeFor(p))
	if err != nil {
		return []conform.Finding{finding("the host makes an endpoint of it", "mend the manifest",
			"its manifest makes no endpoint (%v)", err)}
	}
	for _, s := range catalogueSamples(p) {
		in, err := g.signed(s.Sample)
		if err != nil {
			found = append(found, finding("grapnel send signs samples as the scheme says", "give the sample what is signed",
				"the sample %s cannot be signed (%v)", s.title(), signError(g.scheme, s, in.Header, err)))
			continue
		}
		switch got := g.inspect(s.Method, in, g.now); {
		case got.Handshake:
			found = append(found, finding("a handshake is answered, never stored, and no event comes of it",
				"give the handshake a condition that webhooks do not meet", "the sample %s is taken for a handshake", s.title()))
		case got.Request == nil:
			found = append(found, finding("a sample is a request that the host takes", "mend the sample or the manifest",
				"the host refuses the sample %s with %d (%s: %s)", s.title(), got.Status, got.Cause, got.Detail))
		default:
			for _, h := range s.Headers {
				if signsHeader(p, h.Name) || slices.ContainsFunc(got.Request.Headers, func(k sdk.Header) bool {
					return k.Name == strings.ToLower(h.Name) && k.Value == h.Value
				}) {
					continue
				}
				found = append(found, finding("the decoder gets the headers that the manifest keeps, and no credentials",
					"add it to Headers, or leave it out of the sample",
					"the sample %s has the header %s, which the host does not keep",
					s.title(), h.Name))
			}
		}
	}
	return found
}

// checkScheme signs samples and damages them.
func checkScheme(p *sdk.Provider, scheme sdk.Scheme) (found []conform.Finding) {
	g, err := newGate(p, &scheme)
	if err != nil {
		return []conform.Finding{finding("each scheme is one that docs/webhook-signatures.md describes", "mend the scheme",
			"the scheme %s makes no endpoint (%v)", scheme.Name, err)}
	}
	for _, s := range catalogueSamples(p) {
		sign := func() *auth.Input {
			in, signErr := g.signed(s.Sample)
			if signErr != nil {
				err = signErr
			}
			return in
		}
		good := sign()
		if err != nil {
			return append(found, finding("grapnel send signs samples as the scheme says", "give the sample what is signed",
				"the sample %s cannot be signed (%v)", s.title(), signError(g.scheme, s, good.Header, err)))
		}
		if got := g.inspect(s.Method, good, g.now); got.Request == nil && !got.Handshake {
			return append(found, finding("a request that is signed as declared is authentic", "mend the scheme",
				"the sample %s, signed by the scheme %s, is refused (%s: %s)", s.title(), scheme.Name, got.Cause, got.Detail))
		}
		for _, d := range damages(g, &scheme) {
			in := sign()
			at := d.damage(in)
			if got := g.inspect(s.Method, in, at); got.Request != nil {
				return append(found, finding("only a request that is signed as declared is authentic",
					"have the scheme cover it; an HMAC covers the body", "the sample %s is accepted %s", s.title(), d.what))
			}
		}
	}
	return found
}

// damage makes a signed request one that is to be refused, and says when it comes in.
type damage struct {
	what   string
	damage func(in *auth.Input) time.Time
}

func damages(g *gate, scheme *sdk.Scheme) []damage {
	headers, params, err := auth.Credentials(*scheme)
	if err != nil {
		return nil
	}
	now := func(change func(*auth.Input)) func(*auth.Input) time.Time {
		return func(in *auth.Input) time.Time {
			change(in)
			return g.now
		}
	}
	edit := func(change func(string) []string) func(*auth.Input) {
		return func(in *auth.Input) {
			for _, h := range headers {
				name := textproto.CanonicalMIMEHeaderKey(h)
				if v := in.Header.Get(name); v != "" {
					in.Header[name] = change(v)
				}
			}
			if in.PathToken != "" {
				in.PathToken = strings.Join(change(in.PathToken), "")
			}
			for _, param := range params {
				q := in.RawQuery
				in.RawQuery = auth.CutQuery(q, []string{param})
				if len(in.RawQuery) == len(q) {
					continue
				}
				for _, v := range change(g.secret) {
					in.RawQuery += "&" + url.QueryEscape(param) + "=" + url.QueryEscape(v)
				}
			}
		}
	}
	list := []damage{
		{"without its credentials", now(edit(func(string) []string { return nil }))},
		{"with its credentials changed", now(edit(func(v string) []string {
			b := []byte(v)
			if i := len(b) * 2 / 3; b[i] == 'a' {
				b[i] = 'b'
			} else {
				b[i] = 'a'
			}
			return []string{string(b)}
		}))},
	}
	if scheme.HMAC == nil && scheme.Ed25519 == nil {
		return list
	}
	list = append(list,
		damage{"with another body than was signed", now(func(in *auth.Input) { in.Body = append([]byte(" "), in.Body...) })},
		damage{"signed with another key", now(func(in *auth.Input) {
			other := *g
			if scheme.Ed25519 != nil {
				other.private = ed25519.NewKeyFromSeed(bytes.Repeat([]byte("x"), ed25519.SeedSize))
				_ = auth.SignEd25519(*scheme.Ed25519, in, other.private, g.now) // it was signed before
				return
			}
			secret := strings.Replace(g.secret, "3", "4", 1)
			if secret == g.secret {
				secret = g.secret[:8] + strings.ToUpper(g.secret[8:12]) + strings.ToLower(g.secret[12:16]) + g.secret[16:]
			}
			_ = auth.Sign(*scheme, in, secret, g.now)
		})})
	if hasTimestamp(scheme) {
		list = append(list, damage{"a day after it was signed",
			func(*auth.Input) time.Time { return g.now.Add(24 * time.Hour) }})
	}
	return list
}

func hasTimestamp(s *sdk.Scheme) bool {
	return s.HMAC != nil && s.HMAC.Timestamp != nil && s.HMAC.Timestamp.PastSeconds < 86400 ||
		s.Ed25519 != nil && s.Ed25519.Timestamp != nil && s.Ed25519.Timestamp.PastSeconds < 86400
}

// checkDedupe: the same request again is a repeat, whenever it comes and however it is signed; another sample, or a
// copy with other ids, is none.
func checkDedupe(p *sdk.Provider) (found []conform.Finding) {
	g, err := newGate(p, schemeFor(p))
	if err != nil {
		return nil // the samples have said so
	}
	const contract = "the dedupe key is the same for a repeat, and for nothing else"
	key := func(s sdk.Sample, at time.Time) (string, bool) {
		gate := *g
		gate.now = at
		in, err := gate.signed(s)
		if err != nil {
			return "", false
		}
		got := gate.inspect(s.Method, in, at)
		if got.Request == nil {
			return "", false // likewise
		}
		return string(got.Request.Dedupe[:]), true
	}
	seen := map[string]typedSample{}
	random := rand.New(rand.NewPCG(1, 2)) // the same every time
	for _, s := range catalogueSamples(p) {
		k, ok := key(s.Sample, g.now)
		if !ok {
			continue
		}
		if again, ok := key(s.Sample, g.now.Add(time.Minute)); ok && again != k {
			found = append(found, finding(contract, "leave out of it what an attempt changes: times of sending, signatures",
				"the sample %s has another dedupe key a minute later", s.title()))
		}
		if other, ok := seen[k]; ok && (string(other.Body) != string(s.Body) || other.Query != s.Query) {
			found = append(found, finding(contract, "add what tells them apart, such as the type, or an id of the sample's own",
				"the samples %s and %s have the same dedupe key", other.title(), s.title()))
		}
		seen[k] = s
		if len(s.Vary) == 0 {
			continue
		}
		copied, err := sample.Copy(s.Sample, random, g.now)
		if err != nil {
			found = append(found, finding("grapnel send makes copies by the sample's variations", "mend Vary",
				"the sample %s cannot be copied (%v)", s.title(), err))
			continue
		}
		if k2, ok := key(copied, g.now); ok && k2 == k {
			found = append(found, finding(contract, "vary what is in the dedupe key (Vary)",
				"a copy of the sample %s with other values has the same dedupe key", s.title()))
		}
	}
	return found
}

// checkHandshake makes a request that meets the handshake's conditions and compares the answer.
func checkHandshake(p *sdk.Provider) []conform.Finding {
	const contract = "a handshake is answered as declared"
	h := p.Handshake
	scheme := schemeFor(p)
	if i := slices.IndexFunc(p.Schemes, func(s sdk.Scheme) bool { return s.HMAC != nil }); h.Proof != nil && i >= 0 {
		scheme = &p.Schemes[i]
	}
	g, err := newGate(p, scheme)
	if err != nil {
		return nil // the samples have said so
	}
	g.lends = true // a test is no sample, so nobody could add what is signed
	s := sdk.Sample{Method: h.Method}
	if s.Method == "" {
		s.Method = http.MethodGet
	}
	const challenge = "challenge-0123456789"
	body := map[string]any{}
	set := func(part sdk.Part, value string) {
		switch part.Kind {
		case sdk.PartHeader:
			name, _, _ := strings.Cut(part.Name, ",")
			s.Headers = append(s.Headers, sdk.Header{Name: strings.TrimSpace(name), Value: value})
		case sdk.PartQuery:
			s.Query = strings.TrimPrefix(s.Query+"&"+url.QueryEscape(part.Name)+"="+url.QueryEscape(value), "&")
		case sdk.PartJSONPointer:
			at := body
			steps := strings.Split(strings.TrimPrefix(part.Name, "/"), "/")
			for i, step := range steps {
				step = strings.NewReplacer("~1", "/", "~0", "~").Replace(step)
				if i == len(steps)-1 {
					at[step] = value
				} else if next, ok := at[step].(map[string]any); ok {
					at = next
				} else {
					next := map[string]any{}
					at[step], at = next, next
				}
			}
		}
	}
	set(h.Echo, challenge)
	for _, w := range h.When {
		if w.Equals != "" || w.Part != h.Echo {
			value := w.Equals
			if value == "" {
				value = "x"
			}
			set(w.Part, value)
		}
	}
	if len(body) > 0 {
		if s.Body, err = json.Marshal(body); err != nil {
			return []conform.Finding{finding(contract, "mend the handshake", "no request meets it (%v)", err)}
		}
		s.Headers = append(s.Headers, sdk.Header{Name: "Content-Type", Value: "application/json"})
	}
	in, err := g.signed(s)
	if err != nil {
		return []conform.Finding{finding(contract, "mend the scheme or the handshake",
			"a handshake cannot be signed (%v)", err)}
	}
	got := g.inspect(s.Method, in, g.now)
	want := challenge
	if h.Echo.Kind == sdk.PartLiteral {
		want = h.Echo.Name
	}
	switch {
	case !got.Handshake:
		return []conform.Finding{finding(contract, "compare method, conditions and echo with what the provider sends",
			"a request that meets the handshake's conditions is not answered (%d %s: %s)", got.Status, got.Cause, got.Detail)}
	case h.Member == "" && h.Proof == nil && string(got.Answer) != want,
		h.Member != "" && !bytes.Contains(got.Answer, []byte(`"`+h.Member+`":"`+want+`"`)),
		h.Proof != nil && !bytes.Contains(got.Answer, []byte(`"`+h.Proof.Member+`":"`+h.Proof.Prefix)):
		return []conform.Finding{finding(contract, "compare echo, member and proof with what the provider wants",
			"the handshake is answered with %q", got.Answer)}
	}
	return nil
}
