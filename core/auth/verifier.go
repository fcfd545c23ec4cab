package auth

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/grapnelhq/grapnel/sdk"
)

// maxHeaderValue is the longest value of a signature's or token's header.
const maxHeaderValue = 4096

// Verifier checks requests of one source. New makes it; it does not change afterwards.
type Verifier struct {
	scheme  compiled
	allow   []allowList
	secrets int
}

// Result is what Verify learned.
type Result struct {
	SecretIndex int    // of the first secret that matched, in the configured order
	Query       string // the raw query without credentials
}

// compiled is a scheme without secrets (check and sign) or with them (verify).
type compiled interface {
	verify(in *Input, now time.Time) (Result, error)
	sign(in *Input, secret string, now time.Time) error
	headers() []string // canonical names of those that hold credentials
	params() []string  // query parameters that do
	pathToken() bool
	challenge() string
}

type allowList struct {
	attribute string
	part      Part
	values    map[string]bool
}

// Check reports what is wrong with a scheme of a manifest, or that this host does not support it.
func Check(s sdk.Scheme) error {
	_, err := compile(s, nil)
	if err != nil {
		return fmt.Errorf("auth scheme %q: %w", s.Name, err)
	}
	return nil
}

// New compiles a scheme of a manifest with a source's secrets, in the order in which they are tried, and its allow
// lists, by attribute: one that is absent allows everything. It refuses a malformed scheme or secret and a source
// without secrets; the errors hold no secret.
func New(s sdk.Scheme, secrets []string, allow map[string][]string) (*Verifier, error) {
	wrap := func(err error) error { return fmt.Errorf("auth scheme %q: %w", s.Name, err) }
	if len(secrets) == 0 {
		return nil, wrap(errors.New("no secret"))
	}
	c, err := compile(s, secrets)
	if err != nil {
		return nil, wrap(err)
	}
	v := &Verifier{scheme: c, secrets: len(secrets)}
	known := map[string]bool{}
	for _, a := range s.Allow {
		known[a.Attribute] = true
		values, ok := allow[a.Attribute]
		if !ok || values == nil {
			continue
		}
		if len(values) == 0 {
			return nil, wrap(fmt.Errorf("%s is an empty list: it would refuse every request", a.Attribute))
		}
		p, err := NewPart(a.Part)
		if err != nil {
			return nil, wrap(err)
		}
		l := allowList{attribute: a.Attribute, part: p, values: make(map[string]bool, len(values))}
		for _, value := range values {
			l.values[value] = true
		}
		v.allow = append(v.allow, l)
	}
	for a := range allow {
		if !known[a] {
			return nil, wrap(fmt.Errorf("no allow list %q", a))
		}
	}
	return v, nil
}

// compile checks a scheme; secrets may be nil for one that only signs.
func compile(s sdk.Scheme, secrets []string) (compiled, error) {
	kinds := 0
	for _, set := range []bool{s.HMAC != nil, s.Token != nil, s.Basic != nil, s.Ed25519 != nil} {
		if set {
			kinds++
		}
	}
	if kinds != 1 {
		return nil, fmt.Errorf("exactly one of hmac, token, basic and ed25519 must be set, got %d", kinds)
	}
	for _, a := range s.Allow {
		if a.Attribute == "" {
			return nil, errors.New("an allow list needs an attribute")
		}
		if _, err := NewPart(a.Part); err != nil {
			return nil, fmt.Errorf("allow list %q: %w", a.Attribute, err)
		}
	}
	switch {
	case s.HMAC != nil:
		return newHMAC(s.HMAC, secrets)
	case s.Token != nil:
		return newToken(s.Token, secrets)
	case s.Basic != nil:
		return newBasic(secrets)
	default:
		return newEd25519(s.Ed25519, secrets)
	}
}

// Verify checks a request's credentials and then its timestamp. It sets in.Timestamp. The error is an *Error.
func (v *Verifier) Verify(in *Input, now time.Time) (Result, error) {
	return v.scheme.verify(in, now)
}

// Allowed checks an authentic request against the source's allow lists; it follows JSON pointers, so it comes after the
// body was checked. The error is an *Error.
func (v *Verifier) Allowed(in *Input) error {
	for i := range v.allow {
		l := &v.allow[i]
		value, ok := l.part.Value(in)
		if !ok {
			return &Error{CauseNotAllowed, "the request has no value for " + l.attribute}
		}
		if !l.values[string(value)] {
			return &Error{CauseNotAllowed, "the value is not in " + l.attribute}
		}
	}
	return nil
}

// NeedsJSON reports whether Allowed follows JSON pointers.
func (v *Verifier) NeedsJSON() bool {
	return slices.ContainsFunc(v.allow, func(l allowList) bool { return l.part.IsJSONPointer() })
}

// Sign puts the credentials for a secret into a request, so that Verify with that secret accepts it: it sets the
// header, the query parameter or the path token, and replaces what stands there. Parts that the signature covers,
// such as an id in a header, must be there already. `grapnel send` calls it.
func (v *Verifier) Sign(in *Input, secret string, now time.Time) error {
	return v.scheme.sign(in, secret, now)
}

// Sign is Verifier.Sign for who has a scheme only.
func Sign(s sdk.Scheme, in *Input, secret string, now time.Time) error {
	c, err := compile(s, nil)
	if err != nil {
		return fmt.Errorf("auth scheme %q: %w", s.Name, err)
	}
	return c.sign(in, secret, now)
}

// Credentials are the headers, in canonical form, and the query parameters that may hold a scheme's credentials: they
// must not be stored or shown to a decoder.
func Credentials(s sdk.Scheme) (headers, params []string, err error) {
	c, err := compile(s, nil)
	if err != nil {
		return nil, nil, fmt.Errorf("auth scheme %q: %w", s.Name, err)
	}
	return c.headers(), c.params(), nil
}

// CredentialHeaders are the headers of Credentials.
func (v *Verifier) CredentialHeaders() []string { return v.scheme.headers() }

// Challenge is the WWW-Authenticate header of a 401, empty where HTTP has no name for the scheme.
func (v *Verifier) Challenge() string { return v.scheme.challenge() }

// TakesPathToken reports whether a path segment below the source's path may be a credential.
func (v *Verifier) TakesPathToken() bool { return v.scheme.pathToken() }

// TokenInURL reports whether the credential is a part of the URL, so that a request without a signature carries it too.
func (v *Verifier) TokenInURL() bool { return v.scheme.pathToken() || len(v.scheme.params()) > 0 }

// Secrets is the number of secrets.
func (v *Verifier) Secrets() int { return v.secrets }

func list(names []string) string { return strings.Join(names, " or ") }
