package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSameJSON(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want bool
	}{
		{`{"a":1.50,"b":[null,true]}`, ` {"b":[null,true], "a":1.5e0}`, true},
		{`12345678901234567890.5`, `12345678901234567890.50`, true},
		{`12345678901234567890.5`, `12345678901234567890.6`, false},
		{`"\u00e9"`, `"e\u0301"`, true},
		{`"a"`, `"b"`, false},
		{`[1,2]`, `[2,1]`, false},
		{`[1]`, `[1,1]`, false},
		{`{"a":1}`, `{"a":1,"b":null}`, false},
		{`{"a":1}`, `{"b":1}`, false},
		{`1`, `"1"`, false},
		{`null`, `false`, false},
		{`{}`, `[]`, false},
		{`1`, `1 2`, false},
		{`1`, ``, false},
	} {
		if got := sameJSON([]byte(tt.a), []byte(tt.b)); got != tt.want {
			t.Errorf("%s and %s: %t", tt.a, tt.b, got)
		}
		if got := sameJSON([]byte(tt.b), []byte(tt.a)); got != tt.want {
			t.Errorf("%s and %s: %t", tt.b, tt.a, got)
		}
	}
}

func TestDiffLines(t *testing.T) {
	for _, tt := range []struct{ a, b, want string }{
		{"a b c", "a b c", "  a;  b;  c"},
		{"a b c", "a c d", "  a;- b;  c;+ d"},
		{"", "a", "+ a"},
		{"a", "", "- a"},
		{"a b", "c d", "- a;- b;+ c;+ d"},
	} {
		got := strings.Join(diffLines(strings.Fields(tt.a), strings.Fields(tt.b)), ";")
		if got != tt.want {
			t.Errorf("%q to %q: %q", tt.a, tt.b, got)
		}
	}
	long := strings.Fields(strings.Repeat("x ", 2*maxDiff))
	if got := diffLines(long, long); len(got) != maxDiff {
		t.Errorf("%d lines", len(got))
	}
}

// TestSecretsAreTakenOut checks that a text stays JSON whatever a secret is.
func TestSecretsAreTakenOut(t *testing.T) {
	value := map[string]any{
		"token": "s3cr3t\"<é", "in": "x s3cr3t\"<é y", "number": 1234, "true": true, "key s3cr3t\"<é": "\\",
	}
	got, err := jsonWithout([]string{"s3cr3t\"<é", "1234", "true", "\\\",", "x"}, value)
	if err != nil {
		t.Fatal(err)
	}
	var back map[string]any
	if err := json.Unmarshal(got, &back); err != nil {
		t.Fatalf("%v: %s", err, got)
	}
	want := map[string]any{
		"token": "(sensitive)", "in": "x (sensitive) y", "number": 1234.0, "(sensitive)": true, "key (sensitive)": "\\",
	}
	if diff := cmp.Diff(want, back); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}

	var out strings.Builder
	v := newView(&out, []string{"s3cr3t-long", "abc"})
	v.line(1, "%s|%s", v.text("a s3cr3t-long b"), v.text("abc\x1b[31m\n\xff"))
	v.color = true
	v.line(0, "%s", v.paint(red, "x"))
	if err := v.flush(); err != nil || out.String() != "  a (sensitive) b|abc\ufffd[31m\ufffd\ufffd\n\x1b[31mx\x1b[0m\n" {
		t.Errorf("%q, %v", out.String(), err)
	}
}
