package sdk

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func decodeInto[T any](t *testing.T, data string) (T, error) {
	t.Helper()
	n, err := derive(reflect.TypeFor[T](), usePlain)
	if err != nil {
		t.Fatal(err)
	}
	var v T
	return v, n.decode([]byte(data), reflect.ValueOf(&v).Elem())
}

func TestDecode(t *testing.T) {
	note := "hi \"there\" \u00e9"
	want := everything{
		base: base{Region: "us"}, URL: "u", Token: NewSecret("s3"), Keys: []Secret{NewSecret("k")},
		Timeout: time.Second, Count: 255, Ratio: 1e3, Exact: "1.50", Note: &note, Raw: json.RawMessage(`{"a": [1,2]}`),
		Any:    map[string]any{"n": json.Number("12345678901234567890")},
		Fields: map[string]json.RawMessage{"x": json.RawMessage("null"), "y": json.RawMessage("1.0")},
		Tags:   []string{"a", "b"}, At: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
	}
	want.Nested.Depth = 9007199254740993 // 2^53+1: a float64 cannot hold it
	want.Nested.Must = true
	got, err := decodeInto[everything](t, ` {
		"region":"us", "url":"u","token":"s3","keys":["k"],"timeout":1e9,"count":255.0,"ratio":1e3,"exact":1.50,
		"on" : false, "note":"hi \"there\" \u00e9","raw": {"a": [1,2]} ,"any":{"n":12345678901234567890},
		"fields":{"x":null,"y":1.0},"tags":["a","b"],"at":"2026-01-02T03:04:05Z",
		"nested":{"must":true,"depth":9007199254740993}} `)
	if err != nil {
		t.Fatal(err)
	}
	compare := cmp.AllowUnexported(everything{}, base{}, Secret{})
	ignore := cmp.FilterPath(func(p cmp.Path) bool { return p.String() == "Ignored" }, cmp.Ignore())
	if diff := cmp.Diff(want, got, compare, ignore); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestDecodeFillsDefaults(t *testing.T) {
	got, err := decodeInto[everything](t, `{"url":"u","token":"s","tags":null,"note":null}`)
	if err != nil {
		t.Fatal(err)
	}
	if got.Region != "eu" || got.Timeout != 72*time.Hour || got.Count != 7 || !got.On || got.Ratio != 0.5 {
		t.Errorf("got %+v", got)
	}
	if !reflect.DeepEqual(got.Tags, []string{"a"}) || got.Note != nil || got.Nested.Depth != -3 {
		t.Errorf("got %+v", got)
	}
	again, _ := decodeInto[everything](t, `{"url":"u","token":"s"}`)
	again.Tags[0] = "changed"
	if got.Tags[0] != "a" {
		t.Error("a default is shared between values")
	}
}

func TestDecodeProblems(t *testing.T) {
	type inner struct {
		N int8 `json:"n"`
	}
	type subject struct {
		Name  string           `json:"name"`
		Count int64            `json:"count,omitempty"`
		Small uint16           `json:"small,omitempty"`
		Ratio float32          `json:"ratio,omitempty"`
		List  []inner          `json:"list,omitempty"`
		Map   map[string]inner `json:"map,omitempty"`
		Enum  string           `json:"enum,omitempty" enum:"a|b"`
		At    time.Time        `json:"at,omitempty"`
		Token Secret           `json:"token,omitempty"`
	}
	for _, test := range []struct{ data, want string }{
		{`{`, "is not valid JSON"},
		{`{"name":"x"} {}`, "is not valid JSON"},
		{`[]`, "must be an object, not a list"},
		{``, "name: is required"},
		{`{}`, "name: is required"},
		{`{"name":null}`, "name: must not be null"},
		{`{"name":1}`, "name: must be a string, not a number"},
		{`{"Name":"x"}`, "Name: there is no such attribute; did you mean \"name\"?\nname: is required"},
		{`{"name":"x","nmae":1,"zzzzzz":2}`,
			"nmae: there is no such attribute; did you mean \"name\"?\nzzzzzz: there is no such attribute"},
		{`{"name":"x","name":"y"}`, "name: is given twice"},
		{`{"name":"x","count":1.5}`, "count: must be a whole number"},
		{`{"name":"x","count":1e-1}`, "count: must be a whole number"},
		{`{"name":"x","count":9223372036854775808}`, "count: must be a whole number within 64 bits"},
		{`{"name":"x","count":1e1000000000}`, "count: must be a whole number within 64 bits"},
		{`{"name":"x","count":"1"}`, "count: must be a number, not a string"},
		{`{"name":"x","small":-1}`, "small: must be a whole number from 0 to 65535"},
		{`{"name":"x","small":65536}`, "small: must be a whole number from 0 to 65535"},
		{`{"name":"x","ratio":1e39}`, "ratio: is out of range"},
		{`{"name":"x","list":[{"n":1},{"n":128}]}`, "list.1.n: must be a whole number from -128 to 127"},
		{`{"name":"x","list":{}}`, "list: must be a list, not an object"},
		{`{"name":"x","map":{"k":{"n":true}}}`, "map.k.n: must be a number, not a bool"},
		{`{"name":"x","map":{"k":null}}`, "map.k: must not be null"},
		{`{"name":"x","map":{"k":{"n":1},"k":{"n":2}}}`, "map.k: is given twice"},
		{`{"name":"x","enum":"c"}`, `enum: must be one of ["a" "b"]`},
		{`{"name":"x","at":"yesterday"}`, "at: is not a valid Time"},
		{`{"name":"x","token":{"text":"hunter2"}}`, "token: must be a string, not an object"},
	} {
		_, err := decodeInto[subject](t, test.data)
		if err == nil || err.Error() != test.want {
			t.Errorf("%s\n got %v\nwant %v", test.data, err, test.want)
		}
		for _, ae := range AttributeErrors(err) {
			if strings.Contains(ae.Error(), "hunter2") {
				t.Errorf("%s: the error shows a value: %v", test.data, ae)
			}
		}
	}
}

func TestProblemsAreBounded(t *testing.T) {
	data := "{" + strings.Repeat(`"x":1,`, 1000) + `"x":1}`
	_, err := decodeInto[struct{}](t, data)
	if n := len(AttributeErrors(err)); n != maxProblems {
		t.Errorf("%d problems, want %d", n, maxProblems)
	}
}

func TestExactInt(t *testing.T) {
	for token, want := range map[string]int64{
		"0": 0, "-0": 0, "0.0": 0, "0e9999999999": 0, "12": 12, "12.0": 12, "1.2e1": 12, "1200e-2": 12, "-1E+3": -1000,
		"9223372036854775807": 1<<63 - 1, "-9223372036854775808": -1 << 63, "922337203685477580.7e1": 1<<63 - 1,
		"10000000000000000000000e-20": 100,
	} {
		if got, err := exactInt(token); err != nil || got != want {
			t.Errorf("exactInt(%s) = %d, %v, want %d", token, got, err, want)
		}
	}
}

type validated struct {
	From int `json:"from"`
	To   int `json:"to"`
}

func (v *validated) Validate() error {
	if v.From > v.To {
		return errors.Join(
			fmt.Errorf("range: %w", &AttributeError{Path: []string{"to"}, Summary: "is before from"}), errors.New("plain"))
	}
	if v.From < 0 {
		return errors.New("negative")
	}
	return nil
}

func TestValidator(t *testing.T) {
	n := mustDescribe[validated](useConfig)
	for data, want := range map[string]string{
		`{"from":1,"to":2}`:  "",
		`{"from":2,"to":1}`:  "to: is before from\nplain",
		`{"from":-1,"to":1}`: "negative",
	} {
		_, err := decodeConfig[validated](n, []byte(data))
		if got := fmt.Sprint(errors.Join(err)); want == "" && err != nil || want != "" && got != want {
			t.Errorf("%s: got %v, want %v", data, err, want)
		}
		if want != "" && !HasAttributeError(err) {
			t.Errorf("%s: %v is no attribute error", data, err)
		}
	}
}

func TestAttributeErrors(t *testing.T) {
	a := &AttributeError{Path: []string{"a"}, Summary: "one"}
	b := &AttributeError{Path: []string{"b"}, Summary: "two"}
	plain := errors.New("plain\nsecond line")
	for _, test := range []struct {
		err  error
		want []*AttributeError
	}{
		{nil, nil},
		{a, []*AttributeError{a}},
		{fmt.Errorf("x: %w", a), []*AttributeError{a}},
		{errors.Join(a, fmt.Errorf("y: %w", errors.Join(b, plain))), []*AttributeError{a, b, {Summary: "plain"}}},
		{plain, []*AttributeError{{Summary: "plain"}}},
	} {
		if diff := cmp.Diff(test.want, AttributeErrors(test.err)); diff != "" {
			t.Errorf("%v (-want +got):\n%s", test.err, diff)
		}
	}
}

// What this decoder accepts, encoding/json accepts with the same result; it accepts more (letters in any case, members
// twice, absent and unknown ones).
func FuzzDecode(f *testing.F) {
	type inner struct {
		N *int64         `json:"n"`
		M map[string]any `json:"m,omitempty"`
	}
	type subject struct {
		S string          `json:"s,omitempty"`
		B bool            `json:"b,omitempty"`
		I int32           `json:"i,omitempty"`
		F float64         `json:"f,omitempty"`
		R json.RawMessage `json:"r,omitempty"`
		L []inner         `json:"l,omitempty"`
	}
	for _, seed := range []string{
		`{}`, ` { "s" : "a\u00e9\"\\" } `, `{"i":12,"b":true,"f":-1.5e3}`,
		`{"r":{"a":[1,"]}",{}]},"l":[{"n":null},{"m":{"a":1}}]}`,
		`{"l":[]}`, `null`, `"x`, `{"s":"\ud800"}`, `{"i":1e2}`,
	} {
		f.Add([]byte(seed))
	}
	n, err := derive(reflect.TypeFor[subject](), usePlain)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var got, want subject
		if n.decode(data, reflect.ValueOf(&got).Elem()) != nil || len(data) == 0 {
			return
		}
		dec := json.NewDecoder(bytes.NewReader(data))
		dec.UseNumber()
		dec.DisallowUnknownFields()
		if err := dec.Decode(&want); err != nil {
			var te *json.UnmarshalTypeError
			if errors.As(err, &te) && strings.HasPrefix(te.Value, "number ") {
				return // 1.0 and 1e2 for an integer
			}
			t.Fatalf("accepted %q, encoding/json says %v", data, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("%q (-want +got):\n%s", data, diff)
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	type message struct {
		Object string                     `json:"object"`
		Key    map[string]string          `json:"key"`
		Fields map[string]json.RawMessage `json:"fields"`
	}
	n := mustDescribe[message](useMessage)
	data := []byte(`{"object":"contacts","key":{"hr_external_id":"peopleforce:employee/4101"},"fields":{` +
		`"firstname":"Ada","lastname":"Lovelace","email":"ada@example.com","phone":null,"start":"2026-01-02","salary":1234.50}}`)
	for b.Loop() {
		var m message
		if err := n.decode(data, reflect.ValueOf(&m).Elem()); err != nil {
			b.Fatal(err)
		}
	}
}
