package rest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/grapnelhq/grapnel/plugins/sink-crm/crm"
	"github.com/grapnelhq/grapnel/sdk"
	"github.com/grapnelhq/grapnel/sdk/rawjson"
)

// failure is an answer that is no success.
type failure struct {
	class string // empty: the status decides
	rule  *rule  // that has decided on the class, if one has
	words string // the far end's
	err   error  // with them
	field rawjson.Value
	resp  *crm.Response
}

// judge says whether an answer is a success and returns its body, or what is wrong with it. need: without a body of
// JSON it is none.
func (e *failures) judge(c *crm.Client, resp *crm.Response, need bool) (rawjson.Value, *failure) {
	body := bodyOf(resp)
	if !e.wrong(resp, body) {
		var err error
		switch {
		case body == nil && len(bytes.TrimSpace(resp.Body)) > 0 && (need || e.at != nil || e.expect != nil):
			err = fmt.Errorf("the CRM answers %d with something that is not JSON: %s", resp.Status, c.Words(resp))
		case body == nil && need:
			err = fmt.Errorf("the CRM answers %d with nothing", resp.Status)
		case e.expect != nil && e.expect.in(body) == nil:
			err = errors.New("the CRM's answer has nothing where errors.expect points to")
		default:
			return body, nil
		}
		return nil, &failure{class: classRetry, err: err, resp: resp}
	}
	f := &failure{resp: resp}
	f.class, f.rule = e.decide(resp, body)
	if e.field != nil {
		f.field = e.field.in(body)
	}
	if v := e.words(body); v != nil {
		f.words = c.Clean(plain(v))
	} else {
		f.words = c.Words(resp)
	}
	if resp.OK() {
		f.err = fmt.Errorf("the CRM answers: %s", f.words)
	} else {
		f.err = resp.Error(f.words)
	}
	return body, f
}

// class is an answer's class by the rules; empty for successes and where the status decides.
func (e *failures) class(resp *crm.Response) string {
	body := bodyOf(resp)
	if !e.wrong(resp, body) {
		return ""
	}
	class, _ := e.decide(resp, body)
	return class
}

// bodyOf is an answer's JSON, or nil.
func bodyOf(resp *crm.Response) rawjson.Value {
	if !json.Valid(resp.Body) {
		return nil
	}
	return rawjson.Root(resp.Body)
}

func (e *failures) wrong(resp *crm.Response, body rawjson.Value) bool {
	return !resp.OK() || e.at != nil && holds(e.at.in(body))
}

// words is the part of an answer that explains a failure; nil: all of it.
func (e *failures) words(body rawjson.Value) rawjson.Value {
	for _, p := range []pointer{e.message, e.at} {
		if p != nil {
			if v := p.in(body); holds(v) {
				return v
			}
		}
	}
	return nil
}

// decide finds the class of a failure.
func (e *failures) decide(resp *crm.Response, body rawjson.Value) (string, *rule) {
	for i := range e.rules {
		if r := &e.rules[i]; r.matches(resp, body, e) {
			return r.Class, r
		}
	}
	switch {
	case resp.OK():
		return classReject, nil
	case resp.Status == http.StatusConflict:
		return classDuplicate, nil
	}
	return "", nil
}

func (r *rule) matches(resp *crm.Response, body rawjson.Value, e *failures) bool {
	if len(r.Status) > 0 && !slices.Contains(r.Status, resp.Status) {
		return false
	}
	if !r.exact && r.Contains == "" {
		return true
	}
	text := string(resp.Body)
	switch {
	case r.at != nil:
		v := r.at.in(body)
		if v == nil {
			return false
		}
		text = plain(v)
	default:
		if v := e.words(body); v != nil {
			text = plain(v)
		}
	}
	return (!r.exact || text == r.equals) && strings.Contains(text, r.Contains)
}

// plain is a value as a text to compare and to show: a text itself, any other value as compact JSON.
func plain(v rawjson.Value) string {
	if s, ok := v.Text(); ok {
		return s
	}
	var b bytes.Buffer
	if json.Compact(&b, v) != nil {
		return string(v)
	}
	return b.String()
}

// holds reports whether a value says anything: it is there and not null, false, 0 or empty.
func holds(v rawjson.Value) bool {
	switch v.Kind() {
	case rawjson.Absent, rawjson.Null:
		return false
	case rawjson.Array:
		w := rawjson.Elements(v)
		return w.Next()
	case rawjson.Object:
		w := rawjson.Members(v)
		return w.Next()
	}
	return !slices.Contains([]string{`false`, `0`, `""`}, string(v))
}

// outcome is what a failure means for the operation.
func (r *run) outcome(f *failure) error {
	switch f.class {
	case classSkip:
		return sdk.Skip(f.err.Error())
	case classRetry:
		return f.later(f.err)
	case classSuspend, classLogin:
		return sdk.Suspend(f.err)
	case classReject, classDuplicate:
		return sdk.Reject(f.err, r.fieldOf(f)...)
	}
	switch status := f.resp.Status; {
	case status == http.StatusNotFound && r.found.id != nil:
		return fmt.Errorf("the record that was found is gone: %w", f.err)
	case status == http.StatusBadRequest || status == http.StatusUnprocessableEntity:
		return sdk.Reject(f.err, r.fieldOf(f)...)
	}
	return f.resp.Outcome(f.words)
}

// later is the outcome of a failure that passes.
func (f *failure) later(err error) error {
	if f.rule != nil {
		return f.resp.Later(err, f.rule.Pause)
	}
	return f.resp.Later(err, 0)
}

// passes reports whether a status is one that another try may not meet.
func passes(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	case http.StatusNotImplemented, http.StatusHTTPVersionNotSupported:
		return false
	}
	return status >= 500
}

// fieldOf is the path of the message's attribute that the far end finds wrong, if it says so.
func (r *run) fieldOf(f *failure) []string {
	var names []string
	switch f.field.Kind() {
	case rawjson.String:
		if s, ok := f.field.Text(); ok {
			names = append(names, s)
		}
	case rawjson.Object:
		for w := rawjson.Members(f.field); w.Next(); {
			names = append(names, string(w.Name))
		}
	case rawjson.Array:
		for w := rawjson.Elements(f.field); w.Next(); {
			if s, ok := w.Value.Text(); ok {
				names = append(names, s)
			}
		}
	}
	for _, name := range names {
		if name == r.op.Key.Name {
			return crm.KeyPath()
		}
		if slices.ContainsFunc(r.op.Fields, func(f crm.Field) bool { return f.Name == name }) {
			return crm.FieldPath(name)
		}
	}
	return nil
}
