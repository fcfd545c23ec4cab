package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/grapnelhq/grapnel/plugins/sink-crm/internal/fake"
	"github.com/grapnelhq/grapnel/sdk"
	"github.com/grapnelhq/grapnel/sdk/plugintest"
)

func farEnd(t testing.TB, h http.Handler) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

const down = "http://127.0.0.1:1"

// TestHubSpot checks the plugin's contract, in the test's process and as a program.
func TestHubSpot(t *testing.T) {
	const token = "pat-na1-0123456789abcdef"
	h := fake.NewHubSpot(token)
	config := `{"dialect": "hubspot", "base_url": %q, "token": "` + token + `"}`
	plugintest.Sink(t, factory(), plugintest.Options{
		Config:  fmt.Sprintf(config, farEnd(t, h)),
		Message: `{"object": "contacts", "key": {"hr_external_id": "peopleforce:4101"}, "fields": {"firstname": "Jane", "phone": null}}`,
		Down:    fmt.Sprintf(config, down),
		Slow:    fmt.Sprintf(config, "$FAR_END"),
		Refused: fmt.Sprintf(config, "$FAR_END/status/401"),
	})
	if r := h.Records("contacts")["peopleforce:4101"]; r.Properties["firstname"] != "Jane" || len(r.Properties) != 2 {
		t.Errorf("%+v", r)
	}
}

func TestSalesforce(t *testing.T) {
	org := fake.SalesforceOrg{ClientID: "3MVG9ZL0ppGP5UrB", ClientSecret: "8C1D5F0A2B3C4D5E"}
	sf := fake.NewSalesforce(org)
	config := `{"dialect": "salesforce", "base_url": %q, "oauth": {"client_id": "3MVG9ZL0ppGP5UrB", "client_secret": "8C1D5F0A2B3C4D5E"}}`
	plugintest.Sink(t, factory(), plugintest.Options{
		Config:  fmt.Sprintf(config, farEnd(t, sf)),
		Message: `{"object": "Contact", "key": {"HR_Id__c": "youforce:12.7"}, "fields": {"LastName": "Doe", "Title": null}, "on_null": "clear"}`,
		Down:    fmt.Sprintf(config, down),
		Slow:    fmt.Sprintf(config, "$FAR_END"),
		Refused: fmt.Sprintf(config, "$FAR_END/status/401"),
		// The program is the same.
		NoProgram: true,
	})
	if r := sf.Records("Contact")["youforce:12.7"]; string(r.Fields["LastName"]) != `"Doe"` {
		t.Errorf("%+v", r)
	}
}

// TestSecretsStayIn has far ends that echo credentials in everything they say.
func TestSecretsStayIn(t *testing.T) {
	echo := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		body := make([]byte, 4096)
		n, _ := r.Body.Read(body)
		fmt.Fprintf(w, `{"category":"X","message":%q,"error":%[1]q}`, r.Header.Get("Authorization")+" "+string(body[:n]))
	})
	basic := base64.StdEncoding.EncodeToString([]byte("a:pat-0123456789"))
	for _, config := range []string{
		`{"dialect": "hubspot", "base_url": %q, "token": "pat-0123456789"}`,
		`{"dialect": "salesforce", "base_url": %q, "oauth": {"client_id": "a", "client_secret": "pat-0123456789", "credentials_in": "header"}}`,
		`{"dialect": "salesforce", "base_url": %q, "oauth": {"client_id": "a", "client_secret": "pat-/0123456789"}}`,
		`{"dialect": "salesforce", "base_url": %q, "token": "pat-0123456789"}`,
		`{"dialect": "salesforce", "base_url": %q, "oauth": {"client_id": "a", "client_secret": "pat-0123456789"}}`,
	} {
		in, err := plugintest.Connect(t, factory()).Open(t.Context(), fmt.Sprintf(config, farEnd(t, echo)))
		if err != nil {
			t.Fatal(err)
		}
		o, err := in.Deliver(t.Context(), plugintest.Delivery(1, `{"object": "Contact", "key": {"HR_Id__c": "1"}}`, ""))
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		if o[0].Kind == sdk.Delivered || strings.Contains(string(text), "0123456789") || strings.Contains(string(text), basic) {
			t.Errorf("%s", text)
		}
		if err := in.Check(t.Context()); err == nil || strings.Contains(err.Error(), "0123456789") {
			t.Error(err)
		}
		if err := in.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func TestReadme(t *testing.T) { plugintest.Readme(t, factory(), "README.md") }
