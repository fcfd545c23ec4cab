package web

import (
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// funcs are the functions of templates.
func (s *Site) funcs() template.FuncMap {
	return template.FuncMap{
		"asset":      s.assets.path,
		"ago":        func(t time.Time) string { return ago(s.now().Sub(t)) },
		"exact":      exact,
		"iso":        func(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) },
		"count":      count,
		"rate":       rate,
		"bytes":      bytesText,
		"millis":     millis,
		"span":       span,
		"tone":       tone,
		"sign":       func(state string) string { return signs[tone(state)] },
		"plural":     plural,
		"cut":        cut,
		"capital":    func(s string) string { return strings.ToUpper(s[:min(1, len(s))]) + s[min(1, len(s)):] },
		"dict":       dict,
		"join":       strings.Join,
		"hasText":    func(s string) bool { return strings.TrimSpace(s) != "" },
		"config":     htmxConfig,
		"status":     statusText,
		"brief":      brief,
		"sum":        sum[string, uint64],
		"short":      short,
		"seconds":    func(s float64) string { return span(time.Duration(s * float64(time.Second))) },
		"sourceName": sourceName,
		"path":       pathText,
		"place":      position,
		"within":     within,
	}
}

// position is where a range of a file begins, as editors and the command's diagnostics write it.
func position(r string) string {
	file, at, ok := cutLast(r, ":")
	line, column, ok2 := strings.Cut(at, ",")
	if !ok || !ok2 {
		return r
	}
	column, _, _ = strings.Cut(column, "-")
	return file + ":" + line + ":" + column
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// within reports whether a page's path belongs to a place of the navigation.
func within(path, href string) bool {
	return path == href || href != "/" && strings.HasPrefix(path, href+"/")
}

// htmxConfig turns off what of htmx a strict policy forbids, and the copies of pages that it keeps in the browser.
func htmxConfig() (string, error) {
	b, err := json.Marshal(map[string]any{
		"allowEval": false, "allowScriptTags": false, "includeIndicatorStyles": false, "selfRequestsOnly": true,
		"historyCacheSize": 0, "historyEnabled": false, "defaultFocusScroll": false,
	})
	return string(b), err
}

// ago says how long a time is past, or ahead where d is negative.
func ago(d time.Duration) string {
	switch {
	case d < 0 && d > -time.Second, d >= 0 && d < time.Second:
		return "now"
	case d < 0:
		return "in " + span(-d)
	default:
		return span(d) + " ago"
	}
}

// span writes a duration in its largest unit, two for hours.
func span(d time.Duration) string {
	switch {
	case d < time.Second:
		return strconv.FormatInt(d.Milliseconds(), 10) + " ms"
	case d < time.Minute:
		return strconv.FormatInt(int64(d/time.Second), 10) + " s"
	case d < time.Hour:
		return strconv.FormatInt(int64(d/time.Minute), 10) + " min"
	case d < 48*time.Hour:
		h, m := int64(d/time.Hour), int64(d%time.Hour/time.Minute)
		if h >= 10 || m == 0 {
			return strconv.FormatInt(h, 10) + " h"
		}
		return fmt.Sprintf("%d h %d min", h, m)
	default:
		return strconv.FormatInt(int64(d/(24*time.Hour)), 10) + " days"
	}
}

// exact is a time in UTC with what it has of milliseconds.
func exact(t time.Time) string {
	return t.UTC().Format("2006-01-02 15:04:05.000 UTC")
}

// millis writes milliseconds.
func millis(ms float64) string {
	switch {
	case ms < 1:
		return strconv.FormatFloat(ms, 'f', 2, 64) + " ms"
	case ms < 10:
		return strconv.FormatFloat(ms, 'f', 1, 64) + " ms"
	case ms < 10_000:
		return strconv.FormatFloat(ms, 'f', 0, 64) + " ms"
	default:
		return span(time.Duration(ms) * time.Millisecond)
	}
}

// rate writes events per second.
func rate(perSecond float64) string {
	switch {
	case perSecond == 0:
		return "0/s"
	case perSecond < 0.1:
		return strconv.FormatFloat(perSecond*60, 'f', 1, 64) + "/min"
	case perSecond < 10:
		return strconv.FormatFloat(perSecond, 'f', 1, 64) + "/s"
	default:
		return count(int64(perSecond+0.5)) + "/s"
	}
}

// count writes any whole number with thin spaces between thousands.
func count(n any) string {
	text := fmt.Sprint(n)
	digits := strings.TrimPrefix(text, "-")
	if len(digits) <= 4 {
		return text
	}
	var b strings.Builder
	b.WriteString(text[:len(text)-len(digits)])
	for i, r := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteRune('\u202f')
		}
		b.WriteRune(r)
	}
	return b.String()
}

func bytesText(n any) string {
	f, err := strconv.ParseFloat(fmt.Sprint(n), 64)
	if err != nil {
		return fmt.Sprint(n)
	}
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	i := 0
	for f >= 1024 && i < len(units)-1 {
		f, i = f/1024, i+1
	}
	if i == 0 {
		return fmt.Sprint(n, " B")
	}
	return strconv.FormatFloat(f, 'f', 1, 64) + " " + units[i]
}

func plural(n any, word string) string {
	if fmt.Sprint(n) == "1" {
		return "1 " + word
	}
	if stem, ok := strings.CutSuffix(word, "y"); ok && !strings.HasSuffix(word, "ey") {
		return count(n) + " " + stem + "ies"
	}
	return count(n) + " " + word + "s"
}

// cut shortens a text to so many characters.
func cut(n int, text string) string {
	text = strings.ToValidUTF8(text, "�")
	if utf8.RuneCountInString(text) <= n {
		return text
	}
	return string([]rune(text)[:n-1]) + "…"
}

// dict makes the data of a part from names and values.
func dict(pairs ...any) (map[string]any, error) {
	if len(pairs)%2 != 0 {
		return nil, errors.New("dict takes names and values")
	}
	m := map[string]any{}
	for i := 0; i < len(pairs); i += 2 {
		name, ok := pairs[i].(string)
		if !ok {
			return nil, fmt.Errorf("dict: %v is no name", pairs[i])
		}
		m[name] = pairs[i+1]
	}
	return m, nil
}

// The tones of states.
const (
	toneGood = "good"
	toneBusy = "busy"
	toneWarn = "warn"
	toneBad  = "bad"
	toneCalm = "calm"
)

// signs stand beside the words of states.
var signs = map[string]string{toneGood: "✓", toneBusy: "◷", toneWarn: "!", toneBad: "✕", toneCalm: "–"}

// tone says how a state of anything is to look.
func tone(state string) string {
	switch state {
	case "delivered", "routed", "working", "ready", "ok", "done", "sends", "accepted", "replayed", "retried", "stored",
		"matched", "would be sent", "applied":
		return toneGood
	case "pending", "leased", "received", "starting", "draining", "probing", "checking", "retry":
		return toneBusy
	case "paused", "suspended", "failing", "backoff", "on hold", "degraded", "unrouted", "warning", "clearing":
		return toneWarn
	case "dead", "down", "failed", "crashed", "rejected", "refused", "firing", "error", "fails", "invalid":
		return toneBad
	default:
		return toneCalm
	}
}
