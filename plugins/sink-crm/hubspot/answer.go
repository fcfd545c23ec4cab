package hubspot

import (
	"cmp"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/grapnelhq/grapnel/plugins/sink-crm/crm"
	"github.com/grapnelhq/grapnel/sdk"
	"github.com/grapnelhq/grapnel/sdk/rawjson"
)

// batchAnswer is the answer to a batch. HubSpot asks its readers to take every member as optional.
type batchAnswer struct {
	Results []object  `json:"results"`
	Errors  []refusal `json:"errors"`
}

type object struct {
	ID         text            `json:"id"`
	New        flag            `json:"new"`
	TraceID    text            `json:"objectWriteTraceId"`
	Properties map[string]text `json:"properties"`
}

// refusal is an error, of a whole request or of some records of a batch.
type refusal struct {
	Category   text     `json:"category"`
	Message    text     `json:"message"`
	PolicyName text     `json:"policyName"`
	Context    contexts `json:"context"`
	Details    details  `json:"errors"`
}

// detail is one of several problems.
type detail struct {
	Message text     `json:"message"`
	Code    text     `json:"code"`
	In      text     `json:"in"`
	Context contexts `json:"context"`
	// As the problems in a message are written; see problems.
	Error text `json:"error"`
	Name  text `json:"name"`
}

// A member of another type than expected is as good as none: it must not hide the others.
type (
	text     string
	flag     bool
	contexts map[string][]string // values are a text or a list of texts
	details  []detail
)

// UnmarshalJSON implements json.Unmarshaler.
func (t *text) UnmarshalJSON(b []byte) error {
	if s, ok := rawjson.Value(b).ID(); ok {
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
func (d *details) UnmarshalJSON(b []byte) error {
	var list []detail
	if json.Unmarshal(b, &list) == nil {
		*d = list
	}
	return nil
}

// UnmarshalJSON implements json.Unmarshaler.
func (c *contexts) UnmarshalJSON(b []byte) error {
	out := contexts{}
	for m := rawjson.Members(b); m.Next(); {
		if s, ok := m.Value.Text(); ok {
			out[string(m.Name)] = []string{s}
		}
		for e := rawjson.Elements(m.Value); e.Next(); {
			if s, ok := e.Value.ID(); ok {
				out[string(m.Name)] = append(out[string(m.Name)], s)
			}
		}
	}
	*c = out
	return nil
}

// parseRefusal reads an error's body. What is not HubSpot's is empty.
func parseRefusal(body []byte) refusal {
	var r refusal
	if json.Unmarshal(body, &r) != nil {
		return refusal{}
	}
	return r
}

// foreign reports whether an error is not HubSpot's own but, for example, that of a proxy.
func (r *refusal) foreign() bool { return r.Category == "" && r.Message == "" && len(r.Details) == 0 }

// invalid introduces a list of problems, as JSON, inside of a message.
const invalid = "Property values were not valid: "

// problems lists what is wrong with which property. HubSpot says it in two ways: as errors, and as JSON in the message.
func (r *refusal) problems() []detail {
	list := r.Details
	if _, inner, ok := strings.Cut(string(r.Message), invalid); ok {
		var more details
		if json.Unmarshal([]byte(inner), &more) == nil {
			list = append(list[:len(list):len(list)], more...)
		}
	}
	return list
}

func (d *detail) code() string {
	return string(cmp.Or(d.Code, d.Error))
}

// property is the property that a problem is about, or empty.
func (d *detail) property() string {
	switch {
	case d.Name != "":
		return string(d.Name)
	case len(d.Context["propertyName"]) > 0:
		return d.Context["propertyName"][0]
	case len(d.Context["properties"]) > 0:
		return d.Context["properties"][0]
	}
	return string(d.In)
}

// unknownProperties are the properties that HubSpot says it does not have.
func (r *refusal) unknownProperties() map[string]bool {
	var names map[string]bool
	for _, p := range r.problems() {
		if p.code() == "PROPERTY_DOESNT_EXIST" && p.property() != "" {
			if names == nil {
				names = map[string]bool{}
			}
			names[p.property()] = true
		}
	}
	return names
}

// The texts by which HubSpot says that no record of a type can be written so. They have no code of their own.
const (
	noSuchType    = "infer object type"
	notUnique     = "non-unique"
	noSuchIDField = "idProperty"
)

// aboutAll reports whether a refusal is about every record of its kind: the type of the records, or the key's property.
func (r *refusal) aboutAll() bool {
	m := string(r.Message)
	return strings.Contains(m, noSuchType) || strings.Contains(m, notUnique) || strings.Contains(m, noSuchIDField)
}

func (r *refusal) pathOfAll() []string {
	if strings.Contains(string(r.Message), noSuchType) {
		return crm.ObjectPath()
	}
	return crm.KeyPath()
}

// words is what HubSpot says, for people.
func (d *Dialect) words(resp *crm.Response, r *refusal) string {
	if r.foreign() {
		return d.client.Words(resp)
	}
	said, _, _ := strings.Cut(string(r.Message), invalid)
	parts := []string{said}
	for _, p := range r.problems() {
		parts = append(parts, string(p.Message))
	}
	said = strings.Trim(strings.Join(parts, "; "), "; ")
	if r.Category != "" {
		said = string(r.Category) + ": " + said
	}
	return d.client.Clean(said)
}

// Pauses where HubSpot gives none.
const (
	lockedPause = 2 * time.Second  // 423: a record that is being written
	dailyPause  = time.Hour        // the day's requests are used up until midnight somewhere
	burstPause  = 10 * time.Second // those of ten seconds
)

// outcome is what a refusal of a whole request means.
func (d *Dialect) outcome(resp *crm.Response, r *refusal) error {
	words := d.words(resp, r)
	err := resp.Error(words)
	switch resp.Status {
	case http.StatusLocked:
		return resp.Later(err, lockedPause)
	case 477: // the account is being moved to another data centre
		return resp.Later(err, time.Minute)
	case http.StatusTooManyRequests:
		switch policy := strings.ToUpper(string(r.PolicyName)); {
		case strings.Contains(policy, "DAILY"):
			return resp.Later(err, dailyPause)
		case strings.Contains(policy, "TEN_SECONDLY"):
			return resp.Later(err, burstPause)
		case strings.Contains(policy, "SECONDLY"):
			return resp.Later(err, time.Second)
		}
		return resp.Later(err, burstPause)
	case http.StatusNotFound: // no such address: the version or the base address is wrong
		return sdk.Suspend(err)
	case http.StatusBadRequest:
		if r.foreign() {
			return err
		}
	}
	return resp.Outcome(words)
}

// recordResult is what an error of one record means.
func (d *Dialect) recordResult(op *crm.Op, r *refusal, resp *crm.Response) crm.Result {
	words := d.words(resp, r)
	err := errors.New("HubSpot refuses the record: " + words)
	category := strings.ToUpper(string(r.Category))
	switch {
	case category == "OBJECT_NOT_FOUND" && op.Kind != crm.Upsert:
		return crm.Result{Absent: true}
	case strings.Contains(category, "RATE_LIMIT"):
		return crm.Failed(sdk.RetryAfter(err, burstPause))
	case strings.Contains(category, "LOCKED"):
		return crm.Failed(sdk.RetryAfter(err, lockedPause))
	case strings.Contains(category, "INTERNAL") || strings.Contains(category, "TIMEOUT") ||
		strings.Contains(category, "UNAVAILABLE"):
		return crm.Failed(err)
	case category == "MISSING_SCOPES":
		return crm.Failed(sdk.Suspend(err))
	case r.aboutAll():
		return crm.Failed(d.client.Unknown(err, r.pathOfAll()))
	}
	if name := unknownField(op, r.unknownProperties()); name != "" {
		return crm.Failed(d.client.Unknown(err, crm.FieldPath(name)))
	}
	var path []string
	for _, p := range r.problems() {
		if name := p.property(); name == op.Key.Name {
			path = crm.KeyPath()
		} else if hasField(op, name) {
			path = crm.FieldPath(name)
			break
		}
	}
	return crm.Failed(sdk.Reject(err, path...))
}

func hasField(op *crm.Op, name string) bool {
	for _, f := range op.Fields {
		if f.Name == name {
			return true
		}
	}
	return false
}

// index finds the operations that an answer speaks of. HubSpot gives results in any order.
type index struct {
	key     string
	byTrace map[string]int
	byValue map[string]int // of the key, as HubSpot compares them: without regard to case
}

func newIndex(ops []crm.Op) index {
	x := index{ops[0].Key.Name, make(map[string]int, len(ops)), make(map[string]int, len(ops))}
	for i := range ops {
		x.byTrace[ops[i].DeliveryID] = i
		x.byValue[ops[i].Key.Value] = i
	}
	for i := range ops {
		if low := strings.ToLower(ops[i].Key.Value); low != ops[i].Key.Value {
			if _, taken := x.byValue[low]; !taken {
				x.byValue[low] = i
			}
		}
	}
	return x
}

func (x index) ofValue(v string) (int, bool) {
	at, ok := x.byValue[v]
	if !ok {
		at, ok = x.byValue[strings.ToLower(v)]
	}
	return at, ok
}

func (x index) ofResult(o *object) (int, bool) {
	if at, ok := x.byTrace[string(o.TraceID)]; ok {
		return at, true
	}
	return x.ofValue(string(o.Properties[x.key]))
}

func (x index) ofError(r *refusal) []int {
	var list []int
	for _, id := range r.Context["objectWriteTraceId"] {
		if at, ok := x.byTrace[id]; ok {
			list = append(list, at)
		}
	}
	if list != nil {
		return list
	}
	for _, name := range []string{"ids", "id"} {
		for _, id := range r.Context[name] {
			if at, ok := x.ofValue(id); ok {
				list = append(list, at)
			}
		}
	}
	return list
}
