package conform

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/grapnelhq/grapnel/sdk"
)

// How many damaged requests a check sends.
const (
	someMutations   = 3000
	allMutations    = 40_000 // of bytes: every one, of some hundred kilobytes of samples every third
	structMutations = 15_000
)

// mutation makes one damaged copy of a sample.
type mutation func(*sdk.Request)

// bytes: a change of any byte of a sample is refused or decoded, and never ends in a panic.
func (s *Suite) bytes(ctx context.Context) []Finding {
	var list []mutation
	var of []sample
	for _, smp := range samples(s.desc.Provider) {
		for at := range smp.sample.Body {
			change := byte(at*131 + 7) // any other byte, the same every time
			if change == 0 {
				change = 0x80
			}
			list, of = append(list, func(r *sdk.Request) { r.Body[at] ^= change }), append(of, smp)
			if at%8 == 0 {
				list, of = append(list, func(r *sdk.Request) { r.Body = r.Body[:at] }), append(of, smp)
			}
		}
	}
	return s.mutate(ctx, "with a byte changed", list, of, allMutations)
}

// strange are JSON values to put in the place of others.
func strange() []string {
	return []string{
		`null`, `""`, `"x"`, `0`, `-1`, `1e400`, `123456789012345678901234567890`, `true`, `[]`, `{}`, `[[]]`, `[null]`,
		`{"":null}`,
		`"\u0000"`, `"\ud800"`, `"*&<!channel>"`, `"2026-13-45T99:99:99Z"`, `"` + strings.Repeat("long ", 500) + `"`,
	}
}

// structure: members removed, nulls, values of other types and in other places, headers gone or changed.
func (s *Suite) structure(ctx context.Context) []Finding {
	var list []mutation
	var of []sample
	for _, smp := range samples(s.desc.Provider) {
		before := len(list)
		list = append(list, structural(smp.sample.Body, s.contentType(smp))...)
		for k := range smp.sample.Headers {
			list = append(list, func(r *sdk.Request) { r.Headers = slices.Delete(slices.Clone(r.Headers), k, k+1) })
			for _, value := range []string{"", "x", "employee.created.more", "*", "Ünïcode/../" + strings.Repeat("y", 2000)} {
				list = append(list, func(r *sdk.Request) {
					r.Headers = slices.Clone(r.Headers)
					r.Headers[k].Value = value
				})
			}
		}
		list = append(list, func(r *sdk.Request) { r.Headers = nil }, func(r *sdk.Request) { r.Body = nil },
			func(r *sdk.Request) { r.Query = "a=%zz&&=&" + r.Query }, func(r *sdk.Request) { r.Method = "DELETE" })
		for range len(list) - before {
			of = append(of, smp)
		}
	}
	return s.mutate(ctx, "with its structure changed", list, of, structMutations)
}

// structural lists changes of a body's structure.
func structural(body []byte, media string) (list []mutation) {
	put := func(span [2]int, text string) {
		list = append(list, func(r *sdk.Request) {
			r.Body = slices.Concat(r.Body[:span[0]], []byte(text), r.Body[span[1]:])
		})
	}
	if !isJSONType(media) {
		for _, span := range fields(body) {
			put(span, "")
			for _, text := range strange() {
				put(span, url.QueryEscape(text))
			}
		}
		return list
	}
	spans := values(body)
	for k, span := range spans {
		for _, text := range strange() {
			put(span, text)
		}
		other := spans[(k*7+3)%len(spans)]
		put(span, string(body[other[0]:other[1]]))
	}
	var root any
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	if dec.Decode(&root) == nil {
		for _, path := range paths(root, nil) {
			text, err := json.Marshal(replaced(root, path, nil, true))
			if err == nil {
				list = append(list, func(r *sdk.Request) { r.Body = text })
			}
		}
	}
	return list
}

// paths lists the members of all objects in a JSON value.
func paths(v any, at []string) (list [][]string) {
	switch x := v.(type) {
	case map[string]any:
		for _, name := range sortedKeys(x) {
			path := append(slices.Clone(at), name)
			list = append(append(list, path), paths(x[name], path)...)
		}
	case []any:
		for i, e := range x {
			list = append(list, paths(e, append(slices.Clone(at), strconv.Itoa(i)))...)
		}
	}
	return list
}

// fields lists where the values in a form begin and end.
func fields(form []byte) (out [][2]int) {
	at := 0
	for pair := range bytes.SplitSeq(form, []byte("&")) {
		if i := bytes.IndexByte(pair, '='); i >= 0 {
			out = append(out, [2]int{at + i + 1, at + len(pair)})
		}
		at += len(pair) + 1
	}
	return out
}

// values lists where the values in a JSON text begin and end, names of members included.
func values(body []byte) [][2]int {
	var out [][2]int
	dec := json.NewDecoder(bytes.NewReader(body))
	var open []int
	for {
		before := int(dec.InputOffset())
		token, err := dec.Token()
		if err != nil {
			return out
		}
		end := int(dec.InputOffset())
		between := func(r rune) bool { return !strings.ContainsRune(" \t\r\n,:", r) }
		begin := before + bytes.IndexFunc(body[before:end], between)
		switch token {
		case json.Delim('{'), json.Delim('['):
			open = append(open, begin)
		case json.Delim('}'), json.Delim(']'):
			out = append(out, [2]int{open[len(open)-1], end})
			open = open[:len(open)-1]
		default:
			out = append(out, [2]int{begin, end})
		}
	}
}

// mutate decodes damaged copies of samples, each twice.
func (s *Suite) mutate(ctx context.Context, how string, list []mutation, of []sample, most int) []Finding {
	f := s.findings()
	i := s.mustOpen(ctx, f)
	if i == nil {
		return f.done()
	}
	defer func() {
		if !s.lost() {
			s.mustClose(ctx, f, i)
		}
	}()
	if !s.all {
		most = someMutations
	}
	step := max(1, (len(list)+most-1)/most)
	var chosen []int
	for k := 0; k < len(list); k += step {
		chosen = append(chosen, k)
	}
	for batch := range slices.Chunk(chosen, 128) {
		var requests []*sdk.Request
		for n, k := range batch {
			r := s.sampleRequest(of[k])
			r.ID, r.Body = fmt.Sprint("req_", n), bytes.Clone(r.Body)
			list[k](r)
			requests = append(requests, r)
		}
		first := s.mutated(ctx, f, i, how, requests, func(n int) sample { return of[batch[n]] })
		if first == nil {
			return f.done()
		}
		second := s.decodeAll(ctx, f, i, "Decode of damaged samples", requests)
		for n := range second {
			if !reflect.DeepEqual(first[n], second[n]) {
				f.add(pure, "take nothing but the request: no clock, no counter, no order of a map",
					"the same request, the sample %s %s, gives other events the second time (%s)", of[batch[n]].name(), how,
					difference(first[n], second[n]))
				return f.done()
			}
		}
		if len(f.list) > 0 {
			return f.done()
		}
	}
	return f.done()
}

// mutated decodes a batch of damaged requests and checks the answers. Where the call fails it finds the request that it
// fails for.
func (s *Suite) mutated(ctx context.Context, f *findings, i *Instance, how string, requests []*sdk.Request,
	of func(int) sample) []sdk.Decoded {
	cctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	answers, err := i.Decode(cctx, requests...)
	if err != nil {
		s.failed(f, fmt.Sprintf("Decode of a batch of samples %s, such as %s", how, of(0).name()), callTime, err)
		return nil
	}
	for n := range answers {
		d, r := &answers[n], requests[n]
		if strings.HasPrefix(d.Refused, "panic: ") {
			f.add("a decoder refuses what it cannot decode", "check what may be missing or of another type before it is used",
				"Decode panicked at the sample %s %s (%s; the body is %q, the headers are %q)",
				of(n).name(), how, clip(d.Refused, 200), clip(string(r.Body), 1000), r.Headers)
			return answers
		}
		if isJSONType(s.contentType(of(n))) && !json.Valid(r.Body) {
			continue // the host refuses it, so events of it are never seen
		}
		before := len(f.list)
		s.decoded(f, fmt.Sprintf("the sample %s %s", of(n).name(), how), d)
		if len(f.list) > before {
			last := &f.list[len(f.list)-1]
			last.Did += fmt.Sprintf(" (the body is %q, the headers are %q)", clip(string(r.Body), 1000), r.Headers)
			return answers
		}
	}
	return answers
}

const (
	// hostileTime is how long a decoder may take for a hostile request.
	hostileTime = 10 * time.Second
	// hostileMemory is how much more memory a process may use for hostile requests than before them.
	hostileMemory = 512 << 20
)

// hostile: JSON that is meant to hurt costs bounded time and memory. The host refuses most of it before, by its limits,
// but not in bodies of other content types.
func (s *Suite) hostile(ctx context.Context) []Finding {
	f := s.findings()
	i := s.mustOpen(ctx, f)
	if i == nil {
		return f.done()
	}
	defer func() {
		if !s.lost() {
			s.mustClose(ctx, f, i)
		}
	}()
	limit := min(hostileTime, s.opts.Timeout)
	before := s.peak()
	for _, h := range s.hostileRequests() {
		cctx, cancel := context.WithTimeout(ctx, limit)
		out, err := i.Decode(cctx, h.request)
		cancel()
		if s.failed(f, "Decode of "+h.what, limit, err) {
			return f.done()
		}
		if strings.HasPrefix(out[0].Refused, "panic: ") {
			f.add("a decoder refuses what it cannot decode", "bound what is followed, and check before use",
				"Decode panicked at %s (%s)", h.what, clip(out[0].Refused, 300))
			return f.done()
		}
		wordy(f, "a refusal", out[0].Refused, 2<<10)
	}
	if after := s.peak(); before > 0 && after-before > hostileMemory {
		f.add(fmt.Sprintf("hostile input costs bounded memory, here %d MiB", hostileMemory>>20),
			"keep slices of the body instead of copies",
			"it used %d MiB for hostile requests of at most 10 MB", (after-before)>>20)
	}
	return f.done()
}

type hostileRequest struct {
	what    string
	request *sdk.Request
}

func (s *Suite) hostileRequests() (list []hostileRequest) {
	const deep = 100_000
	nested := func(begin, middle, end string) string {
		return strings.Repeat(begin, deep) + middle + strings.Repeat(end, deep)
	}
	kinds := []struct{ what, text string }{
		{"lists nested 100 000 deep", nested("[", "", "]")},
		{"objects nested 100 000 deep", nested(`{"a":`, "1", "}")},
		{"100 000 brackets that are never closed", strings.Repeat("[", deep)},
		{"the number 1e999999999", "1e999999999"},
		{"a number of a million digits", strings.Repeat("9", 1_000_000)},
		{"a string of 10 MB", `"` + strings.Repeat("x", 10<<20) + `"`},
		{"a string of 10 MB of escapes", `"` + strings.Repeat(`\u0041`, 10<<20/6) + `"`},
		{"a string that is not UTF-8", "\"\xff\xfe\xc0\x80\""},
		{"100 000 members of one name", "{" + strings.Repeat(`"a":1,`, deep) + `"a":2}`},
	}
	for _, k := range kinds {
		list = append(list, hostileRequest{k.what + " as the body", s.request(0, []byte(k.text))})
	}
	all := samples(s.desc.Provider)
	if len(all) == 0 {
		return list
	}
	smp := all[0]
	body := smp.sample.Body
	json := isJSONType(s.contentType(smp))
	spans := fields(body)
	if json {
		spans = values(body)
	}
	// Some places in the first sample, small ones first, since what is around them is gone otherwise.
	slices.SortStableFunc(spans, func(a, b [2]int) int { return (a[1] - a[0]) - (b[1] - b[0]) })
	const places = 6
	step := max(1, len(spans)/places)
	for n := 0; n < len(spans); n += step {
		span := spans[n]
		for _, k := range kinds {
			text := k.text
			if !json {
				text = url.QueryEscape(text)
			}
			if len(text) > 5<<20 && n > step { // two places are enough for what takes long to send
				continue
			}
			r := s.sampleRequest(smp)
			r.Body = slices.Concat(body[:span[0]], []byte(text), body[span[1]:])
			list = append(list, hostileRequest{fmt.Sprintf("%s in the place of %q in the sample %s", k.what,
				clip(string(body[span[0]:span[1]]), 40), smp.name()), r})
		}
	}
	if at := bytes.IndexByte(body, '{'); json && at >= 0 && len(bytes.TrimSpace(body)) > 2 {
		rest := bytes.TrimSpace(body[at+1:])
		if end := bytes.LastIndexByte(rest, '}'); end > 0 {
			r := s.sampleRequest(smp)
			r.Body = slices.Concat([]byte("{"), rest[:end], []byte(","), rest)
			list = append(list, hostileRequest{"the sample " + smp.name() + " with every member twice", r})
		}
	}
	return list
}

// peak is the most memory that the process had so far, in bytes; 0: not known.
func (s *Suite) peak() int64 {
	if s.client.proc == nil {
		return 0
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.client.proc.Pid()))
	if err != nil {
		return 0
	}
	_, rest, ok := strings.Cut(string(text), "\nVmHWM:")
	if !ok {
		return 0
	}
	number, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	kib, err := strconv.ParseInt(number, 10, 64)
	if err != nil {
		return 0
	}
	return kib << 10
}
