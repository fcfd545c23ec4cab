package auth

import (
	"crypto/hmac"
	"errors"
	"fmt"
	"hash"
	"mime"
	"slices"
	"strings"

	"github.com/grapnelhq/grapnel/sdk"
)

const (
	maxEcho      = 1024 // bytes of an answer's echo
	maxChallenge = 256  // bytes of an echo that is signed
)

// Handshake answers a provider's test of an endpoint, as its manifest declares it. The answer is the sender's own text,
// and mostly nobody has authenticated it, so it is bounded, made of harmless characters and never a page for a browser.
// It may be used from any number of goroutines.
type Handshake struct {
	method        string
	authenticated bool
	when          []condition
	echo          Part
	contentType   string
	member        string // of a JSON object; empty: not in one
	proof         *proof
}

type condition struct {
	part   Part
	equals string
}

// proof signs an echo. Who asks for it without being authentic chooses what is signed, with the very key that
// authenticates webhooks; Forgeable is what keeps that from being of use.
type proof struct {
	member  string
	prefix  string
	codec   codec
	newHash func() hash.Hash
	key     []byte
}

// NewHandshake compiles a handshake for a source with this scheme and these secrets. It is nil if the handshake takes a
// proof and the source has no secret of that kind. Methods are those of the provider's webhooks.
func NewHandshake(h sdk.Handshake, methods []string, scheme *sdk.Scheme, secrets []string) (*Handshake, error) {
	c, err := compileHandshake(h, methods)
	if err != nil {
		return nil, fmt.Errorf("handshake: %w", err)
	}
	if c.proof != nil {
		if scheme == nil || scheme.HMAC == nil || len(secrets) == 0 {
			return nil, nil
		}
		if c.proof.key, err = parseKey(scheme.HMAC.KeyFormat, secrets[0]); err != nil {
			return nil, fmt.Errorf("handshake: the first secret %w", err)
		}
	}
	return c, nil
}

// CheckHandshake reports what is wrong with the handshake of a manifest.
func CheckHandshake(p *sdk.Provider) error {
	if _, err := compileHandshake(*p.Handshake, p.Methods); err != nil {
		return fmt.Errorf("handshake: %w", err)
	}
	if p.Handshake.Proof != nil && !slices.ContainsFunc(p.Schemes, func(s sdk.Scheme) bool { return s.HMAC != nil }) {
		return errors.New("handshake: a proof needs the secret of an hmac scheme, and there is none")
	}
	return nil
}

func compileHandshake(h sdk.Handshake, methods []string) (*Handshake, error) {
	c := &Handshake{method: h.Method, authenticated: h.Authenticated, member: h.Member}
	if c.method == "" {
		c.method = "GET"
	}
	if strings.Trim(c.method, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
		return nil, fmt.Errorf("%q is no HTTP method", c.method)
	}
	if len(methods) == 0 {
		methods = []string{"POST"}
	}
	if slices.Contains(methods, c.method) && len(h.When) == 0 {
		return nil, errors.New("without a condition every request would be one")
	}
	for _, w := range h.When {
		p, err := NewPart(w.Part)
		if err != nil {
			return nil, fmt.Errorf("when: %w", err)
		}
		c.when = append(c.when, condition{p, w.Equals})
	}
	if err := c.compileAnswer(h); err != nil {
		return nil, err
	}
	var err error
	if c.echo, err = NewPart(h.Echo); err != nil {
		return nil, fmt.Errorf("echo: %w", err)
	}
	switch h.Echo.Kind {
	case sdk.PartHeader, sdk.PartQuery, sdk.PartJSONPointer:
	case sdk.PartLiteral:
		if why := c.unfit([]byte(h.Echo.Name)); why != "" {
			return nil, errors.New("echo: the literal " + why)
		}
	default:
		return nil, fmt.Errorf("echo: a %s is not for showing: header, query, json_pointer or literal", h.Echo.Kind)
	}
	return c, nil
}

func (h *Handshake) compileAnswer(d sdk.Handshake) error {
	media := "text/plain"
	if d.Member != "" || d.Proof != nil {
		media = "application/json"
	}
	if d.ContentType != "" {
		m, _, err := mime.ParseMediaType(d.ContentType)
		switch {
		case err != nil || m != "text/plain" && m != "application/json":
			return fmt.Errorf("content_type %q: only text/plain and application/json are safe", d.ContentType)
		case m != media && media == "text/plain":
			return errors.New("content_type application/json needs a member for the echo")
		case m != media:
			return errors.New("content_type text/plain cannot have member or proof")
		}
	}
	h.contentType = media
	if media == "text/plain" {
		h.contentType += "; charset=utf-8"
	}
	if d.Member != "" && !plain([]byte(d.Member)) {
		return fmt.Errorf("member %q has characters that are not allowed", d.Member)
	}
	x := d.Proof
	if x == nil {
		return nil
	}
	switch {
	case !plain([]byte(x.Member)) || x.Member == d.Member:
		return fmt.Errorf("proof: member %q is missing, taken, or has characters that are not allowed", x.Member)
	case x.Prefix != "" && !plain([]byte(x.Prefix)):
		return fmt.Errorf("proof: prefix %q has characters that are not allowed", x.Prefix)
	}
	newHash, err := hashOf(x.Algorithm)
	if err != nil {
		return fmt.Errorf("proof: %w", err)
	}
	h.proof = &proof{member: x.Member, prefix: x.Prefix, newHash: newHash}
	if h.proof.codec, err = newCodec(x.Encoding, newHash().Size()); err != nil {
		return fmt.Errorf("proof: %w", err)
	}
	return nil
}

// Method is the only one that a handshake has.
func (h *Handshake) Method() string { return h.method }

// Authenticated reports whether the request has to pass the source's scheme first.
func (h *Handshake) Authenticated() bool { return h.authenticated }

// NeedsBody reports whether the handshake follows JSON pointers, so that the body is to be checked before.
func (h *Handshake) NeedsBody() bool {
	return h.echo.IsJSONPointer() || slices.ContainsFunc(h.when, func(c condition) bool { return c.part.IsJSONPointer() })
}

// Answer is what a handshake is answered with.
type Answer struct {
	ContentType string
	Body        []byte
}

// Answer returns the answer if a request is a handshake. The error says why one is not answered.
func (h *Handshake) Answer(in *Input) (a Answer, matched bool, err error) {
	for i := range h.when {
		c := &h.when[i]
		v, ok := c.part.Value(in)
		if !ok || c.equals != "" && string(v) != c.equals {
			return Answer{}, false, nil
		}
	}
	echo, ok := h.echo.Value(in)
	if !ok {
		return Answer{}, false, nil
	}
	if why := h.unfit(echo); why != "" {
		return Answer{}, true, errors.New("the text to be echoed " + why)
	}
	a.ContentType = h.contentType
	if h.member == "" && h.proof == nil {
		a.Body = echo
		return a, true, nil
	}
	// None of the texts has a character that JSON escapes.
	var members []string
	if h.member != "" {
		members = append(members, `"`+h.member+`":"`+string(echo)+`"`)
	}
	if h.proof != nil {
		m := hmac.New(h.proof.newHash, h.proof.key)
		m.Write(echo)
		members = append(members, `"`+h.proof.member+`":"`+h.proof.prefix+h.proof.codec.encode(m.Sum(nil))+`"`)
	}
	a.Body = []byte("{" + strings.Join(members, ",") + "}")
	return a, true, nil
}

// unfit says why a text is not echoed, or "".
func (h *Handshake) unfit(echo []byte) string {
	switch {
	case h.proof != nil && !isChallenge(echo):
		return fmt.Sprintf("is not made of letters, digits, - and _, at most %d", maxChallenge)
	case len(echo) > maxEcho:
		return fmt.Sprintf("is longer than %d bytes", maxEcho)
	case !plain(echo):
		return "has characters that are not allowed"
	}
	return ""
}

// plain reports whether a text is not empty and made of visible ASCII and spaces, without what HTML or JSON would take
// for something else.
func plain(text []byte) bool {
	for _, c := range text {
		if c < ' ' || c > '~' || strings.IndexByte("<>&\"'`\\", c) >= 0 {
			return false
		}
	}
	return len(text) > 0
}

// isChallenge reports whether a text may be signed for who asks.
func isChallenge(text []byte) bool {
	for _, c := range text {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
			return false
		}
	}
	return len(text) > 0 && len(text) <= maxChallenge
}

// Forgeable reports whether the signature of a webhook with this body might have been got from the handshake itself: a
// signature covers the body, so a challenge that it is the signature of holds the body. It is for webhooks, which
// are more than a word.
func (h *Handshake) Forgeable(body []byte) bool {
	return h != nil && h.proof != nil && (len(body) == 0 || isChallenge(body))
}
