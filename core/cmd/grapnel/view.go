package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/grapnelhq/grapnel/core/admin"
	"github.com/grapnelhq/grapnel/core/expr"
)

// view writes trees of text for people. What it writes comes from foreign hands, so nothing in it reaches the terminal
// as a command, and secrets of the configuration are taken out.
type view struct {
	to     io.Writer
	buf    bytes.Buffer
	color  bool
	secret []string
}

// minSecret is the shortest secret that is taken out: shorter ones stand in every other word.
const minSecret = 4

func newView(to io.Writer, secrets []string) *view {
	v := &view{to: to}
	if f, ok := to.(*os.File); ok && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" {
		info, err := f.Stat()
		v.color = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	for _, s := range secrets { // longest first
		if len(s) >= minSecret {
			v.secret = append(v.secret, s)
		}
	}
	return v
}

func (v *view) flush() error {
	_, err := v.to.Write(v.buf.Bytes())
	return err
}

// The colours, as codes of ANSI.
const (
	green  = "32"
	red    = "31"
	yellow = "33"
	grey   = "90"
	bold   = "1"
)

func (v *view) paint(code, text string) string {
	if !v.color || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// line writes a line at a depth. Colours are put into it by paint, so the parts of it go through text first.
func (v *view) line(depth int, format string, args ...any) {
	text := strings.TrimRight(fmt.Sprintf(format, args...), " ")
	if text != "" {
		v.buf.WriteString(strings.Repeat("  ", depth) + text)
	}
	v.buf.WriteByte('\n')
}

// text makes foreign text fit to be shown on one line.
func (v *view) text(s string) string {
	for _, secret := range v.secret {
		s = strings.ReplaceAll(s, secret, "(sensitive)")
	}
	return printableText(s)
}

func printableText(s string) string {
	s = strings.ToValidUTF8(s, "\ufffd")
	return strings.Map(func(c rune) rune {
		if !unicode.IsPrint(c) {
			return '\ufffd'
		}
		return c
	}, s)
}

// cut shortens a text in its middle.
func cut(s string, most int) string {
	if utf8.RuneCountInString(s) <= most {
		return s
	}
	r := []rune(s)
	return string(r[:most*2/3]) + " … " + string(r[len(r)-most/3:])
}

// field writes a line of the header.
func (v *view) field(name, format string, args ...any) {
	v.line(0, "%s %s", v.paint(bold, fmt.Sprintf("%-14s", name)), fmt.Sprintf(format, args...))
}

// explanation writes what explain has found out.
func (v *view) explanation(x *explanation, all bool) {
	v.request(x)
	v.authentication(&x.Authentication)
	switch {
	case x.Rejection != nil:
		v.field("not stored", "%s: %s", v.paint(red, fmt.Sprintf("%d %s", x.Rejection.Status, x.Rejection.Cause)),
			v.text(x.Rejection.Detail))
	case x.Handshake != nil:
		v.field("not stored", "a test of the endpoint; it is answered with %s", v.text(cut(*x.Handshake, 100)))
	}
	if x.Dedupe != nil {
		v.dedupe(x)
	}
	for _, n := range x.Notes {
		v.field("decoder", "%s", v.text(n))
	}
	if x.Refusal != "" {
		v.field("decoder", "%s: %s", v.paint(red, "refuses it for good, it would be dead"), v.text(x.Refusal))
	} else if x.Request != nil && len(x.Events) == 0 {
		v.field("events", "none")
	}
	for i := range x.Events {
		v.line(0, "")
		v.event(&x.Events[i], all)
	}
	if len(x.Disabled) > 0 {
		v.line(0, "")
		v.line(0, "disabled: %s", v.text(plainList(x.Disabled, "route")))
	}
}

// plainList writes "route a" or "routes a, b".
func plainList(names []string, thing string) string {
	if len(names) > 1 {
		thing += "s"
	}
	return thing + " " + strings.Join(names, ", ")
}

func (v *view) request(x *explanation) {
	r := x.Request
	what := map[string]string{
		"store": "stored", "file": "of a file", "sample": "sample " + strconv.Quote(x.Sample),
	}[x.From]
	if r == nil {
		v.field("request", "%s", v.text(what))
		return
	}
	v.field("request", "%s", v.text(r.ID))
	v.field("", "%s, at source %s (%s), %s, body of %d bytes", v.text(what), v.text(r.Source), v.text(r.Decoder),
		v.text(r.Method), r.Bytes)
	if x.From == "store" {
		v.field("", "received %s", at(r.ReceivedAt))
	}
}

func (v *view) authentication(a *authentication) {
	scheme := ""
	if a.Scheme != "" {
		scheme = fmt.Sprintf(" (scheme %s)", v.text(a.Scheme))
	}
	switch a.Result {
	case "accepted":
		v.field("authentic", "%s: secret %d of %d%s", v.paint(green, "yes"), *a.Secret+1, a.Secrets, scheme)
	case "refused":
		v.field("authentic", "%s: %d %s: %s%s", v.paint(red, "no"), a.Status, a.Cause, v.text(a.Detail), scheme)
		if a.Hint != "" {
			v.field("", "%s", v.text(a.Hint))
		}
		v.field("", "%s", v.paint(yellow, "what follows is what would become of it if it were authentic"))
	case "stored":
		v.field("authentic", "yes: it was stored")
	case "not_checked":
		if len(a.Unset) > 0 {
			v.field("authentic", "%s: without the %s it cannot be said%s", v.paint(yellow, "not checked"),
				v.text(strings.Join(a.Unset, " and the ")), scheme)
		} else {
			v.field("authentic", "not checked%s", scheme)
		}
	default:
		v.field("authentic", `everybody is let in (auth = "none")`)
	}
}

func (v *view) dedupe(x *explanation) {
	d := x.Dedupe
	switch {
	case x.From == "store":
		return
	case d.Alternative > 0:
		v.field("dedupe key", "alternative %d of %d: %s", d.Alternative, d.Alternatives, v.text(partNames(d.Parts)))
	case d.Alternatives > 0:
		v.field("dedupe key", "the body: none of %d alternatives is there", d.Alternatives)
	default:
		v.field("dedupe key", "the body")
	}
	switch {
	case d.Duplicate == nil:
		v.field("", "no host and no database here can say whether it is a duplicate")
	case *d.Duplicate && d.Stored.State == "dead":
		v.field("", "%s of %s, which is dead: it would be decoded again", v.paint(yellow, "duplicate"), v.text(d.Stored.ID))
	case *d.Duplicate:
		v.field("", "%s of %s, received %s: it would be answered and not stored again",
			v.paint(yellow, "duplicate"), v.text(d.Stored.ID), at(d.Stored.ReceivedAt))
	case d.Stored != nil:
		v.field("", "received before (%s, %s), but longer ago than the dedupe window",
			v.text(d.Stored.ID), at(d.Stored.ReceivedAt))
	default:
		v.field("", "not received before")
	}
}

func (v *view) event(e *explainedEvent, all bool) {
	v.line(0, "%s", v.paint(bold, v.text("event "+e.Type)))
	width := len("partitionkey")
	for _, f := range [][2]string{
		{"id", e.ID}, {"subject", e.Subject}, {"partitionkey", e.PartitionKey}, {"operation", e.Operation},
		{"tenant", e.Tenant}, {"time", e.Time},
	} {
		if f[1] != "" {
			v.line(1, "%-*s %s", width, f[0], v.text(f[1]))
		}
	}
	for _, f := range []struct {
		name string
		json json.RawMessage
	}{{"data", e.Data}, {"changes", e.Changes}} {
		switch {
		case len(f.json) == 0:
		case all:
			v.line(1, "%s", f.name)
			v.message(2, f.json)
		default:
			v.line(1, "%-*s %s", width, f.name, v.value(f.json))
		}
	}
	if e.Unrouted {
		v.line(1, "%s", v.paint(yellow, "no route sends it"))
	}
	v.line(0, "")
	for i := range e.Routes {
		v.route(&e.Routes[i], e.Type, all)
	}
}

// longest is how much of a value is shown, in characters.
const longest = 100

// value is JSON on one line.
func (v *view) value(b json.RawMessage) string {
	var out bytes.Buffer
	if json.Compact(&out, b) != nil {
		return "?"
	}
	return cut(v.text(out.String()), longest)
}

func (v *view) route(r *explainedRoute, eventType string, all bool) {
	head := func(mark, code, why string) {
		v.line(1, "%s %s  %s  %s", v.paint(code, mark), v.paint(bold, v.text(r.Route)), why, v.paint(grey, v.text(r.Range)))
	}
	switch r.Verdict {
	case admin.VerdictSends:
		dead := slices.ContainsFunc(r.To, func(s admin.ExplainedSend) bool { return s.Dead != "" })
		switch {
		case dead:
			head("!", red, "matches, and makes a dead letter")
		case len(r.To) == 0:
			head("+", yellow, "matches, and has no enabled sink")
		default:
			head("+", green, "sends")
		}
	case admin.VerdictSource:
		if len(r.From) == 0 {
			head("-", grey, "no: a route without from takes no alerts")
			break
		}
		head("-", grey, "no: the source is not in from = "+v.text("["+strings.Join(r.From, ", ")+"]"))
	case admin.VerdictType:
		why := fmt.Sprintf("no: the type %s matches nothing in on = %s", eventType, quotedList(r.On))
		head("-", grey, v.text(why))
	case admin.VerdictWhen:
		head("-", yellow, "no: when is false")
	case admin.VerdictFails:
		head("!", red, "fails: when cannot be evaluated")
	}
	if r.When != nil {
		v.step(2, "when ", r.When)
	}
	for i := range r.To {
		v.sent(&r.To[i], all, r.Verdict == admin.VerdictFails)
	}
	for _, name := range r.Disabled {
		v.line(2, "to %s: nothing, the sink is disabled", v.text(name))
	}
}

func quotedList(names []string) string {
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = strconv.Quote(n)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

// sent writes what a `to` block makes.
func (v *view) sent(s *admin.ExplainedSend, all, failed bool) {
	order := "no order key"
	if s.OrderKey != "" {
		order = "order key " + v.text(s.OrderKey)
	}
	if s.Dead != "" {
		v.line(2, "to %s: %s  %s", v.text(s.Sink), v.paint(red, "dead letter"), v.paint(grey, v.text(s.DeadRange)))
		if !failed {
			v.line(3, "%s", v.paint(red, v.text(s.Dead)))
		}
	} else {
		v.line(2, "to %s: %s  %s", v.text(s.Sink), order, v.paint(grey, v.text(s.Range)))
		v.message(3, s.Message)
	}
	if s.OrderBy != nil && (all || s.OrderBy.Error != nil) {
		v.step(3, "order_by ", s.OrderBy)
	}
	for i := range s.Arguments {
		if a := &s.Arguments[i]; all || a.Step.Error != nil {
			v.step(3, v.text(a.Name)+" = ", &a.Step)
		}
	}
}

// message writes a message over several lines, as JSON.
func (v *view) message(depth int, m json.RawMessage) {
	var out bytes.Buffer
	if json.Indent(&out, m, "", "  ") != nil {
		return
	}
	for line := range strings.Lines(out.String()) {
		v.line(depth, "%s", cut(v.text(strings.TrimSuffix(line, "\n")), 2*longest))
	}
}

// step writes a step of a trace and what is in it.
func (v *view) step(depth int, label string, s *expr.Step) {
	result, code := "", ""
	switch {
	case s.Error != nil:
		result, code = v.text("fails: "+s.Error.Summary+detailOf(s.Error)), red
	case s.Absent:
		result, code = "null, it is not there", yellow
	case s.Bytes > 0:
		result = fmt.Sprintf("%d bytes", s.Bytes)
	default:
		result = v.value(s.Value)
		if result == "false" {
			code = yellow
		} else if result == "true" {
			code = green
		}
	}
	source := cut(v.text(cmp.Or(s.Source, string(s.Kind))), longest)
	if s.Unused {
		v.line(depth, "%s", v.paint(grey, label+source+"  =>  "+result+"  (not needed)"))
	} else {
		v.line(depth, "%s%s  %s  %s", v.paint(bold, label), source, v.paint(grey, "=>"), v.paint(code, result))
	}
	for i := range s.Steps {
		v.step(depth+1, "", &s.Steps[i])
	}
}

func detailOf(e *expr.Error) string {
	if e.Detail == "" {
		return " at " + e.Range
	}
	return " at " + e.Range + ": " + e.Detail
}

// jsonWithout encodes a value on one line; secrets in its texts are taken out.
func jsonWithout(secrets []string, value any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(value); err != nil {
		return nil, err
	}
	var forms []string
	for _, s := range secrets {
		if len(s) < minSecret {
			continue
		}
		var quoted bytes.Buffer
		q := json.NewEncoder(&quoted)
		q.SetEscapeHTML(false)
		if err := q.Encode(s); err != nil {
			return nil, err
		}
		form := strings.TrimSuffix(quoted.String(), "\n")
		forms = append(forms, form[1:len(form)-1])
	}
	if !slices.ContainsFunc(forms, func(f string) bool { return bytes.Contains(buf.Bytes(), []byte(f)) }) {
		return buf.Bytes(), nil
	}
	return redactStrings(buf.Bytes(), forms), nil
}

// redactStrings replaces texts within the strings of a JSON text, so that it stays one.
func redactStrings(b []byte, texts []string) []byte {
	var out bytes.Buffer
	for len(b) > 0 {
		open := bytes.IndexByte(b, '"')
		if open < 0 {
			break
		}
		end := open + 1
		for end < len(b) && b[end] != '"' {
			if b[end] == '\\' {
				end++
			}
			end++
		}
		end = min(end+1, len(b))
		out.Write(b[:open])
		token := string(b[open:end])
		for _, t := range texts {
			token = strings.ReplaceAll(token, t, "(sensitive)")
		}
		out.WriteString(token)
		b = b[end:]
	}
	out.Write(b)
	return out.Bytes()
}
