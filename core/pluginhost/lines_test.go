package pluginhost

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"

	"github.com/grapnelhq/grapnel/sdk"
)

// logBuffer collects a logger's JSON lines.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logBuffer) lines(t *testing.T) []map[string]any {
	t.Helper()
	var out []map[string]any
	for line := range strings.Lines(l.String()) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		out = append(out, m)
	}
	return out
}

func (l *logBuffer) logger(level hclog.Level) hclog.Logger {
	return hclog.New(&hclog.LoggerOptions{Level: level, Output: l, JSONFormat: true, TimeFormat: "-"})
}

func TestLines(t *testing.T) {
	long := strings.Repeat("x", maxLine+100)
	for _, test := range []struct {
		name, in string
		want     []string // level message key=value…
	}{
		{"text", "hello\r\n\nworld", []string{"info hello", "info world"}},
		{"slog", `{"time":"2026-01-01T00:00:00Z","level":"WARN","msg":"careful","b":2,"a":"x","c":{"d":[1]}}`,
			[]string{`warn careful a=x b=2 c={"d":[1]}`}},
		{"slog levels", `{"level":"DEBUG-4","msg":"a"}` + "\n" + `{"level":"DEBUG","msg":"b"}` + "\n" + `{"level":"ERROR+2","msg":"c"}`,
			[]string{"trace a", "debug b", "error c"}},
		{"hclog", `{"@level":"error","@message":"oh","@timestamp":"2026-01-01T00:00:00.000000Z","@module":"m","n":null}`,
			[]string{"error oh n="}},
		{"message is a number", `{"@message":1}`, []string{`info {"@message":1}`}},
		{"level is a number", `{"@message":"ok","@level":7}`, []string{`info ok level=7`}},
		{"message is null", `{"msg":null}`, []string{`info {"msg":null}`}},
		{"array", `[1]`, []string{`info [1]`}},
		{"broken", `{"msg":"x"`, []string{`info {"msg":"x"`}},
		{"own fields are not taken over", `{"msg":"x","@level":"info","@caller":"a","@@module":"y"}`, []string{"info x module=y"}},
		{"control characters", "a\x1b[31mred\x00 \u202e", []string{"info a\uFFFD[31mred\uFFFD \uFFFD"}},
		{"not UTF-8", "a\xffb", []string{"info a\uFFFDb"}},
		{"panic", "before\npanic: boom\n\ngoroutine 1 [running]:\n" + `{"level":"INFO","msg":"part of it"}`,
			[]string{"info before", "error panic: boom", "error goroutine 1 [running]:", `error {"level":"INFO","msg":"part of it"}`}},
		{"secrets", "token s3cr3t/+ and s3cr3t%2F%2B\n" + `{"msg":"s3cr3t/+","k":"<s3cr3t/+>","s3cr3t/+":1,"o":{"x":"s3cr3t/+"}}`,
			[]string{"info token (sensitive) and (sensitive)",
				`info (sensitive) (sensitive)=1 k=<(sensitive)> o={"x":"(sensitive)"}`}},
		{"too long", long + "\nnext", []string{"info " + long[:maxLine-len("s3cr3t%2F%2B")] + " …", "info next"}},
		{"too long, cut within a secret", strings.Repeat("x", maxLine-3) + "s3cr3t/+",
			[]string{"info " + long[:maxLine-len("s3cr3t%2F%2B")] + " …"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, chunk := range []int{1 << 20, 7} {
				var out logBuffer
				r := &redactor{}
				r.add("s3cr3t/+", "no")
				l := newProcessLog(out.logger(hclog.Trace), r)
				w := l.writer()
				for in := []byte(test.in); len(in) > 0; {
					n := min(chunk, len(in))
					if _, err := w.Write(in[:n]); err != nil {
						t.Fatal(err)
					}
					in = in[n:]
				}
				w.flush()
				l.close()
				var got []string
				for _, m := range out.lines(t) {
					s := fmt.Sprint(m["@level"], " ", m["@message"])
					delete(m, "@level")
					delete(m, "@message")
					delete(m, "@timestamp")
					keys := make([]string, 0, len(m))
					for k, v := range m {
						keys = append(keys, fmt.Sprint(k, "=", v))
					}
					for _, k := range sorted(keys) {
						s += " " + k
					}
					got = append(got, s)
				}
				if diff := cmp.Diff(test.want, got); diff != "" {
					t.Errorf("chunks of %d (-want +got):\n%s", chunk, clip(diff, 2000))
				}
			}
		})
	}
}

func sorted(s []string) []string {
	for i := range s {
		for j := i; j > 0 && s[j] < s[j-1]; j-- {
			s[j], s[j-1] = s[j-1], s[j]
		}
	}
	return s
}

func TestLinesBelowTheLevelCostNothing(t *testing.T) {
	var out logBuffer
	l := newProcessLog(out.logger(hclog.Info), &redactor{})
	w := l.writer()
	for range 3 * linesPerSecond {
		_, _ = w.Write([]byte(`{"level":"DEBUG","msg":"x"}` + "\n"))
	}
	_, _ = w.Write([]byte("y\n"))
	l.close()
	if got := len(out.lines(t)); got != 1 {
		t.Errorf("%d lines, want 1", got)
	}
}

func TestFloodIsLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out logBuffer
		l := newProcessLog(out.logger(hclog.Info), &redactor{})
		w := l.writer()
		for second := range 2 {
			for i := range 5000 {
				_, _ = fmt.Fprintf(w, "line %d/%d\n", second, i)
			}
			time.Sleep(time.Second)
		}
		l.close()
		lines := out.lines(t)
		if got, want := len(lines), 2*linesPerSecond+2; got != want {
			t.Errorf("%d lines, want %d", got, want)
		}
		var dropped float64
		for _, m := range lines {
			if n, ok := m["lines"].(float64); ok {
				dropped += n
			}
		}
		if want := float64(2 * (5000 - linesPerSecond)); dropped != want {
			t.Errorf("%v lines told as dropped, want %v", dropped, want)
		}
		tail, _ := l.lastWords()
		if len(tail) != tailLines || tail[tailLines-1] != "line 1/4999" || tail[0] != "line 1/4950" {
			t.Errorf("tail of %d lines, %q … %q", len(tail), tail[0], tail[len(tail)-1])
		}
	})
}

func TestLastWords(t *testing.T) {
	l := newProcessLog(hclog.NewNullLogger(), &redactor{})
	w := l.writer()
	_, _ = w.Write([]byte("working\n" + `{"msg":"soon","n":1}` + "\npanic: " + strings.Repeat("é", 600) + "\n"))
	for i := range 1000 {
		_, _ = fmt.Fprintf(w, "goroutine %d\n", i)
	}
	tail, head := l.lastWords()
	if diff := cmp.Diff([]string{"working", "soon n=1"}, tail); diff != "" {
		t.Error(diff)
	}
	if len(head) != headLines || len(head[0]) > maxTailLine+len("…") || !utf8.ValidString(head[0]) {
		t.Errorf("head of %d lines, the first of %d bytes", len(head), len(head[0]))
	}
}

func FuzzLines(f *testing.F) {
	f.Add([]byte(`{"@message":1}`+"\n"), []byte("secret"))
	f.Add([]byte(`{"@message":"x","@level":1,"@timestamp":[]}`+"\n"), []byte("secret"))
	f.Add([]byte(`{"msg":"x \"secret","level":"WARN","secret":{"secret":"secret"}}`+"\r\npanic: secret"), []byte("x \"secret"))
	f.Fuzz(func(t *testing.T, in, secret []byte) {
		var out logBuffer
		r := &redactor{}
		r.add(string(secret))
		l := newProcessLog(out.logger(hclog.Trace), r)
		w := l.writer()
		_, _ = w.Write(in)
		w.flush()
		l.close()
		_ = out.lines(t)
		tail, head := l.lastWords()
		for _, s := range append(tail, head...) {
			if len(s) > maxTailLine+len("…") {
				t.Errorf("a line of %d bytes is kept", len(s))
			}
			if len(secret) >= minSecret && !strings.Contains(redacted, string(secret)) && strings.Contains(s, string(secret)) &&
				!strings.ContainsAny(string(secret), " =\n\r") {
				t.Errorf("secret %q in %q", secret, s)
			}
		}
	})
}

func TestSensitiveTexts(t *testing.T) {
	text := func(sensitive bool) sdk.Schema { return sdk.Schema{Kind: sdk.KindString, Sensitive: sensitive} }
	secretText := text(true)
	schema := sdk.Schema{Kind: sdk.KindObject, Attributes: []sdk.Attribute{
		{Name: "open", Schema: text(false)},
		{Name: "token", Schema: text(true)},
		{Name: "list", Schema: sdk.Schema{Kind: sdk.KindList, Element: &secretText}},
		{Name: "all", Schema: sdk.Schema{Kind: sdk.KindAny, Sensitive: true}},
		{Name: "inner", Schema: sdk.Schema{Kind: sdk.KindObject, Attributes: []sdk.Attribute{{Name: "pin", Schema: text(true)}}}},
	}}
	config := `{"open":"no","token":"t1","list":["l1","l2"],"all":{"x":["a1",12345]},"inner":{"pin":"p1"},"more":"no"}`
	got := sorted(sensitiveTexts(&schema, []byte(config)))
	if diff := cmp.Diff([]string{"12345", "a1", "l1", "l2", "p1", "t1"}, got); diff != "" {
		t.Error(diff)
	}
	if got := sensitiveTexts(&schema, []byte("{")); got != nil {
		t.Errorf("%v", got)
	}
}
