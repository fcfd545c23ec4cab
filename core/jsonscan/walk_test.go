package jsonscan

import (
	"testing"
)

func TestLookup(t *testing.T) {
	const doc = ` {"a":{"b":[10,{"c":"x"},null]},"m~n":1,"s/t":2,"":3,"Event":{"ID":"7"},"event":{"id":"8"},` +
		`"dup":{"x":1},"dup":{"y":2},"\u0061b":4,"n":null,"str":"/"} `
	tests := []struct {
		pointer string
		fold    bool
		want    string
		ok      bool
	}{
		{"", false, doc[1 : len(doc)-1], true},
		{"/a/b/0", false, "10", true},
		{"/a/b/1/c", false, `"x"`, true},
		{"/a/b/2", false, "null", true},
		{"/a/b/3", false, "", false},
		{"/a/b/00", false, "", false},
		{"/a/b/-", false, "", false},
		{"/a/b/99999999999999999999", false, "", false},
		{"/a/x/c", false, "", false},
		{"/m~0n", false, "1", true},
		{"/s~1t", false, "2", true},
		{"/", false, "3", true},
		{"/event/id", false, `"8"`, true},
		{"/Event/ID", false, `"7"`, true},
		{"/EVENT/Id", true, `"8"`, true},
		{"/EVENT/Id", false, "", false},
		{"/dup/y", false, "2", true},
		{"/dup/x", false, "", false},
		{"/ab", false, "4", true},
		{"/AB", true, "4", true},
		{"/n", false, "null", true},
		{"/n/x", false, "", false},
		{"/str/0", false, "", false},
		{"a", false, "", false},
	}
	for _, tt := range tests {
		raw, ok := Lookup([]byte(doc), tt.pointer, tt.fold)
		if string(raw) != tt.want || ok != tt.ok {
			t.Errorf("%q (fold %v): got %q, %v; want %q, %v", tt.pointer, tt.fold, raw, ok, tt.want, tt.ok)
		}
	}
}

func TestUnquote(t *testing.T) {
	tests := []struct {
		raw, want string
		ok        bool
	}{
		{`""`, "", true},
		{`"abc"`, "abc", true},
		{`"\"\\\/\b\f\n\r\t"`, "\"\\/\b\f\n\r\t", true},
		{`"\u00e9\u20AC"`, "é€", true},
		{`"\ud83d\ude00!"`, "😀!", true},
		{`"\ud83d"`, "\ufffd", true},
		{`"\ude00\ud83dx"`, "\ufffd\ufffdx", true},
		{`"\ud83d\u0041"`, "\ufffdA", true},
		{`abc`, "", false},
		{`"`, "", false},
		{`12`, "", false},
		{``, "", false},
	}
	for _, tt := range tests {
		if got, ok := Unquote([]byte(tt.raw)); got != tt.want || ok != tt.ok {
			t.Errorf("%s: got %q, %v; want %q, %v", tt.raw, got, ok, tt.want, tt.ok)
		}
	}
}

func TestKeyIs(t *testing.T) {
	tests := []struct {
		raw, name string
		want      bool
	}{
		{`"a"`, "a", true},
		{`"a"`, "b", false},
		{`"a"`, "", false},
		{`""`, "", true},
		{`"\u0061"`, "a", true},
		{`"\n\n"`, "\n\n", true},
		{`"\n\n"`, `\n\n`, false},
		{`"\ud800"`, "\ufffd", true},
	}
	for _, tt := range tests {
		if got := KeyIs([]byte(tt.raw), tt.name); got != tt.want {
			t.Errorf("KeyIs(%s, %q) = %v", tt.raw, tt.name, got)
		}
	}
}

func TestMembers(t *testing.T) {
	tests := []struct{ in, want string }{
		{`{"a":1 , "b" : [2,{}] }`, `"a"=1;"b"=[2,{}];`},
		{`[ "x", [ ], {"y":"]"} ]`, `="x";=[ ];={"y":"]"};`},
		{`{}`, ``},
		{`[]`, ``},
		{`"{}"`, ``},
		{``, ``},
	}
	for _, tt := range tests {
		got := ""
		for m := Open([]byte(tt.in)); m.Next(); {
			got += string(m.Key) + "=" + string(m.Value) + ";"
		}
		if got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.in, got, tt.want)
		}
	}
}

func TestPaths(t *testing.T) {
	tests := []struct {
		in   string
		path []string
		want string // "" is absent
	}{
		{sample, nil, sample},
		{sample, []string{"data", "department", "name"}, `"People & Culture"`},
		{sample, []string{"data", "attributes", "fte"}, `40.0`},
		{sample, []string{"data", "attributes", "probation_ends_on"}, `null`},
		{sample, []string{"data", "attributes", "probation_ends_on", "x"}, ``},
		{sample, []string{"data", "tags", "2"}, `"1e2"`},
		{sample, []string{"data", "tags", "3"}, ``},
		{sample, []string{"data", "tags", "x"}, ``},
		{sample, []string{"data", "fields", "12", "value"}, `"M"`},
		{sample, []string{"nope"}, ``},
		{`{"a":{"b":1},"a":{"c":2}}`, []string{"a", "b"}, ``},
		{`{"a":{"b":1},"a":{"c":2}}`, []string{"a", "c"}, `2`},
		{`{"a":{"b":1},"a":3}`, []string{"a", "b"}, ``},
		{`{"\u0061":{"\n":1}}`, []string{"a", "\n"}, `1`},
		{`[[1,2],[3,[4,5]]]`, []string{"1", "1", "0"}, `4`},
		{`[0,1,2,3,4,5,6,7,8,9,10,11,12]`, []string{"12"}, `12`},
		{` 7 `, nil, `7`},
		{``, nil, ``},
	}
	all := NewPaths()
	for _, tt := range tests {
		if _, ok := all.Add(tt.path...); !ok {
			t.Fatal("path refused")
		}
	}
	spans := make([]Span, all.Len())
	for _, tt := range tests {
		all.Extract([]byte(tt.in), spans)
		n, _ := all.Add(tt.path...)
		s := spans[n]
		if got := tt.in[s.Start:s.End]; got != tt.want || s.Present() != (tt.want != "") {
			t.Errorf("%v in %s: got %s, want %s", tt.path, tt.in, got, tt.want)
		}
	}
	if len(spans) != all.Len() {
		t.Error("adding a known path made a new one")
	}
	if _, ok := all.Add(make([]string, MaxPathLen+1)...); ok {
		t.Error("a path too long was taken")
	}
}

func BenchmarkExtract(b *testing.B) {
	p := NewPaths()
	for _, path := range [][]string{
		{"action"}, {"data", "id"}, {"data", "attributes", "first_name"}, {"data", "attributes", "last_name"},
		{"data", "attributes", "email"}, {"data", "attributes", "hired_on"}, {"data", "department", "name"},
		{"data", "position", "name"}, {"data", "location", "country_code"}, {"data", "fields", "12", "value"},
	} {
		p.Add(path...)
	}
	spans := make([]Span, p.Len())
	in := []byte(sample)
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		p.Extract(in, spans)
	}
}
