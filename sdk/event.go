package sdk

import (
	"encoding/json"
	"strings"
	"time"
)

// Request is an authenticated webhook as a decoder gets it. Signatures are already verified and credentials are cut
// out. Its memory belongs to the host's call: a decoder must not change it nor keep it after Decode returned, except
// that Event.Data may be a slice of Body.
type Request struct {
	ID         string
	Source     string // the source block's name
	Tenant     string // the source block's tenant, or empty
	ReceivedAt time.Time
	Method     string
	Query      string   // raw query, without credentials
	Headers    []Header // those that the manifest asked for, names in lower case
	Body       []byte   // byte-exact
	// TraceParent is the W3C Trace Context of this call about this request, or empty. Decoders use Trace instead.
	TraceParent string
}

// Header is one line of a request's header.
type Header struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Header returns the first value of the named header, in any case of letters, or "".
func (r *Request) Header(name string) string {
	for _, h := range r.Headers {
		if strings.EqualFold(h.Name, name) {
			return h.Value
		}
	}
	return ""
}

// Event is what a decoder makes of a request. The host adds id, source, provider and, where Time is empty, the time of
// receipt.
type Event struct {
	Type         string // "peopleforce.employee.created"
	Subject      string // "employee/4101": the id as the provider writes it; at most 1 KiB, no control characters
	PartitionKey string // the subject of the thing whose history must stay in order; the same
	Operation    string // "created", "updated", "deleted" or the provider's own word; at most 128 bytes
	Tenant       string // overrides the source block's tenant when not empty; at most 256 bytes
	Time         string // RFC 3339 as the provider writes it, or empty
	// Data is the provider's record as JSON, byte for byte. A slice of Request.Body costs nothing; nil means null.
	Data    json.RawMessage
	Changes []Change
	// Notes tell an operator what was odd about the request but no reason to refuse it: a missing header, a fallback that
	// was taken. They are texts of the decoder's own, without anything of the payload.
	Notes []string
}

// Change is a changed field of an updated record. An absent value is nil; a null one is the JSON null.
type Change struct {
	Field    string
	Old, New json.RawMessage
}

// Envelope is an event's CloudEvents attributes and extensions, as sinks get them.
type Envelope struct {
	ID           string `json:"id"`
	Source       string `json:"source"` // "urn:grapnel:source:<name>"
	Type         string `json:"type"`
	Subject      string `json:"subject,omitempty"`
	Time         string `json:"time"` // RFC 3339
	PartitionKey string `json:"partitionkey,omitempty"`
	Provider     string `json:"provider,omitempty"`
	Operation    string `json:"operation,omitempty"`
	Tenant       string `json:"tenant,omitempty"`
}
