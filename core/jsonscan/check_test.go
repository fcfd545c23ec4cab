package jsonscan

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

// sample has the shape and size of an ordinary webhook.
const sample = `{"action":"employee.created","id":"4f1c0d3e-8a53-4d0e-9a0c-9f2f3f1d7a11","data":{"id":4101,` +
	`"attributes":{"first_name":"Zoë","last_name":"O'Neil-Łukasz","full_name":"Zoë O'Neil-Łukasz",` +
	`"email":"zoe@example.com","hired_on":"2026-03-01","probation_ends_on":null,"active":true,"fte":40.0,` +
	`"note":"line one\nline \"two\"","avatar_url":"https:\/\/cdn.example.com\/a\/4101.png"},` +
	`"department":{"id":12,"name":"People & Culture"},"position":{"id":77,"name":"Recruiter"},` +
	`"location":{"id":3,"name":"Gdańsk","country_code":"PL"},"reporting_to":{"id":3999,"full_name":"Ann Example",` +
	`"email":"ann@example.com"},"fields":{"12":{"label":"Shirt","value":"M"},"13":{"label":"Diet","value":null}},` +
	`"tags":["new","remote","1e2"],"created_at":"2026-02-14T09:30:00.000Z","updated_at":"2026-02-14T09:30:00.000Z"},` +
	`"performed_by":{"id":1,"full_name":"Admin"},"performed_at":"2026-02-14T09:30:01.123+01:00"}`

func TestCheck(t *testing.T) {
	long := func(head, unit string, n int, tail string) string { return head + strings.Repeat(unit, n) + tail }
	manyKeys := func(n int) string {
		var b strings.Builder
		b.WriteByte('{')
		for i := range n {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(`"k` + strconv.Itoa(i) + `":0`)
		}
		b.WriteByte('}')
		return b.String()
	}
	tests := []struct {
		name   string
		in     string
		cause  string // "" passes
		offset int
	}{
		{"sample", sample, "", 0},
		{"words", `[true,false,null]`, "", 0},
		{"scalars alone", ` -0.5e+3 `, "", 0},
		{"string alone", `"x"`, "", 0},
		{"empty object", `{ }`, "", 0},
		{"empty array", "[\r\n\t]", "", 0},
		{"duplicate keys", `{"a":1,"a":2}`, "", 0},
		{"lone surrogates", `["\ud800","\udc00\ud800x","\ud83d\ude00"]`, "", 0},
		{"beyond the basic plane", `"😀 and DEL \u007f ` + "\x7f" + `"`, "", 0},
		{"greatest float64 in full", "[1" + strings.Repeat("0", 308) + "]", "", 0},
		{"leading zeros in exponent", "1e" + strings.Repeat("0", 1000) + "5", "", 0},
		{"depth 64", long("", "[", 64, strings.Repeat("]", 64)), "", 0},

		{"nothing", ``, CauseSyntax, 0},
		{"white space", "  \n", CauseSyntax, 3},
		{"byte order mark", "\xef\xbb\xbf{}", CauseSyntax, 0},
		{"two values", `{} {}`, CauseSyntax, 3},
		{"trailing comma", `[1,]`, CauseSyntax, 3},
		{"trailing comma in object", `{"a":1,}`, CauseSyntax, 7},
		{"missing comma", `[1 2]`, CauseSyntax, 3},
		{"missing colon", `{"a" 1}`, CauseSyntax, 5},
		{"unquoted key", `{a:1}`, CauseSyntax, 1},
		{"single quotes", `{'a':1}`, CauseSyntax, 1},
		{"mismatched", `{"a":[1}`, CauseSyntax, 7},
		{"closer alone", `]`, CauseSyntax, 0},
		{"cut in string", `{"a":"b`, CauseSyntax, 7},
		{"cut in escape", `"\`, CauseSyntax, 2},
		{"cut in word", `tru`, CauseSyntax, 3},
		{"wrong word", `[trve]`, CauseSyntax, 3},
		{"NaN", `NaN`, CauseSyntax, 0},
		{"leading zero", `01`, CauseSyntax, 1},
		{"plus", `+1`, CauseSyntax, 0},
		{"no fraction", `1.`, CauseSyntax, 2},
		{"no integer", `.5`, CauseSyntax, 0},
		{"no exponent", `1e`, CauseSyntax, 2},
		{"minus alone", `-`, CauseSyntax, 1},
		{"hexadecimal", `0x10`, CauseSyntax, 1},
		{"comment", `{/**/}`, CauseSyntax, 1},
		{"bad escape", `"\x41"`, CauseSyntax, 1},
		{"bad unicode escape", `"\u12g4"`, CauseSyntax, 1},
		{"control character", "\"a\nb\"", CauseSyntax, 2},
		{"control character past a word", "\"0123456789\x00b\"", CauseSyntax, 11},
		{"NUL", "\x00", CauseSyntax, 0},
		{"form feed is no space", "\f1", CauseSyntax, 0},

		{"bad UTF-8", "{\"a\":\"\xff\"}", CauseUTF8, 6},
		{"overlong UTF-8", "\"\xc0\xaf\"", CauseUTF8, 1},
		{"surrogate in UTF-8", "\"0123456\xed\xa0\x80\"", CauseUTF8, 8},
		{"bad UTF-8 outside strings", "[\xff]", CauseSyntax, 1},

		{"depth 65", long("", "[", 65, strings.Repeat("]", 65)), CauseDepth, 64},
		{"10 MB of [", long("", "[", 10<<20, ""), CauseDepth, 64},
		{"10 MB of {\"\":", long("", `{"":`, 10<<18, ""), CauseDepth, 256},
		{"10 MB digits", long("", "9", 10<<20, ""), CauseDigits, 0},
		{"513 digits around the point", "-" + long("", "9", 500, ".") + strings.Repeat("1", 13), CauseDigits, 0},
		{"huge exponent", `[1e1000000]`, CauseExponent, 1},
		{"huge negative exponent", `[1e-401]`, CauseExponent, 1},
		{"overflowing exponent", `1E+99999999999999999999999`, CauseExponent, 0},
		{"50 000 keys", manyKeys(50_000), "", 0},
		{"100 000 keys", manyKeys(100_000), CauseKeys, 538891},
		{"elements", long("[0", ",0", 200_000, "]"), CauseElements, 400_001},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := Check([]byte(tt.in), DefaultLimits())
			if tt.cause == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			e, ok := errors.AsType[*Error](err)
			if !ok {
				t.Fatalf("got %v, want an *Error", err)
			}
			if e.Cause != tt.cause || e.Offset != tt.offset {
				t.Errorf("got cause %s at %d (%v), want %s at %d", e.Cause, e.Offset, err, tt.cause, tt.offset)
			}
			if (e.Limit != 0) != (tt.cause != CauseSyntax && tt.cause != CauseUTF8) {
				t.Errorf("Limit is %d", e.Limit)
			}
		})
	}
}

func TestCheckText(t *testing.T) {
	tests := []struct{ in, want string }{
		{``, "the body is empty: send one JSON value"},
		{`{"a":1`, "invalid JSON: it ends after byte 6 in the middle of a value; send the whole text"},
		{`{"a":secret}`, "invalid JSON at byte 5: a value must start here; send one JSON value (RFC 8259)"},
		{"\"\xff\"", "invalid UTF-8 at byte 1: encode the text as UTF-8, as JSON requires"},
		{"1e999", "JSON beyond limits at byte 0: a number has an exponent beyond ±400; " +
			"send it as a string, or raise the exponent limit"},
	}
	for _, tt := range tests {
		if err := Check([]byte(tt.in), DefaultLimits()); err == nil || err.Error() != tt.want {
			t.Errorf("%q: got %v, want %s", tt.in, err, tt.want)
		}
	}
}

func TestCheckDoesNotAllocate(t *testing.T) {
	b := []byte(sample)
	if n := testing.AllocsPerRun(100, func() { _ = Check(b, DefaultLimits()) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// unlimited is what encoding/json accepts, up to the depth that Check can count.
var unlimited = Limits{MaxDepth: 1024, MaxDigits: 1 << 40, MaxExponent: 1 << 40, MaxKeys: 1 << 40, MaxElements: 1 << 40}

func FuzzCheck(f *testing.F) {
	for _, s := range []string{sample, `{"a":[1,2.5e-3,"\u00e9\ud800"],"b":{}}`, `[[[{"":null}]]]`, "\"\xc3\x28\"", ` -0 `,
		`"aaaaaaaaaaaaaaaaaaaaaaaaa\"\\\/\b\f\n\r\t"`, `01`, `{"a":1,}`, "\"\x1f\"", `[tru]`, `1E+2`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		err := Check(b, unlimited)
		want := json.Valid(b) && utf8.Valid(b)
		if e, ok := errors.AsType[*Error](err); ok {
			if e.Cause == CauseDepth {
				return
			}
			if e.Offset < 0 || e.Offset > len(b) {
				t.Fatalf("offset %d of %d", e.Offset, len(b))
			}
		}
		if (err == nil) != want {
			t.Fatalf("%q: got %v, encoding/json says %v", b, err, want)
		}
		walkAll(t, b, err == nil)
	})
}

// walkAll runs the walkers over b. They must end without a panic on any bytes, and agree with encoding/json on valid
// ones.
func walkAll(t *testing.T, b []byte, valid bool) {
	p := NewPaths()
	p.Add("a")
	p.Add("a", "0")
	p.Add("", "b")
	p.Add("0", "a")
	spans := make([]Span, p.Len())
	p.Extract(b, spans)
	for m := Open(b); m.Next(); {
		Unquote(m.Key)
		Unquote(m.Value)
		Open(m.Value)
	}
	got, found := Lookup(b, "/a", false)
	Lookup(b, "/a/0", true)
	Unquote(b)
	if !valid {
		return
	}
	if end := Skip(b, Space(b, 0)); Space(b, end) != len(b) {
		t.Fatalf("%q: Skip ends at %d", b, end)
	}
	var object map[string]json.RawMessage
	if json.Unmarshal(b, &object) == nil && object != nil {
		want, ok := object["a"]
		if ok != found || !bytes.Equal(Trim(want), got) {
			t.Fatalf("%q: Lookup gives %q %v, want %q %v", b, got, found, want, ok)
		}
		n, _ := p.Add("a")
		s := spans[n]
		if s.Present() != ok || !bytes.Equal(b[s.Start:s.End], got) {
			t.Fatalf("%q: Extract gives %q, Lookup %q", b, b[s.Start:s.End], got)
		}
	}
	var text string
	if tok := Trim(b); tok[0] == '"' && json.Unmarshal(b, &text) == nil {
		if got, ok := Unquote(tok); !ok || got != text {
			t.Fatalf("%q: Unquote gives %q %v, want %q", b, got, ok, text)
		}
		if !KeyIs(tok, text) {
			t.Fatalf("%q is not its own key", b)
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	pretty := new(bytes.Buffer)
	if err := json.Indent(pretty, []byte(sample), "", "  "); err != nil {
		b.Fatal(err)
	}
	for _, bm := range []struct {
		name string
		in   []byte
	}{{"compact", []byte(sample)}, {"indented", pretty.Bytes()}} {
		b.Run(bm.name, func(b *testing.B) {
			b.SetBytes(int64(len(bm.in)))
			b.ReportAllocs()
			for b.Loop() {
				if err := Check(bm.in, DefaultLimits()); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(bm.name+"/encoding-json", func(b *testing.B) {
			b.SetBytes(int64(len(bm.in)))
			for b.Loop() {
				if !json.Valid(bm.in) {
					b.Fatal("invalid")
				}
			}
		})
	}
}
