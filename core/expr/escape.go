package expr

import (
	"github.com/grapnelhq/grapnel/sdk"
)

// escapeNeeded reports whether escaping would change text.
func escapeNeeded(text []byte, how sdk.Escape) bool {
	for _, c := range text {
		if escapeOf(c, how) != "" {
			return true
		}
	}
	return false
}

// appendEscaped appends text as the schema's escape asks.
func appendEscaped(dst, text []byte, how sdk.Escape) []byte {
	start := 0
	for i, c := range text {
		if esc := escapeOf(c, how); esc != "" {
			dst = append(dst, text[start:i]...)
			if esc == "%" {
				const digits = "0123456789ABCDEF"
				dst = append(dst, '%', digits[c>>4], digits[c&15])
			} else {
				dst = append(dst, esc...)
			}
			start = i + 1
		}
	}
	return append(dst, text[start:]...)
}

// escapeOf is what stands for a byte: "" for itself, "%" for its percent-encoding.
func escapeOf(c byte, how sdk.Escape) string {
	switch how {
	case sdk.EscapeURL:
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '.', c == '_', c == '~':
			return ""
		}
		return "%"
	case sdk.EscapeHTML, sdk.EscapeSlackMrkdwn:
		switch c {
		case '&':
			return "&amp;"
		case '<':
			return "&lt;"
		case '>':
			return "&gt;"
		}
		if how == sdk.EscapeHTML {
			switch c {
			case '"':
				return "&#34;"
			case '\'':
				return "&#39;"
			}
		}
	}
	return ""
}
