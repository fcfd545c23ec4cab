package main

import (
	"strings"
	"unicode/utf8"
)

// length is a text's length as Slack may count it: in UTF-16 units, the most that any of its parts was seen to count.
func length(s string) int {
	n := 0
	for _, r := range s {
		n += units(r)
	}
	return n
}

func units(r rune) int {
	if r > 0xffff {
		return 2
	}
	return 1
}

// cut shortens a text to at most limit units, with … at its end. It cuts between characters and not within an entity
// such as &amp; or a link such as <https://example.com|name>, if that leaves anything.
func cut(s string, limit int) string {
	if len(s) <= limit || length(s) <= limit {
		return s
	}
	if limit < 1 {
		return ""
	}
	end, n := len(s), 0
	for i, r := range s {
		if n += units(r); n > limit-1 {
			end = i
			break
		}
	}
	whole := s[:end]
	if i := strings.LastIndexByte(whole, '<'); i >= 0 && !strings.ContainsAny(whole[i:], ">\n") {
		whole = whole[:i]
	}
	if i := strings.LastIndexByte(whole, '&'); i >= 0 && len(whole)-i < len("&amp;") && !strings.Contains(whole[i:], ";") {
		whole = whole[:i]
	}
	if strings.TrimSpace(whole) == "" {
		whole = s[:end]
	}
	return strings.TrimRight(whole, " \n\t") + "…"
}

// blank reports whether nothing of a text shows.
func blank(s string) bool { return strings.TrimSpace(s) == "" }

// escape does to a literal text what the host does to the event's texts in mrkdwn.
func escape(s string) string { return escaper.Replace(s) }

// unescape undoes it, for places that Slack takes literally.
func unescape(s string) string {
	if !strings.Contains(s, "&") {
		return s
	}
	return unescaper.Replace(s)
}

var (
	escaper   = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")
	unescaper = strings.NewReplacer("&amp;", "&", "&lt;", "<", "&gt;", ">")
)

// clean makes one short line of a text of the far end.
func clean(s string, limit int) string {
	s = strings.ToValidUTF8(s, "\ufffd")
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f && r <= 0x9f }), " ")
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit] + "…"
}
