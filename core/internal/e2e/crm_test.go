//go:build unix

package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/internal/e2e/harness"
	"github.com/grapnelhq/grapnel/core/store"
)

// crms are the fakes of HubSpot and Salesforce that the CRM sink's own tests run against, as a process.
type crms struct {
	t                            *testing.T
	HubSpot, Salesforce, Control string
}

func startCRMs(t *testing.T) *crms {
	t.Helper()
	stdout := harness.StartFake(t, "./plugins/sink-crm/internal/fakecrm")
	c := &crms{t: t}
	if err := json.NewDecoder(stdout).Decode(c); err != nil {
		t.Fatal(err)
	}
	return c
}

// get asks the fakes for something.
func (c *crms) get(path string, v any) {
	c.t.Helper()
	resp, err := http.Get(c.Control + path)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(v); err != nil {
		c.t.Fatal(err)
	}
}

// TestCRM runs the examples of the CRM sink's README, with the addresses of the fakes: PeopleForce to HubSpot and Youforce
// to Salesforce, with repeats, late events, a record that is refused, a login that ends, a token that is revoked, and a host
// that is killed.
func TestCRM(t *testing.T) {
	t.Parallel()
	far := startCRMs(t)
	readme, err := os.ReadFile("../../../plugins/sink-crm/README.md")
	if err != nil {
		t.Fatal(err)
	}
	var config string
	for _, part := range strings.Split(string(readme), "\n```hcl\n")[1:] {
		block, _, _ := strings.Cut(part, "```")
		config += block
	}
	config = strings.Replace(config, `token   = env("HUBSPOT_TOKEN")`, fmt.Sprintf("token = env(\"HUBSPOT_TOKEN\")\n base_url = %q", far.HubSpot), 1)
	config = strings.Replace(config, `"https://acme.my.salesforce.com"`, fmt.Sprintf("%q", far.Salesforce), 1)
	config = strings.Replace(config, `rate = "8/s"`, `rate = "200/s"`, 1)
	h := programs.NewHost(t, harness.Options{Config: config, Env: []string{
		"HUBSPOT_TOKEN=pat-na1-fake-token", "SALESFORCE_CLIENT_ID=fake-client", "SALESFORCE_CLIENT_SECRET=fake-client-secret",
	}})
	h.Start()
	if out := h.MustRun("validate"); strings.Contains(out, "warning") {
		t.Errorf("validate: %s", out)
	}

	at := func(minute int) string {
		return time.Date(2026, 1, 15, 9, minute, 0, 0, time.UTC).Format(time.RFC3339)
	}
	employee := func(action string, id, minute int, email, position string) {
		h.MustPost(harness.SignPeopleForce("people", fmt.Appendf(nil, `{"action":%q,"data":{"id":%d,`+
			`"attributes":{"first_name":"Ada %d","last_name":"Example","email":%q,"hired_on":"2026-01-15"},`+
			`"position":{"id":1,"name":%q},"department":null,"meta":{"updated_at":%q}}}`, action, id, id, email, position, at(minute))))
	}
	person := func(operation, id string, minute int, value string) {
		body := fmt.Appendf(nil, `{"id":%q,"operation":%q,"tenantId":"123456","timestamp":%q,"value":%s}`, id, operation, at(minute), value)
		h.MustPost(harness.SignYouforce("hr", "PERSON_CHANGED", "", body))
	}
	const people = 30
	for i := 1; i <= people; i++ {
		email := fmt.Sprintf("ada%d@example.com", i)
		if i == 7 {
			email = "nonsense"
		}
		employee("employee_create", i, 1, email, "Engineer")
		employee("employee_update", i, 5, email, "Architect")
		person("Insert", fmt.Sprintf("%d 5", i), 1, fmt.Sprintf(`{"id":"%d 5","knownAs":"Bo","lastName":"Example %d"}`, i, i))
		if i == people/2 {
			h.WaitSettled(20 * time.Second)
			var ok bool
			far.get("/sessions", &ok) // Salesforce's access tokens end
			h.Kill()                  // and so does the host
			h.Start()
		}
	}
	for i := 1; i <= people; i++ {
		employee("employee_update", i, 3, fmt.Sprintf("old%d@example.com", i), "Intern") // late: older than what is there
		employee("employee_update", i, 3, fmt.Sprintf("old%d@example.com", i), "Intern") // a repeat
		switch i % 3 {
		case 0:
			employee("employee_terminate", i, 9, "", "")
			person("Delete", fmt.Sprintf("%d 5", i), 9, "null")
			person("Update", fmt.Sprintf("%d 5", i), 6, `{"knownAs":"Zombie","lastName":"X"}`) // late
		case 1:
			person("Update", fmt.Sprintf("%d 5", i), 9, fmt.Sprintf(`{"knownAs":null,"lastName":"Married %d"}`, i))
		}
	}
	employee("employee_terminate", 999, 9, "", "") // whom the CRM does not know
	h.WaitSettled(30 * time.Second)

	// The token is revoked: the sink waits for somebody to act, and nothing is lost.
	var valid bool
	far.get("/token?valid=false", &valid)
	employee("employee_update", 1, 10, "ada1@example.com", "Director")
	state := func(sink string) string {
		for _, s := range h.Status().Sinks {
			if s.Sink == sink {
				return s.State
			}
		}
		return ""
	}
	h.Eventually(20*time.Second, "the sink is suspended", func() bool { return state("hubspot") == "suspended" })
	if out := h.MustRun("status"); !strings.Contains(out, "401 Unauthorized") || state("salesforce") != "working" {
		t.Errorf("status: %s", out)
	}
	far.get("/token?valid=true", &valid)
	h.MustRun("sinks", "resume", "hubspot")
	h.WaitSettled(20 * time.Second)

	type contact struct {
		Properties map[string]string
		Archived   bool
		Writes     int
	}
	contacts := map[string]contact{}
	far.get("/hubspot/contacts", &contacts)
	if len(contacts) != people { // the seventh is there by its late event, which has a good address
		t.Errorf("%d contacts", len(contacts))
	}
	for i := 1; i <= people; i++ {
		c := contacts[fmt.Sprintf("peopleforce:%d", i)]
		status, title, email := "employed", "Architect", fmt.Sprintf("ada%d@example.com", i)
		if i%3 == 0 {
			status = "left"
		}
		if i == 1 {
			title = "Director"
		}
		if i == 7 {
			title, email = "Intern", "old7@example.com"
		}
		if p := c.Properties; p["jobtitle"] != title || p["hr_status"] != status || p["email"] != email || c.Archived || p["firstname"] == "" {
			t.Errorf("contact %d: %+v", i, c)
		}
	}
	type record struct {
		Fields  map[string]any
		Deleted bool
	}
	records := map[string]record{}
	far.get("/salesforce/Contact", &records)
	if len(records) != people {
		t.Errorf("%d records in Salesforce", len(records))
	}
	for i := 1; i <= people; i++ {
		r := records[fmt.Sprintf("youforce:123456/person/%d 5", i)]
		known, last := any("Bo"), fmt.Sprintf("Example %d", i)
		if i%3 == 1 {
			known, last = nil, fmt.Sprintf("Married %d", i)
		}
		if r.Deleted != (i%3 == 0) || r.Fields["FirstName"] != known || r.Fields["LastName"] != last {
			t.Errorf("record %d: %+v", i, r)
		}
	}

	count := func(sink string, state core.DeliveryState, want int64) {
		t.Helper()
		if got := h.Count(sink, state); got != want {
			t.Errorf("%s: %d %s, want %d", sink, got, state, want)
		}
	}
	count("hubspot", core.DeliveryDead, 2)
	count("hubspot", core.DeliverySkipped, people) // all late ones but the seventh's, and the stranger's termination
	count("salesforce", core.DeliveryDead, 0)
	count("salesforce", core.DeliverySkipped, people/3)
	page, err := h.Control.Deliveries(t.Context(), store.DeliveryFilter{State: core.DeliveryDead})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range page.Items {
		if !strings.Contains(d.Reason, "Email address nonsense is invalid") || strings.Join(d.AttributePath, ".") != "fields.email" {
			t.Errorf("%+v", d)
		}
	}
	for _, secret := range []string{"pat-na1-fake-token", "fake-client-secret"} {
		if strings.Contains(h.Log(), secret) {
			t.Errorf("%s is in the log", secret)
		}
	}
	h.Stop()
}
