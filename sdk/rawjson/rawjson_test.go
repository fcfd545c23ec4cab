package rawjson_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/grapnelhq/grapnel/sdk/rawjson"
)

func TestMembers(t *testing.T) {
	const text = " {\"id\" : \"a b\",\r\n\t\"n\":-1.50e+2,\"t\":true,\"f\":false,\"z\":null,\"o\":{\"x\":\"}\\\"]\"},\"a\":[1,[2]]," +
		"\"\\u0069d\":2,\"\":\"\"} "
	want := []struct{ name, value string }{
		{"id", `"a b"`}, {"n", "-1.50e+2"}, {"t", "true"}, {"f", "false"}, {"z", "null"}, {"o", `{"x":"}\"]"}`},
		{"a", "[1,[2]]"}, {"id", "2"}, {"", `""`},
	}
	m := rawjson.Members([]byte(text))
	for i, w := range want {
		if !m.Next() {
			t.Fatalf("member %d: %v", i, m.Err())
		}
		if string(m.Name) != w.name || string(m.Value) != w.value || m.Index != i {
			t.Errorf("member %d = %q: %s (index %d), want %q: %s", i, m.Name, m.Value, m.Index, w.name, w.value)
		}
	}
	if m.Next() || m.Err() != nil {
		t.Errorf("after the last: %q, %v", m.Name, m.Err())
	}
}

func TestElements(t *testing.T) {
	var got []string
	e := rawjson.Elements([]byte(`[ 1 , "]" ,{"a":[]},[ ], null]`))
	for e.Next() {
		got = append(got, string(e.Value))
	}
	if want := `1|"]"|{"a":[]}|[ ]|null`; strings.Join(got, "|") != want || e.Err() != nil {
		t.Errorf("got %q, %v, want %q", strings.Join(got, "|"), e.Err(), want)
	}
}

func TestErrors(t *testing.T) {
	tests := []struct {
		text string
		walk func([]byte) *rawjson.Walk
		want string
	}{
		{"", rawjson.Members, "not a JSON object"},
		{"null", rawjson.Members, "not a JSON object"},
		{"[]", rawjson.Members, "not a JSON object"},
		{"{}", rawjson.Elements, "not a JSON array"},
		{"{", rawjson.Members, "malformed JSON at byte 1"},
		{`{"a`, rawjson.Members, "malformed JSON at byte 1"},
		{`{"a\`, rawjson.Members, "malformed JSON at byte 1"},
		{`{"a"`, rawjson.Members, "malformed JSON at byte 4"},
		{`{"a" 1}`, rawjson.Members, "malformed JSON at byte 5"},
		{`{"a":`, rawjson.Members, "malformed JSON at byte 5"},
		{`{"a":}`, rawjson.Members, "malformed JSON at byte 5"},
		{`{"a":1,}`, rawjson.Members, "malformed JSON at byte 7"},
		{`{"a":1]`, rawjson.Members, "malformed JSON at byte 6"},
		{`{"a":1} 2`, rawjson.Members, "malformed JSON at byte 8"},
		{`{"\x":1}`, rawjson.Members, "malformed JSON at byte 1"},
		{`[[1`, rawjson.Elements, "malformed JSON at byte 1"},
		{`[1 2]`, rawjson.Elements, "malformed JSON at byte 3"},
		{`["a`, rawjson.Elements, "malformed JSON at byte 1"},
	}
	for _, tt := range tests {
		w := tt.walk([]byte(tt.text))
		for w.Next() {
		}
		if w.Err() == nil || w.Err().Error() != tt.want {
			t.Errorf("%q: error %v, want %q", tt.text, w.Err(), tt.want)
		}
		if w.Next() || w.Value != nil {
			t.Errorf("%q: goes on after its error", tt.text)
		}
	}
}

func TestValue(t *testing.T) {
	tests := []struct {
		raw    string
		kind   rawjson.Kind
		given  bool
		text   string
		isText bool
		id     string
		isID   bool
	}{
		{raw: "", kind: rawjson.Absent},
		{raw: "?", kind: rawjson.Absent},
		{raw: "null", kind: rawjson.Null},
		{raw: "true", kind: rawjson.Bool, given: true},
		{raw: "-0.10", kind: rawjson.Number, given: true, id: "-0.10", isID: true},
		{raw: `""`, kind: rawjson.String, given: true, isText: true},
		{raw: `"843847 5"`, kind: rawjson.String, given: true, text: "843847 5", isText: true, id: "843847 5", isID: true},
		{raw: `"\u00e9\ud83d\ude42\ud800"`, kind: rawjson.String, given: true, text: "é🙂\uFFFD", isText: true,
			id: "é🙂\uFFFD", isID: true},
		{raw: "\"a\xff\"", kind: rawjson.String, given: true, text: "a\uFFFD", isText: true, id: "a\uFFFD", isID: true},
		{raw: `"`, kind: rawjson.String, given: true},
		{raw: `"\q"`, kind: rawjson.String, given: true},
		{raw: "[]", kind: rawjson.Array, given: true},
		{raw: "{}", kind: rawjson.Object, given: true},
	}
	for _, tt := range tests {
		v := rawjson.Value(tt.raw)
		if v.Kind() != tt.kind || v.Given() != tt.given {
			t.Errorf("%q: kind %v, given %v", tt.raw, v.Kind(), v.Given())
		}
		if s, ok := v.Text(); s != tt.text || ok != tt.isText {
			t.Errorf("%q: text %q, %v", tt.raw, s, ok)
		}
		if s, ok := v.ID(); s != tt.id || ok != tt.isID {
			t.Errorf("%q: id %q, %v", tt.raw, s, ok)
		}
	}
}

func TestGet(t *testing.T) {
	v := rawjson.Root([]byte("\n{\"a\":{\"b\":1,\"b\":2},\"n\":null}\t"))
	for path, want := range map[string]string{"a": `{"b":1,"b":2}`, "a.b": "2", "n": "null", "x": "", "n.x": "", "a.b.c": ""} {
		if got := v.Get(strings.Split(path, ".")...); string(got) != want {
			t.Errorf("%s = %q, want %q", path, got, want)
		}
	}
	if rawjson.Root([]byte(" \n")) != nil {
		t.Error("white space holds a value")
	}
}

// Deep nesting is stepped over in linear time and constant memory.
func TestFollow(t *testing.T) {
	doc := rawjson.Value(`{"a": [1, {"b": "x"}], "": {"0": 2}}`)
	for _, c := range []struct {
		steps []string
		want  string
	}{
		{nil, string(doc)},
		{[]string{"a", "0"}, "1"},
		{[]string{"a", "1", "b"}, `"x"`},
		{[]string{"", "0"}, "2"},
		{[]string{"a", "2"}, ""},
		{[]string{"a", "-1"}, ""},
		{[]string{"a", "00"}, ""},
		{[]string{"a", "b"}, ""},
		{[]string{"a", "0", "b"}, ""},
		{[]string{"c", "d"}, ""},
	} {
		if got := doc.Follow(c.steps...); string(got) != c.want {
			t.Errorf("%q: %s, want %s", c.steps, got, c.want)
		}
	}
}

func TestDeep(t *testing.T) {
	const depth = 1 << 20
	text := `{"a":` + strings.Repeat("[", depth) + strings.Repeat("]", depth) + `}`
	if v := rawjson.Root([]byte(text)).Get("a"); len(v) != 2*depth {
		t.Errorf("%d bytes, want %d", len(v), 2*depth)
	}
	if v := rawjson.Root([]byte(text[:depth])).Get("a"); v != nil {
		t.Errorf("an unclosed array has a value of %d bytes", len(v))
	}
}

// FuzzMembers compares the walk of every well-formed object and array with encoding/json.
func FuzzMembers(f *testing.F) {
	for _, s := range []string{
		`{}`, `[]`, ` { "a" : 1 , "b":[{"c":"}"}]}`, `{"a":"\"","a":2,"\u0061":null}`, `[1,"\\",[[]],{}]`, `{"a":`, `[1,]`,
		"\"\xff\"", `{"a":1}}`, `[-1e5,true,false,null]`, "{\"\xff\":1}",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		members, elements := map[string]rawjson.Value{}, []rawjson.Value{}
		m := rawjson.Members(text)
		for m.Next() {
			members[strings.ToValidUTF8(string(m.Name), "\uFFFD")] = m.Value
			m.Value.Text()
			m.Value.ID()
			m.Value.Get("a", "b")
		}
		e := rawjson.Elements(text)
		for e.Next() {
			elements = append(elements, e.Value)
		}
		// encoding/json replaces invalid UTF-8 byte by byte, which the host never lets through.
		if !json.Valid(text) || !utf8.Valid(text) {
			return
		}
		var object map[string]json.RawMessage
		if rawjson.Root(text).Kind() == rawjson.Object {
			if err := json.Unmarshal(text, &object); err != nil {
				t.Fatal(err)
			}
			if m.Err() != nil || len(object) != len(members) {
				t.Fatalf("%d members, %v, want %d", len(members), m.Err(), len(object))
			}
			for name, want := range object {
				if !bytes.Equal(members[name], want) {
					t.Fatalf("member %q = %s, want %s", name, members[name], want)
				}
			}
		} else if m.Err() == nil {
			t.Fatal("walked the members of what is no object")
		}
		var array []json.RawMessage
		if rawjson.Root(text).Kind() == rawjson.Array {
			if err := json.Unmarshal(text, &array); err != nil {
				t.Fatal(err)
			}
			if e.Err() != nil || len(array) != len(elements) {
				t.Fatalf("%d elements, %v, want %d", len(elements), e.Err(), len(array))
			}
			for i, want := range array {
				if !bytes.Equal(elements[i], want) {
					t.Fatalf("element %d = %s, want %s", i, elements[i], want)
				}
			}
		} else if e.Err() == nil {
			t.Fatal("walked the elements of what is no array")
		}
	})
}

func BenchmarkMembers(b *testing.B) {
	text := []byte(`{"id":"843847 5","operation":"Update","value":{"validFrom":"1900-01-01","list":[` +
		strings.Repeat(`{"amountOfWork":40.0,"unitOfWork":"Hours"},`, 18) + `{}]}}`)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		for m := rawjson.Members(text); m.Next(); {
		}
	}
}
