package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	maxAnswer     = 1 << 20 // bytes of an answer that are read
	maxWords      = 300     // bytes of the far end's own words in a reason
	defaultPause  = 5 * time.Second
	longestAfter  = 24 * time.Hour // what the host takes at most
	maxErrorWord  = 64
	maxErrorNotes = 5
)

// answer is what came back for a request.
type answer struct {
	status int
	after  time.Duration // Retry-After, 0: none
	sent   bool          // the request was written, whatever became of it
	err    error         // there is no whole answer; holds no secret

	ok       bool   // the message is posted
	word     string // Slack's word for what is wrong, "" if there is none
	details  string // what else it says
	channel  string // Web API: of the message
	ts       string
	threadTS string
	warnings string
	scopes   string // Web API: what the token may do, if it was said
}

// readHook reads what a webhook answers: "ok", or one word and a status that tells.
func readHook(status int, header http.Header, body []byte, now time.Time) answer {
	a := answer{status: status, sent: true, after: retryAfter(header.Get("Retry-After"), now)}
	text := strings.TrimSpace(string(body))
	switch {
	case status/100 == 2 && text == "ok":
		a.ok = true
	case strings.HasPrefix(text, "{"):
		a.readEnvelope(body)
	case isWord(text):
		a.word = text
	default:
		a.details = excerpt(header, text)
	}
	return a
}

// readAPI reads what the Web API answers: mostly a 200, and an ok that tells.
func readAPI(status int, header http.Header, body []byte, now time.Time) answer {
	a := answer{
		status: status, sent: true, after: retryAfter(header.Get("Retry-After"), now), scopes: header.Get("X-OAuth-Scopes"),
	}
	if !a.readEnvelope(body) {
		a.details = excerpt(header, string(body))
	}
	return a
}

// readEnvelope reads a JSON answer; false: it is none of Slack's. Members are read one by one, and one that is not as
// documented is as if it were not there: where ok says that the message is posted, to post it again would be worse.
func (a *answer) readEnvelope(body []byte) bool {
	var members map[string]json.RawMessage
	if json.Unmarshal(body, &members) != nil {
		return false
	}
	read := func(name string, v any) { _ = json.Unmarshal(members[name], v) }
	ok := string(members["ok"])
	if ok != "true" && ok != "false" {
		return false
	}
	read("channel", &a.channel)
	read("ts", &a.ts)
	read("warning", &a.warnings)
	a.warnings = clean(a.warnings, maxWords)
	var message struct {
		ThreadTS string `json:"thread_ts"`
	}
	read("message", &message)
	a.threadTS = message.ThreadTS
	if ok == "true" {
		a.ok = a.status/100 == 2
		return true
	}
	var details []string
	if read("error", &a.word); !isWord(a.word) {
		details, a.word = append(details, a.word), ""
	}
	var needed, provided string
	if read("needed", &needed); needed != "" {
		read("provided", &provided)
		details = append(details, fmt.Sprintf("needed: %s, provided: %s", needed, provided))
	}
	var metadata struct {
		Messages []string `json:"messages"`
	}
	read("response_metadata", &metadata)
	details = append(details, metadata.Messages[:min(len(metadata.Messages), maxErrorNotes)]...)
	a.details = clean(strings.Join(details, "; "), maxWords)
	var after json.Number
	if read("retry_after", &after); a.after == 0 {
		s, _ := after.Float64() // 0 where there is none
		a.after = seconds(s)
	}
	return true
}

// isWord reports whether a text is such as Slack's words for errors are.
func isWord(s string) bool {
	if s == "" || len(s) > maxErrorWord {
		return false
	}
	for _, c := range []byte(s) {
		if c != '_' && c != '.' && (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return s != "ok"
}

// excerpt is the beginning of an answer that is not Slack's, unless it is a page.
func excerpt(header http.Header, text string) string {
	if strings.Contains(header.Get("Content-Type"), "html") || strings.HasPrefix(strings.TrimSpace(text), "<") {
		return "a page of HTML"
	}
	return clean(text, maxWords)
}

// retryAfter reads the header in both of its forms; 0: it says nothing that can be used.
func retryAfter(text string, now time.Time) time.Duration {
	text = strings.TrimSpace(text)
	if s, err := strconv.ParseFloat(text, 64); err == nil {
		return seconds(s)
	}
	if at, err := http.ParseTime(text); err == nil {
		return min(max(at.Sub(now), 0), longestAfter)
	}
	return 0
}

func seconds(s float64) time.Duration {
	if !(s > 0) { // also what is no number
		return 0
	}
	return time.Duration(min(s, longestAfter.Seconds()) * float64(time.Second))
}
