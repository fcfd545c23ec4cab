// Package sample makes requests out of the samples that a decoder ships with its catalogue: verbatim, or as copies that are
// events of their own.
package sample

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/url"
	"strings"
	"time"

	"github.com/grapnelhq/grapnel/core/formscan"
	"github.com/grapnelhq/grapnel/core/jsonscan"
	"github.com/grapnelhq/grapnel/sdk"
)

// Find returns the first sample of an event type. Its error helps with a type that is not there.
func Find(p *sdk.Provider, eventType string) (sdk.Sample, error) {
	for _, t := range p.Events {
		if t.Type != eventType {
			continue
		}
		if len(t.Samples) == 0 {
			return sdk.Sample{}, fmt.Errorf("event type %s has no sample", eventType)
		}
		return t.Samples[0], nil
	}
	return sdk.Sample{}, fmt.Errorf("%s has no event type %q; %s", p.Title, eventType, known(p, eventType))
}

// maxListed is how many event types an error lists.
const maxListed = 5

// known tells which event types there are: the one that lacks the provider's name only, or else some of all.
func known(p *sdk.Provider, eventType string) string {
	types := make([]string, len(p.Events))
	for i := range p.Events {
		if types[i] = p.Events[i].Type; types[i] == p.Name+"."+eventType {
			return fmt.Sprintf("did you mean %q?", types[i])
		}
	}
	switch n := len(types); {
	case n == 0:
		return "none is known"
	case n > maxListed+1:
		return fmt.Sprintf("there are %s and %d more", strings.Join(types[:maxListed], ", "), n-maxListed)
	case n > 1:
		return fmt.Sprintf("there are %s and %s", strings.Join(types[:n-1], ", "), types[n-1])
	}
	return "there is " + types[0]
}

// Copy returns a sample as another event: what its variations name gets a fresh value of the same look, everything else
// stays byte for byte. Ids that were equal stay equal. random makes the values; it is used from one goroutine.
func Copy(s sdk.Sample, random *rand.Rand, now time.Time) (sdk.Sample, error) {
	c, f := s, fresh{random, now, map[string]string{}}
	c.Headers = append([]sdk.Header(nil), s.Headers...)
	for _, v := range s.Vary {
		switch v.Part.Kind {
		case sdk.PartHeader:
			for i := range c.Headers {
				if strings.EqualFold(c.Headers[i].Name, v.Part.Name) {
					c.Headers[i].Value = f.value(c.Headers[i].Value, v.Kind)
				}
			}
		case sdk.PartQuery:
			query, err := f.varyField([]byte(c.Query), v.Part.Name, "", v)
			if err != nil {
				return c, fmt.Errorf("sample %s: %w", s.Name, err)
			}
			c.Query = string(query)
		case sdk.PartJSONPointer:
			body, err := f.varyBody(c, v)
			if err != nil {
				return c, fmt.Errorf("sample %s: %w", s.Name, err)
			}
			c.Body = body
		default:
			return c, fmt.Errorf("sample %s: a %s cannot be varied", s.Name, v.Part.Kind)
		}
	}
	return c, nil
}

// fresh makes the new values of one copy.
type fresh struct {
	random *rand.Rand
	now    time.Time
	ids    map[string]string // new by old
}

// IsForm reports whether headers say that a body is a form.
func IsForm(headers []sdk.Header) bool {
	for _, h := range headers {
		if strings.EqualFold(h.Name, "content-type") {
			media, _, _ := strings.Cut(h.Value, ";")
			return strings.EqualFold(strings.TrimSpace(media), "application/x-www-form-urlencoded")
		}
	}
	return false
}

// varyBody replaces the value at a JSON pointer; in a form, that of a field or of a value in the JSON in it.
func (f fresh) varyBody(s sdk.Sample, v sdk.Variation) ([]byte, error) {
	if !IsForm(s.Headers) {
		return f.vary(s.Body, v.Part.Name, v)
	}
	field, below, nested := strings.Cut(strings.TrimPrefix(v.Part.Name, "/"), "/")
	if nested {
		below = "/" + below
	}
	return f.varyField(s.Body, strings.NewReplacer("~1", "/", "~0", "~").Replace(field), below, v)
}

// varyField replaces the value of a form's or query's field, or what is at a pointer into its JSON.
func (f fresh) varyField(form []byte, name, below string, v sdk.Variation) ([]byte, error) {
	raw, n := formscan.Lookup(form, name, v.Part.FoldCase)
	if n != 1 {
		return nil, fmt.Errorf("%d fields are named %q, one is needed to vary it", n, name)
	}
	text := formscan.Unescape(raw)
	if below == "" {
		text = []byte(f.value(string(text), v.Kind))
	} else {
		var err error
		if text, err = f.vary(text, below, v); err != nil {
			return nil, err
		}
	}
	return splice(form, raw, url.QueryEscape(string(text))), nil
}

// splice returns a copy of b in which the slice raw of b is replaced.
func splice(b, raw []byte, value string) []byte {
	at := cap(b) - cap(raw)
	out := make([]byte, 0, len(b)+len(value))
	out = append(out, b[:at]...)
	out = append(out, value...)
	return append(out, b[at+len(raw):]...)
}

// vary replaces the value at a JSON pointer.
func (f fresh) vary(body []byte, pointer string, v sdk.Variation) ([]byte, error) {
	raw, ok := jsonscan.Lookup(body, pointer, v.Part.FoldCase)
	if !ok {
		return nil, fmt.Errorf("there is nothing at %q to vary", v.Part.Name)
	}
	value := string(raw)
	if text, isText := jsonscan.Unquote(raw); isText {
		quoted, err := json.Marshal(f.value(text, v.Kind))
		if err != nil {
			return nil, err
		}
		value = string(quoted)
	} else {
		value = f.value(value, v.Kind)
	}
	return splice(body, raw, value), nil
}

func (f fresh) value(old string, kind sdk.VariationKind) string {
	if kind == sdk.VaryTime {
		return freshTime(old, f.now)
	}
	id, ok := f.ids[old]
	if !ok {
		id = freshID(old, f.random)
		f.ids[old] = id
	}
	return id
}

// freshID keeps the look of an id: every digit becomes another digit, every letter of a UUID another hexadecimal one;
// a text without digits gets some. A short number becomes longer, or the copies of a load would be the same soon.
func freshID(old string, random *rand.Rand) string {
	hex := isUUID(old)
	b := []byte(old)
	changed := false
	for i, c := range b {
		switch {
		case c >= '0' && c <= '9' && i == 0:
			b[i], changed = '1'+byte(random.IntN(9)), true // no leading zero
		case c >= '0' && c <= '9' && !hex:
			b[i], changed = '0'+byte(random.IntN(10)), true
		case hex && c != '-':
			b[i], changed = "0123456789abcdef"[random.IntN(16)], true
		}
	}
	if !changed {
		return fmt.Sprintf("%s-%d", old, random.Uint64())
	}
	if isDigits(old) {
		for len(b) < 9 { // what is less than 2^31 in any case
			b = append(b, '0'+byte(random.IntN(10)))
		}
	}
	return string(b)
}

func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		switch i {
		case 8, 13, 18, 23:
			if c != '-' {
				return false
			}
		default:
			if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F') {
				return false
			}
		}
	}
	return true
}

// freshTime writes now as old is written: a number of seconds or milliseconds, a date, or RFC 3339 with the same number of
// fractional digits and the same way to name the offset. An unknown look becomes RFC 3339 in UTC.
func freshTime(old string, now time.Time) string {
	now = now.UTC()
	if isDigits(old) {
		if len(old) >= 13 {
			return fmt.Sprint(now.UnixMilli())
		}
		return fmt.Sprint(now.Unix())
	}
	if _, err := time.Parse(time.DateOnly, old); err == nil {
		return now.Format(time.DateOnly)
	}
	layout := "2006-01-02T15:04:05"
	if _, fraction, ok := strings.Cut(old, "."); ok {
		digits := len(fraction) - len(strings.TrimLeft(fraction, "0123456789"))
		if digits > 0 {
			layout += "." + strings.Repeat("0", min(digits, 9))
		}
	}
	t, err := time.Parse(time.RFC3339Nano, old)
	switch {
	case err != nil: // a time without a zone
		if _, err := time.Parse("2006-01-02T15:04:05.999999999", old); err == nil {
			return now.Format(layout)
		}
		return now.Format(time.RFC3339Nano)
	case strings.HasSuffix(old, "Z"):
		return now.Format(layout + "Z07:00")
	default:
		return now.In(t.Location()).Format(layout + "-07:00")
	}
}

func isDigits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }
