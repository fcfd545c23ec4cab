package rest

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/grapnelhq/grapnel/sdk"
	"github.com/grapnelhq/grapnel/sdk/rawjson"
)

// Validate checks what a schema cannot say. Its errors are sdk.AttributeErrors with paths that start with "rest".
func (c *Config) Validate() error {
	_, err := compile(c)
	return err
}

// program is a configuration, ready to be run. What it does not have is nil.
type program struct {
	headers                         http.Header
	login                           *login
	lookup                          *lookup
	create, update, upsert, archive *step
	check                           *step
	errors                          failures
}

// step is a request to be made.
type step struct {
	name    string
	method  string
	path    path
	query   []named
	headers []named
	body    template
	hasBody bool
	escape  map[string]string
	id      pointer // nil: the answer does not tell
}

// named is a header or a part of a query.
type named struct {
	name string
	text template
}

type lookup struct {
	step
	found, id pointer
	where     []where
	none      []int
	first     bool
}

type where struct {
	at   pointer
	text template
}

type login struct {
	step
	config  *Login
	values  map[string]pointer
	session template
}

type failures struct {
	at, expect, message, field pointer // nil: not given
	rules                      []rule
}

type rule struct {
	Rule
	at     pointer // nil: the words
	equals string  // see plain
	exact  bool    // equals is given
}

// compiler collects mistakes.
type compiler struct {
	errs []error
}

func (c *compiler) bad(path []string, summary, detail string) {
	c.errs = append(c.errs, &sdk.AttributeError{
		Path: append([]string{"rest"}, path...), Summary: summary, Detail: detail,
	})
}

// The placeholders that a step may have. A name that is not in a scope means nothing there.
type scope map[string]shape

// shape is what a placeholder's value may be.
type shape int

const (
	scalar  shape = iota // a text or a number, no members
	members              // only with a member behind it: {found.revision}
	either               // alone in a text of a body, or with a member: {fields}, {fields.email}
	whole                // alone in a text of a body
	keyed                // the key: {key}, {key.name}
)

var about = scope{
	"key": keyed, "object": scalar, "fields": either, "record": whole, "time": scalar, "delivery": scalar,
}

// with is a scope with more names, or with other meanings of those it has.
func (s scope) with(more scope) scope {
	out := maps.Clone(s)
	maps.Copy(out, more)
	return out
}

// check says what is wrong with a placeholder, if anything is, and what to do about it.
func (s scope) check(r ref, inBody bool) (summary, detail string) {
	known, ok := s[r[0]]
	if !ok {
		return fmt.Sprintf("{%s} means nothing here", r), fmt.Sprintf("There are %s.", s)
	}
	switch {
	case known == keyed && (len(r) == 1 || len(r) == 2 && r[1] == "name"),
		(known == members || known == either) && len(r) > 1:
		return "", ""
	case known == members:
		return fmt.Sprintf("{%s} needs a member behind it", r), fmt.Sprintf("As in {%s.name}.", r)
	case len(r) > 1:
		return fmt.Sprintf("{%s} has no members to name", r[0]), fmt.Sprintf("There are %s.", s)
	case (known == either || known == whole) && !inBody:
		return fmt.Sprintf("{%s} is an object", r), "It can only be all of a text in a body."
	}
	return "", ""
}

// String lists the placeholders.
func (s scope) String() string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(s)) {
		switch s[name] {
		case members:
			out = append(out, "{"+name+".…}")
		case either:
			out = append(out, "{"+name+"}", "{"+name+".…}")
		case keyed:
			out = append(out, "{"+name+"}", "{"+name+".name}")
		default:
			out = append(out, "{"+name+"}")
		}
	}
	if len(out) == 0 {
		return "no placeholders"
	}
	return strings.Join(out, ", ")
}

// compile makes a program. Its error holds every mistake.
func compile(cfg *Config) (*program, error) {
	c := &compiler{}
	p := &program{headers: http.Header{}}
	for _, name := range slices.Sorted(maps.Keys(cfg.Headers)) {
		value := cfg.Headers[name]
		at := []string{"headers", name}
		c.header(at, name)
		if strings.ContainsFunc(value, unicode.IsControl) {
			c.bad(at, "has a control character", "")
		}
		p.headers.Set(name, value)
	}
	if cfg.Login != nil {
		p.login = c.login(cfg.Login)
	}
	if cfg.Lookup != nil {
		p.lookup = c.lookup(cfg.Lookup)
	}
	found := about.with(scope{"id": scalar, "found": members})
	if cfg.Create != nil {
		p.create = c.writing("create", cfg.Create)
	}
	if cfg.Update != nil {
		p.update = c.step("update", cfg.Update, found)
	}
	if cfg.Upsert != nil {
		p.upsert = c.writing("upsert", cfg.Upsert)
	}
	if cfg.Archive != nil {
		if cfg.Lookup == nil {
			found = about
		}
		p.archive = c.step("archive", cfg.Archive, found)
	}
	if cfg.Check != nil {
		p.check = c.request("check", cfg.Check, scope{})
	}
	switch {
	case p.lookup == nil && (p.create != nil || p.update != nil):
		c.bad([]string{"lookup"}, "is missing", "create and update follow a lookup. Where the API can write a record by its "+
			"key at once, write upsert instead.")
	case p.lookup == nil && p.upsert == nil && p.archive == nil:
		c.bad([]string{"lookup"}, "is missing", "Write lookup with create and update, or upsert.")
	case p.upsert != nil && p.create != nil:
		c.bad([]string{"create"}, "is given beside upsert", "Write one of them.")
	case p.lookup != nil && p.create == nil && p.update == nil && p.archive == nil:
		c.bad([]string{"lookup"}, "is given without a step that follows it", "Write create and update.")
	}
	p.errors = c.failures(&cfg.Errors)
	return p, errors.Join(c.errs...)
}

// request compiles what all steps have.
func (c *compiler) request(name string, cfg *Request, in scope) *step {
	s := &step{name: name, method: cfg.Method}
	s.path = c.path([]string{name, "path"}, cfg.Path, in)
	s.query = c.texts([]string{name, "query"}, cfg.Query, in)
	s.headers = c.texts([]string{name, "headers"}, cfg.Headers, in)
	for _, header := range slices.Sorted(maps.Keys(cfg.Headers)) {
		c.header([]string{name, "headers", header}, header)
	}
	if len(cfg.Body) > 0 && string(cfg.Body) != "null" {
		s.body, s.hasBody = c.body([]string{name, "body"}, cfg.Body, in), true
		if s.method == http.MethodGet {
			c.bad([]string{name, "body"}, "does not go with GET", "")
		}
	}
	return s
}

func (c *compiler) step(name string, cfg *Step, in scope) *step {
	s := c.request(name, &cfg.Request, in)
	s.escape = cfg.Escape
	for _, from := range slices.Sorted(maps.Keys(cfg.Escape)) {
		if len([]rune(from)) != 1 {
			c.bad([]string{name, "escape", from}, "is not a single character", "")
		}
	}
	return s
}

func (c *compiler) writing(name string, cfg *Writing) *step {
	s := c.step(name, &cfg.Step, about)
	if cfg.ID != "" {
		s.id = c.pointer([]string{name, "id"}, cfg.ID)
	}
	return s
}

func (c *compiler) lookup(cfg *Lookup) *lookup {
	l := &lookup{step: *c.step("lookup", &cfg.Step, about), none: cfg.None, first: cfg.Many == "first"}
	l.found = c.pointer([]string{"lookup", "found"}, cfg.Found)
	l.id = c.pointer([]string{"lookup", "id"}, cfg.ID)
	for _, p := range slices.Sorted(maps.Keys(cfg.Where)) {
		at := []string{"lookup", "where", p}
		l.where = append(l.where, where{at: c.pointer(at, p), text: c.text(at, cfg.Where[p], about, false)})
	}
	for i, status := range cfg.None {
		c.status([]string{"lookup", "none", strconv.Itoa(i)}, status)
	}
	return l
}

func (c *compiler) login(cfg *Login) *login {
	credentials := scope{"user": scalar, "password": scalar}
	s := c.request("login", &cfg.Request, credentials)
	// User and password are the author's own.
	s.path.careful, s.body.careful = false, false
	for i := range s.query {
		s.query[i].text.careful = false
	}
	for i := range s.headers {
		s.headers[i].text.careful = false
	}
	l := &login{step: *s, config: cfg, values: map[string]pointer{}}
	session := credentials.with(nil)
	for _, name := range slices.Sorted(maps.Keys(cfg.Values)) {
		at := []string{"login", "values", name}
		l.values[name] = c.pointer(at, cfg.Values[name])
		_, taken := credentials[name]
		if taken || name == "" || strings.ContainsFunc(name, func(r rune) bool { return !isNameRune(r) }) {
			c.bad(at, "is no name for a value", "Letters, digits and underscores; not user or password.")
		}
		session[name] = scalar
	}
	l.session = c.text([]string{"login", "session", "value"}, cfg.Session.Value, session, false)
	if len(l.session.parts) == 0 {
		c.bad([]string{"login", "session", "value"}, "is empty", "")
	}
	c.header([]string{"login", "session", "header"}, cfg.Session.Header)
	for _, x := range []struct {
		name    string
		missing bool
	}{{"user", cfg.User == ""}, {"password", cfg.Password.IsZero()}} {
		if x.missing && l.names(x.name) {
			c.bad([]string{"login", x.name}, "is missing", fmt.Sprintf("{%s} stands for it in the login.", x.name))
		}
	}
	if cfg.Lifetime < 0 {
		c.bad([]string{"login", "lifetime"}, "is negative", "")
	}
	return l
}

// names reports whether a placeholder for one of the credentials stands in a login.
func (l *login) names(credential string) bool {
	is := func(r ref) bool { return len(r) > 0 && r[0] == credential }
	for _, r := range l.path.refs {
		if is(r) {
			return true
		}
	}
	texts := []template{l.body, l.session}
	for _, n := range slices.Concat(l.query, l.headers) {
		texts = append(texts, n.text)
	}
	return slices.ContainsFunc(texts, func(t template) bool {
		return slices.ContainsFunc(t.parts, func(p part) bool { return is(p.ref) })
	})
}

func (c *compiler) failures(cfg *Errors) failures {
	var f failures
	for _, p := range []struct {
		name, text string
		to         *pointer
	}{
		{"at", cfg.At, &f.at}, {"expect", cfg.Expect, &f.expect},
		{"message", cfg.Message, &f.message}, {"field", cfg.Field, &f.field},
	} {
		if p.text != "" {
			*p.to = c.pointer([]string{"errors", p.name}, p.text)
		}
	}
	for i, r := range cfg.Rules {
		at := []string{"errors", "rules", strconv.Itoa(i)}
		out := rule{Rule: r}
		for n, status := range r.Status {
			c.status(append(slices.Clip(at), "status", strconv.Itoa(n)), status)
		}
		if r.At != nil {
			out.at = c.pointer(append(slices.Clip(at), "at"), *r.At)
		}
		if len(r.Equals) > 0 && string(r.Equals) != "null" {
			out.equals, out.exact = plain(rawjson.Root(r.Equals)), true
		}
		if len(r.Status) == 0 && !out.exact && r.Contains == "" {
			c.bad(at, "matches every failure", "Write status, equals or contains.")
		}
		if r.Pause < 0 || r.Pause > 0 && r.Class != classRetry {
			c.bad(append(slices.Clip(at), "pause"), "is of no use here", "It belongs to the class retry, and is not negative.")
		}
		f.rules = append(f.rules, out)
	}
	return f
}

func (c *compiler) status(at []string, status int) {
	if status < 100 || status > 599 {
		c.bad(at, "is no HTTP status", "")
	}
}

func (c *compiler) pointer(at []string, text string) pointer {
	p, err := parsePointer(text)
	if err != nil {
		c.bad(at, err.Error(), "")
	}
	return p
}

func (c *compiler) path(at []string, text string, in scope) path {
	p, err := parsePath(text)
	if err != nil {
		c.bad(at, err.Error(), "")
		return path{}
	}
	for _, name := range slices.Sorted(maps.Keys(p.refs)) {
		c.ref(at, p.refs[name], in, false)
	}
	return p
}

func (c *compiler) texts(at []string, texts map[string]string, in scope) []named {
	var out []named
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		out = append(out, named{name, c.text(append(slices.Clip(at), name), texts[name], in, true)})
	}
	return out
}

func (c *compiler) text(at []string, text string, in scope, careful bool) template {
	t, err := parseText(text)
	if err != nil {
		c.bad(at, err.Error(), "")
	}
	t.careful = t.careful && careful
	for _, p := range t.parts {
		if p.ref != nil {
			c.ref(at, p.ref, in, false)
		}
	}
	return t
}

func (c *compiler) body(at []string, body json.RawMessage, in scope) template {
	t, err := parseBody(body)
	if err != nil {
		if e, ok := errors.AsType[*bodyError](err); ok {
			at = append(slices.Clip(at), e.path...)
		}
		c.bad(at, err.Error(), "")
	}
	for _, p := range t.parts {
		if p.ref != nil {
			c.ref(append(slices.Clip(at), p.path...), p.ref, in, p.whole)
		}
	}
	return t
}

func (c *compiler) ref(at []string, r ref, in scope, inBody bool) {
	if summary, detail := in.check(r, inBody); summary != "" {
		c.bad(at, summary, detail)
	}
}

func (c *compiler) header(at []string, name string) {
	bad := name == "" || strings.ContainsFunc(name, func(r rune) bool {
		return r <= ' ' || r > '~' || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
	})
	if bad {
		c.bad(at, "is no name of a header", "")
	}
	switch http.CanonicalHeaderKey(name) {
	case "Host", "Content-Length", "Transfer-Encoding", "Connection":
		c.bad(at, "cannot be set", "It is made from the request.")
	}
}
