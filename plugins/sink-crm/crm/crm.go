// Package crm is what the sink and its dialects share: the operations that messages become, the interface of a dialect,
// and the client that all of them talk to their far end with.
//
// The sink makes operations of deliveries: it checks the message, leaves out what is older than what the record already
// has, and never hands two operations on one record to a dialect together. A dialect says them in the language of one
// kind of CRM and says of every single operation what became of it. The host owns all retries: a dialect sends once. The
// exceptions are in one place each: Client.Do signs in anew after a refusal, Bisect splits a batch that is refused for
// one of its records.
package crm

import (
	"context"
	"encoding/json"
	"time"
)

// Dialect speaks to one kind of CRM. One value serves one configured sink; its methods are called from any number of
// goroutines. One that is an io.Closer is closed after its last call.
type Dialect interface {
	// MaxBatch is the most operations that one Apply takes, at least 1. It is asked once.
	MaxBatch() int

	// Apply carries operations out and returns one Result for each, in the order of ops. All of them have the same Kind,
	// Object and Key.Name, and no two the same Key.Value, so they may be carried out side by side. ctx ends shortly before
	// the host's call does: what was not sent by then is a Result of NotSent.
	//
	// A failure that is one record's alone ends in that record's Result only. A dialect whose far end refuses a batch as a
	// whole because of one record splits it; see Bisect.
	Apply(ctx context.Context, ops []Op) []Result

	// Check reaches the far end and says whether credentials and permissions suffice, without changing anything.
	Check(ctx context.Context) error
}

// Kind is what is to be done to a record.
type Kind string

// The kinds of operations. The sink itself sees to "ignore".
const (
	// Upsert writes Fields to the record with Key, which is created where there is none.
	Upsert Kind = "upsert"
	// Archive takes the record with Key out of the CRM's lists, in the CRM's own way that can be undone. Where there is none,
	// nothing is to be done: Result.Absent.
	Archive Kind = "archive"
	// Flag writes Fields to the record with Key. Where there is none, nothing is to be done: Result.Absent.
	Flag Kind = "flag"
)

// Op is one thing to do to one record.
type Op struct {
	DeliveryID  string // the same on every attempt
	TraceParent string // W3C Trace Context of the delivery, or empty
	Kind        Kind
	Object      string    // the message's object: a type of records, not empty
	Key         Key       // of the record
	Fields      []Field   // by name in ascending order; empty for Archive. A null value clears the field
	Time        time.Time // of the event
}

// Key finds a record: the field Name has Value in exactly one.
type Key struct {
	Name  string
	Value string          // the text, or the digits of a number; not empty
	Token json.RawMessage // the same as JSON: a string or a number, as the event has it
}

// Field is a field's new value.
type Field struct {
	Name  string
	Value json.RawMessage // one valid JSON value; null: clear the field
}

// Null reports whether the field is to be cleared.
func (f Field) Null() bool { return string(f.Value) == "null" }

// Result is what became of an operation. The zero value says: carried out, and nothing more is known.
type Result struct {
	// Err is nil for what was carried out; else sdk.Reject, sdk.Skip, sdk.Suspend, sdk.RetryAfter or a plain error, which
	// is a retry. The paths of sdk.Reject are those of the message: FieldPath, KeyPath, ObjectPath.
	Err error
	// Absent says that there is no record to archive or flag. The delivery counts as skipped. Err is nil then.
	Absent bool
	// Reference is the CRM's own id of the record, where the CRM says it.
	Reference string
	// Created and Updated say which of the two it was, where the CRM says it.
	Created, Updated bool
	// Notes are for the operator who looks at the delivery: no personal data, no secrets.
	Notes []string
}

// Failed is a Result with an error.
func Failed(err error) Result { return Result{Err: err} }

// FailAll is the same Result for n operations.
func FailAll(n int, err error) []Result {
	out := make([]Result, n)
	for i := range out {
		out[i].Err = err
	}
	return out
}

// FieldPath is the path of a field in the message, for sdk.Reject: sdk.Reject(err, crm.FieldPath("email")...).
func FieldPath(name string) []string { return []string{"fields", name} }

// KeyPath is the path of the key in the message, for sdk.Reject.
func KeyPath() []string { return []string{"key"} }

// ObjectPath is the path of the object in the message, for sdk.Reject.
func ObjectPath() []string { return []string{"object"} }
