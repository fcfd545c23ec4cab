package auth

import (
	"crypto/hmac"
	"crypto/sha1" // only where a manifest asks for it by name
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"errors"
	"fmt"
	"hash"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/grapnelhq/grapnel/sdk"
)

const (
	maxSignatures    = 16 // in one header; a sender in the middle of a rotation has two
	maxTimestamp     = 15 // digits: milliseconds until the year 33 658
	defaultTolerance = 300 * time.Second
)

type hmacScheme struct {
	names       []string // canonical header names
	newHash     func() hash.Hash
	codec       codec
	prefix      string
	parts       []Part
	keyFormat   sdk.KeyFormat
	separator   string
	itemKey     string
	itemVersion string
	time        *timestamp
	keys        [][]byte
	states      sync.Pool // of *hmacState
}

type timestamp struct {
	names        []string
	itemKey      string
	milliseconds bool
	past, future time.Duration
}

// hmacState is what one Verify works with. The hash of each secret keeps its state after the key block, which halves
// the cost of hashing a webhook of the usual size.
type hmacState struct {
	macs     []hash.Hash
	values   [][]byte
	received [maxSignatures]macBuffer
	computed macBuffer
	text     []byte
}

func newHMAC(h *sdk.HMAC, secrets []string) (*hmacScheme, error) {
	if len(h.Headers) == 0 {
		return nil, errors.New("hmac: headers is empty")
	}
	names, err := headerNames(h.Headers)
	if err != nil {
		return nil, fmt.Errorf("hmac: %w", err)
	}
	s := &hmacScheme{
		names: names, prefix: h.Prefix, keyFormat: h.KeyFormat,
		separator: h.Separator, itemKey: h.ItemKey, itemVersion: h.ItemVersion,
	}
	switch h.Algorithm {
	case sdk.SHA256, "":
		s.newHash = sha256.New
	case sdk.SHA384:
		s.newHash = sha512.New384
	case sdk.SHA512:
		s.newHash = sha512.New
	case sdk.SHA1:
		s.newHash = sha1.New
	default:
		return nil, fmt.Errorf("hmac: unknown algorithm %q", h.Algorithm)
	}
	if s.codec, err = newCodec(h.Encoding, s.newHash().Size()); err != nil {
		return nil, fmt.Errorf("hmac: %w", err)
	}
	if s.itemKey != "" && s.itemVersion != "" {
		return nil, errors.New("hmac: item_key and item_version exclude each other")
	}
	if s.itemVersion != "" && strings.Contains(s.separator, ",") {
		return nil, errors.New("hmac: with item_version a comma cannot be the separator")
	}
	if err := s.compileParts(h.SignedContent); err != nil {
		return nil, err
	}
	if h.Timestamp != nil {
		if err := s.compileTimestamp(h); err != nil {
			return nil, err
		}
	} else if slices.ContainsFunc(h.SignedContent, func(p sdk.Part) bool { return p.Kind == sdk.PartTimestamp }) {
		return nil, errors.New("hmac: signed_content names the timestamp, but none is declared")
	}
	switch s.keyFormat {
	case sdk.KeyText, sdk.KeyBase64, sdk.KeyHex, sdk.KeyWhsec, "":
	default:
		return nil, fmt.Errorf("hmac: unknown key format %q", s.keyFormat)
	}
	for i, secret := range secrets {
		key, err := parseKey(s.keyFormat, secret)
		if err != nil {
			return nil, fmt.Errorf("secret %d %w", i+1, err)
		}
		s.keys = append(s.keys, key)
	}
	s.states.New = func() any {
		st := &hmacState{values: make([][]byte, len(s.parts))}
		for _, key := range s.keys {
			m := hmac.New(s.newHash, key)
			m.Reset() // from here on Reset restores the state after the key block
			st.macs = append(st.macs, m)
		}
		return st
	}
	return s, nil
}

func (s *hmacScheme) compileParts(parts []sdk.Part) error {
	if len(parts) == 0 {
		parts = []sdk.Part{{Kind: sdk.PartBody}}
	}
	body := false
	for _, p := range parts {
		c, err := NewPart(p)
		if err != nil {
			return fmt.Errorf("hmac: signed_content: %w", err)
		}
		body = body || p.Kind == sdk.PartBody
		s.parts = append(s.parts, c)
	}
	if !body {
		return errors.New("hmac: signed_content lacks the body: anybody could change it")
	}
	return nil
}

func (s *hmacScheme) compileTimestamp(h *sdk.HMAC) error {
	t := h.Timestamp
	c := &timestamp{
		itemKey: t.ItemKey, milliseconds: t.Milliseconds, past: defaultTolerance, future: defaultTolerance,
	}
	if (len(t.Headers) == 0) == (t.ItemKey == "") {
		return errors.New("hmac: timestamp needs either headers or item_key")
	}
	if t.ItemKey != "" && (s.itemKey == "" || t.ItemKey == s.itemKey || s.separator == "") {
		return errors.New("hmac: timestamp.item_key needs a separator and an item_key of the signature, another one")
	}
	var err error
	if c.names, err = headerNames(t.Headers); err != nil {
		return fmt.Errorf("hmac: timestamp: %w", err)
	}
	for _, x := range []struct {
		name    string
		seconds int64
		d       *time.Duration
	}{{"past_seconds", t.PastSeconds, &c.past}, {"future_seconds", t.FutureSeconds, &c.future}} {
		const most = 366 * 24 * 3600
		if x.seconds < 0 || x.seconds > most {
			return fmt.Errorf("hmac: timestamp.%s is %d, must be 0 (300) to %d", x.name, x.seconds, most)
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
		return errors.New("hmac: the timestamp is not in signed_content, so it would protect nothing")
	}
	s.time = c
	return nil
}

func (s *hmacScheme) headers() []string { return s.names }
func (s *hmacScheme) pathToken() bool   { return false }
func (s *hmacScheme) inURL() bool       { return false }

func (s *hmacScheme) verify(in *Input, now time.Time) (Result, error) {
	in.Timestamp = ""
	value, n := headerValue(in.Header, s.names)
	switch {
	case n == 0:
		return Result{}, &Error{CauseMissingSignature, "no header " + list(s.names)}
	case n > 1:
		return Result{}, &Error{CauseDoubledSignature, strconv.Itoa(n) + " values in header " + list(s.names)}
	case len(value) > maxHeaderValue:
		return Result{}, &Error{CauseMalformedSignature, "the signature header is longer than 4096 bytes"}
	}
	st := s.states.Get().(*hmacState)
	defer s.states.Put(st)

	received, err := s.parse(in, st, value)
	if err != nil {
		return Result{}, err
	}
	sent, err := s.timestamp(in)
	if err != nil {
		return Result{}, err
	}
	defer st.forget()
	if err := s.collect(in, st); err != nil {
		return Result{}, err
	}

	// Every secret meets every signature. Backwards, so that the first of several equal secrets is the one reported.
	match := -1
	for i := len(st.macs) - 1; i >= 0; i-- {
		m := st.macs[i]
		m.Reset()
		for _, v := range st.values {
			m.Write(v)
		}
		want := m.Sum(st.computed[:0])
		ok := 0
		for j := range received {
			ok |= subtle.ConstantTimeCompare(want, st.received[j][:s.codec.size])
		}
		match = subtle.ConstantTimeSelect(ok, i, match)
	}
	if match < 0 {
		return Result{}, &Error{CauseBadSignature, "none of " + strconv.Itoa(len(st.macs)) + " secrets gives it"}
	}
	if s.time != nil {
		if err := s.time.check(sent, now); err != nil {
			return Result{}, err
		}
	}
	return Result{SecretIndex: match, Query: in.RawQuery}, nil
}

// forget drops what a pooled state holds of a request.
func (st *hmacState) forget() {
	clear(st.values)
	if cap(st.text) > maxHeaderValue {
		st.text = nil
	}
	clear(st.computed[:])
}

// parse decodes the signatures of a header's value into st.received and returns their number. Items of another version
// or key and signatures that do not decode are passed over: a sender may add what we do not know.
func (s *hmacScheme) parse(in *Input, st *hmacState, value string) (int, error) {
	n, found := 0, false
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
		if n == maxSignatures {
			return 0, &Error{CauseMalformedSignature, "more than 16 signatures in the header"}
		}
		if s.codec.decode(&st.received[n], item) {
			n++
		}
	}
	switch {
	case n > 0:
		return n, nil
	case !found:
		return 0, &Error{CauseMalformedSignature, "the header holds no signature of the expected version"}
	}
	return 0, &Error{CauseMalformedSignature, fmt.Sprintf("the signature is not %q followed by %d bytes in %s",
		s.prefix, s.codec.size, s.codec.encoding)}
}

// timestamp finds and parses the timestamp, where the scheme has one.
func (s *hmacScheme) timestamp(in *Input) (time.Time, error) {
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
func (s *hmacScheme) collect(in *Input, st *hmacState) error {
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

func (s *hmacScheme) sign(in *Input, secret string, now time.Time) error {
	key, err := parseKey(s.keyFormat, secret)
	if err != nil {
		return fmt.Errorf("the secret %w", err)
	}
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
	st := &hmacState{values: make([][]byte, len(s.parts))}
	if err := s.collect(in, st); err != nil {
		return err
	}
	m := hmac.New(s.newHash, key)
	for _, v := range st.values {
		m.Write(v)
	}
	value := s.prefix + s.codec.encode(m.Sum(nil))
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
	return nil
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
