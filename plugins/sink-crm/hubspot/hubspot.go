// Package hubspot is the dialect for HubSpot's CRM objects: batch upsert, update and archive by a property whose values
// are unique.
package hubspot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"github.com/grapnelhq/grapnel/plugins/sink-crm/crm"
	"github.com/grapnelhq/grapnel/sdk"
	"github.com/grapnelhq/grapnel/sdk/rawjson"
)

// BaseURL is where HubSpot's API is.
const BaseURL = "https://api.hubapi.com"

// maxBatch is the most records that HubSpot takes in one request.
const maxBatch = 100

// Dialect implements crm.Dialect.
type Dialect struct {
	client *crm.Client
	root   string // of the objects' addresses: /crm/v3/objects
}

var (
	dated      = regexp.MustCompile(`^20\d\d-\d\d$`)
	objectType = regexp.MustCompile(`^[A-Za-z0-9_-]+$`) // contacts, 2-3456789, p1234_cars
)

// CheckVersion checks the configuration's api_version: empty, "v3", or the date of a dated version.
func CheckVersion(version string) error {
	if version != "" && version != "v3" && !dated.MatchString(version) {
		return errors.New(`not "v3" or a date such as "2026-03"`)
	}
	return nil
}

// New makes the dialect with a version that CheckVersion accepts. It reaches nothing.
func New(version string, o crm.Options) (*Dialect, error) {
	if o.BaseURL == "" {
		o.BaseURL = BaseURL
	}
	client, err := crm.NewClient(o)
	if err != nil {
		return nil, err
	}
	root := "/crm/v3/objects"
	if dated.MatchString(version) {
		root = "/crm/objects/" + version
	}
	return &Dialect{client: client, root: root}, nil
}

// MaxBatch implements crm.Dialect.
func (d *Dialect) MaxBatch() int { return maxBatch }

// Close implements io.Closer.
func (d *Dialect) Close() error {
	d.client.Close()
	return nil
}

// Check implements crm.Dialect: it reads one contact. A token without the scope for contacts is as good as any, since the
// routes may write other things.
func (d *Dialect) Check(ctx context.Context) error {
	resp, err := d.client.Do(ctx, crm.Request{Method: http.MethodGet, Path: d.root + "/contacts?limit=1"})
	if err != nil {
		return err
	}
	r := parseRefusal(resp.Body)
	if resp.Status == http.StatusForbidden && r.Category == "MISSING_SCOPES" {
		return nil
	}
	return resp.Outcome(d.words(resp, &r))
}

// input is a record of a batch.
type input struct {
	IDProperty string            `json:"idProperty"`
	TraceID    string            `json:"objectWriteTraceId"`
	ID         string            `json:"id"`
	Properties map[string]string `json:"properties"`
}

// reference is a record of a batch that writes nothing.
type reference struct {
	ID string `json:"id"`
}

// Apply implements crm.Dialect.
func (d *Dialect) Apply(ctx context.Context, ops []crm.Op) []crm.Result {
	if !objectType.MatchString(ops[0].Object) {
		return crm.FailAll(len(ops), sdk.Reject(errors.New("not the name of an object type in HubSpot"), crm.ObjectPath()...))
	}
	if ops[0].Kind == crm.Archive {
		return d.archive(ctx, ops)
	}
	results := make([]crm.Result, len(ops))
	records := make(map[string]input, len(ops)) // by delivery
	var good []crm.Op
	var at []int
	for i := range ops {
		in, err := newInput(&ops[i])
		if err != nil {
			results[i] = crm.Failed(err)
			continue
		}
		records[ops[i].DeliveryID] = in
		good, at = append(good, ops[i]), append(at, i)
	}
	if len(good) == 0 {
		return results
	}
	sent := crm.Bisect(ctx, good, func(ctx context.Context, ops []crm.Op) ([]crm.Result, bool) {
		return d.write(ctx, ops, records)
	})
	for i, r := range sent {
		results[at[i]] = r
	}
	return results
}

// newInput makes the record of an operation. HubSpot's values are all texts; the empty one clears a property.
func newInput(op *crm.Op) (input, error) {
	in := input{
		IDProperty: op.Key.Name, ID: op.Key.Value, TraceID: op.DeliveryID, Properties: make(map[string]string, len(op.Fields)),
	}
	for _, f := range op.Fields {
		text, err := propertyText(rawjson.Value(f.Value))
		if err != nil {
			return in, sdk.Reject(err, crm.FieldPath(f.Name)...)
		}
		in.Properties[f.Name] = text
	}
	return in, nil
}

// propertyText writes a value as HubSpot takes it. A list is that of a property with several choices.
func propertyText(v rawjson.Value) (string, error) {
	switch v.Kind() {
	case rawjson.Null:
		return "", nil
	case rawjson.String:
		text, _ := v.Text()
		return text, nil
	case rawjson.Number, rawjson.Bool:
		return string(v), nil
	case rawjson.Array:
		var parts []string
		for e := rawjson.Elements(v); e.Next(); {
			if k := e.Value.Kind(); k == rawjson.Array || k == rawjson.Object || k == rawjson.Null {
				return "", fmt.Errorf("a list that holds %s is no value for a property", k)
			}
			text, err := propertyText(e.Value)
			if err != nil {
				return "", err
			}
			parts = append(parts, text)
		}
		return strings.Join(parts, ";"), nil
	}
	return "", fmt.Errorf("%s is no value for a property", v.Kind())
}

// post sends a batch.
func (d *Dialect) post(ctx context.Context, object, verb string, body any, traceParent string) (*crm.Response, error) {
	b, err := json.Marshal(body)
	if err != nil {
		return nil, sdk.Reject(err)
	}
	r := crm.Request{Method: http.MethodPost, Path: d.root + "/" + object + "/batch/" + verb, Body: b}
	if traceParent != "" {
		r.Header = http.Header{"Traceparent": {traceParent}}
	}
	return d.client.Do(ctx, r)
}

// traceParent is that of a request for one delivery; a batch has none.
func traceParent(ops []crm.Op) string {
	if len(ops) == 1 {
		return ops[0].TraceParent
	}
	return ""
}

// write upserts or updates a batch. split: it was refused as a whole for what some record says.
func (d *Dialect) write(ctx context.Context, ops []crm.Op, records map[string]input) (results []crm.Result, split bool) {
	verb := "upsert"
	if ops[0].Kind == crm.Flag {
		verb = "update" // creates nothing
	}
	var batch struct {
		Inputs []input `json:"inputs"`
	}
	for i := range ops {
		batch.Inputs = append(batch.Inputs, records[ops[i].DeliveryID])
	}
	resp, err := d.post(ctx, ops[0].Object, verb, batch, traceParent(ops))
	if err != nil {
		return crm.FailAll(len(ops), err), false
	}
	if resp.OK() {
		return d.written(ctx, resp, ops, records)
	}
	r := parseRefusal(resp.Body)
	if unknown := r.unknownProperties(); len(unknown) > 0 {
		return d.withoutUnknown(ctx, ops, records, resp, &r, unknown), false
	}
	switch {
	case r.aboutAll():
		return crm.FailAll(len(ops), d.client.Unknown(resp.Error(d.words(resp, &r)), r.pathOfAll())), false
	case !ofRecords(resp, &r):
		return crm.FailAll(len(ops), d.outcome(resp, &r)), false
	case len(ops) > 1:
		return nil, true
	}
	return []crm.Result{d.recordResult(&ops[0], &r, resp)}, false
}

// ofRecords reports whether a refusal of a batch can be about what one of its records says.
func ofRecords(resp *crm.Response, r *refusal) bool {
	switch resp.Status {
	case http.StatusBadRequest, http.StatusConflict, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		return !r.foreign()
	case http.StatusNotFound:
		return r.Category == "OBJECT_NOT_FOUND"
	}
	return false
}

// withoutUnknown settles the records that name properties which HubSpot does not have, and sends the others again.
func (d *Dialect) withoutUnknown(
	ctx context.Context, ops []crm.Op, records map[string]input, resp *crm.Response, r *refusal, unknown map[string]bool,
) []crm.Result {
	results := make([]crm.Result, len(ops))
	var rest []int
	for i := range ops {
		if name := unknownField(&ops[i], unknown); name != "" {
			results[i] = crm.Failed(d.client.Unknown(resp.Error(d.words(resp, r)), crm.FieldPath(name)))
			continue
		}
		rest = append(rest, i)
	}
	if len(rest) == len(ops) { // no record names it
		return crm.FailAll(len(ops), d.client.Unknown(resp.Error(d.words(resp, r)), crm.KeyPath()))
	}
	d.again(ctx, ops, records, rest, results)
	return results
}

// again sends some records of a batch again, those at the given indexes, and puts what becomes of them into results.
func (d *Dialect) again(ctx context.Context, ops []crm.Op, records map[string]input, at []int, results []crm.Result) {
	if len(at) == 0 {
		return
	}
	some := make([]crm.Op, len(at))
	for i, j := range at {
		some[i] = ops[j]
	}
	sent := crm.Bisect(ctx, some, func(ctx context.Context, ops []crm.Op) ([]crm.Result, bool) {
		return d.write(ctx, ops, records)
	})
	for i, j := range at {
		results[j] = sent[i]
	}
}

func unknownField(op *crm.Op, unknown map[string]bool) string {
	for _, f := range op.Fields {
		if unknown[f.Name] {
			return f.Name
		}
	}
	return ""
}

// written reads the answer to a batch that was carried out, as a whole (200, 201) or in part (207).
func (d *Dialect) written(
	ctx context.Context, resp *crm.Response, ops []crm.Op, records map[string]input,
) (results []crm.Result, split bool) {
	var answer batchAnswer
	results = make([]crm.Result, len(ops))
	if err := json.Unmarshal(resp.Body, &answer); err != nil {
		if resp.Status == http.StatusMultiStatus {
			return crm.FailAll(len(ops), crm.Unaccounted()), false
		}
		return results, false // 200 says that all of it was carried out
	}
	index := newIndex(ops)
	known := make([]bool, len(ops))
	failed := 0
	var nobodys *refusal // an error that does not say whose it is
	for i := range answer.Errors {
		e := &answer.Errors[i]
		list := index.ofError(e)
		if list == nil && len(ops) == 1 {
			list = []int{0}
		}
		if list == nil {
			nobodys = e
		}
		for _, at := range list {
			if !known[at] {
				results[at], known[at] = d.recordResult(&ops[at], e, resp), true
				failed++
			}
		}
	}
	for i := range answer.Results {
		o := &answer.Results[i]
		if at, ok := index.ofResult(o); ok && !known[at] {
			results[at] = crm.Result{Reference: string(o.ID), Created: bool(o.New), Updated: !bool(o.New)}
			known[at] = true
		}
	}
	if resp.Status != http.StatusMultiStatus && len(answer.Errors) == 0 || len(answer.Results)+failed == len(ops) {
		return results, false // who is not mentioned by name was carried out
	}
	var rest []int
	for i := range ops {
		if !known[i] {
			results[i] = crm.Failed(crm.Unaccounted())
			rest = append(rest, i)
		}
	}
	switch {
	case nobodys == nil:
	case len(rest) == len(ops):
		return nil, true // sent alone, it is clear whose error it is
	default:
		d.again(ctx, ops, records, rest, results)
	}
	return results, false
}

// archive finds the records' own ids by their key and archives those.
func (d *Dialect) archive(ctx context.Context, ops []crm.Op) []crm.Result {
	ids, results := d.find(ctx, ops)
	var found []crm.Op
	var at []int
	for i := range ops {
		if ids[i] != "" {
			found, at = append(found, ops[i]), append(at, i)
		}
	}
	if len(found) == 0 {
		return results
	}
	byDelivery := make(map[string]string, len(found))
	for i, j := range at {
		byDelivery[found[i].DeliveryID] = ids[j]
	}
	sent := crm.Bisect(ctx, found, func(ctx context.Context, ops []crm.Op) ([]crm.Result, bool) {
		var batch struct {
			Inputs []reference `json:"inputs"`
		}
		results := make([]crm.Result, len(ops))
		for i := range ops {
			batch.Inputs = append(batch.Inputs, reference{byDelivery[ops[i].DeliveryID]})
			results[i].Reference = byDelivery[ops[i].DeliveryID]
		}
		resp, err := d.post(ctx, ops[0].Object, "archive", batch, traceParent(ops))
		if err != nil {
			return crm.FailAll(len(ops), err), false
		}
		if resp.OK() {
			return results, false
		}
		r := parseRefusal(resp.Body)
		switch {
		case !ofRecords(resp, &r):
			return crm.FailAll(len(ops), d.outcome(resp, &r)), false
		case len(ops) > 1:
			return nil, true
		}
		return []crm.Result{d.recordResult(&ops[0], &r, resp)}, false
	})
	for i, j := range at {
		results[j] = sent[i]
	}
	return results
}

// find reads the records' own ids; where there is none, the result says why.
func (d *Dialect) find(ctx context.Context, ops []crm.Op) (ids []string, results []crm.Result) {
	ids = make([]string, len(ops))
	batch := struct {
		WithHistory []string    `json:"propertiesWithHistory"`
		IDProperty  string      `json:"idProperty"`
		Inputs      []reference `json:"inputs"`
		Properties  []string    `json:"properties"`
	}{WithHistory: []string{}, IDProperty: ops[0].Key.Name, Properties: []string{ops[0].Key.Name}}
	for i := range ops {
		batch.Inputs = append(batch.Inputs, reference{ops[i].Key.Value})
	}
	resp, err := d.post(ctx, ops[0].Object, "read", batch, traceParent(ops))
	if err != nil {
		return ids, crm.FailAll(len(ops), err)
	}
	if !resp.OK() {
		r := parseRefusal(resp.Body)
		switch {
		case len(r.unknownProperties()) > 0:
			err = d.client.Unknown(resp.Error(d.words(resp, &r)), crm.KeyPath())
		case r.aboutAll():
			err = d.client.Unknown(resp.Error(d.words(resp, &r)), r.pathOfAll())
		case r.Category == "OBJECT_NOT_FOUND":
			results = make([]crm.Result, len(ops))
			for i := range results {
				results[i].Absent = true
			}
			return ids, results
		default:
			err = d.outcome(resp, &r)
		}
		return ids, crm.FailAll(len(ops), err)
	}
	var answer batchAnswer
	if err := json.Unmarshal(resp.Body, &answer); err != nil {
		return ids, crm.FailAll(len(ops), crm.Unaccounted())
	}
	index := newIndex(ops)
	results = make([]crm.Result, len(ops))
	strangers := false
	for i := range answer.Results {
		if at, ok := index.ofResult(&answer.Results[i]); ok {
			ids[at] = string(answer.Results[i].ID)
		} else {
			strangers = true
		}
	}
	for i := range answer.Errors {
		e := &answer.Errors[i]
		for _, at := range index.ofError(e) {
			if ids[at] == "" {
				results[at] = d.recordResult(&ops[at], e, resp)
			}
		}
	}
	for i := range ops {
		switch {
		case ids[i] != "" || results[i].Err != nil:
		case strangers: // it may be one of those
			results[i] = crm.Failed(crm.Unaccounted())
		default:
			results[i].Absent = true
		}
	}
	return ids, results
}
