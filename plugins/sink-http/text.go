package main

import (
	"html"
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxWords is how much of an endpoint's own words stands in a reason, in bytes.
const maxWords = 300

// hidden stands where something was that no error may show.
const hidden = "(sensitive)"

// words are what an endpoint says in the body of an answer: of a page its title, else the text. They are clean, and do
// not tell the configured address: not found pages like to repeat it, and it may be a key.
func (s *sink) words(header http.Header, body []byte) string {
	text := string(body)
	start := asciiLower(strings.TrimSpace(text[:min(len(text), 100)]))
	page := strings.HasPrefix(start, "<!doctype html") || strings.HasPrefix(start, "<html")
	if page || strings.Contains(strings.ToLower(header.Get("Content-Type")), "html") {
		text = title(text)
	}
	for _, part := range s.set.address {
		text = strings.ReplaceAll(text, part, hidden)
	}
	return s.clean(text)
}

// title is the title of a page, or nothing.
func title(page string) string {
	low := asciiLower(page)
	from := strings.Index(low, "<title")
	if from < 0 {
		return ""
	}
	open := strings.IndexByte(low[from:], '>')
	if open < 0 {
		return ""
	}
	from += open + 1
	text, _, _ := strings.Cut(page[from:], "<")
	return html.UnescapeString(text)
}

// asciiLower keeps every index, unlike strings.ToLower.
func asciiLower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// clean makes a foreign text fit for a reason: no secrets, no control characters, blanks for white space, 300 bytes.
func (s *sink) clean(text string) string {
	for _, secret := range s.secretTexts() {
		text = strings.ReplaceAll(text, secret, hidden)
	}
	var b strings.Builder
	blank := false
	for _, r := range text { // bytes that are no UTF-8 come as U+FFFD
		if unicode.IsSpace(r) || unicode.IsControl(r) || unicode.Is(unicode.Cf, r) {
			blank = b.Len() > 0
			continue
		}
		if blank {
			b.WriteByte(' ')
			blank = false
		}
		if b.Len()+utf8.RuneLen(r) > maxWords {
			b.WriteString("…")
			break
		}
		b.WriteRune(r)
	}
	return b.String()
}
