//go:build unix

package e2e

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/grapnelhq/grapnel/core/internal/e2e/harness"
	"github.com/grapnelhq/grapnel/core/store"
)

// vector is an entry of package auth's vectors.
type vector struct {
	Scheme   string
	Secret   string
	BodyFile string `json:"body_file"`
	Body     string
	Headers  map[string]string
}

func vectors(t *testing.T) []vector {
	t.Helper()
	const dir = "../../auth/testdata"
	b, err := os.ReadFile(filepath.Join(dir, "vectors.json"))
	if err != nil {
		t.Fatal(err)
	}
	var vs []vector
	if err := json.Unmarshal(b, &vs); err != nil {
		t.Fatal(err)
	}
	for i := range vs {
		if vs[i].BodyFile == "" {
			continue
		}
		body, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(vs[i].BodyFile)))
		if err != nil {
			t.Fatal(err)
		}
		vs[i].Body = string(body)
	}
	return vs
}

// refusals posts what must be refused and checks that each is answered with 401, listed with its cause, and not stored.
type refusals struct {
	t     *testing.T
	h     *harness.Host
	given map[string]int // by source and cause
}

func (r *refusals) refuse(what string, p harness.Post, source, cause string) {
	r.t.Helper()
	a, err := r.h.Post(p)
	if err != nil {
		r.t.Fatalf("%s: %v", what, err)
	}
	if a.Status != http.StatusUnauthorized || a.Body != `{"error":"unauthorized"}` {
		r.t.Errorf("%s: %d %s", what, a.Status, a.Body)
	}
	r.given[source+" "+cause]++
}

// verify compares the list of rejections, and what is stored, with what was posted.
func (r *refusals) verify(accepted int) {
	r.t.Helper()
	total := 0
	for _, n := range r.given {
		total += n
	}
	var listed map[string]int
	r.h.Eventually(10*time.Second, "the rejections are listed", func() bool {
		page, err := r.h.Control.Rejections(r.t.Context(), store.RejectionFilter{Limit: 1000})
		if err != nil {
			r.t.Fatal(err)
		}
		listed = map[string]int{}
		for _, x := range page.Items {
			if x.Status != http.StatusUnauthorized || x.Detail == "" {
				r.t.Errorf("listed as %+v", x)
			}
			listed[x.Source+" "+x.Cause]++
		}
		return len(page.Items) >= total
	})
	if !maps.Equal(listed, r.given) {
		r.t.Errorf("rejections are listed as\n%v, want\n%v", listed, r.given)
	}
	r.h.WaitSettled(10 * time.Second)
	page, err := r.h.Control.Requests(r.t.Context(), store.RequestFilter{Limit: 1000})
	if err != nil {
		r.t.Fatal(err)
	}
	if len(page.Items) != accepted {
		r.t.Errorf("%d requests are stored, want %d", len(page.Items), accepted)
	}
	if n := len(r.h.RawLines("out/events.jsonl")); n != accepted {
		r.t.Errorf("%d lines at the sink, want %d", n, accepted)
	}
	r.t.Logf("%d accepted, %d refused and listed with %d causes", accepted, total, len(listed))
}

func (v vector) post(path string) harness.Post {
	p := harness.NewPost(path, []byte(v.Body))
	if !json.Valid(p.Body) {
		p.Header.Set("Content-Type", "text/plain")
	}
	for name, value := range v.Headers {
		p.Header.Set(name, value)
	}
	return p
}

// tampered are a signature's forgeries, by cause. prefix stays before the encoded MAC.
func tampered(value, prefix string) map[string][]string {
	encoded := strings.TrimPrefix(value, prefix)
	inHex := len(encoded) == 2*sha256.Size
	mac, encode := []byte(nil), base64.StdEncoding.EncodeToString
	if inHex {
		mac, _ = hex.DecodeString(encoded)
		encode = hex.EncodeToString
	} else {
		mac, _ = base64.StdEncoding.DecodeString(encoded)
	}
	var bad, malformed []string
	for _, i := range []int{0, 15, 31} {
		flipped := bytes.Clone(mac)
		flipped[i] ^= 1
		bad = append(bad, encode(flipped))
	}
	malformed = append(malformed, "", encoded[:len(encoded)-2], encoded+"A", encoded[:10]+" "+encoded[10:],
		encode(mac[:31]), encode(append(mac, 0)))
	if !inHex {
		const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
		last := strings.IndexByte(alphabet, encoded[len(encoded)-2]) // 32 bytes leave two bits of it unused
		malformed = append(malformed,
			encoded[:len(encoded)-2]+string(alphabet[last|1])+"=", // trailing bits: decodes to the same MAC where not strict
			strings.TrimSuffix(encoded, "="), encoded+"=",
			encoded[:20]+"\t"+encoded[20:],
		)
		if strings.ContainsAny(encoded, "+/") {
			malformed = append(malformed, strings.NewReplacer("+", "-", "/", "_").Replace(encoded))
		}
	} else {
		malformed = append(malformed, strings.Replace(encoded, encoded[:1], "g", 1), "0x"+encoded)
	}
	for _, list := range [][]string{bad, malformed} {
		for i := range list {
			list[i] = prefix + list[i]
		}
	}
	if prefix != "" {
		malformed = append(malformed, encoded, strings.ToUpper(prefix)+encoded, prefix+prefix+encoded)
	}
	return map[string][]string{"bad_signature": bad, "malformed_signature": malformed}
}

// TestSignatureVectors has the published and computed vectors of schemes that sign the body accepted by the running host,
// and every forgery of them refused without a trace in the store.
func TestSignatureVectors(t *testing.T) {
	t.Parallel()
	all := vectors(t)
	secret := func(scheme string) string {
		for _, v := range all {
			if v.Scheme == scheme {
				return v.Secret
			}
		}
		t.Fatalf("no vector of %s", scheme)
		return ""
	}
	h := programs.NewHost(t, harness.Options{
		Env: []string{"VWD=" + secret("visma-vwd-v1"), "PF=" + secret("peopleforce"), "GITHUB=" + secret("github-256")},
		Config: `
source "youforce" "hr" {
  secrets = ["another one, being rotated", env("VWD")]
}
source "peopleforce" "people" {
  secrets = [env("PF")]
}
source "signed" "code" {
  auth    = "github"
  secrets = [env("GITHUB")]
}
sink "file" "out" {
  dir = "out"
}
route "all" {
  to "file" "out" {}
}
`})
	h.Start()
	schemes := map[string]struct{ source, header, prefix string }{
		"visma-vwd-v1": {"hr", "X-Vwd-Signature-V1", ""},
		"peopleforce":  {"people", "X-Peopleforce-Signature", "sha256="},
		"github-256":   {"code", "X-Hub-Signature-256", "sha256="},
	}
	r := &refusals{t, h, map[string]int{}}
	var authentic []harness.Post
	seen := map[string]bool{}
	for i, v := range all {
		s, ok := schemes[v.Scheme]
		if !ok {
			continue
		}
		seen[v.Scheme] = true
		name := fmt.Sprintf("vector %d (%s)", i, v.Scheme)
		p := v.post("/hooks/" + s.source)
		if s.source == "hr" {
			p.Header.Set("X-Vwd-Event-Id", "PERSON_CHANGED")
		}
		authentic = append(authentic, p)

		value := p.Header.Get(s.header)
		forge := func(what, cause string, change func(*harness.Post)) {
			t.Helper()
			f := harness.Post{Path: p.Path, Header: p.Header.Clone(), Body: bytes.Clone(p.Body)}
			change(&f)
			r.refuse(name+": "+what, f, s.source, cause)
		}
		for _, at := range []int{0, len(p.Body) / 2, len(p.Body) - 1} {
			forge(fmt.Sprintf("byte %d of the body", at), "bad_signature", func(f *harness.Post) { f.Body[at] ^= 1 })
		}
		forge("a longer body", "bad_signature", func(f *harness.Post) { f.Body = append(f.Body, ' ') })
		forge("no header", "missing_signature", func(f *harness.Post) { f.Header.Del(s.header) })
		forge("the header twice", "doubled_signature", func(f *harness.Post) { f.Header.Add(s.header, value) })
		forge("a wrong one beside", "doubled_signature", func(f *harness.Post) { f.Header.Add(s.header, s.prefix+"AAAA") })
		for cause, values := range tampered(value, s.prefix) {
			for _, forged := range values {
				forge("the signature "+strconv.Quote(forged), cause, func(f *harness.Post) { f.Header.Set(s.header, forged) })
			}
		}
	}
	if len(seen) != len(schemes) {
		t.Fatalf("vectors of %v only", slices.Collect(maps.Keys(seen)))
	}
	r.verify(0)
	for _, p := range authentic {
		h.MustPost(p)
	}
	r.verify(len(authentic))
	if log := h.Log(); strings.Contains(log, secret("peopleforce")) {
		t.Error("a secret is in the log")
	}
}

func mac(key []byte, parts ...string) []byte {
	m := hmac.New(sha256.New, key)
	for _, p := range parts {
		m.Write([]byte(p))
	}
	return m.Sum(nil)
}

// stripe signs as Stripe does.
func stripe(secret string, at time.Time, body string) harness.Post {
	p := harness.NewPost("/hooks/stripe", []byte(body))
	ts := strconv.FormatInt(at.Unix(), 10)
	p.Header.Set("Stripe-Signature", "t="+ts+",v1="+hex.EncodeToString(mac([]byte(secret), ts, ".", body))+",v0=00ff")
	return p
}

// standard signs as Standard Webhooks say.
func standard(secret string, at time.Time, id, body string) harness.Post {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil {
		panic(err)
	}
	p := harness.NewPost("/hooks/standard", []byte(body))
	ts := strconv.FormatInt(at.Unix(), 10)
	p.Header.Set("webhook-id", id)
	p.Header.Set("webhook-timestamp", ts)
	p.Header.Set("webhook-signature", "v1,"+base64.StdEncoding.EncodeToString(mac(key, id, ".", ts, ".", body)))
	return p
}

// TestTimedSignatures has signatures that hold a time accepted while they are fresh, and refused before and after.
func TestTimedSignatures(t *testing.T) {
	t.Parallel()
	const stripeSecret, standardSecret = "whsec_test_secret", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	h := programs.NewHost(t, harness.Options{Config: `
source "signed" "stripe" {
  auth    = "stripe"
  secrets = ["` + stripeSecret + `"]
}
source "signed" "standard" {
  auth    = "standard_webhooks"
  secrets = ["` + standardSecret + `"]
}
sink "file" "out" {
  dir = "out"
}
route "all" {
  to "file" "out" {}
}
`})
	h.Start()
	r := &refusals{t, h, map[string]int{}}
	// The vectors as they were published are authentic and years old.
	for _, v := range vectors(t) {
		switch v.Scheme {
		case "stripe":
			r.refuse("the old vector", v.post("/hooks/stripe"), "stripe", "timestamp_too_old")
		case "standard-webhooks":
			r.refuse("the old vector", v.post("/hooks/standard"), "standard", "timestamp_too_old")
		}
	}
	now := time.Now()
	for _, d := range []time.Duration{-310 * time.Second, -24 * time.Hour} {
		r.refuse(d.String(), stripe(stripeSecret, now.Add(d), `{"n":1}`), "stripe", "timestamp_too_old")
		r.refuse(d.String(), standard(standardSecret, now.Add(d), "msg_1", `{"n":1}`), "standard", "timestamp_too_old")
	}
	for _, d := range []time.Duration{320 * time.Second, 24 * time.Hour} {
		r.refuse(d.String(), stripe(stripeSecret, now.Add(d), `{"n":1}`), "stripe", "timestamp_too_new")
		r.refuse(d.String(), standard(standardSecret, now.Add(d), "msg_1", `{"n":1}`), "standard", "timestamp_too_new")
	}
	// A time that is not the signed one.
	p := stripe(stripeSecret, now, `{"n":1}`)
	_, rest, _ := strings.Cut(p.Header.Get("Stripe-Signature"), ",")
	p.Header.Set("Stripe-Signature", "t="+strconv.FormatInt(now.Unix()-1, 10)+","+rest)
	r.refuse("another time", p, "stripe", "bad_signature")
	p = stripe(stripeSecret, now, `{"n":1}`)
	p.Header.Set("Stripe-Signature", p.Header.Get("Stripe-Signature")+",t=1")
	r.refuse("two times", p, "stripe", "malformed_timestamp")
	p = stripe(stripeSecret, now, `{"n":1}`)
	p.Header.Set("Stripe-Signature", rest)
	r.refuse("no time", p, "stripe", "missing_timestamp")
	p = standard(standardSecret, now, "msg_1", `{"n":1}`)
	p.Header.Set("webhook-timestamp", strconv.FormatInt(now.Unix()-1, 10))
	r.refuse("another time", p, "standard", "bad_signature")
	p = standard(standardSecret, now, "msg_1", `{"n":1}`)
	p.Header.Set("webhook-id", "msg_2")
	r.refuse("another id", p, "standard", "bad_signature")
	p = standard(standardSecret, now, "msg_1", `{"n":1}`)
	p.Header.Del("webhook-id")
	r.refuse("no id", p, "standard", "missing_signed_part")
	p = standard(standardSecret, now, "msg_1", `{"n":1}`)
	p.Header.Add("svix-signature", p.Header.Get("webhook-signature"))
	r.refuse("an alias beside", p, "standard", "doubled_signature")
	r.verify(0)

	accepted := 0
	for i, d := range []time.Duration{0, -290 * time.Second, 280 * time.Second} {
		body := fmt.Sprintf(`{"n":%d}`, i)
		h.MustPost(stripe(stripeSecret, now.Add(d), body))
		h.MustPost(standard(standardSecret, now.Add(d), "msg_"+strconv.Itoa(i), body))
		accepted += 2
	}
	r.verify(accepted)
}

// TestAccuLynxToken has the token in each of its places, and the allow list of subscriptions.
func TestAccuLynxToken(t *testing.T) {
	t.Parallel()
	h := programs.NewHost(t, harness.Options{Config: `
source "acculynx" "roofing" {
  path_token = env("ACCULYNX_TOKEN")
}
source "acculynx" "picky" {
  path_token    = [env("ACCULYNX_TOKEN"), "another-token-of-this-source"]
  subscriptions = ["ours"]
}
sink "file" "out" {
  dir = "out"
}
route "all" {
  to "file" "out" {}
}
`})
	h.Start()
	body := func(n int, subscription string) []byte {
		return fmt.Appendf(nil, `{"topicName":"job_updated","eventId":"e-%d","SubscriptionId":%q,"event":{"job":{"id":"j"}}}`,
			n, subscription)
	}
	const token = harness.AccuLynxToken
	r := &refusals{t, h, map[string]int{}}
	for _, c := range []struct{ path, cause string }{
		{"/hooks/roofing", "missing_token"},
		{"/hooks/roofing/" + token[:len(token)-1], "bad_token"},
		{"/hooks/roofing/" + token + "x", "bad_token"},
		{"/hooks/roofing/" + strings.ToUpper(token), "bad_token"},
		{"/hooks/roofing?token=wrong", "bad_token"},
		{"/hooks/roofing?token=", "bad_token"},
		{"/hooks/roofing?Token=" + token, "missing_token"},
		{"/hooks/roofing?token=" + token + "&token=" + token, "doubled_token"},
		{"/hooks/roofing/" + token + "?token=" + token, "doubled_token"},
		{"/hooks/roofing/another-token-of-this-source", "bad_token"},
	} {
		r.refuse(c.path, harness.NewPost(c.path, body(0, "ours")), "roofing", c.cause)
	}
	for _, b := range [][]byte{
		body(0, "theirs"), body(0, ""), []byte(`{"eventId":"e-0"}`), []byte(`{"eventId":"e-0","subscriptionId":["ours"]}`),
	} {
		r.refuse(string(b), harness.NewPost("/hooks/picky/"+token, b), "picky", "value_not_allowed")
	}
	r.refuse("a wrong token, too", harness.NewPost("/hooks/picky/wrong", body(0, "theirs")), "picky", "bad_token")
	r.verify(0)

	for i, path := range []string{
		"/hooks/roofing/" + token, "/hooks/roofing?token=" + token, "/hooks/roofing?a=b&token=" + token + "&c=d",
		"/hooks/picky/" + token, "/hooks/picky?token=another-token-of-this-source",
	} {
		h.MustPost(harness.NewPost(path, body(i, "ours")))
	}
	r.verify(5)
	// What is stored of the query is the rest of it.
	out := h.MustRun("requests", "list", "--json")
	if strings.Contains(out, token) || !strings.Contains(out, `"query":"a=b&c=d"`) {
		t.Errorf("requests are listed as\n%s", out)
	}
}
