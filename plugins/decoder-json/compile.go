package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"mime"
	"slices"
	"strconv"
	"strings"

	"github.com/grapnelhq/grapnel/sdk"
)

// base is the manifest of no provider: what there is to choose from.
func base() sdk.Provider {
	p := sdk.Provider{Name: "json", Title: "any provider that sends JSON", ChooseScheme: true}
	for _, name := range sdk.Presets() {
		s, _ := sdk.Preset(name)
		p.Schemes = append(p.Schemes, s)
	}
	return p
}

// The names of the schemes that a configuration declares.
const (
	schemeSignature = "signature"
	schemeToken     = "token"
)

// compiler collects what is wrong with a configuration.
type compiler struct{ errs []error }

func (c *compiler) fail(summary string, path ...string) {
	c.errs = append(c.errs, &sdk.AttributeError{Path: path, Summary: summary})
}

func (c *compiler) explain(summary, detail string, path ...string) {
	c.errs = append(c.errs, &sdk.AttributeError{Path: path, Summary: summary, Detail: detail})
}

// template reads a template of an event.
func (c *compiler) template(text string, path ...string) template {
	t, err := parseTemplate(text)
	if err == nil {
		err = t.ofEvents()
	}
	if err != nil {
		c.fail(err.Error(), path...)
	}
	return t
}

// parts reads a template for the host.
func (c *compiler) parts(text string, path ...string) []sdk.Part {
	t, err := parseTemplate(text)
	var parts []sdk.Part
	if err == nil {
		parts, err = t.parts()
	}
	if no := new(noPlaceError); errors.As(err, &no) {
		switch path[0] {
		case "signature":
			no.more = "{timestamp}, {body}, "
		case "dedupe":
			no.more = "{body}, "
		}
	}
	if err != nil {
		c.fail(err.Error(), path...)
		return nil
	}
	return parts
}

// part reads a template for the host that is one place of one of some kinds.
func (c *compiler) part(text string, kinds []sdk.PartKind, want string, path ...string) sdk.Part {
	n := len(c.errs)
	parts := c.parts(text, path...)
	if len(c.errs) > n {
		return sdk.Part{}
	}
	if len(parts) != 1 || !slices.Contains(kinds, parts[0].Kind) {
		c.fail("must be one place: "+want, path...)
		return sdk.Part{}
	}
	return parts[0]
}

func (c *compiler) pointer(text string, path ...string) pointer {
	p, err := parsePointer(text)
	if err != nil {
		c.fail(err.Error(), path...)
	}
	return p
}

// headerNames reads names with commas between them.
func (c *compiler) headerNames(text string, path ...string) []string {
	var names []string
	for n := range strings.SplitSeq(text, ",") {
		n = strings.TrimSpace(n)
		if !isHeaderName(n) {
			c.fail(fmt.Sprintf("%q is no header name", n), path...)
		}
		names = append(names, n)
	}
	return names
}

// compile makes a decoder and its manifest of a configuration. The error joins an sdk.AttributeError for each mistake.
func compile(cfg *Config) (*decoder, sdk.Provider, error) {
	c := &compiler{}
	d := c.decoder(cfg)
	decodes := len(c.errs) == 0
	c.words(cfg, d)
	p := c.manifest(cfg, d)
	c.samples(cfg, d, &p, decodes)
	return d, p, errors.Join(c.errs...)
}

func (c *compiler) decoder(cfg *Config) *decoder {
	e := &cfg.Event
	d := &decoder{
		provider: cfg.Provider,
		typ:      c.template(e.Type, "event", "type"),
		ignore:   e.Ignore,
		subject:  c.template(e.Subject, "event", "subject"),
		key:      c.template(e.PartitionKey, "event", "partition_key"),
		op:       c.template(e.Operation, "event", "operation"),
		tenant:   c.template(e.Tenant, "event", "tenant"),
		time:     c.template(e.Time, "event", "time"),
		format:   e.TimeFormat,
		data:     c.pointer(e.Data, "event", "data"),
		words:    map[string]string{},
		ops:      map[string]string{},
	}
	if e.Type == "" {
		c.fail("is empty", "event", "type")
	}
	if e.Items != nil {
		d.list = true
		d.items = c.pointer(*e.Items, "event", "items")
	}
	if e.Changes != nil {
		d.changes = c.changes(e.Changes)
	}
	for _, media := range cfg.ContentTypes {
		d.unchecked = d.unchecked || !checkedByHost(media)
	}
	if !isName(cfg.Provider) {
		c.explain(fmt.Sprintf("%q is no name", cfg.Provider),
			"names start with a letter a to z and go on with those, digits and underscores", "provider")
	}
	return d
}

// words makes the table of the provider's words.
func (c *compiler) words(cfg *Config, d *decoder) {
	for _, typ := range slices.Sorted(maps.Keys(cfg.Types)) {
		t := cfg.Types[typ]
		if typeOf(cfg.Provider, typ) != cfg.Provider+"."+typ {
			c.explain(fmt.Sprintf("%q is no event type", typ),
				"types are parts of a-z, 0-9 and _ with full stops between them, at most 64 bytes each: order.created", "types", typ)
			continue
		}
		words := t.Words
		if len(words) == 0 {
			words = []string{typ}
		}
		for i, w := range words {
			if earlier, twice := d.words[w]; twice {
				c.fail(fmt.Sprintf("%q means %s already", w, earlier), "types", typ, "words", strconv.Itoa(i))
			}
			d.words[w] = typ
		}
		d.ops[typ] = t.Operation
	}
	for i, w := range d.ignore {
		if typ, known := d.words[w]; known {
			c.fail(fmt.Sprintf("%q means %s", w, typ), "event", "ignore", strconv.Itoa(i))
		}
	}
}

func (c *compiler) changes(x *Changes) *changes {
	out := &changes{
		old: c.pointer(x.Old, "event", "changes", "old"), new: c.pointer(x.New, "event", "changes", "new"),
		each: c.pointer(x.Each, "event", "changes", "each"), name: c.pointer(x.Name, "event", "changes", "name"),
		hasOld: x.Old != "", hasNew: x.New != "", inEach: x.Each != "",
	}
	switch {
	case x.Old == "" && (x.New == "" || x.Each == ""):
		c.fail("is missing in changes", "event", "changes", "old")
	case x.Name != "" && x.Each == "":
		c.fail("is for entries, so each is needed", "event", "changes", "name")
	}
	return out
}

// checkedByHost reports whether the host takes bodies of a media type for JSON, and checks them before.
func checkedByHost(media string) bool {
	return media == "application/json" || media == "text/json" || strings.HasSuffix(media, "+json")
}

func isName(s string) bool {
	for i, b := range []byte(s) {
		if letter := b >= 'a' && b <= 'z'; !letter && (i == 0 || b != '_' && (b < '0' || b > '9')) {
			return false
		}
	}
	return s != "" && len(s) <= 64
}

func (c *compiler) manifest(cfg *Config, d *decoder) sdk.Provider {
	p := sdk.Provider{
		Name: cfg.Provider, Title: cmp.Or(cfg.Title, cfg.Provider), Methods: cfg.Methods, ContentTypes: cfg.ContentTypes,
	}
	for i, media := range cfg.ContentTypes {
		if parsed, params, err := mime.ParseMediaType(media); err != nil || len(params) > 0 || parsed != media {
			c.fail(fmt.Sprintf("%q is no media type in lower case without parameters", media), "content_types", strconv.Itoa(i))
		}
	}
	for i, h := range cfg.Headers {
		if !isHeaderName(strings.TrimSuffix(h, "*") + "x") {
			c.fail(fmt.Sprintf("%q is no header name", h), "headers", strconv.Itoa(i))
		}
	}
	p.Headers = slices.Concat(cfg.Headers, d.headers())
	slices.Sort(p.Headers)
	p.Headers = slices.Compact(p.Headers)
	c.schemes(cfg, &p)
	for i, text := range cfg.Dedupe {
		at := strconv.Itoa(i)
		n := len(c.errs)
		key := c.parts(text, "dedupe", at)
		varies := func(x sdk.Part) bool { return x.Kind != sdk.PartLiteral }
		switch {
		case len(c.errs) > n:
		case !slices.ContainsFunc(key, varies):
			c.fail("has no place: every request would be the same", "dedupe", at)
		case slices.ContainsFunc(key, func(x sdk.Part) bool { return x.Kind == sdk.PartTimestamp || x.Kind == sdk.PartPathToken }):
			c.fail("{timestamp} and {path_token} say nothing of what a request is about", "dedupe", at)
		}
		p.Dedupe = append(p.Dedupe, key)
	}
	if cfg.Handshake != nil {
		p.Handshake = c.handshake(cfg.Handshake)
		if len(cfg.Handshake.When) == 0 && slices.Contains(cfg.Methods, cfg.Handshake.Method) {
			c.explain("is missing: every webhook would be a test", `such as when = { "{/type}" = "url_verification" }`,
				"handshake")
		}
	}
	if r := cfg.Reply; r != nil {
		if r.Status < 200 || r.Status > 299 {
			c.fail(fmt.Sprintf("%d is not within 200 and 299", r.Status), "reply", "status")
		}
		p.Reply = sdk.Reply{Status: r.Status, ContentType: r.ContentType, Body: []byte(r.Body)}
	}
	return p
}

// schemes are those of the configuration, and then the presets.
func (c *compiler) schemes(cfg *Config, p *sdk.Provider) {
	if cfg.Signature != nil {
		p.Schemes = append(p.Schemes, c.signature(cfg.Signature))
	}
	if cfg.Token != nil {
		p.Schemes = append(p.Schemes, c.token(cfg.Token))
	}
	p.ChooseScheme = len(p.Schemes) == 0
	p.Schemes = append(p.Schemes, base().Schemes...)
}

func (c *compiler) signature(s *Signature) sdk.Scheme {
	at := func(names ...string) []string { return append([]string{"signature"}, names...) }
	headers := c.headerNames(s.Header, at("header")...)
	content := c.parts(s.Content, at("content")...)
	has := func(kind sdk.PartKind) bool {
		return slices.ContainsFunc(content, func(p sdk.Part) bool { return p.Kind == kind })
	}
	switch {
	case content == nil:
	case !has(sdk.PartBody):
		c.explain("lacks {body}: anybody could change it", "write what is signed, such as {timestamp}.{body}", at("content")...)
	case s.Timestamp == nil && has(sdk.PartTimestamp):
		c.explain("names the timestamp, and where that stands is not declared",
			`write timestamp { header = "X-Timestamp" }, or item = "t" where it is in the signature's header`, at("content")...)
	}
	if s.ItemKey != "" && s.ItemVersion != "" {
		c.fail("is there beside item_key; items are key=value or version,value", at("item_version")...)
	}
	if s.ItemVersion != "" && strings.Contains(s.Separator, ",") {
		c.fail("cannot be a comma with item_version", at("separator")...)
	}
	out := sdk.Scheme{Name: schemeSignature, Description: "a signature in " + s.Header + ", as the configuration declares it"}
	timestamp := c.timestamp(s, headers, content)
	if s.Algorithm == "ed25519" {
		for _, x := range []struct{ name, text, empty string }{
			{"prefix", s.Prefix, ""}, {"item_key", s.ItemKey, ""}, {"key_format", s.KeyFormat, "text"},
		} {
			if x.text != x.empty {
				c.fail("is for HMAC, not for ed25519", at(x.name)...)
			}
		}
		out.Ed25519 = &sdk.Ed25519{
			Headers: headers, Encoding: sdk.Encoding(s.Encoding), SignedContent: content, Timestamp: timestamp,
			Separator: s.Separator, ItemVersion: s.ItemVersion,
		}
		return out
	}
	out.HMAC = &sdk.HMAC{
		Headers: headers, Algorithm: sdk.Algorithm(s.Algorithm), Encoding: sdk.Encoding(s.Encoding), Prefix: s.Prefix,
		SignedContent: content, KeyFormat: sdk.KeyFormat(s.KeyFormat), Timestamp: timestamp,
		Separator: s.Separator, ItemKey: s.ItemKey, ItemVersion: s.ItemVersion,
	}
	return out
}

func (c *compiler) timestamp(s *Signature, headers []string, content []sdk.Part) *sdk.Timestamp {
	t := s.Timestamp
	if t == nil {
		return nil
	}
	at := func(name string) []string { return []string{"signature", "timestamp", name} }
	const year = 366 * 24 * 3600
	seconds := int64(t.Tolerance.Seconds())
	out := &sdk.Timestamp{
		ItemKey: t.Item, Milliseconds: t.Unit == "ms", PastSeconds: seconds, FutureSeconds: seconds,
	}
	if seconds < 1 || seconds > year {
		c.fail("must be within a second and a year", at("tolerance")...)
	}
	switch {
	case (t.Header == "") == (t.Item == ""):
		c.fail("needs either header or item", "signature", "timestamp")
	case t.Header != "":
		out.Headers = c.headerNames(t.Header, at("header")...)
	case s.ItemKey == "" || s.Separator == "" || t.Item == s.ItemKey:
		c.fail("needs a separator and an item_key of the signature, another one", at("item")...)
	}
	signed := slices.ContainsFunc(content, func(p sdk.Part) bool {
		return p.Kind == sdk.PartTimestamp || p.Kind == sdk.PartHeader && t.Header != "" && strings.EqualFold(p.Name, t.Header)
	})
	if content != nil && !signed {
		c.explain("does not name {timestamp}: it would protect nothing", "write what is signed, such as {timestamp}.{body}",
			"signature", "content")
	}
	if slices.ContainsFunc(out.Headers, func(h string) bool { return slices.Contains(headers, h) }) {
		c.fail("is the signature's own header", at("header")...)
	}
	return out
}

var tokenPlaces = []sdk.PartKind{sdk.PartHeader, sdk.PartQuery, sdk.PartPathToken}

func (c *compiler) token(t *Token) sdk.Scheme {
	const want = "{header.X-Api-Key}, {query.key} or {path_token}"
	out := &sdk.Token{Part: c.part(t.Place, tokenPlaces, want, "token", "place"), Prefix: t.Prefix}
	for i, text := range t.Also {
		out.Alternatives = append(out.Alternatives, c.part(text, tokenPlaces, want, "token", "also", strconv.Itoa(i)))
	}
	inHeader := func(p sdk.Part) bool { return p.Kind == sdk.PartHeader }
	if t.Prefix != "" && !inHeader(out.Part) && !slices.ContainsFunc(out.Alternatives, inHeader) {
		c.fail("is for headers, and the token is in none", "token", "prefix")
	}
	return sdk.Scheme{Name: schemeToken, Description: "a token in " + t.Place + ", as the configuration declares it", Token: out}
}

func (c *compiler) handshake(h *Handshake) *sdk.Handshake {
	out := &sdk.Handshake{Method: h.Method, Member: h.Member, Authenticated: h.Authenticated}
	if h.Method == "" || strings.Trim(h.Method, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
		c.fail(fmt.Sprintf("%q is no HTTP method", h.Method), "handshake", "method")
	}
	places := []sdk.PartKind{sdk.PartHeader, sdk.PartQuery, sdk.PartJSONPointer}
	for _, text := range slices.Sorted(maps.Keys(h.When)) {
		part := c.part(text, places, "{/a/json/pointer}, {header.Name} or {query.name}", "handshake", "when", text)
		out.When = append(out.When, sdk.Condition{Part: part, Equals: h.When[text]})
	}
	out.Echo = c.part(h.Echo, append(places, sdk.PartLiteral), "{/a/json/pointer}, {header.Name} or {query.name}, or a text",
		"handshake", "echo")
	if x := h.Proof; x != nil {
		out.Proof = &sdk.Proof{
			Member: x.Member, Algorithm: sdk.Algorithm(x.Algorithm), Encoding: sdk.Encoding(x.Encoding), Prefix: x.Prefix,
		}
	}
	return out
}

// samples adds the catalogue, and has every sample decoded, if the decoder has no mistakes.
func (c *compiler) samples(cfg *Config, d *decoder, p *sdk.Provider, decodes bool) {
	vary := variations(cfg, d, p)
	for _, typ := range slices.Sorted(maps.Keys(cfg.Types)) {
		t := cfg.Types[typ]
		e := sdk.EventType{Type: cfg.Provider + "." + typ, Description: t.Description, Data: sdk.Schema{Kind: sdk.KindAny, Nullable: true}}
		if t.Sample != nil && decodes {
			c.sample(typ, t.Sample, d, &e, vary)
		}
		if t.Schema != "" {
			s, err := schemaOf([]byte(t.Schema))
			if err != nil {
				c.fail(err.Error(), "types", typ, "schema")
			}
			e.Data = s
		}
		p.Events = append(p.Events, e)
	}
}

func (c *compiler) sample(typ string, s *Sample, d *decoder, e *sdk.EventType, vary []sdk.Variation) {
	if !json.Valid([]byte(s.Body)) {
		c.fail("is no JSON", "types", typ, "sample", "body")
		return
	}
	sample := sdk.Sample{Name: strings.ReplaceAll(typ, ".", "-"), Body: []byte(s.Body), Query: s.Query}
	for _, name := range slices.Sorted(maps.Keys(s.Headers)) {
		sample.Headers = append(sample.Headers, sdk.Header{Name: name, Value: s.Headers[name]})
	}
	decoded := sdk.DecodeAll(context.Background(), d, []*sdk.Request{sample.Request()})[0] // waits for nothing
	if decoded.Refused != "" {
		c.fail("cannot be decoded: "+decoded.Refused, "types", typ, "sample")
		return
	}
	var shown []json.RawMessage
	var others []string
	for i := range decoded.Events {
		if ev := &decoded.Events[i]; ev.Type == e.Type {
			shown = append(shown, ev.Data)
		} else {
			others = append(others, ev.Type)
		}
	}
	if len(shown) == 0 {
		what := "makes no event"
		if len(others) > 0 {
			slices.Sort(others)
			what = "makes " + strings.Join(slices.Compact(others), " and ")
		}
		advice := ""
		if len(d.typ) == 1 && strings.HasPrefix(d.typ[0].literal, "/") {
			advice = fmt.Sprintf("a place needs braces: event.type = %q", "{"+d.typ[0].literal+"}")
		}
		c.explain(what+", not "+e.Type, advice, "types", typ, "sample")
		return
	}
	e.Data = shapeOf(shown)
	for _, v := range vary {
		if varies(v, &sample) {
			sample.Vary = append(sample.Vary, v)
		}
	}
	e.Samples = []sdk.Sample{sample}
}

// variations are what makes a copy of a sample another event: the places of the dedupe keys, else of the subject, and the
// time; not those that say of which type it is.
func variations(cfg *Config, d *decoder, p *sdk.Provider) []sdk.Variation {
	fixed, _ := d.typ.parts()
	var out []sdk.Variation
	add := func(kind sdk.VariationKind, parts []sdk.Part) {
		for _, x := range parts {
			switch x.Kind {
			case sdk.PartHeader:
				if strings.Contains(x.Name, ",") {
					continue
				}
			case sdk.PartQuery, sdk.PartJSONPointer:
			default:
				continue
			}
			if slices.Contains(fixed, x) || slices.ContainsFunc(out, func(v sdk.Variation) bool { return v.Part == x }) {
				continue
			}
			out = append(out, sdk.Variation{Part: x, Kind: kind})
		}
	}
	// A place of the time in the key is a time, not an id.
	if !d.list {
		parts, _ := d.time.parts()
		add(sdk.VaryTime, parts)
	}
	for _, key := range p.Dedupe {
		add(sdk.VaryID, key)
	}
	if len(cfg.Dedupe) == 0 && !d.list {
		parts, _ := d.subject.parts()
		add(sdk.VaryID, parts)
	}
	return out
}

// varies reports whether a sample has what a variation changes.
func varies(v sdk.Variation, s *sdk.Sample) bool {
	r := s.Request()
	src := &source{request: r, body: r.Body, element: r.Body}
	p := place{kind: v.Part.Kind, name: v.Part.Name}
	p.pointer, _ = parsePointer(v.Part.Name)
	_, ok := p.text(src)
	return ok
}
