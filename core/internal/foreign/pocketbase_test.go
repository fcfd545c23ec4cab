//go:build foreign && linux

package foreign

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/grapnelhq/grapnel/core/internal/e2e/harness"
)

const (
	pocketBasePassword = `app "pass" {1}`
	pocketBaseRoot     = "root-pass-1"
)

// pocketBase is a PocketBase with a collection of people and a rate limit.
type pocketBase struct {
	*server
	url, root string // root: the superuser's token
}

func newPocketBase(t *testing.T) *pocketBase {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, "pocketbase")
	build := exec.Command("go", "build", "-o", program, ".")
	build.Dir, build.Env = "pocketbase", append(os.Environ(), "GOWORK=off", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	addr := programs.FreeAddress(t)
	data := filepath.Join(dir, "data")
	run(t, dir, nil, program, "superuser", "upsert", "root@example.com", pocketBaseRoot, "--dir", data)
	s := &pocketBase{url: "http://" + addr}
	s.server = newServer(t, dir, addr, program, "serve", "--dev=false", "--http", addr, "--dir", data)
	s.start()
	var login struct{ Token string }
	ask(t, "POST", s.url+"/api/collections/_superusers/auth-with-password", "",
		map[string]string{"identity": "root@example.com", "password": pocketBaseRoot}, &login)
	s.root = login.Token
	signedIn := `@request.auth.id != ""`
	ask(t, "POST", s.url+"/api/collections", s.root, map[string]any{
		"name": "people", "type": "base",
		"listRule": signedIn, "viewRule": signedIn, "createRule": signedIn, "updateRule": signedIn, "deleteRule": signedIn,
		"fields": []map[string]any{
			{"name": "code", "type": "text", "required": true},
			{"name": "name", "type": "text", "pattern": `^[^\t]*$`},
			{"name": "email", "type": "email"},
			{"name": "phone", "type": "text"},
			{"name": "days", "type": "number"},
			{"name": "active", "type": "bool"},
		},
		"indexes": []string{"CREATE UNIQUE INDEX people_code ON people (code)"},
	}, nil)
	ask(t, "POST", s.url+"/api/collections/users/records", s.root, map[string]string{
		"email": "grapnel@example.com", "password": pocketBasePassword, "passwordConfirm": pocketBasePassword,
	}, nil)
	ask(t, "PATCH", s.url+"/api/settings", s.root, map[string]any{
		"rateLimits": map[string]any{"enabled": true, "rules": []map[string]any{
			{"label": "*:auth", "maxRequests": 2, "duration": 3},
			{"label": "people:list", "maxRequests": 100, "duration": 1},
			{"label": "people:create", "maxRequests": 10, "duration": 1},
			{"label": "people:update", "maxRequests": 80, "duration": 1},
		}},
		"logs": map[string]any{"maxDays": 1, "minLevel": 0},
	}, nil)
	return s
}

// people reads all records by code.
func (s *pocketBase) people() map[string]map[string]any {
	s.t.Helper()
	out := map[string]map[string]any{}
	for page := 1; ; page++ {
		var found struct{ Items []map[string]any }
		address := fmt.Sprintf("%s/api/collections/people/records?skipTotal=1&perPage=500&sort=id&page=%d", s.url, page)
		ask(s.t, "GET", address, s.root, nil, &found)
		for _, p := range found.Items {
			code, _ := p["code"].(string)
			if _, twice := out[code]; twice {
				s.t.Errorf("two records have the code %q", code)
			}
			out[code] = p
		}
		if len(found.Items) < 500 {
			return out
		}
	}
}

// refusals is how many requests were answered with 429.
func (s *pocketBase) refusals() int {
	s.t.Helper()
	var found struct{ TotalItems int }
	ask(s.t, "GET", s.url+"/api/logs?perPage=1&filter=data.status%3D429", s.root, nil, &found)
	return found.TotalItems
}

// TestPocketBase has 2 000 events end as records of a PocketBase that limits rates and is killed twice meanwhile.
func TestPocketBase(t *testing.T) {
	t.Parallel()
	s := newPocketBase(t)
	config := harness.Documented(t, restReadme, "PocketBase")
	// Faster than the far end admits, so that it has to say so.
	for _, change := range [][2]string{{`rate = "20/s" # below its limit`, ""}, {`pause = "2s"`, `pause = "500ms"`}} {
		if !strings.Contains(config, change[0]) {
			t.Fatalf("the README does not say %s", change[0])
		}
		config = strings.Replace(config, change[0], change[1], 1)
	}
	h := programs.NewHost(t, harness.Options{
		Config: quick(t, config, ""),
		Env:    []string{"POCKETBASE_URL=" + s.url, "POCKETBASE_PASSWORD=" + pocketBasePassword},
	})
	h.Start()
	people := newHistory(3, 2000)
	finish := people.send(t, h, "pocketbase")
	for _, share := range []float64{0.3, 0.6} {
		people.waitFor(h, "pocketbase", share)
		s.kill()
		time.Sleep(time.Second)
		s.start()
	}
	finish()
	want := people.want()
	for _, record := range want {
		delete(record, "lang")
		// Its null is the empty value of the field's type.
		for name, empty := range map[string]any{"name": "", "email": "", "phone": "", "days": 0.0} {
			if v, ok := record[name]; !ok || v == nil {
				record[name] = empty
			}
		}
		if days, ok := record["days"].(int); ok {
			record["days"] = float64(days)
		}
	}
	compare(t, s.people(), want)
	n := s.refusals()
	t.Logf("%d requests were answered with 429", n)
	if n < 20 {
		t.Errorf("only %d requests met the rate limit", n)
	}
	// All sessions end. A lookup finds nothing then, and says so with 200: neither a deletion nor a new person is lost.
	ask(t, "PATCH", s.url+"/api/collections/users", s.root,
		map[string]any{"authToken": map[string]any{"secret": strings.Repeat("another secret ", 3), "duration": 86400}}, nil)
	r := rand.New(rand.NewPCG(1, 1))
	at := time.Date(2026, 2, 1, 8, 0, 0, 0, time.UTC)
	var known int
	for want[fmt.Sprintf("PF-%d", 4000+known)]["active"] != true {
		known += 2
	}
	left := peopleForce(r, known, 1, at, "leave", false)
	h.MustPost(left.post)
	h.WaitSettled(time.Minute)
	ask(t, "PATCH", s.url+"/api/collections/users", s.root,
		map[string]any{"authToken": map[string]any{"secret": strings.Repeat("a third secret ", 3), "duration": 86400}}, nil)
	created := peopleForce(r, 5000, 1, at, "create", false)
	h.MustPost(created.post)
	h.WaitSettled(time.Minute)
	found := s.people()
	if p := found[left.key]; p["active"] != false {
		t.Errorf("%s left while the session was over: %v", left.key, p)
	}
	if p := found[created.key]; p["name"] != created.fields["name"] {
		t.Errorf("%s came while the session was over: %v", created.key, p)
	}
	// The field that the far end refuses is shown where the route says it.
	dead := h.MustRun("deliveries", "list", "--state", "dead", "--json")
	if !strings.Contains(dead, "fields") {
		t.Errorf("dead letters without a place in the route:\n%s", dead)
	}
	h.Stop()
}
