package pluginhost

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/hashicorp/go-hclog"
)

// Bounds of what a plugin writes to its standard error and output.
const (
	maxLine        = 64 << 10 // bytes of one line; the rest is dropped
	linesPerSecond = 1000     // more are dropped and counted
	tailLines      = 50       // kept for a crash report
	maxTailLine    = 512      // bytes of a line there
	headLines      = 12       // of a panic
	maxAttributes  = 32       // of one JSON line
	maxValue       = 4 << 10  // bytes of one attribute's value
)

// processLog takes all that one plugin process writes: it decodes JSON lines of slog and hclog, redacts, limits, and
// emits them under the plugin's name. It keeps the last lines for a crash report. Its methods may be called from any
// goroutine.
type processLog struct {
	out    hclog.Logger
	redact *redactor

	mu      sync.Mutex
	window  time.Time
	count   int // lines emitted in this window
	dropped int // lines not emitted, not yet told
	tail    []string
	next    int // where in tail the next line goes, once it is full
	head    []string
	panics  bool // the rest of the output is a stack trace
}

func newProcessLog(out hclog.Logger, redact *redactor) *processLog {
	return &processLog{out: out, redact: redact}
}

// writer returns a new stream of lines. Streams do not mix within a line.
func (l *processLog) writer() *lineWriter { return &lineWriter{log: l} }

// lineWriter cuts a stream into lines. It never fails.
type lineWriter struct {
	log *processLog
	mu  sync.Mutex
	buf []byte
	cut bool // the line was longer than maxLine
}

// Write implements io.Writer.
func (w *lineWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := len(p)
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			w.add(p)
			break
		}
		w.add(p[:i])
		w.end()
		p = p[i+1:]
	}
	return n, nil
}

func (w *lineWriter) add(p []byte) {
	if room := maxLine - len(w.buf); len(p) > room {
		p, w.cut = p[:room], true
	}
	w.buf = append(w.buf, p...)
}

// flush emits what is left when the stream has ended.
func (w *lineWriter) flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.end()
}

// end emits a line.
func (w *lineWriter) end() {
	if b := bytes.TrimSuffix(w.buf, []byte{'\r'}); len(b) > 0 {
		w.log.line(b, w.cut)
	}
	w.buf, w.cut = w.buf[:0], false
}

// line takes one line. It does not keep b.
func (l *processLog) line(b []byte, cut bool) {
	l.mu.Lock()
	defer l.mu.Unlock()

	level, message, args, decoded := hclog.NoLevel, "", []any(nil), false
	if !l.panics && !cut && b[0] == '{' {
		level, message, args, decoded = decodeLine(b, l.redact)
	}
	if !decoded {
		message = string(b)
		if cut {
			message = l.redact.cut(message) + " …"
		} else {
			message = l.redact.text(message)
		}
		level = hclog.Info
		if strings.HasPrefix(message, "panic: ") || strings.HasPrefix(message, "fatal error: ") {
			l.panics = true
		}
		if l.panics {
			level = hclog.Error
			if len(l.head) < headLines {
				l.head = append(l.head, clip(message, maxTailLine))
			}
		}
	}
	if !l.panics {
		l.keep(message, args)
	}
	if level < l.out.GetLevel() {
		return
	}
	if !l.admit(time.Now()) {
		return
	}
	l.out.Log(level, clean(message), args...)
}

// admit reports whether one more line fits into this second, and tells how many did not fit into the last.
func (l *processLog) admit(now time.Time) bool {
	if now.Sub(l.window) >= time.Second {
		l.tellDropped()
		l.window, l.count = now, 0
	}
	l.count++
	if l.count > linesPerSecond {
		l.dropped++
		return false
	}
	return true
}

func (l *processLog) tellDropped() {
	if l.dropped > 0 {
		l.out.Warn("the plugin wrote too many log lines, some were dropped", "lines", l.dropped)
		l.dropped = 0
	}
}

// close tells what is left to tell.
func (l *processLog) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tellDropped()
}

func (l *processLog) keep(message string, args []any) {
	var b strings.Builder
	b.WriteString(message)
	for i := 0; i+1 < len(args) && b.Len() < maxTailLine; i += 2 {
		fmt.Fprintf(&b, " %v=%v", args[i], args[i+1])
	}
	line := clip(b.String(), maxTailLine)
	if len(l.tail) < tailLines {
		l.tail = append(l.tail, line)
		return
	}
	l.tail[l.next] = line
	l.next = (l.next + 1) % tailLines
}

// lastWords returns the last lines, oldest first, and the beginning of the panic, if there was one.
func (l *processLog) lastWords() (tail, panicHead []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	tail = slices.Concat(l.tail[l.next:], l.tail[:l.next])
	return tail, slices.Clone(l.head)
}

// decodeLine understands a JSON object with a message under "msg" (slog) or "@message" (hclog). Anything else, and a
// message that is no text, is not decoded: the line is then shown as it is.
func decodeLine(b []byte, redact *redactor) (level hclog.Level, message string, args []any, ok bool) {
	var fields map[string]json.RawMessage
	if json.Unmarshal(b, &fields) != nil {
		return 0, "", nil, false
	}
	text := func(keys ...string) (string, bool) {
		for _, k := range keys {
			var s *string
			if raw, there := fields[k]; there && json.Unmarshal(raw, &s) == nil && s != nil {
				delete(fields, k)
				return *s, true
			}
		}
		return "", false
	}
	if message, ok = text("msg", "@message"); !ok {
		return 0, "", nil, false
	}
	name, _ := text("level", "@level")
	level = parseLevel(name)
	for _, k := range []string{"time", "@timestamp", "@module", "@caller"} {
		delete(fields, k)
	}
	keys := make([]string, 0, len(fields))
	for k := range fields {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	if len(keys) > maxAttributes {
		keys = keys[:maxAttributes]
	}
	args = make([]any, 0, 2*len(keys))
	for _, k := range keys {
		// A name that begins with "@" could take the place of the log's own fields.
		name := clip(clean(redact.text(strings.TrimLeft(k, "@"))), 64)
		var s string
		if json.Unmarshal(fields[k], &s) != nil {
			s = string(fields[k])
		}
		args = append(args, name, clip(clean(redact.text(s)), maxValue))
	}
	return level, redact.text(message), args, true
}

// parseLevel knows the names of slog ("WARN", "DEBUG-4", "ERROR+1") and hclog. Unknown ones are info.
func parseLevel(s string) hclog.Level {
	base, offset := strings.ToLower(s), ""
	if i := strings.IndexAny(base, "+-"); i >= 0 {
		base, offset = base[:i], base[i:]
	}
	switch base {
	case "trace":
		return hclog.Trace
	case "debug":
		if strings.HasPrefix(offset, "-") {
			return hclog.Trace
		}
		return hclog.Debug
	case "warn", "warning":
		return hclog.Warn
	case "error", "fatal", "panic":
		return hclog.Error
	}
	return hclog.Info
}

// clean makes foreign text fit for a log and a terminal: no control characters, valid UTF-8.
func clean(s string) string {
	plain := true
	for i := range len(s) {
		if s[i] < ' ' || s[i] >= 0x7f {
			plain = false
			break
		}
	}
	if plain {
		return s
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t' || r == '\n' || r == '\r':
			return ' '
		case unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r):
			return utf8.RuneError
		}
		return r
	}, s)
}

// clip cuts a text to at most n bytes, at a character's border.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}
