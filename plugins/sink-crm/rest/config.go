package rest

import (
	"encoding/json"
	"time"

	"github.com/grapnelhq/grapnel/sdk"
)

// Config is the block "rest" of the sink: how an API is spoken to, in steps.
type Config struct {
	Login   *Login            `json:"login" doc:"Obtains a session. Left out: the credentials are token or oauth of the sink."`
	Lookup  *Lookup           `json:"lookup" doc:"Finds the record with the key."`
	Create  *Writing          `json:"create" doc:"Creates a record that was not found. Left out: messages about such records are skipped."`
	Update  *Step             `json:"update" doc:"Changes the record that was found. Left out: messages about such records are skipped."`
	Upsert  *Writing          `json:"upsert" doc:"Creates or changes a record by its key, in place of lookup, create and update."`
	Archive *Step             `json:"archive" doc:"Takes a record out of the lists: for messages with the operation archive."`
	Check   *Request          `json:"check" doc:"A request that only valid credentials can make, for grapnel validate --online, and before nothing is found to archive or flag."`
	Headers map[string]string `json:"headers,omitempty" doc:"Sent with every request, the login's too."`
	Errors  Errors            `json:"errors,omitzero" doc:"How failures show, beyond the status."`
}

// Request is what every step sends.
type Request struct {
	Method  string            `json:"method" enum:"GET|POST|PUT|PATCH|DELETE" doc:"Of the request."`
	Path    string            `json:"path" doc:"URI template (RFC 6570), added to base_url."`
	Query   map[string]string `json:"query,omitempty" doc:"Added to the path; values may have placeholders."`
	Headers map[string]string `json:"headers,omitempty" doc:"Of this request; values may have placeholders."`
	Body    json.RawMessage   `json:"body,omitempty" doc:"Sent as JSON; texts in it may have placeholders. Null: none."`
}

// Step is a request about a record.
type Step struct {
	Request
	Escape map[string]string `json:"escape,omitempty" doc:"What takes the place of a character where a value goes into the middle of a text."`
}

// Writing is a step whose answer tells the id of the record.
type Writing struct {
	Step
	ID string `json:"id,omitempty" doc:"JSON pointer to the record's id in the answer; it is shown as the delivery's reference."`
}

// Lookup is the step that finds a record.
type Lookup struct {
	Step
	Found string            `json:"found" doc:"JSON pointer to the records in the answer: a list, or one record. Null, false, 0 and what is empty: none was found."`
	ID    string            `json:"id" doc:"JSON pointer to the id within a record; empty: what was found is the id."`
	Where map[string]string `json:"where,omitempty" doc:"By JSON pointer within a record, what must stand there, alone or in a list; values may have placeholders."`
	None  []int             `json:"none,omitempty" default:"[404]" doc:"Statuses that say that there is no such record."`
	Many  string            `json:"many" enum:"reject|first" default:"reject" doc:"When several are found: reject the message, naming their ids, or take the first."`
}

// Login is the request that obtains a session.
type Login struct {
	User     string     `json:"user,omitempty" doc:"{user} in this step."`
	Password sdk.Secret `json:"password,omitzero" doc:"{password} in this step."`
	Request
	Values   map[string]string `json:"values" doc:"JSON pointers into the answer, by the names that session calls them."`
	Session  Session           `json:"session" doc:"What is sent with all other requests."`
	Lifetime time.Duration     `json:"lifetime,omitempty" doc:"After this time a new session is obtained. Left out: when the old one is refused."`
}

// Session is the header that proves a login.
type Session struct {
	Header string `json:"header" default:"Authorization" doc:"Its name."`
	Prefix string `json:"prefix,omitempty" doc:"Stands before the value, such as \"Bearer \"."`
	Value  string `json:"value" doc:"A text with the names of values, {user} and {password} as placeholders."`
	Base64 bool   `json:"base64,omitempty" doc:"Encode the value."`
}

// Errors say how failures show.
type Errors struct {
	At      string `json:"at,omitempty" doc:"JSON pointer. What stands there in an answer, unless null, false, 0 or empty, is an error, whatever the status."`
	Expect  string `json:"expect,omitempty" doc:"JSON pointer to what every answer with a status of success has, if only null. Where it is missing, the message is tried again."`
	Message string `json:"message,omitempty" doc:"JSON pointer to the words that explain a failure. Left out, or nothing there: the whole answer."`
	Field   string `json:"field,omitempty" doc:"JSON pointer to the name of the field that is wrong, or to an object with such names, to show its line in the route."`
	Rules   []Rule `json:"rules,omitempty" doc:"What failures mean; the first rule that matches decides. Without one, the status does; an error in a successful answer rejects the message."`
}

// Rule says what a failure means.
type Rule struct {
	Status   []int           `json:"status,omitempty" doc:"It matches only answers with one of these."`
	At       *string         `json:"at" doc:"JSON pointer to what equals and contains look at. Left out: the words that explain the failure."`
	Equals   json.RawMessage `json:"equals,omitempty" doc:"It matches only this value."`
	Contains string          `json:"contains,omitempty" doc:"It matches only a value with this text in it."`
	Class    string          `json:"class" enum:"reject|retry|suspend|duplicate|login|skip" doc:"reject: a dead letter. retry: later. suspend: the sink stops until someone acts. duplicate: there is such a record already; after a create it is looked up and updated. login: the session has ended; a new one is obtained, once. skip: nothing to do."`
	Pause    time.Duration   `json:"pause,omitempty" doc:"For retry, where the answer has no Retry-After: not before this time."`
}

const (
	classReject    = "reject"
	classRetry     = "retry"
	classSuspend   = "suspend"
	classDuplicate = "duplicate"
	classLogin     = "login"
	classSkip      = "skip"
)
