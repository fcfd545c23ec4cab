package sample

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/grapnelhq/grapnel/core/jsonscan"
)

func TestPointer(t *testing.T) {
	for path, want := range map[string]string{
		"a": "/a", "data.first_name": "/data/first_name", "items[0].id": "/items/0/id", "m[1][2]": "/m/1/2",
		"/data/a.b": "/data/a.b", "a/b.c~": "/a~1b/c~0", "items.0.id": "/items/0/id",
		"": "!", "a..b": "!", ".a": "!", "a[x]": "!", "a[0": "!", "a[]": "!",
	} {
		got, err := Pointer(path)
		if err != nil {
			got = "!"
		}
		if got != want {
			t.Errorf("Pointer(%q) = %q, %v, want %q", path, got, err, want)
		}
	}
}

func TestEdit(t *testing.T) {
	const body = `{ "a": {"b": 1.50, "c": [1, {"d": "x"} ,3]},  "n": null, "e": {}, "l": [ ] }`
	for _, tt := range []struct{ pointer, value, want string }{
		{"/a/b", `"new"`, `{ "a": {"b": "new", "c": [1, {"d": "x"} ,3]},  "n": null, "e": {}, "l": [ ] }`},
		{"/a/c/1/d", `{}`, `{ "a": {"b": 1.50, "c": [1, {"d": {}} ,3]},  "n": null, "e": {}, "l": [ ] }`},
		{"/a/new", `1`, `{ "a": {"b": 1.50, "c": [1, {"d": "x"} ,3],"new":1},  "n": null, "e": {}, "l": [ ] }`},
		{"/e/x~1y", `1`, `{ "a": {"b": 1.50, "c": [1, {"d": "x"} ,3]},  "n": null, "e": {"x/y":1}, "l": [ ] }`},
		{"/n/x/y", `1`, `{ "a": {"b": 1.50, "c": [1, {"d": "x"} ,3]},  "n": {"x":{"y":1}}, "e": {}, "l": [ ] }`},
		{"/l/0", `1`, `{ "a": {"b": 1.50, "c": [1, {"d": "x"} ,3]},  "n": null, "e": {}, "l": [1] }`},
		{"/a/c/-", `4`, `{ "a": {"b": 1.50, "c": [1, {"d": "x"} ,3,4]},  "n": null, "e": {}, "l": [ ] }`},
		{"", `[]`, `[]`},
		{"/a/c/7", `4`, "!/a/c is a list of 3, so \"7\" is no place in it"},
		{"/a/b/c", `4`, "!/a/b is neither an object nor a list"},
		{"/a/b", ``, `{ "a": { "c": [1, {"d": "x"} ,3]},  "n": null, "e": {}, "l": [ ] }`},
		{"/a/c", ``, `{ "a": {"b": 1.50},  "n": null, "e": {}, "l": [ ] }`},
		{"/a/c/0", ``, `{ "a": {"b": 1.50, "c": [ {"d": "x"} ,3]},  "n": null, "e": {}, "l": [ ] }`},
		{"/a/c/1", ``, `{ "a": {"b": 1.50, "c": [1 ,3]},  "n": null, "e": {}, "l": [ ] }`},
		{"/a/c/2", ``, `{ "a": {"b": 1.50, "c": [1, {"d": "x"}]},  "n": null, "e": {}, "l": [ ] }`},
		{"/a/c/1/d", ``, `{ "a": {"b": 1.50, "c": [1, {} ,3]},  "n": null, "e": {}, "l": [ ] }`},
		{"/l", ``, `{ "a": {"b": 1.50, "c": [1, {"d": "x"} ,3]},  "n": null, "e": {} }`},
		{"/a/bb", ``, "!there is nothing at /a/bb to remove; in /a there are b, c"},
		{"/x/y", ``, "!there is nothing at /x/y to remove; in the body there are a, n, e, l"},
		{"", ``, "!the whole body"},
	} {
		check(t, body, false, tt.pointer, tt.value, tt.want)
	}
	check(t, `{"a":`, false, "/a", "1", "!the body is no JSON")
	const form = `id=1&payload=%7B%22a%22%3A%22x%22%7D&two=1&two=2`
	for _, tt := range []struct{ pointer, value, want string }{
		{"/id", `"a b"`, `id=a+b&payload=%7B%22a%22%3A%22x%22%7D&two=1&two=2`},
		{"/id", `42`, `id=42&payload=%7B%22a%22%3A%22x%22%7D&two=1&two=2`},
		{"/payload/a", `2`, `id=1&payload=%7B%22a%22%3A2%7D&two=1&two=2`},
		{"/new", `"&"`, `id=1&payload=%7B%22a%22%3A%22x%22%7D&two=1&two=2&new=%26`},
		{"/payload/a", ``, `id=1&payload=%7B%7D&two=1&two=2`},
		{"/payload", ``, `id=1&two=1&two=2`},
		{"/id", ``, `payload=%7B%22a%22%3A%22x%22%7D&two=1&two=2`},
		{"/two", `1`, `!2 fields of the form are named "two"`},
		{"/none", ``, `!the form has no field "none"`},
		{"/id/x", `1`, `!in the field "id": the body`},
		{"", `1`, "!the body is a form"},
	} {
		check(t, form, true, tt.pointer, tt.value, tt.want)
	}
}

func check(t *testing.T, body string, form bool, pointer, value, want string) {
	t.Helper()
	before := []byte("...." + body) // a body may be a part of something
	in := before[4:]
	var got []byte
	var err error
	if value == "" {
		got, err = Remove(in, form, pointer)
	} else {
		got, err = Set(in, form, pointer, []byte(value))
	}
	text := string(got)
	if err != nil {
		text = "!" + err.Error()
	}
	if text != want && (err == nil || !strings.HasPrefix(text, want)) {
		t.Errorf("%q = %q: got\n%s\nwant\n%s", pointer, value, text, want)
	}
	if string(in) != body {
		t.Errorf("%q: the original is changed to %s", pointer, in)
	}
	if err == nil && !form && !json.Valid(got) {
		t.Errorf("%q: no JSON: %s", pointer, got)
	}
}

// FuzzEdit checks that what is edited stays JSON, that what was set is there and that what was removed is not.
func FuzzEdit(f *testing.F) {
	f.Add(`{"a":{"b":[1,2]}}`, "/a/b/1", `"x"`)
	f.Add(`[ 1 , 2 ]`, "/-", `{}`)
	f.Add(`{"a":null}`, "/a/b/c", `1`)
	f.Fuzz(func(t *testing.T, body, pointer, value string) {
		lim := jsonscan.DefaultLimits()
		if jsonscan.Check([]byte(body), lim) != nil || jsonscan.Check([]byte(value), lim) != nil {
			return
		}
		if pointer != "" && pointer[0] != '/' {
			return
		}
		value = string(jsonscan.Trim([]byte(value)))
		if out, err := Set([]byte(body), false, pointer, []byte(value)); err == nil {
			if !json.Valid(out) {
				t.Fatalf("set %q: no JSON: %s", pointer, out)
			}
			got, ok := jsonscan.Lookup(out, pointer, false)
			if !strings.HasSuffix(pointer, "/-") && (!ok || string(got) != value) {
				t.Fatalf("set %q to %s: it is %s in %s", pointer, value, got, out)
			}
		}
		if out, err := Remove([]byte(body), false, pointer); err == nil && !json.Valid(out) {
			t.Fatalf("remove %q: no JSON: %s", pointer, out)
		}
	})
}
