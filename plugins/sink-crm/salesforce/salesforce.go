// Package salesforce is the dialect for Salesforce objects: upsert, update and delete by a field that is an external id,
// many at once with sObject Collections or one with sObject Rows.
package salesforce

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/grapnelhq/grapnel/plugins/sink-crm/crm"
	"github.com/grapnelhq/grapnel/sdk"
	"github.com/grapnelhq/grapnel/sdk/rawjson"
)

// DefaultVersion is the version of the API where the configuration names none.
const DefaultVersion = "62.0"

// maxBatch is the most records that Salesforce takes in one request.
const maxBatch = 200

// Dialect implements crm.Dialect.
type Dialect struct {
	client *crm.Client
	root   string // /services/data/v62.0
}

var (
	apiVersion = regexp.MustCompile(`^[1-9]\d{1,2}\.0$`)
	// Names of objects and fields, with the prefix of a package and the suffix of custom ones: Contact, acme__Staff__c.
	apiName = regexp.MustCompile(`^[A-Za-z]\w{0,254}$`)
	// A key's value that a URL carries as it is. Salesforce takes what follows a dot for a format.
	plainKey = regexp.MustCompile(`^[A-Za-z0-9_:~-]+$`)
)

// CheckVersion checks the configuration's api_version.
func CheckVersion(text string) error {
	if text != "" && !apiVersion.MatchString(text) {
		return errors.New(`not a version such as "62.0"`)
	}
	return nil
}

// Audience is who accepts the assertions of the JWT bearer grant, for the host of an organization.
func Audience(host string) string {
	if strings.Contains(strings.ToLower(host), ".sandbox.") {
		return "https://test.salesforce.com"
	}
	return "https://login.salesforce.com"
}

// New makes the dialect with a version that CheckVersion accepts. It reaches nothing.
func New(version string, o crm.Options) (*Dialect, error) {
	if version == "" {
		version = DefaultVersion
	}
	client, err := crm.NewClient(o)
	if err != nil {
		return nil, err
	}
	return &Dialect{client: client, root: "/services/data/v" + version}, nil
}

// MaxBatch implements crm.Dialect.
func (d *Dialect) MaxBatch() int { return maxBatch }

// Close implements io.Closer.
func (d *Dialect) Close() error {
	d.client.Close()
	return nil
}

// Check implements crm.Dialect: it lists the API's resources.
func (d *Dialect) Check(ctx context.Context) error {
	resp, err := d.client.Do(ctx, crm.Request{Method: http.MethodGet, Path: d.root + "/"})
	if err != nil {
		return err
	}
	if resp.OK() {
		return nil
	}
	return d.requestOutcome(resp, parseProblems(resp.Body), nil)
}

// Apply implements crm.Dialect.
func (d *Dialect) Apply(ctx context.Context, ops []crm.Op) []crm.Result {
	if !apiName.MatchString(ops[0].Object) {
		return crm.FailAll(len(ops), sdk.Reject(errors.New("not the API name of an object"), crm.ObjectPath()...))
	}
	if !apiName.MatchString(ops[0].Key.Name) {
		return crm.FailAll(len(ops), sdk.Reject(errors.New("not the API name of a field"), crm.KeyPath()...))
	}
	results := make([]crm.Result, len(ops))
	var good []int
	for i := range ops {
		if err := checkFields(ops[i].Fields); err != nil {
			results[i] = crm.Failed(err)
			continue
		}
		good = append(good, i)
	}
	d.some(ctx, ops, good, results, d.send)
	return results
}

func checkFields(fields []crm.Field) error {
	for _, f := range fields {
		if !apiName.MatchString(f.Name) || strings.EqualFold(f.Name, "attributes") || strings.EqualFold(f.Name, "id") {
			return sdk.Reject(errors.New("not the API name of a field that can be written"), crm.FieldPath(f.Name)...)
		}
	}
	return nil
}

// sender sends a batch; see crm.Bisect.
type sender func(ctx context.Context, ops []crm.Op) (results []crm.Result, split bool)

// some sends the operations at the given indexes and puts what becomes of them into results.
func (d *Dialect) some(ctx context.Context, ops []crm.Op, at []int, results []crm.Result, send sender) {
	if len(at) == 0 {
		return
	}
	picked := make([]crm.Op, len(at))
	for i, j := range at {
		picked[i] = ops[j]
	}
	sent := crm.Bisect(ctx, picked, send)
	for i, j := range at {
		results[j] = sent[i]
	}
}

// send carries a batch out.
func (d *Dialect) send(ctx context.Context, ops []crm.Op) (results []crm.Result, split bool) {
	switch {
	case len(ops) == 1 && plainKey.MatchString(ops[0].Key.Value):
		return []crm.Result{d.one(ctx, &ops[0])}, false
	case ops[0].Kind == crm.Upsert:
		return d.upsert(ctx, ops)
	}
	return d.byID(ctx, ops), false
}

func (d *Dialect) do(
	ctx context.Context, method, path string, body []byte, ops []crm.Op,
) (*crm.Response, error) {
	r := crm.Request{Method: method, Path: d.root + path, Body: body}
	if len(ops) == 1 && ops[0].TraceParent != "" {
		r.Header = http.Header{"Traceparent": {ops[0].TraceParent}}
	}
	return d.client.Do(ctx, r)
}

// one carries an operation out with one request of its own.
func (d *Dialect) one(ctx context.Context, op *crm.Op) crm.Result {
	path := "/sobjects/" + op.Object + "/" + op.Key.Name + "/" + op.Key.Value
	method, body := http.MethodPatch, members(op.Fields)
	switch op.Kind {
	case crm.Archive:
		method, body = http.MethodDelete, nil
	case crm.Flag:
		path += "?updateOnly=true"
	}
	resp, err := d.do(ctx, method, path, body, []crm.Op{*op})
	if err != nil {
		return crm.Failed(err)
	}
	if !resp.OK() {
		return d.refused(resp, op)
	}
	var answer saveResult
	_ = json.Unmarshal(resp.Body, &answer) // an update may be answered without a body
	if answer.ID == "" && resp.Status == http.StatusCreated {
		return crm.Result{Created: true}
	}
	created := bool(answer.Created) || resp.Status == http.StatusCreated
	return crm.Result{
		Reference: string(answer.ID), Created: created, Updated: !created && op.Kind != crm.Archive,
	}
}

// members writes fields as a JSON object.
func members(fields []crm.Field) []byte {
	var b bytes.Buffer
	b.WriteByte('{')
	writeMembers(&b, fields, false)
	b.WriteByte('}')
	return b.Bytes()
}

func writeMembers(b *bytes.Buffer, fields []crm.Field, comma bool) {
	for _, f := range fields {
		if comma {
			b.WriteByte(',')
		}
		comma = true
		b.WriteByte('"')
		b.WriteString(f.Name) // checkFields: nothing to escape
		b.WriteString(`":`)
		b.Write(f.Value)
	}
}

// upsert sends a batch as a collection.
func (d *Dialect) upsert(ctx context.Context, ops []crm.Op) ([]crm.Result, bool) {
	object, key := ops[0].Object, ops[0].Key.Name
	body := collection(ops, func(b *bytes.Buffer, op *crm.Op) {
		b.WriteString(`,"` + key + `":`)
		b.Write(op.Key.Token)
	})
	resp, err := d.do(ctx, http.MethodPatch, "/composite/sobjects/"+object+"/"+key, body, ops)
	return d.collected(ctx, resp, err, ops, d.send)
}

// collection writes a batch: for every operation its type, what more writes, and its fields.
func collection(ops []crm.Op, more func(b *bytes.Buffer, op *crm.Op)) []byte {
	var b bytes.Buffer
	b.WriteString(`{"allOrNone":false,"records":[`)
	for i := range ops {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(`{"attributes":{"type":"` + ops[i].Object + `"}`)
		more(&b, &ops[i])
		writeMembers(&b, ops[i].Fields, true)
		b.WriteByte('}')
	}
	b.WriteString("]}")
	return b.Bytes()
}

// collected reads the answer to a collection: results in the order of the records.
func (d *Dialect) collected(
	ctx context.Context, resp *crm.Response, err error, ops []crm.Op, send sender,
) (results []crm.Result, split bool) {
	if err != nil {
		return crm.FailAll(len(ops), err), false
	}
	if !resp.OK() {
		return d.refusedBatch(ctx, resp, ops, send)
	}
	var answers []saveResult
	if json.Unmarshal(resp.Body, &answers) != nil || len(answers) != len(ops) {
		return crm.FailAll(len(ops), crm.Unaccounted()), false
	}
	results = make([]crm.Result, len(ops))
	for i := range answers {
		a := &answers[i]
		if a.Success {
			created := bool(a.Created)
			results[i] = crm.Result{
				Reference: string(a.ID), Created: created, Updated: !created && ops[i].Kind != crm.Archive,
			}
			continue
		}
		results[i] = d.recordResult(a.Errors, &ops[i])
	}
	return results, false
}

// refusedBatch reads the refusal of a batch as a whole. A field that Salesforce does not have settles the records that
// name it, and the others are sent again; what else one record may have caused splits the batch.
func (d *Dialect) refusedBatch(
	ctx context.Context, resp *crm.Response, ops []crm.Op, send sender,
) (results []crm.Result, split bool) {
	list := parseProblems(resp.Body)
	if field := list.unknownField(); field != "" {
		results = make([]crm.Result, len(ops))
		var rest []int
		for i := range ops {
			if f := findField(&ops[i], field); f != "" {
				results[i] = crm.Failed(d.client.Unknown(d.err(resp, list), crm.FieldPath(f)))
				continue
			}
			rest = append(rest, i)
		}
		if len(rest) == len(ops) {
			return crm.FailAll(len(ops), d.client.Unknown(d.err(resp, list), crm.KeyPath())), false
		}
		d.some(ctx, ops, rest, results, send)
		return results, false
	}
	if list.ofRecord(resp.Status) {
		if len(ops) > 1 {
			return nil, true
		}
		return []crm.Result{d.refused(resp, &ops[0])}, false
	}
	return crm.FailAll(len(ops), d.requestOutcome(resp, list, &ops[0])), false
}

// byID archives or flags a batch: it finds the records' ids by their key and sends those as a collection.
func (d *Dialect) byID(ctx context.Context, ops []crm.Op) []crm.Result {
	ids, results := d.find(ctx, ops)
	var found []int
	for i := range ops {
		if ids[i] != "" {
			found = append(found, i)
		}
	}
	byDelivery := make(map[string]string, len(found))
	for _, i := range found {
		byDelivery[ops[i].DeliveryID] = ids[i]
	}
	var send sender
	send = func(ctx context.Context, ops []crm.Op) ([]crm.Result, bool) {
		var resp *crm.Response
		var err error
		if ops[0].Kind == crm.Archive {
			list := make([]string, len(ops))
			for i := range ops {
				list[i] = byDelivery[ops[i].DeliveryID]
			}
			resp, err = d.do(ctx, http.MethodDelete, "/composite/sobjects?ids="+strings.Join(list, ","), nil, ops)
		} else {
			body := collection(ops, func(b *bytes.Buffer, op *crm.Op) {
				b.WriteString(`,"id":"` + byDelivery[op.DeliveryID] + `"`)
			})
			resp, err = d.do(ctx, http.MethodPatch, "/composite/sobjects", body, ops)
		}
		return d.collected(ctx, resp, err, ops, send)
	}
	d.some(ctx, ops, found, results, send)
	return results
}

// maxQuery bounds the text of a query: it is part of an address.
const maxQuery = 6000

// recordID is what an id looks like.
var recordID = regexp.MustCompile(`^[A-Za-z0-9]{15,18}$`)

// find queries the records' ids; where there is not exactly one, the result says why.
func (d *Dialect) find(ctx context.Context, ops []crm.Op) (ids []string, results []crm.Result) {
	ids = make([]string, len(ops))
	results = make([]crm.Result, len(ops))
	key := ops[0].Key.Name
	for start := 0; start < len(ops); {
		end, size := start, 0
		var values []string
		for end < len(ops) {
			v := literal(&ops[end].Key)
			if size += len(url.QueryEscape(v)) + 3; size > maxQuery && end > start {
				break
			}
			values = append(values, v)
			end++
		}
		soql := "SELECT Id, " + key + " FROM " + ops[0].Object + " WHERE " + key + " IN (" + strings.Join(values, ",") + ")"
		d.query(ctx, soql, ops[start:end], ids[start:end], results[start:end])
		start = end
	}
	return ids, results
}

// literal writes a key's value as SOQL has it.
func literal(k *crm.Key) string {
	if rawjson.Value(k.Token).Kind() == rawjson.Number {
		return k.Value
	}
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(k.Value) + "'"
}

func (d *Dialect) query(ctx context.Context, soql string, ops []crm.Op, ids []string, results []crm.Result) {
	fail := func(err error) {
		for i := range results {
			results[i].Err = err
		}
	}
	if ctx.Err() != nil {
		fail(crm.NotSent())
		return
	}
	resp, err := d.do(ctx, http.MethodGet, "/query?q="+url.QueryEscape(soql), nil, ops)
	if err != nil {
		fail(err)
		return
	}
	if !resp.OK() {
		list := parseProblems(resp.Body)
		if list.unknownField() != "" {
			fail(d.client.Unknown(d.err(resp, list), crm.KeyPath()))
			return
		}
		fail(d.requestOutcome(resp, list, &ops[0]))
		return
	}
	var answer struct {
		Done    *bool                        `json:"done"`
		Records []map[string]json.RawMessage `json:"records"`
	}
	if json.Unmarshal(resp.Body, &answer) != nil || answer.Records == nil {
		fail(crm.Unaccounted())
		return
	}
	for _, r := range answer.Records {
		id, _ := rawjson.Value(member(r, "Id")).Text()
		at := whose(ops, rawjson.Value(member(r, ops[0].Key.Name)))
		switch {
		case !recordID.MatchString(id) || at < 0:
			fail(crm.Unaccounted())
			clear(ids)
			return
		case ids[at] != "" || results[at].Err != nil:
			ids[at] = ""
			results[at].Err = sdk.Reject(errors.New("several records in Salesforce have this key"), crm.KeyPath()...)
		default:
			ids[at] = id
		}
	}
	for i := range ops {
		switch {
		case ids[i] != "" || results[i].Err != nil:
		case answer.Done != nil && !*answer.Done: // more records than fit in an answer: some key has very many
			results[i].Err = crm.Unaccounted()
		default:
			results[i].Absent = true
		}
	}
}
