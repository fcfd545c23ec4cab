package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/grapnelhq/grapnel/sdk"
	pluginv1 "github.com/grapnelhq/grapnel/sdk/proto/grapnel/plugin/v1"
)

// filler fills every exported field of a value with something that is not zero and not like the others.
type filler struct {
	n     int
	depth int
}

var words = map[reflect.Type][]string{
	reflect.TypeFor[sdk.Kind]():          wordsOf(kinds),
	reflect.TypeFor[sdk.Escape]():        wordsOf(escapes),
	reflect.TypeFor[sdk.Format]():        wordsOf(formats),
	reflect.TypeFor[sdk.PartKind]():      wordsOf(partKinds),
	reflect.TypeFor[sdk.Encoding]():      wordsOf(encodings),
	reflect.TypeFor[sdk.Algorithm]():     wordsOf(algorithms),
	reflect.TypeFor[sdk.KeyFormat]():     wordsOf(keyFormats),
	reflect.TypeFor[sdk.VariationKind](): wordsOf(variations),
	reflect.TypeFor[sdk.OutcomeKind]():   wordsOf(outcomes),
}

func wordsOf[W ~string, N ~int32](e enum[W, N]) []string {
	var out []string
	for _, p := range e {
		out = append(out, string(p.word))
	}
	return out
}

func (f *filler) fill(t *testing.T, v reflect.Value) {
	t.Helper()
	f.n++
	switch x := v.Addr().Interface().(type) {
	case *time.Time:
		*x = time.Unix(int64(f.n), 5).UTC()
		return
	case *time.Duration:
		*x = time.Duration(f.n) * time.Second
		return
	case *json.RawMessage:
		*x = fmt.Appendf(nil, "%d", f.n)
		return
	}
	switch v.Kind() {
	case reflect.String:
		if list := words[v.Type()]; list != nil {
			v.SetString(list[f.n%len(list)])
		} else {
			v.SetString(fmt.Sprintf("text %d", f.n))
		}
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(f.n))
	case reflect.Uint8:
		v.SetUint(uint64(f.n%255 + 1))
	case reflect.Slice:
		if v.Type() == reflect.TypeFor[[]sdk.Attribute]() && f.depth > 2 {
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			f.depth++
			f.fill(t, v.Index(i))
			f.depth--
		}
	case reflect.Array:
		for i := range v.Len() {
			f.fill(t, v.Index(i))
		}
	case reflect.Pointer:
		if v.Type() == reflect.TypeFor[*sdk.Schema]() && f.depth > 2 {
			return
		}
		v.Set(reflect.New(v.Type().Elem()))
		f.depth++
		f.fill(t, v.Elem())
		f.depth--
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				f.fill(t, v.Field(i))
			}
		}
	default:
		t.Fatalf("do not know how to fill a %v", v.Type())
	}
}

// filled returns a value of which every field is set. Different starts give different enum words.
func filled[T any](t *testing.T, start int) *T {
	t.Helper()
	v := new(T)
	(&filler{n: start}).fill(t, reflect.ValueOf(v).Elem())
	return v
}

// checkFull fails on a field of the message that a fully filled value left empty, except those named.
func checkFull(t *testing.T, m proto.Message, except ...string) {
	t.Helper()
	unset := map[string]bool{}
	set := map[string]bool{}
	var walk func(m protoreflect.Message)
	walk = func(m protoreflect.Message) {
		fields := m.Descriptor().Fields()
		for i := range fields.Len() {
			f := fields.Get(i)
			name := string(f.FullName()[len("grapnel.plugin.v1."):])
			if !m.Has(f) {
				unset[name] = true
				continue
			}
			set[name] = true
			switch {
			case f.IsList() && f.Kind() == protoreflect.MessageKind:
				for i := range m.Get(f).List().Len() {
					walk(m.Get(f).List().Get(i).Message())
				}
			case f.Kind() == protoreflect.MessageKind:
				walk(m.Get(f).Message())
			}
		}
	}
	walk(m.ProtoReflect())
	for _, name := range except {
		set[name] = true
	}
	for name := range unset {
		if !set[name] {
			t.Errorf("%s is never set: its conversion forgets it", name)
		}
	}
}

// overTheWire marshals and unmarshals.
func overTheWire[M proto.Message](t *testing.T, m M) M {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	out := m.ProtoReflect().New().Interface()
	if err := proto.Unmarshal(b, out); err != nil {
		t.Fatal(err)
	}
	return out.(M)
}

func diff(t *testing.T, want, got any, opts ...cmp.Option) {
	t.Helper()
	if d := cmp.Diff(want, got, opts...); d != "" {
		t.Errorf("round trip (-sent +received):\n%s", d)
	}
}

func TestSchemaRoundTrip(t *testing.T) {
	for start := range 10 {
		want := filled[sdk.Schema](t, start)
		m, err := SchemaToProto(want)
		if err != nil {
			t.Fatal(err)
		}
		checkFull(t, m)
		got, err := SchemaFromProto(overTheWire(t, m))
		if err != nil {
			t.Fatal(err)
		}
		diff(t, *want, got)
	}
}

// oneKind leaves one kind in every scheme.
func oneKind(schemes []sdk.Scheme, start int) {
	for i := range schemes {
		s := &schemes[i]
		hmac, token, basic, ed := s.HMAC, s.Token, s.Basic, s.Ed25519
		s.HMAC, s.Token, s.Basic, s.Ed25519 = nil, nil, nil, nil
		switch (start + i) % 4 {
		case 0:
			s.HMAC = hmac
		case 1:
			s.Token = token
		case 2:
			s.Basic = basic
		case 3:
			s.Ed25519 = ed
		}
	}
}

func TestDescriptionRoundTrip(t *testing.T) {
	for start := range 12 {
		want := filled[Description](t, start)
		oneKind(want.Provider.Schemes, start)
		if start%2 == 0 {
			want.Provider = nil
			want.Sink.Name, want.Sink.Description = want.Name, want.Description
		} else {
			want.Sink, want.Message = nil, sdk.Schema{}
		}
		m, err := DescriptionToProto(want)
		if err != nil {
			t.Fatal(err)
		}
		checkFull(t, m, "DescribeResponse.sink", "DescribeResponse.provider",
			"AuthScheme.hmac", "AuthScheme.token", "AuthScheme.basic", "AuthScheme.ed25519")
		got, err := DescriptionFromProto(overTheWire(t, m))
		if err != nil {
			t.Fatal(err)
		}
		diff(t, want, got)
	}
}

func TestRequestRoundTrip(t *testing.T) {
	want := filled[sdk.Request](t, 1)
	m := RequestToProto(want)
	checkFull(t, m)
	diff(t, want, RequestFromProto(overTheWire(t, m)))
}

func TestDecodedRoundTrip(t *testing.T) {
	want := filled[sdk.Decoded](t, 1)
	want.Refused = ""
	for i := range want.Events {
		want.Events[i].Notes = nil // they travel with the request
	}
	body := []byte(`{"data": [1, 2, 3]}`)
	want.Events[0].Data = body[9:18:18]
	m := DecodedToProto(want, body)
	checkFull(t, m, "DecodeResult.refused")
	if r := m.Events[0].DataRange; r.GetOffset() != 9 || r.GetLength() != 9 || m.Events[0].Data != nil {
		t.Errorf("data that is a slice of the body went as %v", m.Events[0])
	}
	got, err := DecodedFromProto(overTheWire(t, m), body)
	if err != nil {
		t.Fatal(err)
	}
	diff(t, *want, got)

	refused := sdk.Decoded{RequestID: "r", Refused: "no", Notes: []string{"n"}}
	got, err = DecodedFromProto(overTheWire(t, DecodedToProto(&refused, body)), body)
	if err != nil {
		t.Fatal(err)
	}
	diff(t, refused, got)
}

func TestDeliveryRoundTrip(t *testing.T) {
	want := filled[sdk.Delivery[json.RawMessage]](t, 1)
	m := DeliveryToProto(want)
	checkFull(t, m)
	diff(t, want, DeliveryFromProto(overTheWire(t, m)), cmp.AllowUnexported(sdk.Delivery[json.RawMessage]{}))
}

func TestOutcomeRoundTrip(t *testing.T) {
	for start := range 6 {
		want := filled[sdk.Outcome](t, start)
		m := OutcomeToProto(want)
		checkFull(t, m)
		diff(t, *want, OutcomeFromProto(overTheWire(t, m)))
	}
	forget := sdk.Outcome{Kind: sdk.Delivered, StateSet: true}
	if got := OutcomeFromProto(overTheWire(t, OutcomeToProto(&forget))); !got.StateSet || len(got.State) > 0 {
		t.Errorf("forgetting the state arrives as %+v", got)
	}
	keep := sdk.Outcome{Kind: sdk.Delivered}
	if got := OutcomeFromProto(overTheWire(t, OutcomeToProto(&keep))); got.StateSet {
		t.Errorf("keeping the state arrives as %+v", got)
	}
}

func TestAttributeErrorRoundTrip(t *testing.T) {
	want := filled[sdk.AttributeError](t, 1)
	m := AttributeErrorsToProto(errors.Join(want, errors.New("plain")))
	checkFull(t, m[0])
	got := AttributeErrorsFromProto(m)
	diff(t, []sdk.AttributeError{*want, {Summary: "plain"}}, got)
}

func TestSliceOf(t *testing.T) {
	body := []byte("0123456789")
	other := []byte("0123456789")
	for _, test := range []struct {
		name   string
		part   []byte
		offset int
		ok     bool
	}{
		{"all", body, 0, true},
		{"start", body[:1], 0, true},
		{"end", body[9:], 9, true},
		{"capacity cut", body[3:5:5], 3, true},
		{"nil", nil, 0, false},
		{"empty", body[3:3], 0, false},
		{"copy", append([]byte(nil), body[3:5]...), 0, false},
		{"other of same size", other, 0, false},
		{"longer", append(append([]byte(nil), body...), 'x'), 0, false},
	} {
		if offset, ok := sliceOf(body, test.part); offset != test.offset || ok != test.ok {
			t.Errorf("%s: got %d, %v", test.name, offset, ok)
		}
	}
	if _, ok := sliceOf(nil, body); ok {
		t.Error("slice of nil")
	}
	if _, ok := sliceOf(body[2:5], body[4:7]); ok {
		t.Error("a part that reaches beyond the whole")
	}
	if _, ok := sliceOf(body[5:8], body[2:4]); ok {
		t.Error("a part before the whole")
	}
}

func TestTextIsAlwaysUTF8(t *testing.T) {
	r := RequestToProto(&sdk.Request{Headers: []sdk.Header{{Name: "x", Value: "caf\xe9"}}, Body: []byte{0xff}})
	if got := overTheWire(t, r).Headers[0].Value; got != "caf\uFFFD" {
		t.Errorf("header %q", got)
	}
	o := OutcomeToProto(&sdk.Outcome{Kind: sdk.Retried, Reason: strings.Repeat("é", MaxText) + "\xff"})
	if got := overTheWire(t, o).Reason; len(got) > MaxText || !strings.HasSuffix(got, "é…") {
		t.Errorf("reason of %d bytes", len(got))
	}
}

func TestLiesFromTheWire(t *testing.T) {
	for want, err := range map[string]error{
		"schema kind: unknown value 99":   second(SchemaFromProto(&pluginv1.Schema{Kind: 99})),
		"schema escape: unknown value 99": second(SchemaFromProto(&pluginv1.Schema{Escape: 99})),
		"nested deeper than 32":           second(SchemaFromProto(deep(100))),
		"unknown kind of plugin 9":        second(DescriptionFromProto(&pluginv1.DescribeResponse{Kind: 9})),
		"scheme x: no kind": second(ProviderFromProto(&pluginv1.Provider{
			Schemes: []*pluginv1.AuthScheme{{Name: "x"}},
		})),
		"data range lies outside of the body": second(EventFromProto(&pluginv1.Event{
			DataRange: &pluginv1.ByteRange{Offset: 4, Length: 7},
		}, make([]byte, 10))),
		"changes: not a JSON object": second(EventFromProto(&pluginv1.Event{Changes: []byte("[]")}, nil)),
		"changes: ":                  second(changesFromJSON([]byte(`{"a":{"old":1}`))),
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	over := &pluginv1.Event{DataRange: &pluginv1.ByteRange{Offset: 1<<32 - 1, Length: 1<<32 - 1}}
	if _, err := EventFromProto(over, make([]byte, 10)); !errors.Is(err, ErrByteRange) {
		t.Errorf("got %v", err)
	}
	o := OutcomeFromProto(&pluginv1.Outcome{Kind: 99, AfterMs: 1<<63 - 1})
	if o.Kind != sdk.Retried || o.After != (1<<63-1)/time.Millisecond*time.Millisecond {
		t.Errorf("got %+v", o)
	}
}

func deep(n int) *pluginv1.Schema {
	s := &pluginv1.Schema{Kind: pluginv1.Schema_KIND_ANY}
	for range n {
		s = &pluginv1.Schema{Kind: pluginv1.Schema_KIND_LIST, Element: s}
	}
	return s
}

func second[T any](_ T, err error) error { return err }

func TestAuthorsMistakesAreNamed(t *testing.T) {
	for want, err := range map[string]error{
		`schema kind: unknown word "text"`: second(SchemaToProto(&sdk.Schema{Kind: "text"})),
		"0 of HMAC, Token":                 second(ProviderToProto(&sdk.Provider{Schemes: []sdk.Scheme{{}}})),
		"2 of HMAC, Token": second(ProviderToProto(&sdk.Provider{Schemes: []sdk.Scheme{
			{Basic: &sdk.Basic{}, Token: &sdk.Token{}},
		}})),
		"either a sink or a decoder": second(DescriptionToProto(&Description{})),
		`two changes of field "a"`:   second(changesToJSON([]sdk.Change{{Field: "a"}, {Field: "a"}})),
		`the change of field "a" is not JSON`: second(EventToProto(&sdk.Event{Changes: []sdk.Change{
			{Field: "a", Old: json.RawMessage("{")},
		}}, nil)),
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	change := sdk.Change{Field: "a", New: json.RawMessage("x")}
	bad := sdk.Decoded{RequestID: "r", Events: []sdk.Event{{}, {Changes: []sdk.Change{change}}}}
	if got := DecodedToProto(&bad, nil); !strings.HasPrefix(got.Refused, "event 1: ") || got.Events != nil {
		t.Errorf("got %v", got)
	}
}

// A null that was given and a value that was not are different things.
func TestChangesTellNullFromAbsent(t *testing.T) {
	e := sdk.Event{Changes: []sdk.Change{
		{Field: `b"<`, Old: json.RawMessage("null"), New: json.RawMessage("1.0")},
		{Field: "a", New: json.RawMessage(`{"x":[]}`)}, {Field: "c"},
	}}
	m, err := EventToProto(&e, nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"b\"\u003c":{"old":null,"new":1.0},"a":{"new":{"x":[]}},"c":{}}`; string(m.Changes) != want {
		t.Errorf("got %s", m.Changes)
	}
	got, err := EventFromProto(m, nil)
	if err != nil {
		t.Fatal(err)
	}
	diff(t, e, got)
}
