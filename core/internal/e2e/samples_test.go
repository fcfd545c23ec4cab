//go:build unix

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/auth"
	"github.com/grapnelhq/grapnel/core/internal/e2e/harness"
	"github.com/grapnelhq/grapnel/core/store"
	"github.com/grapnelhq/grapnel/sdk"
)

// mutants is how many variants of every sample are posted. The seed of each is its number.
const mutants = 200

// specimen is a body to be posted to a source.
type specimen struct {
	name, source string
	body         []byte
	whole        bool // as it is in the file, and a request
	post         harness.Post
	key          core.DedupeKey // what makes two requests the same, as the manifests say it
}

// readSamples reads the samples of a decoder's testdata.
func readSamples(t *testing.T, provider string) map[string][]byte {
	t.Helper()
	found := map[string][]byte{}
	dir := filepath.Join("../../../plugins", "decoder-"+provider, "testdata")
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.Name() == "golden" {
			return fs.SkipDir
		}
		if filepath.Ext(path) == ".json" && d.Name() != "request-headers.json" {
			found[filepath.ToSlash(path)], err = os.ReadFile(path)
		}
		return err
	})
	if err != nil || len(found) < 15 {
		t.Fatalf("%d samples of %s: %v", len(found), provider, err)
	}
	return found
}

// prepare signs a specimen and finds its dedupe key. number makes it a request of its own, where the provider has a
// place for that.
func (s *specimen) prepare(t *testing.T, number int) {
	part := func(p sdk.Part) ([]byte, bool) {
		c, err := auth.NewPart(p)
		if err != nil {
			t.Fatal(err)
		}
		return c.Value(&auth.Input{Body: s.body, Checked: json.Valid(s.body)})
	}
	switch s.source {
	case "hr":
		event := "EMPLOYMENT_CHANGED"
		for _, word := range []string{"person", "assignment", "sickleave"} {
			if strings.Contains(s.name, word) {
				event = strings.ToUpper(word) + "_CHANGED"
			}
		}
		id := fmt.Sprintf("n-%d", number)
		s.post = harness.SignYouforce(s.source, event, id, s.body)
		s.key = core.NewDedupeKey(s.source, []byte(id))
	case "people":
		s.post = harness.SignPeopleForce(s.source, s.body)
		s.key = core.NewDedupeKey(s.source, s.body)
	case "roofing":
		s.post = harness.AccuLynx(s.source, s.body)
		if id, ok := part(sdk.Part{Kind: sdk.PartJSONPointer, Name: "/eventId", FoldCase: true}); ok {
			s.key = core.NewDedupeKey(s.source, id)
		} else {
			s.key = core.NewDedupeKey(s.source, s.body)
		}
	}
}

// token is a JSON token's place in a body.
type token struct{ from, to int }

func tokens(body []byte) []token {
	var all []token
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	for {
		from := int(dec.InputOffset())
		if _, err := dec.Token(); err != nil {
			return all
		}
		to := int(dec.InputOffset())
		for from < to && strings.IndexByte(" \t\r\n:,", body[from]) >= 0 {
			from++
		}
		all = append(all, token{from, to})
	}
}

// mutate returns a variant of a sample.
func mutate(r *rand.Rand, sample []byte) []byte {
	b := bytes.Clone(sample)
	all := tokens(b)
	replace := func(t token, with string) []byte { return slices.Concat(b[:t.from], []byte(with), b[t.to:]) }
	pick := func() token { return all[r.IntN(len(all))] }
	scalar := func() token {
		for range 100 {
			if t := pick(); strings.IndexByte("[]{}", b[t.from]) < 0 {
				return t
			}
		}
		return all[len(all)/2]
	}
	switch r.IntN(14) {
	case 0: // bytes change
		for range 1 + r.IntN(4) {
			b[r.IntN(len(b))] ^= byte(1 << r.IntN(8))
		}
		return b
	case 1: // the end is missing
		return b[:r.IntN(len(b))]
	case 2: // a piece is missing
		from := r.IntN(len(b))
		return slices.Delete(b, from, min(len(b), from+1+r.IntN(40)))
	case 3: // two tokens change places
		x, y := pick(), pick()
		if x.from > y.from {
			x, y = y, x
		}
		if x.to > y.from {
			return b
		}
		return slices.Concat(b[:x.from], b[y.from:y.to], b[x.to:y.from], b[x.from:x.to], b[y.to:])
	case 4, 5, 6: // a value of another type
		others := []string{
			"null", "true", "false", "0", "-1", "1.50", "1e3", `""`, `"x"`, "[]", "{}", `[{"a":1}]`, `{"id":"a","value":[null]}`,
			`"2026-13-45"`, `"\u0000"`, `"\ud83d\ude00"`, `"é"`, `"e\u0301"`,
		}
		return replace(scalar(), others[r.IntN(len(others))])
	case 7: // a member twice
		i := bytes.IndexByte(b[r.IntN(len(b)):], ',')
		if i < 0 {
			return b
		}
		t := pick()
		return slices.Concat(b[:t.to], []byte(","), b[t.from:])
	case 8: // deep
		n := 1 + r.IntN(400)
		return replace(scalar(), strings.Repeat("[", n)+strings.Repeat("]", n))
	case 9: // large numbers
		numbers := []string{
			strings.Repeat("9", 1+r.IntN(2000)), "1e" + strings.Repeat("9", 1+r.IntN(8)), "-0.0", "9007199254740993", "1e-400",
			"0." + strings.Repeat("3", r.IntN(500)) + "1", "18446744073709551616",
		}
		return replace(scalar(), numbers[r.IntN(len(numbers))])
	case 10: // no UTF-8
		bad := []string{"\"\xff\"", "\"\xc3\x28\"", "\"\xed\xa0\x80\"", `"\ud800"`, "\"\xf8\x88\x80\x80\x80\""}
		return replace(scalar(), bad[r.IntN(len(bad))])
	case 11: // a long text
		return replace(scalar(), `"`+strings.Repeat("long ", 1+r.IntN(10000))+`"`)
	case 12: // the same member with two values, at the front
		k := []string{"id", "action", "data", "eventId", "topicName", "event", "value", "operation", "timestamp", "tenantId"}
		member := fmt.Appendf(nil, `{%q:%d,`, k[r.IntN(len(k))], r.IntN(9))
		return slices.Concat(member, bytes.TrimLeft(b, " \r\n\t{"))
	default: // wrapped, or with something behind
		wraps := [][2]string{{"[", "]"}, {`{"data":`, "}"}, {" \n\t", "\r\n "}, {"", "{}"}, {"\ufeff", ""}, {"", ","}}
		w := wraps[r.IntN(len(wraps))]
		return slices.Concat([]byte(w[0]), b, []byte(w[1]))
	}
}

// renew gives AccuLynx's event another id, so that variants are no duplicates of each other.
func renew(body []byte, number int) []byte {
	i := bytes.Index(bytes.ToLower(body), []byte(`"eventid": "`))
	if i < 0 {
		return body
	}
	from := i + len(`"eventid": "`)
	return slices.Concat(body[:from], fmt.Appendf(nil, "%08d-0000-4000-8000-%012d", number, number), body[from+36:])
}

func specimens(t *testing.T) []*specimen {
	t.Helper()
	var all []*specimen
	for _, p := range []struct{ provider, source string }{
		{"youforce", "hr"}, {"peopleforce", "people"}, {"acculynx", "roofing"},
	} {
		samples := readSamples(t, p.provider)
		for _, name := range slices.Sorted(maps.Keys(samples)) {
			for i := range mutants + 1 {
				s := &specimen{name: fmt.Sprintf("%s variant %d", name, i), source: p.source, body: samples[name]}
				s.whole = i == 0 && !strings.Contains(name, "-inner")
				if p.source == "roofing" {
					s.body = renew(s.body, len(all)+1)
				}
				if i > 0 {
					s.body = mutate(rand.New(rand.NewPCG(uint64(i), 7)), s.body)
				}
				s.prepare(t, len(all)+1)
				all = append(all, s)
			}
		}
	}
	return all
}

// scalars are a JSON text's values in their order, without the names of members: the tokens that nothing may touch.
func scalars(t *testing.T, body []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	var objects []bool // what is open
	name := false
	for _, at := range tokens(body) {
		text := body[at.from:at.to]
		switch text[0] {
		case '{', '[':
			objects = append(objects, text[0] == '{')
			name = text[0] == '{'
			out.WriteByte(text[0])
			continue
		case '}', ']':
			objects = objects[:len(objects)-1]
			out.WriteByte(text[0])
		default:
			if !name {
				out.Write(text)
				out.WriteByte(',')
			} else {
				name = false
				continue
			}
		}
		name = len(objects) > 0 && objects[len(objects)-1]
	}
	return out.Bytes()
}

// TestSamples posts every sample of every provider, and hundreds of damaged variants of each, correctly signed. Each ends
// as an event at the sink, as a dead request with a reason, or as a refusal with a cause. All of them are counted.
func TestSamples(t *testing.T) {
	t.Parallel()
	h := programs.NewHost(t, harness.Options{Config: harness.YouforceSource + `
source "peopleforce" "people" {
  secrets = [env("PEOPLEFORCE_SECRET")]
}
source "acculynx" "roofing" {
  path_token = env("ACCULYNX_TOKEN")
}
sink "file" "out" {
  dir = "out"
}
route "all" {
  to "file" "out" {}
}
`})
	all := specimens(t)
	h.Start()
	started := time.Now()
	answers := postAll(t, h, all)
	h.WaitSettled(30 * time.Second)
	took := time.Since(started)

	// What was answered with 2xx is a request, once. Everything else was refused for its JSON.
	accepted := map[core.DedupeKey]*specimen{}
	duplicates, refused := 0, map[string]int{}
	for i, s := range all {
		a := answers[i]
		switch {
		case a.Status == http.StatusOK && accepted[s.key] != nil:
			duplicates++
		case a.Status == http.StatusOK:
			accepted[s.key] = s
		case a.Status == http.StatusBadRequest && strings.HasPrefix(a.Body, `{"error":"bad_json","cause":"`) && !s.whole:
			refused[a.Body]++
		case a.Status == http.StatusUnauthorized:
			t.Errorf("%s: its signature is not accepted", s.name)
		default:
			t.Errorf("%s: %d %s", s.name, a.Status, a.Body)
		}
		if a.Status == http.StatusOK && !json.Valid(s.body) {
			t.Errorf("%s: accepted, and it is no JSON: %.200q", s.name, s.body)
		}
	}

	// The store knows each of them and no other, and says of each why it is dead or which events it gave.
	routed, dead := map[core.DedupeKey]bool{}, 0
	for f := (store.RequestFilter{Limit: 1000}); ; {
		page, err := h.Control.Requests(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range page.Items {
			key, repeat, err := core.ParseRequestID(r.ID)
			s := accepted[key]
			switch {
			case err != nil || repeat != 0 || s == nil:
				t.Fatalf("request %s was not posted: %v", r.ID, err)
			case r.State == string(core.RequestRouted):
				routed[key] = true
			case r.State == string(core.RequestDead) && r.Reason != "" && !s.whole:
				dead++
			default:
				t.Errorf("%s: %s is %s: %q", s.name, r.ID, r.State, r.Reason)
			}
		}
		if f.Cursor = page.Next; f.Cursor == "" {
			break
		}
	}
	if len(routed)+dead != len(accepted) {
		t.Errorf("%d requests were accepted, %d are routed and %d dead", len(accepted), len(routed), dead)
	}

	// Every event is at the sink with the tokens of the request it came in.
	events := map[core.DedupeKey]int{}
	compared := 0
	for _, raw := range h.RawLines("out/events.jsonl") {
		var line struct {
			ID   string
			Data json.RawMessage
		}
		if err := json.Unmarshal(raw, &line); err != nil {
			t.Fatalf("%.300q: %v", raw, err)
		}
		key, _, _, err := core.ParseEventID(line.ID)
		if err != nil || !routed[key] {
			t.Fatalf("event %s comes from no routed request: %v", line.ID, err)
		}
		events[key]++
		if line.Data == nil || string(line.Data) == "null" {
			continue
		}
		compared++
		s := accepted[key]
		if !bytes.Contains(scalars(t, s.body), scalars(t, line.Data)) {
			t.Errorf("%s: the sink has other tokens than the provider sent:\n%.500s\n%.500s", s.name, line.Data, s.body)
		}
		var sent, got bytes.Buffer
		if err := json.Compact(&sent, s.body); err != nil {
			t.Fatal(err)
		}
		if err := json.Compact(&got, line.Data); err != nil {
			t.Fatal(err)
		}
		if s.source != "roofing" && !bytes.Contains(sent.Bytes(), got.Bytes()) { // AccuLynx's names of members are spelt anew
			t.Errorf("%s: the sink has other bytes than the provider sent:\n%.500s\n%.500s", s.name, line.Data, s.body)
		}
	}
	stats := h.Status().Stats
	lines := 0
	for key := range routed {
		if events[key] == 0 {
			t.Errorf("%s: routed, and the sink has no event of it", accepted[key].name)
		}
		lines += events[key]
	}
	if delivered := stats.Deliveries["out"][core.DeliveryDelivered]; int64(lines) != delivered {
		t.Errorf("%d lines at the sink, %d deliveries", lines, delivered)
	}

	// Refusals are counted by cause, and listed, as many as the list takes in this time.
	total := 0
	for _, n := range refused {
		total += n
	}
	var counted, repeated uint64
	for _, s := range h.Status().Sources {
		counted += s.Rejected["bad_json"]
		repeated += s.Duplicates + s.Reopened
	}
	if counted != uint64(total) || repeated != uint64(duplicates) {
		t.Errorf("%d refusals and %d duplicates are counted, were %d and %d", counted, repeated, total, duplicates)
	}
	page, err := h.Control.Rejections(t.Context(), store.RejectionFilter{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	if len(page.Items) < min(total, 200) || len(page.Items) > total {
		t.Errorf("%d were refused, %d are listed", total, len(page.Items))
	}
	for _, x := range page.Items {
		if x.Cause != "bad_json" || x.Detail == "" {
			t.Errorf("listed as %+v", x)
		}
	}
	for _, word := range []string{"panic", "goroutine ", "[ERROR]"} {
		if strings.Contains(h.Log(), word) {
			t.Errorf("the host's log tells of a %q", word)
		}
	}
	for _, p := range h.Status().Plugins {
		if p.Restarts != 0 {
			t.Errorf("%s was started again %d times: %s", p.Plugin, p.Restarts, p.LastCrash)
		}
	}
	t.Logf("%d posted in %s: %d accepted (%d routed, %d dead), %d duplicates, %d refused; %d events at the sink, "+
		"the data of %d compared", len(all), took.Round(time.Millisecond), len(accepted), len(routed), dead, duplicates,
		total, lines, compared)
	for _, body := range slices.Sorted(maps.Keys(refused)) {
		t.Logf("refused with %s: %d", body, refused[body])
	}
}

// postAll posts specimens over a few kept connections.
func postAll(t *testing.T, h *harness.Host, all []*specimen) []harness.Answer {
	t.Helper()
	answers := make([]harness.Answer, len(all))
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}, Timeout: harness.Patience}
	defer client.CloseIdleConnections()
	next := make(chan int)
	var posting sync.WaitGroup
	for range 64 {
		posting.Go(func() {
			for i := range next {
				p := all[i].post
				req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, h.URL+p.Path, bytes.NewReader(p.Body))
				if err != nil {
					t.Errorf("%s: %v", all[i].name, err)
					continue
				}
				req.Header = p.Header
				resp, err := client.Do(req)
				if err != nil {
					t.Errorf("%s: %v", all[i].name, err)
					continue
				}
				body, err := io.ReadAll(resp.Body)
				if err != nil {
					t.Errorf("%s: %v", all[i].name, err)
				}
				_ = resp.Body.Close()
				answers[i] = harness.Answer{Status: resp.StatusCode, Body: string(body)}
			}
		})
	}
	for i := range all {
		next <- i
	}
	close(next)
	posting.Wait()
	return answers
}
