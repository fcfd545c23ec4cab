package auth

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/grapnelhq/grapnel/sdk"
)

const (
	maxSignatures    = 16 // in one header; a sender in the middle of a rotation has two
	maxTimestamp     = 15 // digits: milliseconds until the year 33 658
	defaultTolerance = 300 * time.Second
)

// declaration is what the manifest says about a signature, of whatever kind.
type declaration struct {
	kind      string // for errors
	headers   []string
	encoding  sdk.Encoding
	size      int // bytes of a signature
	most      int // signatures in one header
	prefix    string
	content   []sdk.Part
	timestamp *sdk.Timestamp

	separator, itemKey, itemVersion string
}

// signature is what the schemes that sign a request share: where the signatures stand, what they cover, and when they
// were made.
type signature struct {
	kind        string
	names       []string // canonical header names
	codec       codec
	most        int
	prefix      string
	parts       []Part
	separator   string
	itemKey     string
	itemVersion string
	time        *timestamp
}

type timestamp struct {
	names        []string
	itemKey      string
	milliseconds bool
	past, future time.Duration
}

// scratch is the memory of one verification.
type scratch struct {
	values   [][]byte // the signed parts
	received [maxSignatures]macBuffer
	text     []byte // what of values is no part of the request
}

func (s *signature) newScratch() scratch { return scratch{values: make([][]byte, len(s.parts))} }

// forget drops what a pooled scratch holds of a request.
func (st *scratch) forget() {
	clear(st.values)
	if cap(st.text) > maxHeaderValue {
		st.text = nil
	}
}

func newSignature(d declaration) (s signature, err error) {
	fail := func(err error) (signature, error) { return signature{}, fmt.Errorf("%s: %w", d.kind, err) }
	if len(d.headers) == 0 {
		return fail(errors.New("headers is empty"))
	}
	s = signature{
		kind: d.kind, most: d.most, prefix: d.prefix, separator: d.separator, itemKey: d.itemKey, itemVersion: d.itemVersion,
	}
	if s.names, err = headerNames(d.headers); err != nil {
		return fail(err)
	}
	if s.codec, err = newCodec(d.encoding, d.size); err != nil {
		return fail(err)
	}
	if s.itemKey != "" && s.itemVersion != "" {
		return fail(errors.New("item_key and item_version exclude each other"))
	}
	if s.itemVersion != "" && strings.Contains(s.separator, ",") {
		return fail(errors.New("with item_version a comma cannot be the separator"))
	}
	if err := s.compileParts(d.content); err != nil {
		return fail(err)
	}
	if d.timestamp != nil {
		if err := s.compileTimestamp(d.timestamp); err != nil {
			return fail(err)
		}
	} else if slices.ContainsFunc(d.content, func(p sdk.Part) bool { return p.Kind == sdk.PartTimestamp }) {
		return fail(errors.New("signed_content names the timestamp, but none is declared"))
	}
	return s, nil
}

func (s *signature) compileParts(parts []sdk.Part) error {
	if len(parts) == 0 {
		parts = []sdk.Part{{Kind: sdk.PartBody}}
	}
	body := false
	for _, p := range parts {
		c, err := NewPart(p)
		if err != nil {
			return fmt.Errorf("signed_content: %w", err)
		}
		body = body || p.Kind == sdk.PartBody
		s.parts = append(s.parts, c)
	}
	if !body {
		return errors.New("signed_content lacks the body: anybody could change it")
	}
	return nil
}

func (s *signature) compileTimestamp(t *sdk.Timestamp) error {
	c := &timestamp{
		itemKey: t.ItemKey, milliseconds: t.Milliseconds, past: defaultTolerance, future: defaultTolerance,
	}
	if (len(t.Headers) == 0) == (t.ItemKey == "") {
		return errors.New("timestamp needs either headers or item_key")
	}
	if t.ItemKey != "" && (s.itemKey == "" || t.ItemKey == s.itemKey || s.separator == "") {
		return errors.New("timestamp.item_key needs a separator and an item_key of the signature, another one")
	}
	var err error
	if c.names, err = headerNames(t.Headers); err != nil {
		return fmt.Errorf("timestamp: %w", err)
	}
	for _, x := range []struct {
		name    string
		seconds int64
		d       *time.Duration
	}{{"past_seconds", t.PastSeconds, &c.past}, {"future_seconds", t.FutureSeconds, &c.future}} {
		const most = 366 * 24 * 3600
		if x.seconds < 0 || x.seconds > most {
			return fmt.Errorf("timestamp.%s is %d, must be 0 (300) to %d", x.name, x.seconds, most)
		}
		if x.seconds > 0 {
			*x.d = time.Duration(x.seconds) * time.Second
		}
	}
	// A timestamp that is not signed bounds nothing: who replays a request writes a new one.
	signed := slices.ContainsFunc(s.parts, func(p Part) bool {
		return p.kind == sdk.PartTimestamp ||
			p.kind == sdk.PartHeader && len(c.names) > 0 && slices.Equal(p.names, c.names)
	})
	if !signed {
		return errors.New("the timestamp is not in signed_content, so it would protect nothing")
	}
	s.time = c
	return nil
}

func (s *signature) headers() []string { return s.names }
func (s *signature) params() []string  { return nil }
func (s *signature) pathToken() bool   { return false }
func (s *signature) challenge() string { return "" }

// read finds the signatures, the time at which they were made, if the scheme has one, and the signed parts.
func (s *signature) read(in *Input, st *scratch) (received int, sent time.Time, err error) {
	in.Timestamp = ""
	value, n := headerValue(in.Header, s.names)
	switch {
	case n == 0:
		return 0, sent, &Error{CauseMissingSignature, "no header " + list(s.names)}
	case n > 1:
		return 0, sent, &Error{CauseDoubledSignature, strconv.Itoa(n) + " values in header " + list(s.names)}
	case len(value) > maxHeaderValue:
		return 0, sent, &Error{CauseMalformedSignature, "the signature header is longer than 4096 bytes"}
	}
	if received, err = s.parse(in, st, value); err != nil {
		return 0, sent, err
	}
	if sent, err = s.timestamp(in); err != nil {
		return 0, sent, err
	}
	return received, sent, s.collect(in, st)
}

// checkAge bounds the age of what is authentic, where the scheme has a timestamp.
func (s *signature) checkAge(sent, now time.Time) error {
	if s.time == nil {
		return nil
	}
	return s.time.check(sent, now)
}

// parse decodes the signatures of a header's value into st.received and returns their number. Items of another version
// or key and signatures that do not decode are passed over: a sender may add what we do not know.
func (s *signature) parse(in *Input, st *scratch, value string) (int, error) {
	n, found, all := 0, false, value
	for more := true; more; {
		item := value
		if more = s.separator != ""; more {
			item, value, more = strings.Cut(value, s.separator)
		}
		switch {
		case s.itemKey != "":
			key, v, ok := strings.Cut(item, "=")
			if !ok || s.codec.encoding != sdk.Base64 && strings.Contains(v, "=") {
				return 0, &Error{CauseMalformedSignature, "an item of the signature header is not key=value"}
			}
			if s.time != nil && s.time.itemKey != "" && key == s.time.itemKey {
				if in.Timestamp != "" {
					return 0, &Error{CauseMalformedTimestamp, "the signature header holds more than one timestamp"}
				}
				in.Timestamp = v
			}
			if key != s.itemKey {
				continue
			}
			item = v
		case s.itemVersion != "":
			version, v, ok := strings.Cut(item, ",")
			if !ok || version != s.itemVersion {
				continue
			}
			item = v
		}
		found = true
		item, ok := strings.CutPrefix(item, s.prefix)
		if !ok {
			continue
		}
		if n == s.most {
			return 0, &Error{CauseMalformedSignature, "more than " + strconv.Itoa(n) + " signatures in the header"}
		}
		if s.codec.decode(&st.received[n], item) {
			n++
		}
	}
	switch {
	case n > 0:
		return n, nil
	case !found:
		return 0, &Error{CauseMalformedSignature, s.noItem(all)}
	case s.prefix == "":
		return 0, &Error{CauseMalformedSignature, fmt.Sprintf("the signature is not %d bytes in %s", s.codec.size, s.codec.encoding)}
	}
	return 0, &Error{CauseMalformedSignature, fmt.Sprintf("the signature is not %q followed by %d bytes in %s",
		s.prefix, s.codec.size, s.codec.encoding)}
}

// noItem says that a signature header has no item of the key or version, and which it has instead: their names, never
// their values.
func (s *signature) noItem(header string) string {
	wanted, sign := s.itemKey+"=…", "="
	if s.itemVersion != "" {
		wanted, sign = s.itemVersion+",…", ","
	}
	const most = 8
	var names []string
	for more := true; more && len(names) < most; {
		item := header
		if more = s.separator != ""; more {
			item, header, more = strings.Cut(header, s.separator)
		}
		name, value, ok := strings.Cut(item, sign)
		ok = ok && value != "" && value[0] != '=' // what is before = or == may be base64
		if ok && isItemName(name) && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	text := "the header has no item " + wanted
	if len(names) > 0 {
		text += "; there are " + strings.Join(names, ", ")
	}
	return text
}

// isItemName reports whether a text may be shown as the name of an item: what is long or has other signs may be a value.
func isItemName(s string) bool {
	return s != "" && len(s) <= 16 && !strings.ContainsFunc(s, func(c rune) bool {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		return !letter && c != '_' && c != '-'
	})
}

// timestamp finds and parses the timestamp, where the scheme has one.
func (s *signature) timestamp(in *Input) (time.Time, error) {
	t := s.time
	if t == nil {
		return time.Time{}, nil
	}
	if t.itemKey == "" {
		value, n := headerValue(in.Header, t.names)
		if n > 1 {
			return time.Time{}, &Error{CauseMalformedTimestamp, strconv.Itoa(n) + " values in header " + list(t.names)}
		}
		in.Timestamp = value
	}
	if in.Timestamp == "" {
		return time.Time{}, &Error{CauseMissingTimestamp, "the request has no timestamp"}
	}
	return t.parse(in.Timestamp)
}

// parse takes decimal digits only, so that the text that was signed and the number that is compared cannot differ.
func (t *timestamp) parse(text string) (time.Time, error) {
	var n int64
	ok := len(text) <= maxTimestamp && (text[0] != '0' || text == "0")
	for i := 0; ok && i < len(text); i++ {
		d := text[i] - '0'
		ok = d <= 9
		n = n*10 + int64(d)
	}
	if !ok {
		return time.Time{}, &Error{CauseMalformedTimestamp, "the timestamp is not a plain decimal number"}
	}
	if t.milliseconds {
		return time.UnixMilli(n), nil
	}
	return time.Unix(n, 0), nil
}

func (t *timestamp) check(sent, now time.Time) error {
	age := now.Sub(sent)
	switch {
	case age > t.past:
		return &Error{CauseTooOld, fmt.Sprintf("signed %s ago, %s are allowed", age.Round(time.Second), t.past)}
	case -age > t.future:
		ahead := -age.Round(time.Second)
		return &Error{CauseTooNew, fmt.Sprintf("signed %s in the future, %s are allowed", ahead, t.future)}
	}
	return nil
}

// collect gathers the signed bytes.
func (s *signature) collect(in *Input, st *scratch) error {
	st.text = st.text[:0]
	for i := range s.parts {
		p := &s.parts[i]
		switch p.kind {
		case sdk.PartHeader, sdk.PartQuery, sdk.PartTimestamp, sdk.PartPathToken:
			text := p.text(in)
			if text == "" {
				return &Error{CauseMissingPart, "no single value for the signed " + p.describe()}
			}
			start := len(st.text)
			st.text = append(st.text, text...)
			st.values[i] = st.text[start:]
		default:
			v, ok := p.Value(in)
			if !ok {
				return &Error{CauseMissingPart, "no value for the signed " + p.describe()}
			}
			st.values[i] = v
		}
		// Signed bytes are joined without lengths: a part that contained the separator behind it could lend bytes to
		// its neighbour under the same signature.
		if next := i + 1; p.variable() && next < len(s.parts) && len(s.parts[next].literal) > 0 &&
			strings.Contains(string(st.values[i]), string(s.parts[next].literal)) {
			return &Error{
				CauseAmbiguousPart, fmt.Sprintf("the signed %s contains %q", p.describe(), s.parts[next].literal),
			}
		}
	}
	return nil
}

func (p *Part) describe() string {
	switch p.kind {
	case sdk.PartHeader:
		return "header " + list(p.names)
	case sdk.PartQuery:
		return "query parameter " + p.name
	case sdk.PartJSONPointer:
		return "JSON pointer " + p.name
	}
	return strings.ReplaceAll(string(p.kind), "_", " ")
}

// prepare sets the timestamp of a request that is to be signed, and collects what the signature covers.
func (s *signature) prepare(in *Input, st *scratch, now time.Time) error {
	in.Timestamp = ""
	if s.time != nil {
		unix := now.Unix()
		if s.time.milliseconds {
			unix = now.UnixMilli()
		}
		in.Timestamp = strconv.FormatInt(unix, 10)
		if len(s.time.names) > 0 {
			setHeader(in.Header, s.time.names, in.Timestamp)
		}
	}
	return s.collect(in, st)
}

// write puts a signature into its header.
func (s *signature) write(in *Input, raw []byte) {
	value := s.prefix + s.codec.encode(raw)
	switch {
	case s.itemVersion != "":
		value = s.itemVersion + "," + value
	case s.itemKey != "":
		value = s.itemKey + "=" + value
		if s.time != nil && s.time.itemKey != "" {
			value = s.time.itemKey + "=" + in.Timestamp + s.separator + value
		}
	}
	setHeader(in.Header, s.names, value)
}

// setHeader sets the header under the name that is there already, or else the first, and removes the aliases.
func setHeader(h map[string][]string, names []string, value string) {
	name := names[0]
	for _, n := range names {
		if len(h[n]) > 0 {
			name = n
		}
		delete(h, n)
	}
	h[name] = []string{value}
}
