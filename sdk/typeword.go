package sdk

import "strings"

// MaxTypeWord is the length that TypeWord cuts at.
const MaxTypeWord = 64

// TypeWord makes one part of an event type of a provider's own word, which may be anything: lower case, only a-z, 0-9 and
// "_" (every other byte becomes "_", so also "-" and "."), no white space around it, at most MaxTypeWord bytes. It is empty
// only for a word that is empty or white space; a type has no empty part, so the caller has another word for that case.
func TypeWord(word string) string {
	word = strings.TrimSpace(word)
	if len(word) > MaxTypeWord {
		word = word[:MaxTypeWord]
	}
	clean := true
	for i := 0; i < len(word) && clean; i++ {
		clean = isTypeByte(word[i])
	}
	if clean {
		return word
	}
	b := []byte(word)
	for i, c := range b {
		switch {
		case c >= 'A' && c <= 'Z':
			b[i] = c + ('a' - 'A')
		case !isTypeByte(c):
			b[i] = '_'
		}
	}
	return string(b)
}

func isTypeByte(c byte) bool { return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '_' }
