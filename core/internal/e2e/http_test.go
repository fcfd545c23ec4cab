//go:build unix

package e2e

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/internal/e2e/harness"
)

// TestHTTP runs the examples of the HTTP sink's README against endpoints of the test's own: a partner who verifies
// signatures, and an API with a login, of which one token ends early and one record is there already.
func TestHTTP(t *testing.T) {
	t.Parallel()
	key := []byte("0123456789abcdef0123456789abcdef")
	var mu sync.Mutex
	partner := map[string]string{} // by delivery id, the event's type
	directory := map[string]string{}
	tokens := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		switch {
		case err != nil:
		case r.URL.Path == "/hooks":
			mac := hmac.New(sha256.New, key)
			fmt.Fprintf(mac, "%s.%s.%s", r.Header.Get("webhook-id"), r.Header.Get("webhook-timestamp"), body)
			var event struct{ Type, DeliveryID string }
			want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
			if r.Header.Get("webhook-signature") != want || json.Unmarshal(body, &event) != nil ||
				event.DeliveryID != r.Header.Get("webhook-id") {
				t.Errorf("%v %s", r.Header, body)
			}
			partner[event.DeliveryID] = event.Type
		case r.URL.Path == "/token":
			if id, secret, _ := r.BasicAuth(); id != "grapnel" || secret != "directory-secret-1" {
				t.Errorf("token for %s", id)
			}
			tokens++
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, `{"access_token": "directory-token-%d", "token_type": "Bearer", "expires_in": 3600}`, tokens)
		case tokens == 1 && len(directory) == 2 || r.Header.Get("Authorization") != fmt.Sprintf("Bearer directory-token-%d", tokens):
			w.WriteHeader(http.StatusUnauthorized)
		default:
			directory[r.Method+" "+r.RequestURI] = string(body)
			if strings.HasSuffix(r.RequestURI, "/3") {
				w.WriteHeader(http.StatusConflict)
			}
		}
	}))
	t.Cleanup(server.Close)

	readme, err := os.ReadFile("../../../plugins/sink-http/README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, config, _ := strings.Cut(string(readme), "\n```hcl\n")
	config, _, _ = strings.Cut(config, "```")
	config = strings.NewReplacer(
		`"https://partner.example.com/hooks"`, fmt.Sprintf("%q\n  allow_private = true", server.URL+"/hooks"),
		`"https://directory.example.com/v2"`, fmt.Sprintf("%q\n  allow_private = true", server.URL+"/v2"),
		`"https://login.example.com/token"`, fmt.Sprintf("%q", server.URL+"/token"),
	).Replace(config)
	h := programs.NewHost(t, harness.Options{Config: `
source "peopleforce" "people" {
  secrets = [env("PEOPLEFORCE_SECRET")]
}
` + config, Env: []string{
		"PARTNER_KEY=whsec_" + base64.StdEncoding.EncodeToString(key), "DIRECTORY_SECRET=directory-secret-1",
	}})
	h.Start()
	if out := h.MustRun("validate"); strings.Contains(out, "warning") {
		t.Errorf("validate: %s", out)
	}
	const people = 6
	for i := range people {
		id := fmt.Sprintf("%d", i)
		if i == 5 {
			id = `"a/b 5"` // as text, with what has a meaning in a path
		}
		h.MustPost(harness.SignPeopleForce("people", fmt.Appendf(nil, `{"action":"employee_create","data":{"id":%s,`+
			`"attributes":{"first_name":"Zoë","last_name":"Example %d","email":"zoe%d@example.com"}}}`, id, i, i)))
	}
	h.WaitSettled(20 * time.Second)
	mu.Lock()
	defer mu.Unlock()
	for _, sink := range []string{"partner", "directory"} {
		if n := h.Count(sink, core.DeliveryDelivered); n != people {
			t.Errorf("%s: %d delivered", sink, n)
		}
	}
	if len(partner) != people || len(directory) != people {
		t.Errorf("the partner has %d events, the directory %d records", len(partner), len(directory))
	}
	for i := range people {
		path := fmt.Sprint("PUT /v2/people/", i)
		if i == 5 {
			path = "PUT /v2/people/a%2Fb%205"
		}
		if want := fmt.Sprintf(`{"mail":"zoe%d@example.com","name":"Example %d"}`, i, i); !sameJSON(directory[path], want) {
			t.Errorf("%s has %q, want %s", path, directory[path], want)
		}
	}
	if tokens != 2 {
		t.Errorf("%d tokens", tokens)
	}
	for _, secret := range []string{"directory-secret-1", "directory-token-", "whsec_"} {
		if strings.Contains(h.Log(), secret) {
			t.Errorf("%s is in the log", secret)
		}
	}
	h.Stop()
}

// sameJSON reports whether two objects of texts are the same.
func sameJSON(a, b string) bool {
	var x, y map[string]string
	return json.Unmarshal([]byte(a), &x) == nil && json.Unmarshal([]byte(b), &y) == nil && maps.Equal(x, y)
}
