package pluginhost

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/grapnelhq/grapnel/sdk"
)

const (
	redacted = "(sensitive)"
	// minSecret is the length of the shortest text that is redacted: cutting "a" or "on" out of every line would hide
	// nothing and make the log useless.
	minSecret = 4
	minBase64 = 10
)

// redactor cuts secrets out of text. Secrets are only added: lines of a closed instance may still be under way.
type redactor struct {
	mu      sync.RWMutex
	secrets []string
	replace *strings.Replacer
	longest int
}

func newRedactor(secrets []string) *redactor {
	r := &redactor{}
	r.add(secrets...)
	return r
}

// add makes the secrets known, as they are and as quotes, JSON, URLs and base64 write them.
func (r *redactor) add(secrets ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range secrets {
		if len(s) < minSecret {
			continue
		}
		forms := []string{s, url.QueryEscape(s), url.PathEscape(s)}
		quoted := []string{strconv.Quote(s)}
		for _, escapeHTML := range []bool{true, false} {
			var b strings.Builder
			enc := json.NewEncoder(&b)
			enc.SetEscapeHTML(escapeHTML)
			if enc.Encode(s) == nil {
				quoted = append(quoted, strings.TrimSpace(b.String()))
			}
		}
		for _, q := range quoted {
			forms = append(forms, q[1:len(q)-1])
		}
		// Without the last letter, which depends on what follows.
		for _, e := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			if b := e.EncodeToString([]byte(s)); len(b) > minBase64 {
				forms = append(forms, b, b[:len(b)-1])
			}
		}
		for _, f := range forms {
			if !slices.Contains(r.secrets, f) {
				r.secrets = append(r.secrets, f)
				r.longest = max(r.longest, len(f))
			}
		}
	}
	// A secret that contains another must win over it.
	slices.SortStableFunc(r.secrets, func(a, b string) int { return len(b) - len(a) })
	pairs := make([]string, 0, 2*len(r.secrets))
	for _, s := range r.secrets {
		pairs = append(pairs, s, redacted)
	}
	r.replace = strings.NewReplacer(pairs...)
}

func (r *redactor) text(s string) string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if len(r.secrets) == 0 {
		return s
	}
	return r.replace.Replace(s)
}

// cut redacts a text that was cut off at its end, where the beginning of a secret may be left: it gives that up too.
func (r *redactor) cut(s string) string {
	r.mu.RLock()
	longest := r.longest
	r.mu.RUnlock()
	s = r.text(s)
	return s[:max(0, len(s)-longest)]
}

// sensitiveTexts collects the texts and numbers that a configuration holds in attributes declared sensitive.
func sensitiveTexts(schema *sdk.Schema, config []byte) []string {
	dec := json.NewDecoder(bytes.NewReader(config))
	dec.UseNumber()
	var v any
	if dec.Decode(&v) != nil {
		return nil
	}
	var found []string
	collectSensitive(schema, v, false, &found)
	return found
}

func collectSensitive(schema *sdk.Schema, v any, sensitive bool, found *[]string) {
	if schema != nil && schema.Sensitive {
		sensitive = true
	}
	switch v := v.(type) {
	case string:
		if sensitive {
			*found = append(*found, v)
		}
	case json.Number:
		if sensitive {
			*found = append(*found, v.String())
		}
	case []any:
		for _, e := range v {
			collectSensitive(element(schema), e, sensitive, found)
		}
	case map[string]any:
		for name, e := range v {
			inner := element(schema)
			if schema != nil && schema.Kind == sdk.KindObject {
				inner = schema.Attribute(name)
			}
			collectSensitive(inner, e, sensitive, found)
		}
	}
}

func element(s *sdk.Schema) *sdk.Schema {
	if s == nil {
		return nil
	}
	return s.Element
}
