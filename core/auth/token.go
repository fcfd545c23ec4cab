package auth

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/grapnelhq/grapnel/sdk"
)

// tokenScheme compares a part of the request with the secrets. Their digests are compared, so that the time tells
// nothing of their lengths either.
type tokenScheme struct {
	places  []Part
	names   []string // canonical names of the headers that may hold a token
	query   []string // query parameters that may
	inPath  bool
	prefix  string // of a header's value
	word    string // the prefix's, if it is a scheme of HTTP's own such as Bearer
	digests secretDigests
}

// secretDigests are what secrets are compared by.
type secretDigests [][sha256.Size]byte

// find returns the index of the first secret that text is, or -1, in a time that tells neither which nor how nearly.
func (ds secretDigests) find(text []byte) int {
	got := sha256.Sum256(text)
	match := -1
	for i := len(ds) - 1; i >= 0; i-- {
		match = subtle.ConstantTimeSelect(subtle.ConstantTimeCompare(got[:], ds[i][:]), i, match)
	}
	return match
}

func newToken(t *sdk.Token, secrets []string) (*tokenScheme, error) {
	s := &tokenScheme{prefix: t.Prefix}
	for _, p := range append([]sdk.Part{t.Part}, t.Alternatives...) {
		c, err := NewPart(p)
		if err != nil {
			return nil, fmt.Errorf("token: %w", err)
		}
		switch p.Kind {
		case sdk.PartHeader:
			s.names = append(s.names, c.names...)
		case sdk.PartQuery:
			s.query = append(s.query, c.name)
		case sdk.PartPathToken:
			s.inPath = true
		default:
			return nil, fmt.Errorf("token: part %q cannot hold a token: header, query or path_token", p.Kind)
		}
		s.places = append(s.places, c)
	}
	if s.prefix != "" && len(s.names) == 0 {
		return nil, errors.New("token: prefix is for headers, and no header is named")
	}
	word, rest, ok := strings.Cut(s.prefix, " ")
	if ok && rest == "" && httpguts.ValidHeaderFieldName(word) && slices.Contains(s.names, authorization) {
		s.word = word
	}
	for i, secret := range secrets {
		if err := s.checkSecret(secret); err != nil {
			return nil, fmt.Errorf("secret %d %w", i+1, err)
		}
		s.digests = append(s.digests, sha256.Sum256([]byte(secret)))
	}
	return s, nil
}

func (s *tokenScheme) checkSecret(secret string) error {
	if _, err := parseKey(sdk.KeyText, secret); err != nil {
		return err
	}
	if len(secret) > maxHeaderValue-len(s.prefix) {
		return errors.New("is longer than 4096 bytes")
	}
	if s.inPath && (strings.Trim(secret, pathSafe) != "" || strings.Trim(secret, ".") == "") {
		return errors.New("stands in the path, so it may hold letters, digits and -._~ only")
	}
	if len(s.names) > 0 && (!httpguts.ValidHeaderFieldValue(secret) || strings.TrimSpace(secret) != secret) {
		return errors.New("cannot stand in a header")
	}
	return nil
}

const pathSafe = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"

func (s *tokenScheme) headers() []string { return s.names }
func (s *tokenScheme) params() []string  { return s.query }
func (s *tokenScheme) pathToken() bool   { return s.inPath }

func (s *tokenScheme) challenge() string {
	if s.word == "" {
		return ""
	}
	return s.word + ` realm="webhooks"`
}

func (s *tokenScheme) cutPrefix(value string) (token string, ok bool) {
	if s.word != "" {
		return cutScheme(value, s.prefix)
	}
	return strings.CutPrefix(value, s.prefix)
}

func (s *tokenScheme) verify(in *Input, _ time.Time) (Result, error) {
	in.Timestamp = ""
	var token string
	var place *Part
	total := 0
	for i := range s.places {
		p := &s.places[i]
		var text string
		var n int
		switch p.kind {
		case sdk.PartHeader:
			text, n = headerValue(in.Header, p.names)
		case sdk.PartQuery:
			text, n = queryValue(in.RawQuery, p.name)
		case sdk.PartPathToken:
			if text = in.PathToken; text != "" {
				n = 1
			}
		}
		if total += n; n > 0 {
			token, place = text, p
		}
	}
	switch {
	case total == 0:
		return Result{}, &Error{CauseMissingToken, "the request has no token"}
	case total > 1:
		return Result{}, &Error{CauseDoubledToken, "the request has " + strconv.Itoa(total) + " tokens"}
	case len(token) > maxHeaderValue:
		return Result{}, &Error{CauseBadToken, "the token is longer than 4096 bytes"}
	}
	if place.kind == sdk.PartHeader {
		var ok bool
		if token, ok = s.cutPrefix(token); !ok {
			return Result{}, &Error{CauseBadToken, fmt.Sprintf("the header does not start with %q", s.prefix)}
		}
	}
	match := s.digests.find([]byte(token))
	if match < 0 {
		return Result{}, &Error{CauseBadToken, "the token is none of " + strconv.Itoa(len(s.digests)) + " secrets"}
	}
	query := in.RawQuery
	if query != "" && len(s.query) > 0 {
		query = CutQuery(query, s.query)
	}
	return Result{SecretIndex: match, Query: query}, nil
}

// sign puts the token in its first place and clears the others.
func (s *tokenScheme) sign(in *Input, secret string, _ time.Time) error {
	if err := s.checkSecret(secret); err != nil {
		return fmt.Errorf("the secret %w", err)
	}
	for _, n := range s.names {
		delete(in.Header, n)
	}
	in.RawQuery = CutQuery(in.RawQuery, s.query)
	in.PathToken, in.Timestamp = "", ""
	switch p := s.places[0]; p.kind {
	case sdk.PartHeader:
		in.Header[p.names[0]] = []string{s.prefix + secret}
	case sdk.PartQuery:
		if in.RawQuery != "" {
			in.RawQuery += "&"
		}
		in.RawQuery += url.QueryEscape(p.name) + "=" + url.QueryEscape(secret)
	case sdk.PartPathToken:
		in.PathToken = secret
	}
	return nil
}
