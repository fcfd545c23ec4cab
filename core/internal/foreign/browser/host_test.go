//go:build foreign && linux

package browser

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/internal/e2e/harness"
)

// site is a host with a user interface, and a far end whose answers a test decides.
type site struct {
	*harness.Host
	origin string
	status atomic.Int32 // what the far end answers; 204 at first
}

// config has a sink that always works and one that goes to the far end, a route that matches all and one that has a
// condition.
const config = `
admin {
  listen = %q
  %s
}
source "peopleforce" "people" {
  secrets = [env("PEOPLEFORCE_SECRET")]
}
source "youforce" "hr" {
  secrets = [env("YOUFORCE_SECRET")]
}
sink "file" "audit" {
  dir = "out"
}
sink "http" "partner" {
  url           = %q
  allow_private = true
  delivery {
    breaker {
      min = "100ms"
      max = "500ms"
    }
  }
}
sink "http" "payroll" {
  url           = %[3]q
  allow_private = true
}
route "audit" {
  on = ["peopleforce.*"]
  to "file" "audit" {}
}
route "new_hires" {
  from = [source.peopleforce.people]
  on   = ["peopleforce.employee.created", "peopleforce.employee.updated"]
  when = event.data.attributes.hired_on != null && event.data.attributes.last_name != "Contractor"
  to "http" "partner" {
    body = {
      name = event.data.attributes.last_name
      mail = event.data.attributes.email
    }
  }
}
route "payroll" {
  on   = ["peopleforce.employee.*"]
  when = event.data.attributes.last_name == "Nobody"
  to "http" "payroll" {}
}
alert "letters" {
  dead_letters = 2
  for          = "0s"
  to "file" "audit" {}
}
alert "parked" {
  sink_parked = "10m"
  to "file" "audit" {}
}
`

// newSite starts a host. admin is more of its admin block.
func newSite(t testing.TB, admin string) *site {
	t.Helper()
	s := &site{}
	s.status.Store(http.StatusNoContent)
	far := harness.NewEndpoint(t)
	far.Answer = func(*http.Request, []byte) int { return int(s.status.Load()) }
	address := programs.FreeAddress(t)
	s.origin = "http://" + address
	s.Host = programs.NewHost(t, harness.Options{Config: fmt.Sprintf(config, address, admin, far.URL)})
	s.Start()
	return s
}

// post posts an employee of PeopleForce: the event's subject is "employee/<id>", its type peopleforce.employee.created.
func (s *site) post(id int, name string) {
	s.MustPost(employee(id, name))
}

func employee(id int, name string) harness.Post {
	body := fmt.Appendf(nil, `{"action":"employee_create","data":{"id":%d,"type":"employee","attributes":{"first_name":"Ada",`+
		`"last_name":%q,"email":"e%d@example.com","hired_on":"2026-01-15"}},"triggered_at":%q}`,
		id, name, id, time.Now().UTC().Format(time.RFC3339Nano))
	return harness.SignPeopleForce("people", body)
}

// settled waits until nothing waits any more.
func (s *site) settled() { s.WaitSettled(patience) }

// dead makes dead letters of the partner: employees with these ids.
func (s *site) dead(t testing.TB, ids ...int) {
	t.Helper()
	s.status.Store(http.StatusUnprocessableEntity)
	for _, id := range ids {
		s.post(id, "Lovelace")
	}
	s.Eventually(patience, "the deliveries are dead", func() bool {
		return s.Count("partner", core.DeliveryDead) >= int64(len(ids))
	})
	s.status.Store(http.StatusNoContent)
}
