//go:build foreign && linux

package foreign

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/grapnelhq/grapnel/core/internal/e2e/harness"
)

// trytonPassword has what JSON and templates mind.
const trytonPassword = `admin "pass" {1}`

// tryton is a Tryton server with the module party and a database of its own.
type tryton struct {
	*server
	url string
}

// newTryton makes the database, which takes some seconds, and starts the server.
func newTryton(t *testing.T) *tryton {
	t.Helper()
	need(t, "trytond")
	need(t, "trytond-admin")
	dir := t.TempDir()
	addr := programs.FreeAddress(t)
	config := filepath.Join(dir, "trytond.conf")
	for name, text := range map[string]string{
		"trytond.conf": fmt.Sprintf("[web]\nlisten = %s\nroot =\n[database]\nuri = sqlite://\npath = %s/data\n", addr, dir),
		"pass":         trytonPassword,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "data/crm.sqlite"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, dir, []string{"TRYTONPASSFILE=" + filepath.Join(dir, "pass")},
		"trytond-admin", "-c", config, "-d", "crm", "--all", "--email", "admin@example.test")
	run(t, dir, nil, "trytond-admin", "-c", config, "-d", "crm", "-u", "party", "--activate-dependencies")
	s := &tryton{server: newServer(t, dir, addr, "trytond", "-c", config, "-d", "crm"), url: "http://" + addr}
	s.start()
	return s
}

// rpc calls a method of the server.
func (s *tryton) rpc(authorization, method string, params []any, result any) {
	s.t.Helper()
	answer := struct {
		Result any
		Error  any
	}{Result: result}
	ask(s.t, "POST", s.url+"/crm/", authorization, map[string]any{"id": 1, "method": method, "params": params}, &answer)
	if answer.Error != nil {
		s.t.Fatalf("%s: %v", method, answer.Error)
	}
}

// parties reads all parties, archived ones too, by code.
func (s *tryton) parties() map[string]map[string]any {
	s.t.Helper()
	var login []any
	s.rpc("", "common.db.login", []any{"admin", map[string]any{"password": trytonPassword}, "en"}, &login)
	session := "Session " + base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "admin:%v:%v", login...))
	var found []struct {
		Code   string
		Name   *string
		Lang   *int
		Active any
	}
	s.rpc(session, "model.party.party.search_read",
		[]any{[]any{}, 0, nil, nil, []string{"code", "name", "lang", "active"}, map[string]any{"active_test": false}}, &found)
	out := map[string]map[string]any{}
	for _, p := range found {
		record := map[string]any{"name": nil, "lang": nil, "active": p.Active == true || p.Active == 1.0}
		if p.Name != nil {
			record["name"] = *p.Name
		}
		if p.Lang != nil {
			record["lang"] = *p.Lang
		}
		if _, twice := out[p.Code]; twice {
			s.t.Errorf("two parties have the code %q", p.Code)
		}
		out[p.Code] = record
	}
	return out
}

// wantParties is what Tryton keeps of what it has to hold.
func wantParties(h *history) map[string]map[string]any {
	want := h.want()
	for _, record := range want {
		delete(record, "email")
		delete(record, "phone")
		delete(record, "days")
	}
	return want
}

func trytonHost(t *testing.T, s *tryton) *harness.Host {
	t.Helper()
	return programs.NewHost(t, harness.Options{
		Config: quick(t, harness.Documented(t, restReadme, "Tryton"), ""),
		Env:    []string{"TRYTON_URL=" + s.url, "TRYTON_PASSWORD=" + trytonPassword},
	})
}

// TestTryton has 2 000 events of PeopleForce and Youforce end as parties of a Tryton that is killed twice meanwhile.
func TestTryton(t *testing.T) {
	t.Parallel()
	s := newTryton(t)
	h := trytonHost(t, s)
	h.Start()
	people := newHistory(1, 2000)
	finish := people.send(t, h, "tryton")
	for _, share := range []float64{0.3, 0.6} {
		people.waitFor(h, "tryton", share)
		s.kill()
		time.Sleep(time.Second)
		s.start()
	}
	finish()
	compare(t, s.parties(), wantParties(people))
	h.Stop()
}

// TestTrytonHostKilled is the same with a host that is killed four times.
func TestTrytonHostKilled(t *testing.T) {
	t.Parallel()
	s := newTryton(t)
	h := trytonHost(t, s)
	h.Start()
	people := newHistory(2, 2000)
	finish := people.send(t, h, "tryton")
	for _, share := range []float64{0.1, 0.3, 0.5, 0.8} {
		people.waitFor(h, "tryton", share)
		h.Restart()
	}
	finish()
	compare(t, s.parties(), wantParties(people))
	h.Stop()
}
