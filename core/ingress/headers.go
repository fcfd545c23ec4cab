package ingress

import (
	"fmt"
	"maps"
	"net/http"
	"net/textproto"
	"slices"
	"strings"
	"sync/atomic"

	"golang.org/x/net/http/httpguts"

	"github.com/grapnelhq/grapnel/sdk"
)

// headerFilter picks the headers that are stored with a request.
type headerFilter struct {
	exact    map[string]string // canonical name to name in lower case
	prefixes []string          // canonical; "" is all
	never    map[string]bool   // credentials

	// lower remembers the lower-case form of names that a prefix matched. It only grows, up to maxNames, by copying.
	lower *atomic.Pointer[map[string]string]
}

const maxNames = 128

func newHeaderFilter(patterns, credentials []string) (headerFilter, error) {
	f := headerFilter{
		exact: map[string]string{"Content-Type": "content-type"},
		never: map[string]bool{"Authorization": true, "Proxy-Authorization": true, "Cookie": true},
		lower: new(atomic.Pointer[map[string]string]),
	}
	f.lower.Store(&map[string]string{})
	for _, c := range credentials {
		f.never[c] = true
	}
	for _, p := range patterns {
		name, isPrefix := strings.CutSuffix(p, "*")
		if !httpguts.ValidHeaderFieldName(name) && (name != "" || !isPrefix) || strings.Contains(name, "*") {
			return f, fmt.Errorf("header pattern %q is neither a name nor the beginning of one and *", p)
		}
		// Canonical form is made letter by letter, so that of a beginning is the beginning of the form.
		if canonical := textproto.CanonicalMIMEHeaderKey(name); isPrefix {
			f.prefixes = append(f.prefixes, canonical)
		} else {
			f.exact[canonical] = strings.ToLower(name)
		}
	}
	return f, nil
}

// keep returns the headers to store, sorted by name. Text that is not UTF-8 is made so: plugins get it in messages that
// allow nothing else.
func (f *headerFilter) keep(h http.Header) []sdk.Header {
	kept := make([]sdk.Header, 0, len(h))
	for name, values := range h {
		lower, ok := f.exact[name]
		if !ok {
			if lower, ok = f.matchPrefix(name); !ok {
				continue
			}
		}
		if f.never[name] {
			continue
		}
		for _, v := range values {
			kept = append(kept, sdk.Header{Name: lower, Value: strings.ToValidUTF8(v, "\uFFFD")})
		}
	}
	slices.SortStableFunc(kept, func(a, b sdk.Header) int { return strings.Compare(a.Name, b.Name) })
	return kept
}

func (f *headerFilter) matchPrefix(name string) (lower string, ok bool) {
	for _, p := range f.prefixes {
		if !strings.HasPrefix(name, p) {
			continue
		}
		names := f.lower.Load()
		if lower, ok = (*names)[name]; ok {
			return lower, true
		}
		lower = strings.ToLower(name)
		if len(*names) < maxNames {
			grown := maps.Clone(*names)
			grown[strings.Clone(name)] = lower
			f.lower.CompareAndSwap(names, &grown) // whoever loses a race tries again with the next request
		}
		return lower, true
	}
	return "", false
}

func safeHeaderValue(v string) bool { return httpguts.ValidHeaderFieldValue(v) }
