package conform

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/grapnelhq/grapnel/sdk"
)

// sample is one sample of the catalogue.
type sample struct {
	eventType *sdk.EventType
	sample    *sdk.Sample
}

// name is a file name of the sample.
func (s sample) name() string {
	if s.sample.Name == "" {
		return s.eventType.Type
	}
	clean := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-", r) {
			return r
		}
		return '_'
	}, s.sample.Name)
	return s.eventType.Type + "." + clean
}

func samples(p *sdk.Provider) []sample {
	var out []sample
	for i := range p.Events {
		for k := range p.Events[i].Samples {
			out = append(out, sample{&p.Events[i], &p.Events[i].Samples[k]})
		}
	}
	return out
}

// contentType is what a sample's body is sent as.
func (s *Suite) contentType(smp sample) string {
	for _, h := range smp.sample.Headers {
		if strings.EqualFold(h.Name, "content-type") {
			media, _, _ := strings.Cut(h.Value, ";")
			return strings.ToLower(strings.TrimSpace(media))
		}
	}
	if types := s.desc.Provider.ContentTypes; len(types) > 0 && !strings.Contains(types[0], "*") {
		return types[0]
	}
	return "application/json"
}

func isJSONType(media string) bool {
	return media == "application/json" || media == "text/json" || strings.HasSuffix(media, "+json")
}

// sampleRequest is a sample as the host hands it to a decoder.
func (s *Suite) sampleRequest(smp sample) *sdk.Request {
	r := smp.sample.Request()
	if len(r.Body) > 0 && !slices.ContainsFunc(r.Headers, func(h sdk.Header) bool { return h.Name == "content-type" }) {
		r.Headers = append(r.Headers, sdk.Header{Name: "content-type", Value: s.contentType(smp)})
	}
	return r
}

// request is some request with a body.
func (s *Suite) request(n int, body []byte) *sdk.Request {
	return &sdk.Request{
		ID: fmt.Sprintf("req_%d", n), Source: "sample", Method: "POST", Body: body,
		Headers:    []sdk.Header{{Name: "content-type", Value: "application/json"}},
		ReceivedAt: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
	}
}

// decode calls Decode with the host's deadline. It returns nothing where the call failed.
func (s *Suite) decode(ctx context.Context, f *findings, i *Instance, call string, rs ...*sdk.Request) []sdk.Decoded {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	out, err := i.Decode(ctx, rs...)
	if s.failed(f, call, callTime, err) {
		return nil
	}
	return out
}

// decodeAll is decode for any number of requests, in batches as the host makes them.
func (s *Suite) decodeAll(ctx context.Context, f *findings, i *Instance, call string, rs []*sdk.Request) []sdk.Decoded {
	const most, mostBytes = 256, 8 << 20
	var out []sdk.Decoded
	for from := 0; from < len(rs); {
		to, size := from, 0
		for to < len(rs) && to-from < most && (to == from || size+len(rs[to].Body) <= mostBytes) {
			size += len(rs[to].Body)
			to++
		}
		part := s.decode(ctx, f, i, call, rs[from:to]...)
		if part == nil {
			return nil
		}
		out = append(out, part...)
		from = to
	}
	return out
}

// catalogue: types are unique and well-formed, each with a schema and a sample.
func (s *Suite) catalogue(context.Context) []Finding {
	f := s.findings()
	p := s.desc.Provider
	const do = "mend the catalogue of the manifest"
	seen := map[string]bool{}
	for i := range p.Events {
		e := &p.Events[i]
		if seen[e.Type] {
			f.add("a type stands once", do, "%s is in the catalogue twice", e.Type)
		}
		seen[e.Type] = true
		if why := badType(e.Type, p.Name); why != "" {
			f.add("types are <provider>.<part> and more parts of [a-z0-9_], at most 128 bytes", do, "the event type %q %s",
				clip(e.Type, 200), why)
		}
		if e.Data.Kind == "" {
			f.add("routes are checked against the schemas of the catalogue", do, "%s has no schema", e.Type)
		}
		if len(e.Samples) == 0 {
			f.add("every type has a sample, which tests and users send", do, "%s has no sample", e.Type)
		}
	}
	files := map[string]bool{}
	for _, smp := range samples(p) {
		if files[smp.name()] {
			f.add("samples of a type are told apart by their names", do, "two samples are called %s", smp.name())
		}
		files[smp.name()] = true
		if isJSONType(s.contentType(smp)) && len(smp.sample.Body) > 0 && !json.Valid(smp.sample.Body) {
			f.add("a body of the content type application/json is JSON, and the host refuses another", do,
				"the sample %s is not JSON", smp.name())
		}
	}
	return f.done()
}

// badType says what is wrong with an event type, or "".
func badType(t, provider string) string {
	rest, ok := strings.CutPrefix(t, provider+".")
	switch {
	case !ok || rest == "":
		return "does not begin with the provider's name"
	case len(t) > maxType:
		return "is too long"
	case strings.Trim(rest, "abcdefghijklmnopqrstuvwxyz0123456789_.") != "", strings.Contains("."+rest+".", ".."):
		return "is not made of parts of a-z, 0-9 and _"
	}
	return ""
}

// samples: every sample decodes to its type, always alike, with data as the schema says and events as the golden file
// has.
func (s *Suite) samples(ctx context.Context) []Finding {
	f := s.findings()
	i := s.mustOpen(ctx, f)
	if i == nil {
		return f.done()
	}
	defer s.mustClose(ctx, f, i)
	again := s.mustOpen(ctx, f)
	if again == nil {
		return f.done()
	}
	defer s.mustClose(ctx, f, again)
	for _, smp := range samples(s.desc.Provider) {
		s.sample(ctx, f, i, again, smp)
		if s.lost() {
			break
		}
	}
	return f.done()
}

const pure = "a decoder is pure, for an event's id is made from its position"

func (s *Suite) sample(ctx context.Context, f *findings, i, again *Instance, smp sample) {
	name := smp.name()
	one := func(i *Instance, name string) *sdk.Decoded {
		out := s.decode(ctx, f, i, "Decode of the sample "+name, s.sampleRequest(smp))
		if out == nil {
			return nil
		}
		return &out[0]
	}
	got := one(i, name)
	if got == nil {
		return
	}
	s.noSecrets(f, "an event", fmt.Sprintf("%+v", *got))
	for _, other := range []*Instance{i, again} {
		if then := one(other, name); then != nil && !reflect.DeepEqual(got, then) {
			f.add(pure, "take nothing but the request: no clock, no counter, no order of a map",
				"the same request, the sample %s, gives other events the second time (%s)", name, difference(got, then))
			return
		}
	}
	if first, ok := s.results[name]; ok && !reflect.DeepEqual(first, *got) {
		f.add(pure, "take nothing but the request: no clock, no environment, no file",
			"the sample %s gives other events in another process (%s)", name, difference(first, *got))
	}
	s.results[name] = *got
	if strings.HasPrefix(got.Refused, "panic: ") {
		f.add("a decoder refuses what it cannot decode", "mend what panicked", "Decode panicked at the sample %s (%s)",
			name, clip(got.Refused, 300))
		return
	}
	if got.Refused != "" {
		f.add("a sample is a request that decodes to its type", "mend the sample or the decoder",
			"the sample %s is refused (%s)", name, clip(got.Refused, 300))
		return
	}
	if !slices.ContainsFunc(got.Events, func(e sdk.Event) bool { return e.Type == smp.eventType.Type }) {
		types := make([]string, len(got.Events))
		for k, e := range got.Events {
			types[k] = e.Type
		}
		f.add("a sample is a request that decodes to its type", "put it under the type that it is, or mend the decoder",
			"the sample %s gives %q", name, types)
	}
	s.decoded(f, "the sample "+name, got)
	for k := range got.Events {
		s.data(f, name, &got.Events[k])
	}
	s.golden(f, name, got)
}

// data checks an event's data against the catalogue.
func (s *Suite) data(f *findings, name string, e *sdk.Event) {
	for i := range s.desc.Provider.Events {
		declared := &s.desc.Provider.Events[i]
		if declared.Type != e.Type {
			continue
		}
		if e.Data == nil {
			return
		}
		for _, ae := range sdk.AttributeErrors(CheckData(&declared.Data, e.Data)) {
			if !s.opts.Loose || ae.Summary != notDeclared {
				f.add("routes are checked against the schemas of the catalogue", "declare what the provider really sends",
					"the data of %s, from the sample %s, does not match its schema (%v)", e.Type, name, ae)
			}
		}
		return
	}
	f.add("types that a decoder knows are in its catalogue", "add it, with a schema and a sample",
		"the sample %s gives an event of type %s, which the catalogue does not have", name, clip(e.Type, 200))
}

// decoded checks what holds for the answer to any request.
func (s *Suite) decoded(f *findings, of string, d *sdk.Decoded) {
	wordy(f, "a refusal", d.Refused, 2<<10)
	if len(d.Events) > maxEvents {
		f.add(fmt.Sprintf("a request has at most %d events", maxEvents), "refuse it", "%s gives %d events", of, len(d.Events))
	}
	if d.Refused != "" && len(d.Events) > 0 {
		f.add("a request is refused or has events", "decide", "%s is refused and has events", of)
	}
	for i := range d.Events {
		if err := wellFormed(s.desc.Provider, &d.Events[i]); err != nil {
			f.add("the host ends the request as dead where an event breaks a rule",
				"leave out what is optional, or refuse the request",
				"%s gives an event of which %v", of, err)
			return
		}
	}
}

// wellFormed checks what holds for every event, also of a damaged request.
func wellFormed(p *sdk.Provider, e *sdk.Event) error {
	if why := badType(e.Type, p.Name); why != "" {
		return fmt.Errorf("the type %q %s", clip(e.Type, 200), why)
	}
	for _, text := range []struct {
		name, value string
		most        int
	}{
		{"subject", e.Subject, maxSubject}, {"partition key", e.PartitionKey, maxSubject}, {"operation", e.Operation,
			maxOperation},
		{"tenant", e.Tenant, maxTenant},
	} {
		if len(text.value) > text.most {
			return fmt.Errorf("the %s has %d bytes, more than %d", text.name, len(text.value), text.most)
		}
		if strings.ContainsFunc(text.value, unicode.IsControl) {
			return fmt.Errorf("the %s %q has control characters", text.name, clip(text.value, 80))
		}
	}
	if e.Time != "" {
		if _, err := time.Parse(time.RFC3339, e.Time); err != nil {
			return fmt.Errorf("the time is not RFC 3339: %w", err)
		}
	}
	if e.Data != nil && !json.Valid(e.Data) {
		return fmt.Errorf("the data is not JSON (%q)", clip(string(e.Data), 100))
	}
	return nil
}

// order: a request gives the same events alone and in a batch, in whatever order, and beside other calls.
func (s *Suite) order(ctx context.Context) []Finding {
	f := s.findings()
	i := s.mustOpen(ctx, f)
	if i == nil {
		return f.done()
	}
	defer s.mustClose(ctx, f, i)
	var requests []*sdk.Request
	for k, smp := range samples(s.desc.Provider) {
		r := s.sampleRequest(smp)
		r.ID = fmt.Sprint("req_", k)
		requests = append(requests, r)
	}
	if len(requests) == 0 {
		return nil
	}
	want := s.decodeAll(ctx, f, i, "Decode of all samples", requests)
	if want == nil {
		return f.done()
	}
	const do = "take nothing but the request, and share nothing between calls without a lock"
	reversed := slices.Clone(requests)
	slices.Reverse(reversed)
	if got := s.decodeAll(ctx, f, i, "Decode of all samples in reverse order", reversed); got != nil {
		slices.Reverse(got)
		if !reflect.DeepEqual(want, got) {
			f.add(pure, do, "the samples give other events in another order (%s)", difference(want, got))
		}
	}
	if s.lost() {
		return f.done()
	}
	const atOnce = 8
	var calls sync.WaitGroup
	found := make([]*findings, atOnce)
	for k := range atOnce {
		found[k] = s.findings()
		calls.Go(func() {
			got := s.decodeAll(ctx, found[k], i, fmt.Sprintf("one of %d Decodes at once", atOnce), requests)
			if got != nil && !reflect.DeepEqual(want, got) {
				found[k].add(pure, do, "the samples give other events while other calls run (%s)", difference(want, got))
			}
		})
	}
	calls.Wait()
	for _, one := range found {
		if len(one.list) > 0 {
			f.list = append(f.list, one.list[0])
			break
		}
	}
	return f.done()
}

// goldenEvent is an event as golden files have it.
type goldenEvent struct {
	Type         string          `json:"type"`
	Subject      string          `json:"subject,omitempty"`
	PartitionKey string          `json:"partitionkey,omitempty"`
	Operation    string          `json:"operation,omitempty"`
	Tenant       string          `json:"tenant,omitempty"`
	Time         string          `json:"time,omitempty"`
	Data         json.RawMessage `json:"data,omitempty"`
	Changes      []goldenChange  `json:"changes,omitempty"`
}

type goldenChange struct {
	Field string          `json:"field"`
	Old   json.RawMessage `json:"old,omitempty"`
	New   json.RawMessage `json:"new,omitempty"`
}

// golden compares an answer with its file.
func (s *Suite) golden(f *findings, name string, got *sdk.Decoded) {
	if s.opts.Golden == "" {
		return
	}
	file := struct {
		Events []goldenEvent `json:"events"`
		Notes  []string      `json:"notes,omitempty"`
	}{[]goldenEvent{}, got.Notes}
	for _, e := range got.Events {
		g := goldenEvent{
			Type: e.Type, Subject: e.Subject, PartitionKey: e.PartitionKey, Operation: e.Operation, Tenant: e.Tenant,
			Time: e.Time, Data: e.Data,
		}
		for _, c := range e.Changes {
			g.Changes = append(g.Changes, goldenChange(c))
		}
		file.Events = append(file.Events, g)
	}
	const contract, do = "the golden files say what the events are", "mend the decoder, or accept the events with -update"
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(file); err != nil {
		f.add(contract, do, "the events of %s are not JSON (%v)", name, err)
		return
	}
	path := filepath.Join(s.opts.Golden, name+".json")
	if s.opts.Update {
		if err := errors.Join(os.MkdirAll(s.opts.Golden, 0o755), os.WriteFile(path, text.Bytes(), 0o644)); err != nil {
			f.add(contract, "make the folder writable", "a golden file cannot be written (%v)", err)
		}
		return
	}
	want, err := os.ReadFile(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		f.add(contract, "write it with -update, and read it", "the sample %s has events, and %s is not there", name, path)
	case err != nil:
		f.add(contract, do, "a golden file cannot be read (%v)", err)
	case !bytes.Equal(want, text.Bytes()):
		f.add(contract, do, "the sample %s gives other events than %s has\n%s\n", name, path, lines(string(want),
			text.String()))
	}
}

// lines shows where two texts differ, some lines of each.
func lines(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	from := 0
	for from < len(w) && from < len(g) && w[from] == g[from] {
		from++
	}
	for len(w) > from && len(g) > from && w[len(w)-1] == g[len(g)-1] {
		w, g = w[:len(w)-1], g[:len(g)-1]
	}
	var b strings.Builder
	fmt.Fprintf(&b, "line %d (-golden +got):", from+1)
	const most = 12
	for _, side := range []struct {
		sign  string
		lines []string
	}{{"-", w[from:]}, {"+", g[from:]}} {
		for k, line := range side.lines {
			if k == most {
				fmt.Fprintf(&b, "\n%s … %d more", side.sign, len(side.lines)-most)
				break
			}
			b.WriteString("\n" + side.sign + line)
		}
	}
	return b.String()
}
