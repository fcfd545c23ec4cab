// Command fakecrm serves the fakes of package fake on the loopback interface, for tests of other modules. It prints one
// line of JSON with their addresses and ends when its standard input does.
//
//	control/hubspot/contacts    the records of a type as JSON, by their hr_external_id
//	control/salesforce/Contact  the records of an object, by their HR_Id__c
//	control/requests            the requests so far, of both, in two lists
//	control/sessions            ends Salesforce's sessions
//	control/token?valid=false   makes HubSpot's token invalid, or with true valid again
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"

	"github.com/grapnelhq/grapnel/plugins/sink-crm/internal/fake"
)

const hubspotToken = "pat-na1-fake-token"

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "fakecrm:", err)
		os.Exit(1)
	}
}

func run() error {
	hubspot := fake.NewHubSpot(hubspotToken)
	org := fake.SalesforceOrg{ClientID: "fake-client", ClientSecret: "fake-client-secret"}
	salesforce := fake.NewSalesforce(org)
	salesforce.AddSession("fake-session-token")

	control := http.NewServeMux()
	show := func(v func(r *http.Request) any) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(v(r))
		}
	}
	control.HandleFunc("/hubspot/", show(func(r *http.Request) any {
		return hubspot.Records(strings.TrimPrefix(r.URL.Path, "/hubspot/"))
	}))
	control.HandleFunc("/salesforce/", show(func(r *http.Request) any {
		return salesforce.Records(strings.TrimPrefix(r.URL.Path, "/salesforce/"))
	}))
	control.HandleFunc("/requests", show(func(*http.Request) any {
		return map[string]any{"hubspot": hubspot.Requests(), "salesforce": salesforce.Requests()}
	}))
	control.HandleFunc("/sessions", show(func(*http.Request) any {
		salesforce.EndSessions()
		return true
	}))

	control.HandleFunc("/token", show(func(r *http.Request) any {
		valid := r.FormValue("valid") == "true"
		if valid {
			hubspot.SetToken(hubspotToken)
		} else {
			hubspot.SetToken("another one")
		}
		return valid
	}))

	addresses := map[string]string{}
	for name, handler := range map[string]http.Handler{"hubspot": hubspot, "salesforce": salesforce, "control": control} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		addresses[name] = "http://" + l.Addr().String()
		go func() { _ = http.Serve(l, handler) }() // ends with the program
	}
	org.InstanceURL = addresses["salesforce"]
	salesforce.SetOrg(org)
	salesforce.AddSession("fake-session-token")
	if err := json.NewEncoder(os.Stdout).Encode(addresses); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}
