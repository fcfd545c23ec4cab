// Package rest is the dialect for any CRM with a JSON API, by steps that the configuration declares: login, lookup,
// create, update, archive. What a step sends is a template, what comes back is read by JSON pointers; nothing is
// computed.
//
// An upsert is a lookup and then a create or an update. Between them somebody else can create the record; the far
// end's refusal of a second one (class duplicate) is answered with one more lookup and an update. Where the far end
// has no such rule, two writers at the same time make two records: the host's order of deliveries per key keeps this
// sink from being both of them.
package rest

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/grapnelhq/grapnel/plugins/sink-crm/crm"
	"github.com/grapnelhq/grapnel/sdk"
	"github.com/grapnelhq/grapnel/sdk/rawjson"
)

// New makes the dialect. options hold the address, the login of the sink's own attributes (token, oauth; nil where
// they are not given) and the secrets that no error may show; New sets what the steps need (a Login of their own,
// Refused) and makes the client. It reaches nothing.
func New(cfg *Config, options crm.Options) (crm.Dialect, error) {
	p, err := compile(cfg)
	if err != nil {
		return nil, err
	}
	d := &dialect{program: p}
	if p.login != nil {
		options.Login = p.login.obtain(&p.errors)
		options.Secrets = append(slices.Clip(options.Secrets), cfg.Login.Password.Reveal())
	}
	options.Header = maps.Clone(options.Header)
	if options.Header == nil {
		options.Header = http.Header{}
	}
	maps.Copy(options.Header, p.headers)
	options.Refused = func(r *crm.Response) bool {
		return r.Status == http.StatusUnauthorized || p.errors.class(r) == classLogin
	}
	if d.client, err = crm.NewClient(options); err != nil {
		return nil, err
	}
	return d, nil
}

// dialect implements crm.Dialect.
type dialect struct {
	*program
	client *crm.Client
}

// MaxBatch implements crm.Dialect. A record takes two requests or more, so one that is slow would hold up the others
// of its batch.
func (d *dialect) MaxBatch() int { return 1 }

// Apply implements crm.Dialect.
func (d *dialect) Apply(ctx context.Context, ops []crm.Op) []crm.Result {
	out := make([]crm.Result, len(ops))
	for i := range ops {
		if ctx.Err() != nil {
			out[i] = crm.Failed(crm.NotSent())
			continue
		}
		r := run{d: d, op: &ops[i]}
		r.do(ctx)
		out[i] = r.result
	}
	return out
}

// Check implements crm.Dialect. Without a step for it, it signs in or, with credentials that need no login, sees
// whether the far end answers at all.
func (d *dialect) Check(ctx context.Context) error {
	r := run{d: d, op: &crm.Op{}}
	switch {
	case d.check != nil:
		_, err := r.send(ctx, d.check)
		return err
	case d.login != nil:
		_, err := d.login.obtain(&d.errors)(ctx, d.client)
		return err
	}
	_, err := d.client.Do(ctx, crm.Request{Method: http.MethodGet, Path: "/", Anonymous: true})
	return err
}

// Close ends idle connections.
func (d *dialect) Close() error {
	d.client.Close()
	return nil
}

// run is one operation being carried out.
type run struct {
	d      *dialect
	op     *crm.Op
	found  match // by the lookup
	result crm.Result
}

// match is a record that was found.
type match struct {
	id, record rawjson.Value
}

// text is an id as text.
func (m match) text() string {
	s, _ := m.id.ID()
	return s
}

func (r *run) fail(err error) { r.result.Err = err }

const (
	noWrite   = "the sink has no steps to write a record"
	noFlag    = "the sink has no lookup and update, which the operation flag needs"
	noArchive = "the sink has no step archive"
)

// Lacks says which steps an operation would need that a configuration does not have; "": it has them.
func (c *Config) Lacks(k crm.Kind) string {
	switch {
	case k == crm.Upsert && c.Upsert == nil && c.Lookup == nil:
		return noWrite
	case k == crm.Flag && (c.Lookup == nil || c.Update == nil):
		return noFlag
	case k == crm.Archive && c.Archive == nil:
		return noArchive
	}
	return ""
}

func (r *run) do(ctx context.Context) {
	d := r.d
	switch r.op.Kind {
	case crm.Upsert:
		switch {
		case d.upsert != nil:
			r.write(ctx, d.upsert)
		case d.lookup == nil:
			r.fail(sdk.Reject(errors.New(noWrite), "operation"))
		default:
			r.upsert(ctx)
		}
	case crm.Flag:
		if d.lookup == nil || d.update == nil {
			r.fail(sdk.Reject(errors.New(noFlag), "operation"))
			return
		}
		if r.sure(ctx) {
			r.write(ctx, d.update)
		}
	case crm.Archive:
		switch {
		case d.archive == nil:
			r.fail(sdk.Reject(errors.New(noArchive), "operation"))
		case d.lookup == nil || r.sure(ctx):
			r.write(ctx, d.archive)
		}
	default:
		r.fail(sdk.Reject(fmt.Errorf("the dialect rest has no operation %q", r.op.Kind), "operation"))
	}
}

// upsert is lookup, then create or update.
func (r *run) upsert(ctx context.Context) {
	d := r.d
	found, err := r.lookup(ctx)
	switch {
	case err != nil:
		r.fail(err)
	case found && d.update == nil:
		r.fail(sdk.Skip("the record is there already, and the sink has no step update"))
	case found:
		r.write(ctx, d.update)
	case d.create == nil:
		r.fail(sdk.Skip("there is no such record, and the sink has no step create"))
	default:
		f := r.write(ctx, d.create)
		if f == nil || f.class != classDuplicate {
			return
		}
		// Somebody created it just now; or another record has one of its values.
		refused := r.result.Err
		found, err := r.lookup(ctx)
		switch {
		case err != nil:
			r.fail(err)
		case !found || d.update == nil:
			r.fail(refused)
		default:
			r.result.Err = nil
			r.result.Notes = append(r.result.Notes, "somebody else created the record at the same time: it was updated")
			r.write(ctx, d.update)
		}
	}
}

// sure looks a record up for an operation that has nothing to do where there is none. It reports whether there is one.
func (r *run) sure(ctx context.Context) bool {
	found, err := r.lookup(ctx)
	if err == nil && !found && r.d.check != nil {
		// An API that shows an empty list to a session that has ended would lose the operation.
		if _, err = r.send(ctx, r.d.check); err == nil {
			found, err = r.lookup(ctx)
		}
	}
	r.result.Err, r.result.Absent = err, err == nil && !found
	return found && err == nil
}

// lookup finds the record with the key.
func (r *run) lookup(ctx context.Context) (bool, error) {
	l := r.d.lookup
	resp, err := r.request(ctx, &l.step)
	if err != nil {
		return false, err
	}
	if slices.Contains(l.none, resp.Status) {
		return false, nil
	}
	body, f := r.d.errors.judge(r.d.client, resp, true)
	if f != nil {
		return false, r.outcome(f)
	}
	matches, err := l.matches(body, r.value)
	if err != nil {
		return false, err
	}
	switch {
	case len(matches) == 0:
		return false, nil
	case len(matches) > 1 && l.first:
		r.result.Notes = append(r.result.Notes, fmt.Sprintf("%d records have this key; the first was taken", len(matches)))
	case len(matches) > 1:
		const most = 10
		var ids []string
		for _, m := range matches[:min(len(matches), most)] {
			ids = append(ids, m.text())
		}
		if len(matches) > most {
			ids = append(ids, "…")
		}
		text := r.d.client.Clean(strings.Join(ids, ", "))
		return false, sdk.Reject(fmt.Errorf("%d records have this key: %s", len(matches), text), crm.KeyPath()...)
	}
	r.found = matches[0]
	r.result.Reference = r.found.text()
	return true, nil
}

// matches reads a lookup's answer. An error is a retry: the answer is not what it should be.
func (l *lookup) matches(body rawjson.Value, v values) ([]match, error) {
	at := l.found.in(body)
	var all []rawjson.Value
	switch at.Kind() {
	case rawjson.Absent:
		return nil, errors.New("the lookup's answer has nothing where found points to")
	case rawjson.Array:
		for w := rawjson.Elements(at); w.Next(); {
			all = append(all, w.Value)
		}
	default:
		if holds(at) {
			all = append(all, at)
		}
	}
	var out []match
	for _, record := range all {
		ok, err := l.meets(record, v)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		m := match{id: l.id.in(record), record: record}
		if _, ok := m.id.ID(); !ok {
			return nil, errors.New("the lookup's answer has a record without an id where id points to")
		}
		out = append(out, m)
	}
	return out, nil
}

// meets reports whether a record is one that the lookup asked for.
func (l *lookup) meets(record rawjson.Value, v values) (bool, error) {
	for _, w := range l.where {
		want, err := w.text.text(v, nil)
		if err != nil {
			return false, err
		}
		is := w.at.in(record)
		one := is.Given() && plain(is) == want
		if is.Kind() == rawjson.Array {
			for e := rawjson.Elements(is); e.Next() && !one; {
				one = e.Value.Given() && plain(e.Value) == want
			}
		}
		if !one {
			return false, nil
		}
	}
	return true, nil
}

// write makes a step's request and says in the run's result what came of it. The failure, if there is one, is returned
// as well.
func (r *run) write(ctx context.Context, s *step) *failure {
	resp, err := r.request(ctx, s)
	if err != nil {
		r.fail(err)
		return nil
	}
	body, f := r.d.errors.judge(r.d.client, resp, s.id != nil)
	switch {
	case f != nil && f.class == "" && resp.Status == http.StatusNotFound && s.name == "archive":
		r.result.Absent = true
		return nil
	case f != nil:
		r.fail(r.outcome(f))
		return f
	}
	r.result.Created, r.result.Updated = s.name == "create", s.name == "update"
	if s.id != nil {
		if id, ok := s.id.in(body).ID(); ok {
			r.result.Reference = r.d.client.Clean(id)
		} else {
			r.result.Notes = append(r.result.Notes, "the answer to "+s.name+" has no id where id points to")
		}
	}
	return nil
}

// send makes a step's request and returns an outcome unless it succeeds.
func (r *run) send(ctx context.Context, s *step) (rawjson.Value, error) {
	resp, err := r.request(ctx, s)
	if err != nil {
		return nil, err
	}
	body, f := r.d.errors.judge(r.d.client, resp, false)
	if f != nil {
		return nil, r.outcome(f)
	}
	return body, nil
}

// request makes a step's request. An error is an outcome; a refusal is none.
func (r *run) request(ctx context.Context, s *step) (*crm.Response, error) {
	req, err := s.request(r.value)
	if err != nil {
		return nil, err
	}
	if r.op.TraceParent != "" {
		req.Header.Set("Traceparent", r.op.TraceParent)
	}
	return r.d.client.Do(ctx, req)
}

// request expands a step.
func (s *step) request(v values) (crm.Request, error) {
	req := crm.Request{Method: s.method, Header: http.Header{}}
	var err error
	if req.Path, err = s.path.expand(v, s.escape); err != nil {
		return req, err
	}
	if len(s.query) > 0 {
		query := url.Values{}
		for _, q := range s.query {
			text, err := q.text.text(v, s.escape)
			if err != nil {
				return req, err
			}
			query.Set(q.name, text)
		}
		mark := "?"
		if strings.Contains(req.Path, "?") {
			mark = "&"
		}
		req.Path += mark + query.Encode()
	}
	for _, h := range s.headers {
		text, err := h.text.text(v, s.escape)
		if err != nil {
			return req, err
		}
		if !isHeaderText(text) {
			return req, sdk.Reject(fmt.Errorf("the header %s cannot hold what the message gives it", h.name))
		}
		req.Header.Set(h.name, text)
	}
	if s.hasBody {
		req.Body, err = s.body.json(v, s.escape)
	}
	return req, err
}

// isHeaderText reports whether a text can be a header's value.
func isHeaderText(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f })
}

// value is what a placeholder means for this operation.
func (r *run) value(p ref) (rawjson.Value, error) {
	text := func(s string) (rawjson.Value, error) { return rawjson.Value(quote(s)), nil }
	switch p[0] {
	case "key":
		if len(p) > 1 {
			return text(r.op.Key.Name)
		}
		return rawjson.Value(r.op.Key.Token), nil
	case "object":
		return text(r.op.Object)
	case "time":
		return text(r.op.Time.UTC().Format(time.RFC3339Nano))
	case "delivery":
		return text(r.op.DeliveryID)
	case "record":
		return r.fields(true), nil
	case "fields":
		if len(p) == 1 {
			return r.fields(false), nil
		}
		for _, f := range r.op.Fields {
			if f.Name == p[1] {
				if v := rawjson.Root(f.Value).Get(p[2:]...); v != nil {
					return v, nil
				}
			}
		}
		return nil, reject(p, "{%s} is not in the message, and a step needs it", p)
	case "id":
		return r.found.id, nil
	case "found":
		if v := r.found.record.Get(p[1:]...); v != nil {
			return v, nil
		}
		return nil, fmt.Errorf("{%s} is not in the record that the lookup found", p)
	}
	return nil, reject(nil, "{%s} means nothing", p) // compile sees to it
}

// fields are the message's fields as an object, with the key among them or without.
func (r *run) fields(key bool) rawjson.Value {
	out := []byte{'{'}
	add := func(name string, value json.RawMessage) {
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(append(out, quote(name)...), ':')
		out = append(out, value...)
	}
	if key {
		add(r.op.Key.Name, r.op.Key.Token)
	}
	for _, f := range r.op.Fields {
		if !key || f.Name != r.op.Key.Name {
			add(f.Name, f.Value)
		}
	}
	return append(out, '}')
}

// reject is a message that no request can be made of, at the attribute that a placeholder stands for.
func reject(r ref, format string, args ...any) error {
	var path []string
	if len(r) > 0 {
		switch r[0] {
		case "key":
			path = crm.KeyPath()
		case "object":
			path = crm.ObjectPath()
		case "fields":
			if path = []string{"fields"}; len(r) > 1 {
				path = crm.FieldPath(r[1])
			}
		}
	}
	return sdk.Reject(fmt.Errorf(format, args...), path...)
}

// obtain makes the login of a client.
func (l *login) obtain(errs *failures) crm.Login {
	return func(ctx context.Context, c *crm.Client) (crm.Token, error) {
		read := map[string]rawjson.Value{
			"user":     rawjson.Value(quote(l.config.User)),
			"password": rawjson.Value(quote(l.config.Password.Reveal())),
		}
		v := func(r ref) (rawjson.Value, error) { return read[r[0]], nil }
		req, err := l.request(v)
		if err != nil {
			return crm.Token{}, err
		}
		req.Anonymous = true
		resp, err := c.Do(ctx, req)
		if err != nil {
			return crm.Token{}, fmt.Errorf("login: %w", err)
		}
		body, f := errs.judge(c, resp, true)
		if f != nil {
			err := fmt.Errorf("login: %w", f.err)
			if f.class == classRetry || f.class == "" && passes(resp.Status) {
				return crm.Token{}, f.later(err)
			}
			return crm.Token{}, sdk.Suspend(err)
		}
		for _, name := range slices.Sorted(maps.Keys(l.values)) {
			value := l.values[name].in(body)
			if _, ok := value.ID(); !ok {
				return crm.Token{}, fmt.Errorf("login: the answer has no text or number where the value %q points to", name)
			}
			read[name] = value
		}
		text, err := l.session.text(v, nil)
		if err != nil {
			return crm.Token{}, err
		}
		if l.config.Session.Base64 {
			text = base64.StdEncoding.EncodeToString([]byte(text))
		}
		if !isHeaderText(text) {
			return crm.Token{}, errors.New("login: the session does not go into a header")
		}
		token := crm.Token{Name: l.config.Session.Header, Value: l.config.Session.Prefix + text}
		if l.config.Lifetime > 0 {
			token.Expires = time.Now().Add(l.config.Lifetime)
		}
		return token, nil
	}
}
