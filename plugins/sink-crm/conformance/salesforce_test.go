// Package conformance compares the dialect salesforce with go-salesforce, a client that knows nothing of this project. It is
// a module of its own so that nobody else depends on that client.
package conformance

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	gosalesforce "github.com/k-capehart/go-salesforce/v3"

	"github.com/grapnelhq/grapnel/plugins/sink-crm/crm"
	"github.com/grapnelhq/grapnel/plugins/sink-crm/internal/fake"
	"github.com/grapnelhq/grapnel/plugins/sink-crm/salesforce"
	"github.com/grapnelhq/grapnel/sdk"
)

const (
	version  = "62.0"
	audience = "https://login.salesforce.com"
	user     = "grapnel@acme.example"
)

// organization is a fake with a key of ours and a secret.
func organization(t *testing.T) (sf *fake.Salesforce, address, key string) {
	t.Helper()
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	org := fake.SalesforceOrg{ClientID: "3MVG9", ClientSecret: "cs-123456", PublicKey: &private.PublicKey, User: user, Audience: audience}
	sf = fake.NewSalesforce(org)
	s := httptest.NewServer(sf)
	t.Cleanup(s.Close)
	org.InstanceURL = s.URL
	sf.SetOrg(org)
	return sf, s.URL, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// theirs logs the foreign client in.
func theirs(t *testing.T, address, key string) *gosalesforce.Salesforce {
	t.Helper()
	creds := gosalesforce.Creds{Domain: address, ConsumerKey: "3MVG9", ConsumerSecret: "cs-123456"}
	if key != "" {
		creds = gosalesforce.Creds{Domain: address, ConsumerKey: "3MVG9", Username: user, ConsumerRSAPem: key}
	}
	c, err := gosalesforce.Init(creds, gosalesforce.WithAPIVersion("v"+version), gosalesforce.WithCompressionHeaders(false))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func ours(t *testing.T, address, key string) *salesforce.Dialect {
	t.Helper()
	o := crm.OAuth{TokenURL: address + "/services/oauth2/token", ClientID: "3MVG9", ClientSecret: sdk.NewSecret("cs-123456")}
	if key != "" {
		o.ClientSecret, o.PrivateKey, o.Subject, o.Audience = sdk.Secret{}, sdk.NewSecret(key), user, audience
	}
	login, err := o.Login()
	if err != nil {
		t.Fatal(err)
	}
	d, err := salesforce.New(version, crm.Options{BaseURL: address, Login: login})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// people are n contacts for both; their ids come in when they are known.
func people(n int) (records []map[string]any, ops []crm.Op) {
	for i := range n {
		key := fmt.Sprintf("peopleforce:%d", 4101+i)
		records = append(records, map[string]any{"HR_Id__c": key, "LastName": fmt.Sprint("Doe ", i), "HR_Active__c": true})
		token, _ := json.Marshal(key)
		ops = append(ops, crm.Op{
			DeliveryID: fmt.Sprint("d-", i), Kind: crm.Upsert, Object: "Contact",
			Key: crm.Key{Name: "HR_Id__c", Value: key, Token: token},
			Fields: []crm.Field{
				{Name: "HR_Active__c", Value: []byte("true")}, {Name: "LastName", Value: fmt.Appendf(nil, `"Doe %d"`, i)},
			},
		})
	}
	return records, ops
}

// requests are those of a fake that change records, as JSON.
func requests(t *testing.T, sf *fake.Salesforce) []byte {
	t.Helper()
	var kept []fake.Request
	for _, r := range sf.Requests() {
		if strings.Contains(r.Path, "/query") || strings.Contains(r.Path, "/oauth2/") {
			continue
		}
		if !strings.Contains(r.Path, "/composite/") { // the type is in the address
			r.Body = []byte(strings.Replace(string(r.Body), `,"attributes":{"type":"Contact"}`, "", 1))
		}
		kept = append(kept, r)
	}
	b, err := json.Marshal(kept)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestSameRequests has both clients do the same to two organizations: the requests are the same, and so is what comes of
// them.
func TestSameRequests(t *testing.T) {
	for _, grant := range []string{"secret", "key"} {
		t.Run(grant, func(t *testing.T) {
			theirOrg, theirAddress, theirKey := organization(t)
			ourOrg, ourAddress, ourKey := organization(t)
			if grant == "secret" {
				theirKey, ourKey = "", ""
			}
			them, us := theirs(t, theirAddress, theirKey), ours(t, ourAddress, ourKey)
			theirOrg.Forget()
			records, ops := people(3)

			for range 2 { // create, update
				r, err := them.UpsertCollection("Contact", "HR_Id__c", records, 200)
				if err != nil || r.HasSalesforceErrors {
					t.Fatal(r, err)
				}
				for i, r := range us.Apply(t.Context(), ops) {
					if r.Err != nil {
						t.Errorf("%d: %v", i, r.Err)
					}
				}
			}
			records, _ = people(1) // the client has written into the others
			if _, err := them.UpsertOne("Contact", "HR_Id__c", records[0]); err != nil {
				t.Fatal(err)
			}
			us.Apply(t.Context(), ops[:1])

			var flags []map[string]any
			theirs := theirOrg.Records("Contact")
			for i := range ops {
				flags = append(flags, map[string]any{"Id": theirs[ops[i].Key.Value].ID, "HR_Status__c": "left"})
				ops[i].Kind, ops[i].Fields = crm.Flag, []crm.Field{{Name: "HR_Status__c", Value: []byte(`"left"`)}}
			}
			if r, err := them.UpdateCollection("Contact", flags, 200); err != nil || r.HasSalesforceErrors {
				t.Fatal(r, err)
			}
			us.Apply(t.Context(), ops)

			for i := range ops {
				delete(flags[i], "HR_Status__c")
				ops[i].Kind, ops[i].Fields = crm.Archive, nil
			}
			if r, err := them.DeleteCollection("Contact", flags, 200); err != nil || r.HasSalesforceErrors {
				t.Fatal(r, err)
			}
			us.Apply(t.Context(), ops)

			recorded := requests(t, theirOrg)
			for _, change := range [][2]string{ // as good as the same
				{`"Id":`, `"id":`}, {`\u0026allOrNone=false`, ""}, {`/composite/sobjects/"`, `/composite/sobjects"`},
				{"/composite/sobjects/?", "/composite/sobjects?"},
			} {
				recorded = []byte(strings.ReplaceAll(string(recorded), change[0], change[1]))
			}
			var got []fake.Request
			if err := json.Unmarshal(requests(t, ourOrg), &got); err != nil {
				t.Fatal(err)
			}
			fake.CompareRequests(t, recorded, got)
			if len(got) != 5 {
				t.Errorf("%d requests", len(got))
			}
			after := ourOrg.Records("Contact")
			for key, r := range theirOrg.Records("Contact") {
				if o := after[key]; fmt.Sprint(o.Fields) != fmt.Sprint(r.Fields) || o.Deleted != r.Deleted || !o.Deleted {
					t.Errorf("%s: %+v, theirs %+v", key, o, r)
				}
			}
		})
	}
}
