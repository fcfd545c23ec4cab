package main

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/grapnelhq/grapnel/core/auth"
	"github.com/grapnelhq/grapnel/sdk"
)

// signedHeaders are the names of the headers that a scheme signs, aliases with commas. That of the time is not among
// them: signing sets it.
func signedHeaders(s *sdk.Scheme) (names []string) {
	var parts []sdk.Part
	var timestamp *sdk.Timestamp
	switch {
	case s.HMAC != nil:
		parts, timestamp = s.HMAC.SignedContent, s.HMAC.Timestamp
	case s.Ed25519 != nil:
		parts, timestamp = s.Ed25519.SignedContent, s.Ed25519.Timestamp
	}
	for _, p := range parts {
		isTime := timestamp != nil && slices.ContainsFunc(timestamp.Headers, func(n string) bool { return hasName(p.Name, n) })
		if p.Kind == sdk.PartHeader && !isTime {
			names = append(names, p.Name)
		}
	}
	return names
}

// hasName reports whether a header is among names with commas between them.
func hasName(names, name string) bool {
	for n := range strings.SplitSeq(names, ",") {
		if strings.EqualFold(strings.TrimSpace(n), name) {
			return true
		}
	}
	return false
}

// signsHeader reports whether a scheme of a provider signs a header.
func signsHeader(p *sdk.Provider, name string) bool {
	return slices.ContainsFunc(p.Schemes, func(s sdk.Scheme) bool {
		return slices.ContainsFunc(signedHeaders(&s), func(names string) bool { return hasName(names, name) })
	})
}

// missingHeader is the first header that a scheme signs and a request lacks, aliases with commas, or empty.
func missingHeader(s *sdk.Scheme, h http.Header) string {
	for _, names := range signedHeaders(s) {
		if !slices.ContainsFunc(strings.Split(names, ","), func(n string) bool { return h.Get(strings.TrimSpace(n)) != "" }) {
			return names
		}
	}
	return ""
}

// signError says of a sample what it lacks to be signed. header is what there was to sign; err is why it was not.
func signError(s *sdk.Scheme, smp typedSample, header http.Header, err error) error {
	missing := new(auth.Error)
	if !errors.As(err, &missing) || missing.Cause != auth.CauseMissingPart {
		return err
	}
	title := fmt.Sprintf("sample %q of %s", smp.Name, smp.eventType)
	if smp.Name == "" {
		title = "the sample of " + smp.eventType
	}
	names := missingHeader(s, header)
	if names == "" {
		return fmt.Errorf("%s cannot be signed: %w", title, err)
	}
	first, _, _ := strings.Cut(names, ",")
	return fmt.Errorf("%s lacks the header %s that the scheme signs: add it to the sample (Go: Sample.Headers; "+
		"decoder json: sample = { headers = { %q = \"…\" } })",
		title, strings.ReplaceAll(names, ",", " or "), strings.TrimSpace(first))
}
