package salesforce

import (
	"encoding/json"
	"errors"
	"math/big"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/grapnelhq/grapnel/plugins/sink-crm/crm"
	"github.com/grapnelhq/grapnel/sdk"
	"github.com/grapnelhq/grapnel/sdk/rawjson"
)

// saveResult is what became of one record.
type saveResult struct {
	ID      text     `json:"id"`
	Success flag     `json:"success"`
	Created flag     `json:"created"`
	Errors  problems `json:"errors"`
}

// problem is one error, of a request (errorCode) or of a record (statusCode).
type problem struct {
	StatusCode text  `json:"statusCode"`
	ErrorCode  text  `json:"errorCode"`
	Message    text  `json:"message"`
	Fields     texts `json:"fields"`
}

// A member of another type than expected is as good as none: it must not hide the others.
type (
	text     string
	flag     bool
	texts    []string
	problems []problem
)

// UnmarshalJSON implements json.Unmarshaler.
func (t *text) UnmarshalJSON(b []byte) error {
	if s, ok := rawjson.Value(b).Text(); ok {
		*t = text(s)
	}
	return nil
}

// UnmarshalJSON implements json.Unmarshaler.
func (f *flag) UnmarshalJSON(b []byte) error {
	*f = string(b) == "true"
	return nil
}

// UnmarshalJSON implements json.Unmarshaler.
func (t *texts) UnmarshalJSON(b []byte) error {
	*t = nil
	for e := rawjson.Elements(b); e.Next(); {
		if s, ok := e.Value.Text(); ok {
			*t = append(*t, s)
		}
	}
	return nil
}

// UnmarshalJSON implements json.Unmarshaler.
func (p *problems) UnmarshalJSON(b []byte) error {
	*p = nil
	for e := rawjson.Elements(b); e.Next(); {
		var one problem
		if json.Unmarshal(e.Value, &one) == nil {
			*p = append(*p, one)
		}
	}
	return nil
}

// parseProblems reads the body of a refusal: a list of errors. What is not Salesforce's is empty.
func parseProblems(body []byte) problems {
	var list problems
	if json.Unmarshal(body, &list) != nil {
		return nil
	}
	kept := list[:0]
	for _, p := range list {
		if p.code() != "" {
			kept = append(kept, p)
		}
	}
	return kept
}

func (p *problem) code() string {
	if p.StatusCode != "" {
		return string(p.StatusCode)
	}
	return string(p.ErrorCode)
}

func (list problems) has(codes ...string) *problem {
	for i := range list {
		for _, c := range codes {
			if list[i].code() == c {
				return &list[i]
			}
		}
	}
	return nil
}

// The two ways in which Salesforce names a field that an object does not have.
var noColumn = regexp.MustCompile(`No such column '([^']+)'|INVALID_FIELD[^']*'([^']+)'`)

// unknownField is a field that Salesforce says it does not have, or empty.
func (list problems) unknownField() string {
	p := list.has("INVALID_FIELD")
	if p == nil {
		return ""
	}
	if m := noColumn.FindStringSubmatch(string(p.Message)); m != nil {
		return m[1] + m[2]
	}
	if len(p.Fields) > 0 {
		return p.Fields[0]
	}
	return ""
}

// findField is the operation's own spelling of a field: Salesforce does not distinguish upper and lower case.
func findField(op *crm.Op, field string) string {
	for _, f := range op.Fields {
		if strings.EqualFold(f.Name, field) {
			return f.Name
		}
	}
	return ""
}

func member(m map[string]json.RawMessage, name string) json.RawMessage {
	if v, ok := m[name]; ok {
		return v
	}
	for k, v := range m {
		if strings.EqualFold(k, name) {
			return v
		}
	}
	return nil
}

// whose finds the operation that has a key, or -1. Texts are compared as Salesforce does by default, without regard to
// case; numbers by their value.
func whose(ops []crm.Op, v rawjson.Value) int {
	value, ok := v.ID()
	if !ok {
		return -1
	}
	for i := range ops {
		if ops[i].Key.Value == value {
			return i
		}
	}
	number, isNumber := ratOf(value)
	for i := range ops {
		if strings.EqualFold(ops[i].Key.Value, value) {
			return i
		}
		if isNumber && v.Kind() == rawjson.Number {
			if n, ok := ratOf(ops[i].Key.Value); ok && n.Cmp(number) == 0 {
				return i
			}
		}
	}
	return -1
}

// ratOf reads a number of moderate length exactly.
func ratOf(s string) (*big.Rat, bool) {
	if len(s) > 40 || strings.ContainsAny(s, "/_xXpPbBoO") {
		return nil, false
	}
	if _, exponent, ok := strings.Cut(strings.ToLower(s), "e"); ok && len(strings.TrimLeft(exponent, "+-0")) > 2 {
		return nil, false
	}
	return new(big.Rat).SetString(s)
}

// words is what Salesforce says, for people.
func (d *Dialect) words(resp *crm.Response, list problems) string {
	if len(list) == 0 && resp != nil {
		return d.client.Words(resp)
	}
	var parts []string
	for _, p := range list {
		parts = append(parts, p.code()+": "+string(p.Message))
	}
	return d.client.Clean(strings.Join(parts, "; "))
}

func (d *Dialect) err(resp *crm.Response, list problems) error {
	return resp.Error(d.words(resp, list))
}

// Pauses where Salesforce gives none.
const (
	dayPause        = time.Hour        // the requests of 24 hours are used up; the window moves
	concurrentPause = 30 * time.Second // too many long requests at a time
)

// passing are the codes of what passes by itself.
func (list problems) passing() *problem {
	return list.has("UNABLE_TO_LOCK_ROW", "SERVER_UNAVAILABLE", "QUERY_TIMEOUT", "REQUEST_RUNNING_TOO_LONG",
		"UNKNOWN_EXCEPTION", "ALL_OR_NONE_OPERATION_ROLLED_BACK", "PROCESSING_HALTED", "CONCURRENT_PROCESSING",
		"TXN_SECURITY_RUNTIME_EXCEPTION", "TOO_MANY_APEX_REQUESTS")
}

// stopping are the codes of what needs somebody to act, whatever the record says.
func (list problems) stopping() *problem {
	return list.has("INVALID_SESSION_ID", "INVALID_AUTH_HEADER", "API_DISABLED_FOR_ORG", "API_CURRENTLY_DISABLED",
		"FUNCTIONALITY_NOT_ENABLED", "STORAGE_LIMIT_EXCEEDED", "ORG_LOCKED", "PASSWORD_LOCKOUT", "INACTIVE_OWNER_OR_USER",
		"INSUFFICIENT_ACCESS", "UNSUPPORTED_API_VERSION", "INVALID_LOGIN", "OAUTH_APPROVAL_ERROR_GENERIC")
}

// ofRecord reports whether the refusal of a batch can be about what one of its records says.
func (list problems) ofRecord(status int) bool {
	if len(list) == 0 || list.passing() != nil || list.stopping() != nil || list.has("INVALID_TYPE", "NOT_FOUND") != nil {
		return false
	}
	return status == http.StatusBadRequest || status == http.StatusConflict || status == http.StatusRequestEntityTooLarge ||
		status == http.StatusUnprocessableEntity || status == http.StatusMultipleChoices
}

// requestOutcome is what the refusal of a request means for all of its operations. op is one of them, or nil.
func (d *Dialect) requestOutcome(resp *crm.Response, list problems, op *crm.Op) error {
	err := d.err(resp, list)
	switch {
	case list.has("REQUEST_LIMIT_EXCEEDED") != nil:
		if p := list.has("REQUEST_LIMIT_EXCEEDED"); strings.Contains(strings.ToLower(string(p.Message)), "concurrent") {
			return resp.Later(err, concurrentPause)
		}
		return resp.Later(err, dayPause)
	case list.passing() != nil:
		return resp.Later(err, 0)
	case list.stopping() != nil:
		return sdk.Suspend(err)
	case op != nil && list.has("INVALID_TYPE") != nil:
		return d.client.Unknown(err, crm.ObjectPath())
	case resp.Status == http.StatusNotFound:
		p := list.has("NOT_FOUND")
		switch {
		case p == nil || op == nil: // not Salesforce's own: the base address is wrong
			return sdk.Suspend(err)
		case strings.Contains(strings.ToLower(string(p.Message)), "external id"):
			return d.client.Unknown(err, crm.KeyPath())
		}
		return d.client.Unknown(err, crm.ObjectPath())
	case resp.Status == http.StatusBadRequest && len(list) == 0:
		return err // not Salesforce's own, but a proxy's
	}
	return resp.Outcome(d.words(resp, list))
}

// refused is what the refusal of a request of its own means for an operation.
func (d *Dialect) refused(resp *crm.Response, op *crm.Op) crm.Result {
	list := parseProblems(resp.Body)
	switch {
	case resp.Status == http.StatusMultipleChoices:
		return crm.Failed(sdk.Reject(errors.New("several records in Salesforce have this key"), crm.KeyPath()...))
	case resp.Status == http.StatusNotFound && op.Kind != crm.Upsert && list.absent():
		return crm.Result{Absent: true}
	case resp.Status == http.StatusPreconditionFailed:
		return crm.Failed(sdk.Skip("Salesforce has a newer state of this record"))
	case list.unknownField() != "":
		if f := findField(op, list.unknownField()); f != "" {
			return crm.Failed(d.client.Unknown(d.err(resp, list), crm.FieldPath(f)))
		}
		return crm.Failed(d.client.Unknown(d.err(resp, list), crm.KeyPath()))
	case list.ofRecord(resp.Status):
		return d.recordResult(list, op)
	}
	return crm.Failed(d.requestOutcome(resp, list, op))
}

// absent reports whether a 404 is about the record and not about the address or the key's field.
func (list problems) absent() bool {
	p := list.has("NOT_FOUND", "ENTITY_IS_DELETED")
	if p == nil {
		return false
	}
	low := strings.ToLower(string(p.Message))
	return !strings.Contains(low, "external id field") && !strings.Contains(low, "requested resource does not exist") ||
		p.code() == "ENTITY_IS_DELETED"
}

// duplicate is the message of DUPLICATE_VALUE.
var duplicate = regexp.MustCompile(`duplicate value found: (\w+) `)

// recordResult is what the errors of one record mean.
func (d *Dialect) recordResult(list problems, op *crm.Op) crm.Result {
	err := errors.New("Salesforce refuses the record: " + d.words(nil, list))
	if len(list) == 0 {
		return crm.Failed(crm.Unaccounted())
	}
	switch {
	case list.has("REQUEST_LIMIT_EXCEEDED") != nil:
		return crm.Failed(sdk.RetryAfter(err, dayPause))
	case list.passing() != nil:
		return crm.Failed(err)
	case list.stopping() != nil:
		return crm.Failed(sdk.Suspend(err))
	case list.has("ENTITY_IS_DELETED", "NOT_FOUND") != nil && op.Kind != crm.Upsert:
		return crm.Result{Absent: true}
	case list.has("DUPLICATE_EXTERNAL_ID") != nil:
		return crm.Failed(sdk.Reject(err, crm.KeyPath()...))
	}
	if p := list.has("DUPLICATE_VALUE"); p != nil {
		// Of the key itself: another request has created the record just now. The next attempt updates it.
		if m := duplicate.FindStringSubmatch(string(p.Message)); m != nil && strings.EqualFold(m[1], op.Key.Name) {
			return crm.Failed(err)
		} else if m != nil && findField(op, m[1]) != "" {
			return crm.Failed(sdk.Reject(err, crm.FieldPath(findField(op, m[1]))...))
		}
	}
	if p := list.has("INVALID_FIELD", "INVALID_FIELD_FOR_INSERT_UPDATE"); p != nil {
		path := []string{"fields"}
		if f := d.fieldOf(list, op); f != nil {
			path = f
		}
		return crm.Failed(d.client.Unknown(err, path))
	}
	return crm.Failed(sdk.Reject(err, d.fieldOf(list, op)...))
}

// fieldOf is the path of the first field that the errors name and the message has, or nil.
func (d *Dialect) fieldOf(list problems, op *crm.Op) []string {
	names := []string{list.unknownField()}
	for _, p := range list {
		names = append(names, p.Fields...)
	}
	for _, n := range names {
		if f := findField(op, n); f != "" {
			return crm.FieldPath(f)
		}
	}
	for _, n := range names {
		if strings.EqualFold(n, op.Key.Name) {
			return crm.KeyPath()
		}
	}
	return nil
}
