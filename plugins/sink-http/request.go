package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/grapnelhq/grapnel/sdk"
	"github.com/grapnelhq/grapnel/sdk/cloudevents"
)

const jsonType = "application/json"

type delivery = sdk.Delivery[Message]

// request is what goes out for a delivery, or for several in mode batch.
type request struct {
	target
	header http.Header // without what a single attempt adds
	body   []byte
	id     string // webhook-id
	mapped bool   // the route made the body
}

// target is what a route can choose of a request, besides the body.
type target struct {
	method  string
	url     *url.URL
	ownPath bool // the route added to the configured address
	headers map[string]string
}

// target finds out where a delivery goes. Its errors are outcomes.
func (s *sink) target(d *delivery) (target, error) {
	m := &d.Message
	t := target{method: s.cfg.Method, url: s.set.url, headers: m.Headers}
	if m.Method != "" {
		t.method = m.Method
		if !hasBody(m.Method) && s.cfg.Mode != modeRaw {
			return t, sdk.Reject(fmt.Errorf("%s has no body that could hold an event", m.Method), "method")
		}
	}
	for name, value := range m.Headers {
		if err := s.checkHeader(name, value); err != nil {
			return t, sdk.Reject(err, "headers", name)
		}
	}
	if m.Path != "" {
		var err error
		if t.url, err = join(s.set.url, m.Path); err != nil {
			return t, sdk.Reject(err, "path")
		}
		t.ownPath = true
	}
	return t, nil
}

// checkHeader checks a header that a route sets. Credentials are the configuration's.
func (s *sink) checkHeader(name, value string) error {
	canonical := http.CanonicalHeaderKey(name)
	switch owner := ownHeader(name); {
	case !httpguts.ValidHeaderFieldName(name):
		return errors.New("not the name of a header")
	case owner != "":
		return fmt.Errorf("the header belongs to %s", owner)
	case canonical == "Authorization" || canonical == "Cookie" || s.isSecretHeader[canonical]:
		return errors.New("credentials belong to the sink's configuration")
	case canonical == s.idHeader:
		return errors.New("the header is the sink's id_header")
	case !httpguts.ValidHeaderFieldValue(value):
		return errors.New("a value with control characters")
	}
	return nil
}

// base is the headers of all requests to a target, with room for more. Values are shared and must not be changed.
func (s *sink) base(t *target, more int) http.Header {
	h := make(http.Header, len(s.set.header)+len(t.headers)+more)
	for name, values := range s.set.header {
		h[name] = values
	}
	for name, value := range t.headers {
		h[http.CanonicalHeaderKey(name)] = []string{value}
	}
	return h
}

// attemptHeaders is about how many headers an attempt adds.
const attemptHeaders = 6

// request makes the request of a single delivery. Its errors are outcomes.
func (s *sink) request(d *delivery) (*request, error) {
	t, err := s.target(d)
	if err != nil {
		return nil, err
	}
	r := &request{target: t, id: d.ID}
	data := []byte(d.Data)
	if b := d.Message.Body; len(b) > 0 && string(b) != "null" {
		data, r.mapped = b, true
	}
	switch s.cfg.Mode {
	case modeBinary:
		attributes := cloudevents.Attributes(d)
		r.header = s.base(&t, len(attributes)+attemptHeaders)
		for _, a := range attributes {
			r.header[binaryHeader(a.Name)] = []string{cloudevents.HeaderValue(a.Value)}
		}
		r.header["Content-Type"] = s.contentType
		r.body = data
		if len(data) == 0 {
			r.body = []byte("null")
		}
	case modeRaw:
		r.header = s.base(&t, attemptHeaders)
		if err := s.rawBody(r, data); err != nil {
			return nil, err
		}
	default: // a batch of one is made by batchRequest
		r.header = s.base(&t, attemptHeaders)
		r.header["Content-Type"] = s.contentType
		r.body = cloudevents.Append(make([]byte, 0, len(data)+envelopeSize), d, data)
	}
	if len(r.body) > s.cfg.MaxBytes {
		return nil, s.tooLong(len(r.body), r.mapped)
	}
	if d.TraceParent != "" {
		r.header["Traceparent"] = []string{d.TraceParent}
	}
	return r, nil
}

// envelopeSize is about what the attributes of an event take in JSON.
const envelopeSize = 640

// tooLong is the outcome of an event that needs more than max_bytes.
func (s *sink) tooLong(n int, mapped bool) error {
	err := fmt.Errorf("the request's body would have %d bytes, max_bytes is %d", n, s.cfg.MaxBytes)
	if mapped {
		return sdk.Reject(err, "body")
	}
	return sdk.Reject(err)
}

// binaryHeader is the canonical name of an attribute's header.
func binaryHeader(attribute string) string {
	switch attribute { // those that every event has
	case "specversion":
		return "Ce-Specversion"
	case "id":
		return "Ce-Id"
	case "source":
		return "Ce-Source"
	case "type":
		return "Ce-Type"
	case "time":
		return "Ce-Time"
	}
	return http.CanonicalHeaderKey("ce-" + attribute)
}

// rawBody fills in the body of mode raw: JSON as it is; for another media type the text that the route gives, or its
// object as a form.
func (s *sink) rawBody(r *request, data []byte) error {
	if !r.mapped && !hasBody(r.method) {
		return nil
	}
	if r.method == http.MethodGet {
		return sdk.Reject(errors.New("GET has no body"), "body")
	}
	r.header["Content-Type"] = s.contentType
	if s.rawJSON {
		r.body = data
		if len(data) == 0 {
			r.body = []byte("null")
		}
		return nil
	}
	if !r.mapped {
		return sdk.Reject(fmt.Errorf("the event's data is JSON and content_type is %q: give a body", s.cfg.ContentType))
	}
	if data[0] == '"' {
		var text string
		if err := json.Unmarshal(data, &text); err != nil {
			return sdk.Reject(errors.New("not a text"), "body")
		}
		r.body = []byte(text)
		return nil
	}
	if s.rawForm && data[0] == '{' {
		text, err := form(data)
		if err != nil {
			return sdk.Reject(err, "body")
		}
		r.body = []byte(text)
		return nil
	}
	return sdk.Reject(fmt.Errorf("with content_type %q the body must be a text", s.cfg.ContentType), "body")
}

// isJSON reports whether a media type is JSON's; isForm, whether it is that of an HTML form.
func isJSON(contentType string) bool {
	kind, _, err := mime.ParseMediaType(contentType)
	return err == nil && (kind == jsonType || kind == "text/json" || strings.HasSuffix(kind, "+json"))
}

func isForm(contentType string) bool {
	kind, _, err := mime.ParseMediaType(contentType)
	return err == nil && kind == "application/x-www-form-urlencoded"
}

// form writes a JSON object as a form: numbers as they are spelt, null left out, a list as the same name several times.
func form(object []byte) (string, error) {
	dec := json.NewDecoder(bytes.NewReader(object))
	dec.UseNumber()
	if _, err := dec.Token(); err != nil {
		return "", errors.New("not an object")
	}
	var b strings.Builder
	pair := func(name string, v any) error {
		var text string
		switch v := v.(type) {
		case nil:
			return nil
		case string:
			text = v
		case json.Number:
			text = v.String()
		case bool:
			text = fmt.Sprint(v)
		default:
			return fmt.Errorf("%q is no text, number or boolean, which is all that a form holds", name)
		}
		if b.Len() > 0 {
			b.WriteByte('&')
		}
		b.WriteString(url.QueryEscape(name) + "=" + url.QueryEscape(text))
		return nil
	}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return "", errors.New("not an object")
		}
		name, _ := key.(string)
		var v any
		if err := dec.Decode(&v); err != nil {
			return "", errors.New("not an object")
		}
		list, ok := v.([]any)
		if !ok {
			list = []any{v}
		}
		for _, v := range list {
			if err := pair(name, v); err != nil {
				return "", err
			}
		}
	}
	return b.String(), nil
}

// maxPath is the longest path and query that a route may add, in bytes.
const maxPath = 8 << 10

// join adds a route's path and query to the configured address. Nothing in it leads elsewhere: not to another host, and
// not above the configured path, as far as any server may read it.
func join(base *url.URL, text string) (*url.URL, error) {
	if len(text) > maxPath {
		return nil, fmt.Errorf("path is longer than %d bytes", maxPath)
	}
	for _, c := range []byte(text) {
		if c < ' ' || c == 0x7f {
			return nil, errors.New("path has a control character")
		}
	}
	if strings.Contains(text, "#") {
		return nil, errors.New("path has a fragment (#)")
	}
	escaped, query, hasQuery := strings.Cut(text, "?")
	escaped = strings.TrimPrefix(escaped, "/")
	path, err := url.PathUnescape(escaped)
	if err != nil {
		return nil, errors.New("path has a % that does not begin an escape")
	}
	// Some servers take \ for a separator, too, and cut a parameter (;) off before they look at the dots.
	for part := range strings.FieldsFuncSeq(path, func(r rune) bool { return r == '/' || r == '\\' || r == ';' }) {
		if part == "." || part == ".." {
			return nil, errors.New("path has a part . or ..")
		}
	}
	for _, c := range []byte(path) {
		if c < ' ' || c == 0x7f {
			return nil, errors.New("path has a control character")
		}
	}
	u := *base
	if escaped != "" {
		u.Path = strings.TrimSuffix(base.Path, "/") + "/" + path
		u.RawPath = strings.TrimSuffix(base.EscapedPath(), "/") + "/" + printable(escaped)
	}
	if hasQuery {
		query = printable(query)
		if u.RawQuery != "" && query != "" {
			query = u.RawQuery + "&" + query
		} else if query == "" {
			query = u.RawQuery
		}
		u.RawQuery = query
	}
	return &u, nil
}

// printable percent-encodes what may stand neither in a path nor in a query.
func printable(text string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for _, c := range []byte(text) {
		if c > ' ' && c < 0x7f && !strings.ContainsRune("\"<>\\^`{|}", rune(c)) {
			b.WriteByte(c)
		} else {
			b.Write([]byte{'%', hex[c>>4], hex[c&15]})
		}
	}
	return b.String()
}

// batchItem is a delivery's event within a batch.
type batchItem struct {
	index  int // of the delivery
	event  []byte
	mapped bool
}

// batchRequest makes the request of a batch, which may be of one.
func (s *sink) batchRequest(t *target, ds []*delivery, items []batchItem) *request {
	n := 2
	for i := range items {
		n += len(items[i].event) + 1
	}
	r := &request{target: *t, header: s.base(t, attemptHeaders), body: make([]byte, 0, n)}
	r.header["Content-Type"] = s.contentType
	r.body = append(r.body, '[')
	for i := range items {
		if i > 0 {
			r.body = append(r.body, ',')
		}
		r.body = append(r.body, items[i].event...)
		r.mapped = r.mapped || items[i].mapped
	}
	r.body = append(r.body, ']')
	if len(items) == 1 {
		d := ds[items[0].index]
		r.id = d.ID
		if d.TraceParent != "" {
			r.header["Traceparent"] = []string{d.TraceParent}
		}
		return r
	}
	// The same deliveries together have the same id; each event has its own besides.
	h := sha256.New()
	for i := range items {
		h.Write([]byte(ds[items[i].index].ID))
		h.Write([]byte{0})
	}
	r.id = "batch_" + hex.EncodeToString(h.Sum(nil)[:16])
	return r
}
