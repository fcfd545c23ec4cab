package plugintest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/grapnelhq/grapnel/sdk"
)

// Decoder checks a decoder: its configuration is refused by name where it is wrong, every sample of its catalogue
// decodes to the type that it stands under, with data that matches the type's schema and the golden file, in every
// process and at every call alike; damaged samples never make it panic, change their request or answer with something
// that is no event.
func Decoder(t *testing.T, factory *sdk.DecoderFactory, opts Options) {
	t.Helper()
	results := map[string]sdk.Decoded{} // of the first pass, for the second
	run(t, factory, opts, func(t *testing.T, s *suite) {
		t.Run("catalogue", s.catalogue)
		t.Run("samples", func(t *testing.T) { s.samples(t, results) })
		t.Run("concurrent", s.decodeConcurrently)
	})
	t.Run("damaged", func(t *testing.T) { damaged(t, factory, opts) })
}

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

func (s *suite) catalogue(t *testing.T) {
	seen := map[string]bool{}
	for i := range s.desc.Provider.Events {
		e := &s.desc.Provider.Events[i]
		switch {
		case seen[e.Type]:
			t.Errorf("%s is there twice", e.Type)
		case !strings.HasPrefix(e.Type, s.desc.Provider.Name+"."):
			t.Errorf("%s does not begin with the provider's name", e.Type)
		case e.Data.Kind == "":
			t.Errorf("%s has no schema", e.Type)
		case len(e.Samples) == 0:
			t.Errorf("%s has no sample", e.Type)
		}
		seen[e.Type] = true
	}
	files := map[string]bool{}
	for _, sample := range samples(s.desc.Provider) {
		if files[sample.name()] {
			t.Errorf("two samples are called %s", sample.name())
		}
		files[sample.name()] = true
	}
}

func (s *suite) samples(t *testing.T, results map[string]sdk.Decoded) {
	i, again := s.open(t), s.open(t)
	for _, sample := range samples(s.desc.Provider) {
		t.Run(sample.name(), func(t *testing.T) {
			got := decodeOne(t, i, sample.sample.Request())
			s.noSecrets(t, "an event", fmt.Sprintf("%+v", got))
			for _, other := range []*Instance{i, again} {
				if diff := cmp.Diff(got, decodeOne(t, other, sample.sample.Request())); diff != "" {
					t.Errorf("the same request gives other events (-first +then):\n%s", diff)
				}
			}
			if first, ok := results[sample.name()]; ok {
				if diff := cmp.Diff(first, got); diff != "" {
					t.Errorf("the program gives other events than the factory (-factory +program):\n%s", diff)
				}
			}
			results[sample.name()] = got
			if got.Refused != "" {
				t.Fatalf("the sample is refused: %s", got.Refused)
			}
			if !slices.ContainsFunc(got.Events, func(e sdk.Event) bool { return e.Type == sample.eventType.Type }) {
				t.Errorf("no event of the sample's type in %+v", got.Events)
			}
			for k := range got.Events {
				s.checkEvent(t, &got.Events[k])
			}
			s.golden(t, sample.name(), got)
		})
	}
}

func decodeOne(t *testing.T, i *Instance, r *sdk.Request) sdk.Decoded {
	t.Helper()
	out, err := i.Decode(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return out[0]
}

func (s *suite) checkEvent(t *testing.T, e *sdk.Event) {
	t.Helper()
	if err := wellFormed(s.desc.Provider, e); err != nil {
		t.Error(err)
	}
	for i := range s.desc.Provider.Events {
		declared := &s.desc.Provider.Events[i]
		if declared.Type != e.Type || e.Data == nil {
			continue
		}
		for _, ae := range sdk.AttributeErrors(CheckData(&declared.Data, e.Data)) {
			if !s.Loose || ae.Summary != notDeclared {
				t.Errorf("data of %s: %v", e.Type, ae)
			}
		}
	}
}

// wellFormed checks what holds for every event, also of a damaged request.
func wellFormed(p *sdk.Provider, e *sdk.Event) error {
	rest, ok := strings.CutPrefix(e.Type, p.Name+".")
	if !ok || rest == "" {
		return fmt.Errorf("event type %q does not begin with the provider's name", e.Type)
	}
	if e.Time != "" {
		if _, err := time.Parse(time.RFC3339, e.Time); err != nil {
			return fmt.Errorf("the time of %s: %w", e.Type, err)
		}
	}
	if e.Data != nil && !json.Valid(e.Data) {
		return fmt.Errorf("the data of %s is not JSON: %q", e.Type, e.Data)
	}
	return nil
}

func (s *suite) decodeConcurrently(t *testing.T) {
	i := s.open(t)
	all := samples(s.desc.Provider)
	var requests []*sdk.Request
	for k, sample := range all {
		r := sample.sample.Request()
		r.ID = fmt.Sprint("req_", k)
		requests = append(requests, r)
	}
	if len(requests) == 0 {
		return
	}
	want, err := i.Decode(t.Context(), requests...)
	if err != nil {
		t.Fatal(err)
	}
	var calls sync.WaitGroup
	for range 8 {
		calls.Go(func() {
			got, err := i.Decode(t.Context(), requests...)
			if err != nil {
				t.Error(err)
			} else if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("concurrent calls give other events (-alone +together):\n%s", diff)
			}
		})
	}
	calls.Wait()
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

// golden compares a result with its file.
func (s *suite) golden(t *testing.T, name string, got sdk.Decoded) {
	t.Helper()
	if s.Golden == "" {
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
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(file); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(s.Golden, name+".json")
	if Update() {
		if err := os.MkdirAll(s.Golden, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, text.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		t.Fatalf("%s is not there; -update writes it", path)
	}
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), text.String()); diff != "" {
		t.Errorf("%s (-golden +got), -update accepts:\n%s", path, diff)
	}
}

// copies is how many damaged copies of each sample are tried.
const copies = 300

// damaged calls the decoder directly, where a change of the request's body can be seen.
func damaged(t *testing.T, factory *sdk.DecoderFactory, opts Options) {
	opts.setDefaults()
	d, err := factory.Open(t.Context(), []byte(opts.Config))
	if err != nil {
		t.Fatal(err)
	}
	if closer, ok := d.(sdk.Closer); ok {
		defer func() {
			if err := closer.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		}()
	}
	provider := factory.Provider
	if factory.Manifest != nil {
		if provider, err = factory.Manifest([]byte(opts.Config)); err != nil {
			t.Fatal(err)
		}
	}
	for _, sample := range samples(&provider) {
		random := rand.New(rand.NewPCG(1, 2)) // the same every time
		for n := range copies {
			r := sample.sample.Request()
			r.Body = damage(random, r.Body, n)
			if n%5 == 4 && len(r.Headers) > 0 {
				r.Headers[random.IntN(len(r.Headers))].Value = string(damage(random, []byte("value"), n))
			}
			if n%7 == 6 {
				r.Headers = nil
			}
			if err := tryDamaged(t.Context(), d, &provider, r, json.Valid(sample.sample.Body)); err != nil {
				t.Errorf("%s, damaged: %v\nheaders %q\nbody %q", sample.name(), err, r.Headers, r.Body)
				break
			}
		}
	}
}

// tryDamaged decodes a request; isJSON says that its body was JSON before it was damaged.
func tryDamaged(ctx context.Context, d sdk.Decoder, p *sdk.Provider, r *sdk.Request, isJSON bool) error {
	body := bytes.Clone(r.Body)
	first := sdk.DecodeAll(ctx, d, []*sdk.Request{r})[0]
	if !bytes.Equal(body, r.Body) {
		return errors.New("the request's body was changed")
	}
	if strings.HasPrefix(first.Refused, "panic: ") {
		return errors.New(first.Refused)
	}
	second := sdk.DecodeAll(ctx, d, []*sdk.Request{r})[0]
	if diff := cmp.Diff(first, second); diff != "" {
		return fmt.Errorf("the same request gives other events (-first +then):\n%s", diff)
	}
	if isJSON && !json.Valid(body) {
		return nil // the host refuses it where JSON is declared, so events of it are never seen
	}
	for i := range first.Events {
		if err := wellFormed(p, &first.Events[i]); err != nil {
			return err
		}
	}
	return nil
}

// strange are JSON values to put in the place of others.
var strange = []string{
	`null`, `""`, `"x"`, `0`, `-1`, `1e400`, `123456789012345678901234567890`, `true`, `[]`, `{}`, `[[]]`,
	`[null]`, `{"":null}`,
	`"\u0000"`, `"\ud800"`, `"*&<!channel>"`, `"2026-13-45T99:99:99Z"`,
}

// damage returns a changed copy of a JSON text: a value replaced, a member lost or doubled, wrapped, cut, or bytes
// changed.
func damage(random *rand.Rand, body []byte, n int) []byte {
	spans := values(body)
	pick := func() [2]int { return spans[random.IntN(len(spans))] }
	replace := func(at [2]int, text string) []byte {
		return slices.Concat(body[:at[0]], []byte(text), body[at[1]:])
	}
	switch kind := n % 6; {
	case len(spans) > 0 && kind < 3:
		return replace(pick(), strange[random.IntN(len(strange))])
	case len(spans) > 0 && kind == 3: // one value in another's place
		from := pick()
		return replace(pick(), string(body[from[0]:from[1]]))
	case kind == 4:
		return bytes.Clone(body[:random.IntN(len(body)+1)])
	}
	out := bytes.Clone(body)
	for range min(3, len(out)) {
		out[random.IntN(len(out))] = byte(random.IntN(256))
	}
	return out
}

// values lists where the values in a JSON text begin and end, names of members included.
func values(body []byte) [][2]int {
	var out [][2]int
	dec := json.NewDecoder(bytes.NewReader(body))
	var open []int
	for {
		before := int(dec.InputOffset())
		token, err := dec.Token()
		if err != nil {
			return out
		}
		end := int(dec.InputOffset())
		between := func(r rune) bool { return !strings.ContainsRune(" \t\r\n,:", r) }
		begin := before + bytes.IndexFunc(body[before:end], between)
		switch token {
		case json.Delim('{'), json.Delim('['):
			open = append(open, begin)
		case json.Delim('}'), json.Delim(']'):
			out = append(out, [2]int{open[len(open)-1], end})
			open = open[:len(open)-1]
		default:
			out = append(out, [2]int{begin, end})
		}
	}
}
