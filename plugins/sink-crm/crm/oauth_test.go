package crm_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/grapnelhq/grapnel/plugins/sink-crm/crm"
	"github.com/grapnelhq/grapnel/plugins/sink-crm/internal/fake"
	"github.com/grapnelhq/grapnel/sdk"
)

func rsaKey(t testing.TB) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func pkcs8(t testing.TB, key any) string {
	t.Helper()
	b, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: b}))
}

func pkcs1(key *rsa.PrivateKey) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}))
}

// TestLogins has both grants log in at the strict fake of Salesforce.
func TestLogins(t *testing.T) {
	key := rsaKey(t)
	org := fake.SalesforceOrg{
		ClientID: "3MVG9", ClientSecret: "cs-123456", PublicKey: &key.PublicKey, User: "hr@acme.example", Audience: "https://login.salesforce.com",
	}
	sf := fake.NewSalesforce(org)
	s := httptest.NewServer(sf)
	defer s.Close()
	base := crm.OAuth{TokenURL: s.URL + "/services/oauth2/token", ClientID: "3MVG9"}
	for name, change := range map[string]func(o *crm.OAuth){
		"secret in the body":   func(o *crm.OAuth) { o.ClientSecret, o.CredentialsIn = sdk.NewSecret("cs-123456"), "body" },
		"secret in the header": func(o *crm.OAuth) { o.ClientSecret, o.CredentialsIn = sdk.NewSecret("cs-123456"), "header" },
		"key of PKCS 8":        func(o *crm.OAuth) { o.PrivateKey = sdk.NewSecret(pkcs8(t, key)) },
		"key of PKCS 1":        func(o *crm.OAuth) { o.PrivateKey = sdk.NewSecret(pkcs1(key)) },
		"with a scope":         func(o *crm.OAuth) { o.ClientSecret, o.Scopes = sdk.NewSecret("cs-123456"), []string{"api", "id"} },
	} {
		t.Run(name, func(t *testing.T) {
			o := base
			o.Subject, o.Audience = org.User, org.Audience
			change(&o)
			if err := o.Validate(); err != nil {
				t.Fatal(err)
			}
			login, err := o.Login()
			if err != nil {
				t.Fatal(err)
			}
			c, err := crm.NewClient(crm.Options{BaseURL: s.URL, Login: login, Secrets: o.Secrets()})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			get := crm.Request{Method: http.MethodGet, Path: "/services/data/v62.0/"}
			for range 2 { // then with a session that has ended
				resp, err := c.Do(t.Context(), get)
				if err != nil || !resp.OK() {
					t.Fatal(resp, err)
				}
				sf.EndSessions()
			}
			sf.SetOrg(fake.SalesforceOrg{})
			_, err = c.Do(t.Context(), get)
			if got := fake.OutcomeOf(err); got.Kind != sdk.Suspended || !strings.Contains(got.Reason, "invalid_") {
				t.Errorf("revoked: %+v", got)
			}
			sf.SetOrg(org)
		})
	}
}

// TestTokenAnswers checks what the answers of a token address mean.
func TestTokenAnswers(t *testing.T) {
	for _, test := range []struct {
		name   string
		status int
		body   string
		want   string // of the login; "ok": the request was sent
	}{
		{"a token", 200, `{"access_token":"at-1","token_type":"Bearer","expires_in":3600}`, "ok"},
		{"expires_in as text", 200, `{"access_token":"at-1","expires_in":"3600"}`, "ok"},
		{"expires_in as nonsense", 200, `{"access_token":"at-1","expires_in":"soon"}`, "ok"},
		{"no token", 200, `{}`, "retry"},
		{"no JSON", 200, `<html>`, "retry"},
		{"a token with a line break", 200, `{"access_token":"a\r\nX: y"}`, "retry"},
		{"error with 200", 200, `{"error":"invalid_grant"}`, "suspend"},
		{"invalid_grant", 400, `{"error":"invalid_grant","error_description":"expired access/refresh token"}`, "suspend"},
		{"invalid_client", 401, `{"error":"invalid_client"}`, "suspend"},
		{"unknown error", 400, `{"error":"something_else"}`, "suspend"},
		{"temporarily_unavailable", 503, `{"error":"temporarily_unavailable"}`, "retry"},
		{"server error", 500, `{"error":"server_error"}`, "retry"},
		{"error with 500", 500, `{"error":"unknown_error","error_description":"retry your request"}`, "retry"},
		{"throttled", 429, `{"error":"rate_limit"}`, "retry after 9s"},
		{"not found", 404, `<html>Not here</html>`, "suspend"},
		{"forbidden", 403, ``, "suspend"},
		{"a foreign instance", 200, `{"access_token":"at-1","instance_url":"http://evil.example"}`, "retry"},
		{"a bad instance", 200, `{"access_token":"at-1","instance_url":"nonsense"}`, "retry"},
	} {
		t.Run(test.name, func(t *testing.T) {
			mux := http.NewServeMux()
			mux.HandleFunc("/token", func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Retry-After", "9")
				if test.status != 429 {
					w.Header().Del("Retry-After")
				}
				w.WriteHeader(test.status)
				w.Write([]byte(test.body))
			})
			mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Authorization") != "Bearer at-1" {
					w.WriteHeader(http.StatusUnauthorized)
				}
			})
			s := httptest.NewServer(mux)
			defer s.Close()
			o := crm.OAuth{TokenURL: s.URL + "/token", ClientID: "id", ClientSecret: sdk.NewSecret("cs-123456")}
			login, err := o.Login()
			if err != nil {
				t.Fatal(err)
			}
			c, err := crm.NewClient(crm.Options{BaseURL: s.URL, Login: login})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			resp, err := c.Do(t.Context(), crm.Request{Method: "GET", Path: "/x"})
			got := fake.Short(err)
			if err == nil && resp.OK() {
				got = "ok"
			}
			if got != test.want {
				t.Errorf("%s (%v), want %s", got, err, test.want)
			}
		})
	}
}

func TestValidateOAuth(t *testing.T) {
	key := rsaKey(t)
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	secret, good := sdk.NewSecret("cs-123456"), sdk.NewSecret(pkcs8(t, key))
	for _, test := range []struct {
		name string
		o    crm.OAuth
		want string
	}{
		{"fine", crm.OAuth{ClientID: "a", ClientSecret: secret, TokenURL: "https://x/t"}, ""},
		{"loopback", crm.OAuth{ClientID: "a", ClientSecret: secret, TokenURL: "http://[::1]:8/t"}, ""},
		{"key", crm.OAuth{ClientID: "a", PrivateKey: good, Subject: "u"}, ""},
		{"nothing", crm.OAuth{}, "oauth.client_id oauth.client_secret"},
		{"both", crm.OAuth{ClientID: "a", ClientSecret: secret, PrivateKey: good, Subject: "u"}, "oauth.private_key"},
		{"no PEM", crm.OAuth{ClientID: "a", PrivateKey: secret}, "oauth.private_key oauth.subject"},
		{"no RSA", crm.OAuth{ClientID: "a", PrivateKey: sdk.NewSecret(pkcs8(t, ec)), Subject: "u"}, "oauth.private_key"},
		{"no key in it", crm.OAuth{ClientID: "a", Subject: "u", PrivateKey: sdk.NewSecret(string(pem.EncodeToMemory(&pem.Block{
			Type: "PRIVATE KEY", Bytes: []byte("nonsense")})))}, "oauth.private_key"},
		{"http", crm.OAuth{ClientID: "a", ClientSecret: secret, TokenURL: "http://x/t"}, "oauth.token_url"},
		{"userinfo", crm.OAuth{ClientID: "a", ClientSecret: secret, TokenURL: "https://u@x/t"}, "oauth.token_url"},
	} {
		var paths []string
		for _, e := range sdk.AttributeErrors(test.o.Validate()) {
			paths = append(paths, strings.Join(e.Path, "."))
			if strings.Contains(e.Error(), "cs-123456") {
				t.Errorf("%s: %v", test.name, e)
			}
		}
		if got := strings.Join(paths, " "); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

// FuzzTokenAnswer feeds a login anything as an answer.
func FuzzTokenAnswer(f *testing.F) {
	f.Add(200, []byte(`{"access_token":"at-1","expires_in":1e400,"instance_url":"https://x"}`))
	f.Add(400, []byte(`{"error":"invalid_grant"}`))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		if status < 200 || status > 599 {
			return
		}
		o := crm.OAuth{TokenURL: "https://x.example/t", ClientID: "id", ClientSecret: sdk.NewSecret("cs-123456")}
		login, err := o.Login()
		if err != nil {
			t.Fatal(err)
		}
		c, err := crm.NewClient(crm.Options{
			BaseURL: "https://x.example", Login: login,
			Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
				w := httptest.NewRecorder()
				if r.URL.Path == "/t" {
					w.WriteHeader(status)
					w.Write(body)
				}
				return w.Result(), nil
			}),
		})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		resp, err := c.Do(t.Context(), crm.Request{Method: "GET", Path: "/x"})
		if (resp == nil) == (err == nil) || time.Since(start) > 5*time.Second {
			t.Error(resp, err)
		}
	})
}
