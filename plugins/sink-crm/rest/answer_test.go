package rest

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/grapnelhq/grapnel/plugins/sink-crm/crm"
	"github.com/grapnelhq/grapnel/plugins/sink-crm/internal/fake"
)

// canned answers every request with one response.
type canned struct {
	status int
	header http.Header
	body   []byte
}

func (c *canned) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		r.Body.Close()
	}
	return &http.Response{
		StatusCode: c.status, Header: c.header, Body: io.NopCloser(bytes.NewReader(c.body)), Request: r,
		ProtoMajor: 1, ProtoMinor: 1,
	}, nil
}

// FuzzAnswer has the far end answer anything to everything: every operation gets an outcome that can be shown.
func FuzzAnswer(f *testing.F) {
	for _, s := range []string{
		`{"result":[]}`, `{"result":[{"id":1}]}`, `{"result":[7,"t"]}`, `{"error":["UserError",["The code on party must be unique.","",null]]}`,
		`{"error":["ConcurrencyException",[]],"result":null}`, `<html><p>hi &amp; <!-- x`, `{"result":{"id":"`, ``, `null`, `[[[[`, "{\"result\":\"\xff\"}",
		`{"result":[{"id":1},{"id":2}],"data":{"email":1,"code":2}}`,
	} {
		f.Add(200, "", s, s)
		f.Add(400, "5", s, `{"result":[]}`)
	}
	f.Add(429, "-1", "", "")
	f.Add(503, "Fri, 31 Dec 1999 23:59:59 GMT", "\x00\x1b[31m", "")
	cfg := mustLoad(f, strings.Replace(fake.RPCSteps, `"errors": {`, `"check": {"method": "GET", "path": "/me"}, "errors": {"field": "/data",`, 1))
	f.Fuzz(func(t *testing.T, status int, after, first, second string) {
		if status < 200 || status > 599 {
			return // the transport's business
		}
		c := &canned{status: status, header: http.Header{"Retry-After": {after}}, body: []byte(first)}
		d, err := New(cfg, crm.Options{BaseURL: "http://crm.test", Transport: c})
		if err != nil {
			t.Fatal(err)
		}
		check := func(results []crm.Result) {
			for _, r := range results {
				o := fake.OutcomeOf(r.Err)
				if o.Reason != "" && (!utf8.ValidString(o.Reason) || len(o.Reason) > 1000 || strings.ContainsAny(o.Reason, "\n\x00\x1b")) {
					t.Fatalf("reason %q", o.Reason)
				}
				if strings.Contains(o.Reason, `pa"ss`) {
					t.Fatalf("the password is in %q", o.Reason)
				}
				if !utf8.ValidString(r.Reference) || strings.ContainsAny(r.Reference, "\n\x00") {
					t.Fatalf("reference %q", r.Reference)
				}
			}
		}
		for _, kind := range []crm.Kind{crm.Upsert, crm.Archive, crm.Flag} {
			check(d.Apply(t.Context(), []crm.Op{op(kind, "A", "email", `"x"`)}))
		}
		// Once a login has worked, the other steps read answers, too.
		c.status, c.body = 200, []byte(`{"result":[7,"t"]}`)
		check(d.Apply(t.Context(), []crm.Op{op(crm.Upsert, "A", "email", `"x"`)}))
		c.status, c.body = status, []byte(first)
		check(d.Apply(t.Context(), []crm.Op{op(crm.Upsert, "A", "email", `"x"`), op(crm.Upsert, "B")}))
		c.body = []byte(second)
		check(d.Apply(t.Context(), []crm.Op{op(crm.Archive, "A"), op(crm.Archive, "B")}))
		if err := d.Check(t.Context()); err != nil && strings.Contains(err.Error(), `pa"ss`) {
			t.Fatal(err)
		}
	})
}
