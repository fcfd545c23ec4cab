package main

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/grapnelhq/grapnel/core/auth"
	"github.com/grapnelhq/grapnel/sdk"
)

// forgery is how a request is made to look authentic and is not; empty: it is signed properly.
type forgery string

const (
	forgeryWrong   forgery = "wrong"   // what proves it is altered
	forgeryMissing forgery = "missing" // it is not there
	forgeryBody    forgery = "body"    // the body is another one than was signed
	forgeryOld     forgery = "old"     // it was signed a day ago
)

func (f *forgery) String() string { return string(*f) }

// Type implements pflag.Value.
func (f *forgery) Type() string { return "how" }

// Set implements pflag.Value.
func (f *forgery) Set(v string) error {
	all := []forgery{forgeryWrong, forgeryMissing, forgeryBody, forgeryOld}
	if !slices.Contains(all, forgery(v)) {
		return errors.New("it is not one of wrong, missing, body, old")
	}
	*f = forgery(v)
	return nil
}

// sign puts the scheme's proof into a request, or a false one.
func (f forgery) sign(scheme sdk.Scheme, in *auth.Input, secret string, now time.Time) error {
	switch f {
	case forgeryMissing:
		return nil
	case forgeryBody:
		if scheme.HMAC == nil && scheme.Ed25519 == nil {
			return errors.New("--bad-signature body: the scheme does not sign the body")
		}
		signed := in.Body
		if err := auth.Sign(scheme, in, secret, now); err != nil {
			return err
		}
		in.Body = append(bytes.Clone(signed), ' ') // JSON still, and the same to a decoder
		return nil
	case forgeryOld:
		then := *in
		then.Header = in.Header.Clone()
		if err := auth.Sign(scheme, &then, secret, now.Add(-24*time.Hour)); err != nil {
			return err
		}
		if err := auth.Sign(scheme, in, secret, now); err != nil {
			return err
		}
		if equalInput(in, &then) {
			return errors.New("--bad-signature old: the scheme signs no time")
		}
		*in = then
		return nil
	}
	before := *in
	before.Header = in.Header.Clone()
	if err := auth.Sign(scheme, in, secret, now); err != nil {
		return err
	}
	if f == forgeryWrong && !alter(&before, in) {
		return fmt.Errorf("--bad-signature %s: the scheme leaves nothing to alter", f)
	}
	return nil
}

func equalInput(a, b *auth.Input) bool {
	return a.PathToken == b.PathToken && a.RawQuery == b.RawQuery && maps.EqualFunc(a.Header, b.Header, slices.Equal)
}

// alter changes a character of what signing has added.
func alter(before, in *auth.Input) bool {
	altered := false
	if in.PathToken != before.PathToken {
		in.PathToken, altered = another(in.PathToken), true
	}
	if in.RawQuery != before.RawQuery {
		in.RawQuery, altered = another(in.RawQuery), true
	}
	for name, values := range in.Header {
		if !slices.Equal(values, before.Header[name]) {
			in.Header[http.CanonicalHeaderKey(name)] = []string{another(strings.Join(values, ","))}
			altered = true
		}
	}
	return altered
}

// another is a text of the same look: its last letter or digit but three is another one, since the last ones of base64 may
// hold bits that do not count.
func another(s string) string {
	b := []byte(s)
	for i, left := len(b)-1, 3; i >= 0; i-- {
		c := b[i]
		if c < '0' || c > '9' && c < 'A' || c > 'Z' && c < 'a' || c > 'z' {
			continue
		}
		if left--; left >= 0 && i > 0 {
			continue
		}
		b[i] = '1'
		if c == '1' {
			b[i] = '2'
		}
		break
	}
	return string(b)
}
