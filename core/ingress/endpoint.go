package ingress

import (
	"cmp"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/auth"
	"github.com/grapnelhq/grapnel/sdk"
)

// endpoint is a compiled Endpoint.
type endpoint struct {
	source, tenant, path string
	verifier             *auth.Verifier
	token                bool // one path segment below path may be a credential
	challenge            string
	params               []string // of the query: credentials
	methods              []string
	allow                string // of a 405
	mediaTypes           []string
	anyType              bool
	allowIPs             []netip.Prefix
	headers              headerFilter
	dedupe               [][]auth.Part
	needsJSON            bool // something follows JSON pointers, whatever the content type says
	handshake            *auth.Handshake
	maxBody              int64
	rate                 *limiter

	status    int
	replyType []string
	replyBody []byte

	counters *counters
	observer Observer        // nil: nobody looks
	secrets  []atomic.Uint64 // matches by index of the secret
}

// routes finds endpoints by path.
type routes struct {
	byPath  map[string]*endpoint
	all     []*endpoint
	proxies proxies
}

// rateOf is the limiter of the endpoint's source, if it has the same rate, or else the endpoint's own.
func (r *routes) rateOf(ep *endpoint) *limiter {
	for _, old := range r.all {
		if old.source == ep.source && old.rate != nil && ep.rate != nil &&
			old.rate.interval == ep.rate.interval && old.rate.depth == ep.rate.depth {
			return old.rate
		}
	}
	return ep.rate
}

// find returns the endpoint of a path and the segment below it, where the endpoint takes one.
func (r *routes) find(u *url.URL) (ep *endpoint, token string) {
	if ep := r.byPath[u.Path]; ep != nil {
		return ep, ""
	}
	// An escaped slash is a part of its segment, so what net/url unescaped is not split.
	p := u.Path
	if u.RawPath != "" {
		p = u.RawPath
	}
	i := strings.LastIndexByte(p, '/')
	if i < 0 || i == len(p)-1 {
		return nil, ""
	}
	above, segment := p[:i], p[i+1:]
	if u.RawPath != "" {
		var err1, err2 error
		above, err1 = url.PathUnescape(above)
		segment, err2 = url.PathUnescape(segment)
		if err1 != nil || err2 != nil {
			return nil, ""
		}
	}
	if ep := r.byPath[above]; ep != nil && ep.token {
		return ep, segment
	}
	return nil, ""
}

// above returns the endpoint whose path p lies below, at any depth.
func (r *routes) above(p string) *endpoint {
	for p != "" {
		if ep := r.byPath[p]; ep != nil {
			return ep
		}
		p = p[:max(strings.LastIndexByte(p, '/'), 0)]
	}
	return nil
}

// newRoutes compiles endpoints; all their mistakes are in the error. s.mu is held.
func (s *Server) newRoutes(set Settings) (*routes, error) {
	r := &routes{
		byPath:  make(map[string]*endpoint, len(set.Endpoints)),
		proxies: proxies{trusted: set.TrustedProxies, forwarded: s.cfg.Forwarded},
	}
	var errs []error
	sources := map[string]bool{}
	for _, e := range set.Endpoints {
		ep, err := s.compile(e, cmp.Or(max(set.MaxBody, 0), s.cfg.Limits.MaxBody))
		if err != nil {
			errs = append(errs, fmt.Errorf("source %q: %w", e.Source, err))
			continue
		}
		if other := r.byPath[ep.path]; other != nil {
			errs = append(errs, fmt.Errorf("sources %q and %q have the same path %s", other.source, ep.source, ep.path))
			continue
		}
		if sources[e.Source] {
			errs = append(errs, fmt.Errorf("source %q stands twice", e.Source))
			continue
		}
		sources[e.Source] = true
		r.byPath[ep.path] = ep
		r.all = append(r.all, ep)
	}
	for _, ep := range r.all {
		if other := r.byPath[path.Dir(ep.path)]; other != nil && other != ep && other.token {
			errs = append(errs, fmt.Errorf("the path %s of source %q is where source %q has its token",
				ep.path, ep.source, other.source))
		}
	}
	return r, errors.Join(errs...)
}

func (s *Server) compile(e Endpoint, maxBody int64) (*endpoint, error) {
	ep := &endpoint{
		source: e.Source, tenant: e.Tenant, path: e.Path, verifier: e.Verifier, allowIPs: e.AllowIPs,
		methods: e.Methods, maxBody: e.MaxBody, status: e.Reply.Status, replyBody: e.Reply.Body, handshake: e.Handshake,
	}
	if e.Source == "" {
		return nil, errors.New("it has no name")
	}
	if ep.path == "" {
		ep.path = "/hooks/" + e.Source
	}
	if err := checkPath(ep.path); err != nil {
		return nil, err
	}
	if (e.Verifier == nil) != e.Unsigned {
		return nil, errors.New("it needs either credentials or the explicit choice of none")
	}
	if len(ep.methods) == 0 {
		ep.methods = []string{http.MethodPost}
	}
	for _, p := range e.AllowIPs {
		if !p.IsValid() {
			return nil, fmt.Errorf("allowed address %v is not valid", p)
		}
	}
	if err := ep.compileTypes(e.ContentTypes); err != nil {
		return nil, err
	}
	var credentials []string
	if e.Verifier != nil {
		credentials = e.Verifier.CredentialHeaders()
		ep.challenge = e.Verifier.Challenge()
		ep.token = e.Verifier.TakesPathToken()
		ep.needsJSON = e.Verifier.NeedsJSON()
		ep.secrets = make([]atomic.Uint64, e.Verifier.Secrets())
	}
	for _, scheme := range e.Schemes {
		headers, params, err := auth.Credentials(scheme)
		if err != nil {
			return nil, err
		}
		credentials, ep.params = append(credentials, headers...), append(ep.params, params...)
	}
	var err error
	if ep.headers, err = newHeaderFilter(e.KeepHeaders, credentials); err != nil {
		return nil, err
	}
	if err := ep.compileDedupe(e.Dedupe); err != nil {
		return nil, err
	}
	if err := ep.compileReply(e.Reply); err != nil {
		return nil, err
	}
	if ep.maxBody <= 0 {
		ep.maxBody = maxBody
	}
	if e.Rate < 0 || e.Burst < 0 {
		return nil, errors.New("rate and burst must not be negative")
	}
	if e.Rate > 0 {
		burst := float64(e.Burst)
		if burst == 0 {
			burst = max(e.Rate, 1)
		}
		ep.rate = newLimiter(e.Rate, burst)
	}
	allow := slices.Clone(ep.methods)
	if ep.handshake != nil && !slices.Contains(allow, ep.handshake.Method()) {
		allow = append(allow, ep.handshake.Method())
	}
	ep.allow = strings.Join(allow, ", ")
	ep.counters, ep.observer = s.countersOf(e.Source), e.Observer
	return ep, nil
}

func checkPath(p string) error {
	switch {
	case p[0] != '/':
		return fmt.Errorf("path %q does not start with /", p)
	case p == "/" || path.Clean(p) != p:
		return fmt.Errorf("path %q is not in its shortest form, or has no segment", p)
	case strings.ContainsAny(p, "?#%*{}\\ "):
		return fmt.Errorf("path %q holds a character that URLs reserve", p)
	}
	return nil
}

func (ep *endpoint) compileTypes(types []string) error {
	if len(types) == 0 {
		types = []string{"application/json"}
	}
	for _, t := range types {
		if t == "*" || t == "*/*" {
			ep.anyType = true
			continue
		}
		m, params, err := mime.ParseMediaType(t)
		if err != nil || len(params) > 0 {
			return fmt.Errorf("content type %q is not a media type without parameters", t)
		}
		ep.mediaTypes = append(ep.mediaTypes, m)
	}
	return nil
}

func (ep *endpoint) compileDedupe(keys []sdk.DedupeKey) error {
	if len(keys) == 0 {
		keys = []sdk.DedupeKey{{{Kind: sdk.PartBody}}}
	}
	for _, key := range keys {
		if len(key) == 0 {
			return errors.New("a dedupe key has no parts: all requests would be the same")
		}
		var parts []auth.Part
		varies := false
		for _, p := range key {
			c, err := auth.NewPart(p)
			if err != nil {
				return fmt.Errorf("dedupe key: %w", err)
			}
			varies = varies || p.Kind != sdk.PartLiteral && p.Kind != sdk.PartPathToken
			ep.needsJSON = ep.needsJSON || c.IsJSONPointer()
			parts = append(parts, c)
		}
		if !varies {
			return errors.New("a dedupe key is the same for all requests")
		}
		ep.dedupe = append(ep.dedupe, parts)
	}
	return nil
}

// dedupeKey digests the first alternative all of whose parts are there, and says which; or else the body, which is -1. A
// request without a body has its query, without credentials, in the body's place: otherwise all of them would be the same.
func (ep *endpoint) dedupeKey(in *auth.Input, query string) (key core.DedupeKey, alternative int) {
	body := in.Body
	if len(body) == 0 && query != "" {
		body = []byte("?" + query)
	}
	var buf [4][]byte
	for alternative, parts := range ep.dedupe {
		values, all := buf[:0], true
		for i := range parts {
			v, ok := parts[i].Value(in)
			if !ok {
				all = false
				break
			}
			if parts[i].IsBody() {
				v = body
			}
			values = append(values, v)
		}
		if all {
			return core.NewDedupeKey(ep.source, values...), alternative
		}
	}
	return core.NewDedupeKey(ep.source, body), -1
}

func (ep *endpoint) compileReply(r sdk.Reply) error {
	if ep.status == 0 {
		ep.status = http.StatusOK
	}
	if ep.status < 200 || ep.status > 299 {
		return fmt.Errorf("reply status %d is not a 2xx", ep.status)
	}
	if ep.status == http.StatusNoContent && len(r.Body) > 0 {
		return errors.New("reply status 204 has no body")
	}
	if len(r.Body) > 0 {
		ep.replyType = []string{"text/plain; charset=utf-8"}
	}
	if r.ContentType != "" {
		if !safeHeaderValue(r.ContentType) {
			return fmt.Errorf("reply content type %q cannot stand in a header", r.ContentType)
		}
		ep.replyType = []string{r.ContentType}
	}
	return nil
}

// bodyKind is what a Content-Type says of a body, as far as the host looks into it.
type bodyKind int

const (
	bodyOther bodyKind = iota
	bodyJSON
	bodyForm
	bodyNone // a request without a body, which says what it has to say in its query
)

// accepts reports whether the endpoint takes a Content-Type, and what it says.
func (ep *endpoint) accepts(h http.Header) (kind bodyKind, ok bool) {
	values := h["Content-Type"]
	if len(values) > 1 {
		return bodyOther, false
	}
	var m string
	if len(values) == 1 {
		m, _, _ = strings.Cut(values[0], ";")
		m = strings.Trim(m, " \t")
	}
	switch {
	case isJSONType(m):
		kind = bodyJSON
	case strings.EqualFold(m, "application/x-www-form-urlencoded"):
		kind = bodyForm
	}
	if ep.anyType {
		return kind, true
	}
	for _, t := range ep.mediaTypes {
		if strings.EqualFold(m, t) {
			return kind, true
		}
	}
	return kind, false
}

func isJSONType(m string) bool {
	return strings.EqualFold(m, "application/json") || strings.EqualFold(m, "text/json") ||
		len(m) > 5 && strings.EqualFold(m[len(m)-5:], "+json")
}

func (ep *endpoint) admits(addr netip.Addr) bool {
	for _, p := range ep.allowIPs {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}
