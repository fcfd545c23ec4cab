package config

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/hashicorp/hcl/v2/hclsyntax"
	"golang.org/x/net/http/httpguts"
)

// Tracing says where spans go. What is left open here is for the standard environment variables of OpenTelemetry to say.
type Tracing struct {
	Endpoint string            // URL of an OTLP receiver over HTTP; empty: not said
	Headers  map[string]string // of each export; secret
	Sample   *float64          // of the traces that begin here, the share that is exported, from 0 to 1; nil: not said
}

func (l *loader) tracing(blocks []*hclsyntax.Block) {
	if len(blocks) == 0 {
		return
	}
	c := &Tracing{}
	l.cfg.Tracing = c
	b := l.block(blocks[0], "tracing")
	if endpoint := ""; b.text("endpoint", &endpoint) {
		u, err := url.Parse(endpoint)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil {
			b.wrong("endpoint", b.body.Attributes["endpoint"].Expr.Range(), "a URL such as \"http://127.0.0.1:4318\"")
		}
		c.Endpoint = endpoint
	}
	if v, at, ok := b.value("sample"); ok {
		share := -1.0
		if f, ok := asNumber(v); ok {
			share, _ = f.Float64()
		}
		if share < 0 || share > 1 {
			b.wrong("sample", at, "a number from 0 to 1")
		} else {
			c.Sample = &share
		}
	}
	b.headers("headers", &c.Headers)
	b.finish()
}

// headers takes an object of header lines, whose values are secrets. Null values are dropped.
func (b *block) headers(name string, to *map[string]string) {
	a := b.attr(name)
	if a == nil {
		return
	}
	v, unset, ok := b.l.evalUnset(a.Expr)
	if !ok || len(unset) > 0 {
		return
	}
	bare, marks := v.UnmarkDeep()
	if bare.IsNull() {
		return
	}
	for _, m := range origins(marks) {
		b.l.taint[m] = true
	}
	if t := bare.Type(); !t.IsObjectType() && !t.IsMapType() {
		b.wrong(name, a.Expr.Range(), `an object of texts: { Authorization = env("…") }`)
		return
	}
	out := map[string]string{}
	for it := bare.ElementIterator(); it.Next(); {
		key, value := it.Element()
		if value.IsNull() {
			continue
		}
		text, isText := asText(value)
		if isText {
			b.l.secret(text)
		}
		if header := key.AsString(); !httpguts.ValidHeaderFieldName(header) ||
			!isText || text == "" || strings.TrimSpace(text) != text || !httpguts.ValidHeaderFieldValue(text) {
			b.l.error(a.Expr.Range(), fmt.Sprintf("%q of %s has a line that is no HTTP header", name, b.what),
				fmt.Sprintf("It is that of %q: write a name and a text, without line breaks.", header))
			b.l.veilValue(a.Expr)
			continue
		}
		out[key.AsString()] = text
	}
	*to = out
}
