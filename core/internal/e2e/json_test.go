//go:build unix

package e2e

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/grapnelhq/grapnel/core/internal/e2e/harness"
)

// describedProviders are the configurations that come with the decoder "json", together, and the folder's other files.
func describedProviders(t *testing.T) (config string, files map[string][]byte) {
	t.Helper()
	files = map[string][]byte{}
	paths, err := filepath.Glob("../../../plugins/decoder-json/providers/*/*")
	if err != nil || len(paths) < 8 {
		t.Fatalf("%d files: %v", len(paths), err)
	}
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Ext(path) == ".hcl" {
			config += string(b)
		} else {
			files[filepath.Base(path)] = b
		}
	}
	return config, files
}

// TestDescribedProviders runs the configurations of real providers that come with the decoder "json": their samples,
// signatures as each provider makes them, tests of the endpoint, repeats, and requests with several events.
func TestDescribedProviders(t *testing.T) {
	t.Parallel()
	const shopify, calendly, slack, graph = "shopify secret 1", "calendly key 2", "slack secret 3", "graph-token-4"
	config, files := describedProviders(t)
	h := programs.NewHost(t, harness.Options{Config: config, Env: []string{
		"SHOPIFY_SECRET=" + shopify, "CALENDLY_KEY=" + calendly, "SLACK_SIGNING_SECRET=" + slack, "GRAPH_TOKEN=" + graph,
	}})
	for name, b := range files {
		if err := os.WriteFile(h.Path(name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if out, errOut, err := h.Run("validate"); err != nil || strings.Contains(out+errOut, "warning") {
		t.Fatalf("validate: %v\n%s%s", err, out, errOut)
	}
	h.Start()

	sum := func(secret, content string) []byte {
		m := hmac.New(sha256.New, []byte(secret))
		m.Write([]byte(content))
		return m.Sum(nil)
	}
	now := strconv.FormatInt(time.Now().Unix(), 10)
	post := func(path, body string, headers ...string) harness.Post {
		p := harness.NewPost(path, []byte(body))
		for i := 0; i < len(headers); i += 2 {
			p.Header.Set(headers[i], headers[i+1])
		}
		return p
	}

	order := string(files["order-created.json"])
	signed := base64.StdEncoding.EncodeToString(sum(shopify, order))
	placed := post("/hooks/shop", order, "X-Shopify-Topic", "orders/create", "X-Shopify-Hmac-Sha256", signed,
		"X-Shopify-Webhook-Id", "w-1", "X-Shopify-Shop-Domain", "acme.myshopify.com")
	h.MustPost(placed)
	h.MustPost(placed) // tried again: one order
	paid := post("/hooks/shop", order, "X-Shopify-Topic", "orders/paid", "X-Shopify-Hmac-Sha256", signed, "X-Shopify-Webhook-Id", "w-2")
	h.MustPost(paid)

	invitee := string(files["invitee-created.json"])
	h.MustPost(post("/hooks/meetings", invitee,
		"Calendly-Webhook-Signature", "t="+now+",v1="+hex.EncodeToString(sum(calendly, now+"."+invitee))))

	sayTo := func(body string) harness.Post {
		return post("/hooks/team", body, "X-Slack-Request-Timestamp", now,
			"X-Slack-Signature", "v0="+hex.EncodeToString(sum(slack, "v0:"+now+":"+body)))
	}
	a := h.MustPost(sayTo(`{"token":"x","challenge":"3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P","type":"url_verification"}`))
	if a.Body != "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P" {
		t.Errorf("Slack's test: %+v", a)
	}
	h.MustPost(sayTo(string(files["app-mention.json"])))

	a = ask(t, h, "POST", "/hooks/mail/"+graph+"?validationToken=Validation%3A+Testing+client", "",
		http.Header{"Content-Type": {"text/plain; charset=utf-8"}})
	if a.Status != 200 || a.Body != "Validation: Testing client" || !strings.HasPrefix(a.Header.Get("Content-Type"), "text/plain") {
		t.Errorf("Graph's test: %+v", a)
	}
	if a := h.MustPost(post("/hooks/mail/"+graph, string(files["notifications.json"]))); a.Status != 202 {
		t.Errorf("Graph's notifications: %+v", a)
	}

	r := &refusals{t, h, map[string]int{}}
	forged := post("/hooks/shop", order+" ", "X-Shopify-Topic", "orders/create", "X-Shopify-Hmac-Sha256", signed, "X-Shopify-Webhook-Id", "w-3")
	r.refuse("Shopify, another body", forged, "shop", "bad_signature")
	old := strconv.FormatInt(time.Now().Add(-4*time.Minute).Unix(), 10)
	r.refuse("Calendly, too old", post("/hooks/meetings", invitee,
		"Calendly-Webhook-Signature", "t="+old+",v1="+hex.EncodeToString(sum(calendly, old+"."+invitee))), "meetings", "timestamp_too_old")
	unsigned := sayTo(`{"type":"url_verification","challenge":"x"}`)
	unsigned.Header.Set("X-Slack-Signature", "v0="+strings.Repeat("0", 64))
	r.refuse("Slack, a test that is not signed", unsigned, "team", "bad_signature")

	h.WaitSettled(harness.Patience)
	read := func(dir string) (lines []string) {
		for _, raw := range h.RawLines("data/" + dir + "/events.jsonl") {
			lines = append(lines, string(raw))
		}
		slices.Sort(lines)
		return lines
	}
	want := map[string][]string{
		"orders": {
			`{"order":820982911946154500,"total":"398.00","mail":"jane@example.com","shop":"acme.myshopify.com"}`,
			`{"order":820982911946154500,"total":"398.00","mail":"jane@example.com"}`,
		},
		"meetings": {`{"who":"jane@example.com","what":"Site visit","state":"active"}`},
		"mentions": {`{"who":"U061F7AUR","said":"\u003c@U0LAN0Z89\u003e is it everything a river should be?","where":"C061EG9SL"}`},
		"mail": {`{"resource":"Users/ddfcd489-628b-40d7-b48b-57002df800e5/Messages/AAMkAGUwNjQ4ZjIxLTQ3Y2YtNDViMi1iZjc4",` +
			`"subscription":"76222963-cc7b-42d2-882d-8aaa69cb2ba3"}`},
	}
	for dir, lines := range want {
		if got := read(dir); !same(t, got, lines) {
			t.Errorf("%s:\n%s\nwant\n%s", dir, strings.Join(got, "\n"), strings.Join(lines, "\n"))
		}
	}

	// The samples, signed by the host's own command; each copy is an event of its own.
	for source, n := range map[string]int{"shop": 1, "meetings": 2, "team": 1, "mail": 2} {
		out := h.MustRun("send", source, "*", "--count", "2", "--json")
		if got := strings.Count(out, `"type"`); got != 2*n {
			t.Errorf("send %s: %d answers, want %d\n%s", source, got, 2*n, out)
		}
	}
	h.WaitSettled(harness.Patience)
	if got := len(read("orders")); got != 4 {
		t.Errorf("%d orders after the samples, want 4", got)
	}
	if got := len(read("meetings")); got != 5 {
		t.Errorf("%d meetings after the samples, want 5", got)
	}
}

// same reports whether lines hold the same JSON, whatever the order of members.
func same(t *testing.T, got, want []string) bool {
	t.Helper()
	normal := func(lines []string) []string {
		out := make([]string, len(lines))
		for i, l := range lines {
			var v any
			if err := json.Unmarshal([]byte(l), &v); err != nil {
				t.Fatal(err)
			}
			b, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			out[i] = string(b)
		}
		slices.Sort(out)
		return out
	}
	return slices.Equal(normal(got), normal(want))
}
