package store

import (
	"bytes"
	"testing"
)

func TestText(t *testing.T) {
	for _, c := range []struct {
		text, body string
		want       bool
	}{
		{"ada", `{"name":"ADA"}`, true},
		{"ADA", `{"name":"Lovelace, Ada"}`, true},
		{"müller", `{"name":"MÜLLER"}`, true},
		{"Müller", `{"name":"M\u00fcller"}`, true},
		{"müller", `{"name":"M\u00DCLLER"}`, true},
		{`M\u00fcller`, `{"name":"Müller"}`, true},
		{"müller", `{"name":"Muller"}`, false},
		{"https://a.example", `{"url":"https:\/\/a.example"}`, true},
		{"😀", `{"text":"\ud83d\ude00"}`, true},
		{"u00fc", `{"text":"\\u00fc"}`, true}, // a backslash, and no letter
		{"ü", `{"text":"\\u00fc"}`, false},
		{"ςίσυφος", "ΣΊΣΥΦΟΣ", true},
		{"a\xffb", "A\xffB", true},
		{`\u00`, `\u00`, true},
		{"", "x", true},
		{"longer than it", "long", false},
	} {
		if got := NewText(c.text).In([]byte(c.body)); got != c.want {
			t.Errorf("%q in %q: %v", c.text, c.body, got)
		}
	}
}

// A text is found in itself, whatever surrounds it that is no part of an escape or of a letter.
func FuzzText(f *testing.F) {
	f.Add([]byte(`{"name":"M\u00fcller \ud83d\ude00 \ud83d \\u00fc \/"}`), []byte("ada"))
	f.Fuzz(func(t *testing.T, body, text []byte) {
		if bytes.Contains(body, text) && bytes.IndexByte(text, '\\') < 0 && bytes.IndexByte(body, '\\') < 0 && isASCII(text) {
			if !NewText(string(text)).In(body) {
				t.Errorf("%q is not found in %q", text, body)
			}
		}
		if !NewText(string(body)).In(body) {
			t.Errorf("%q is not found in itself", body)
		}
	})
}

func isASCII(b []byte) bool { return bytes.IndexFunc(b, func(r rune) bool { return r >= 0x80 }) < 0 }
