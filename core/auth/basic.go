package auth

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

const authorization = "Authorization"

// basicScheme is HTTP basic authentication (RFC 7617). User and password are compared together, by their digests.
type basicScheme struct{ digests secretDigests }

func newBasic(secrets []string) (*basicScheme, error) {
	s := &basicScheme{}
	for i, secret := range secrets {
		if err := checkBasic(secret); err != nil {
			return nil, fmt.Errorf("secret %d %w", i+1, err)
		}
		s.digests = append(s.digests, sha256.Sum256([]byte(secret)))
	}
	return s, nil
}

// checkBasic refuses credentials that no client can send.
func checkBasic(secret string) error {
	user, password, ok := strings.Cut(secret, ":")
	switch {
	case !ok:
		return errors.New(`is not "user:password"`)
	case user == "" && password == "":
		return errors.New("has neither a user nor a password")
	case strings.ContainsFunc(secret, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return errors.New("holds a control character; was it read from a file?")
	case base64.StdEncoding.EncodedLen(len(secret)) > maxHeaderValue-len("Basic "):
		return errors.New("is longer than a header may be")
	}
	return nil
}

func (s *basicScheme) headers() []string { return []string{authorization} }
func (s *basicScheme) params() []string  { return nil }
func (s *basicScheme) pathToken() bool   { return false }
func (s *basicScheme) challenge() string { return `Basic realm="webhooks", charset="UTF-8"` }

func (s *basicScheme) verify(in *Input, _ time.Time) (Result, error) {
	in.Timestamp = ""
	value, n := headerValue(in.Header, s.headers())
	switch {
	case n == 0:
		return Result{}, &Error{CauseMissingToken, "no header Authorization"}
	case n > 1:
		return Result{}, &Error{CauseDoubledToken, strconv.Itoa(n) + " values in header Authorization"}
	case len(value) > maxHeaderValue:
		return Result{}, &Error{CauseBadToken, "the Authorization header is longer than 4096 bytes"}
	}
	encoded, ok := cutScheme(value, "Basic ")
	if !ok {
		return Result{}, &Error{CauseBadToken, `the Authorization header does not start with "Basic "`}
	}
	pair, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil || strings.ContainsAny(encoded, "\r\n") { // which the decoder passes over
		return Result{}, &Error{CauseBadToken, "what follows Basic is not base64"}
	}
	match := s.digests.find(pair)
	if match < 0 {
		return Result{}, &Error{CauseBadToken, "user and password are none of " + strconv.Itoa(len(s.digests)) + " secrets"}
	}
	return Result{SecretIndex: match, Query: in.RawQuery}, nil
}

func (s *basicScheme) sign(in *Input, secret string, _ time.Time) error {
	if err := checkBasic(secret); err != nil {
		return fmt.Errorf("the secret %w", err)
	}
	in.Timestamp = ""
	in.Header[authorization] = []string{"Basic " + base64.StdEncoding.EncodeToString([]byte(secret))}
	return nil
}

// cutScheme returns what follows the name of an authentication scheme, which is written in any case (RFC 9110).
func cutScheme(value, prefix string) (rest string, ok bool) {
	if len(value) < len(prefix) || !strings.EqualFold(value[:len(prefix)], prefix) {
		return "", false
	}
	return value[len(prefix):], true
}
