//go:build unix

package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/internal/e2e/harness"
	"github.com/grapnelhq/grapnel/core/store"
)

// somebody has a name that is like no other text, in letters that can be written in several ways.
type somebody struct{ id int }

func (s somebody) subject() string { return fmt.Sprintf("employee/%d", s.id) }

func (s somebody) name() string { return fmt.Sprintf("Zoë Quvåñter%cxß-%dçk", 'A'+s.id%26, s.id) }

// nameIn tells in which files of a folder the name is, in any spelling or in part.
func (s somebody) nameIn(t *testing.T, dir string) (found []string) {
	t.Helper()
	var escaped strings.Builder
	for _, c := range s.name() {
		if c < 0x80 {
			escaped.WriteRune(c)
		} else {
			fmt.Fprintf(&escaped, `\u%04x`, c)
		}
	}
	spellings := []string{
		s.name(), escaped.String(), url.QueryEscape(s.name()), url.PathEscape(s.name()),
		base64.StdEncoding.EncodeToString([]byte(s.name()))[:20], fmt.Sprintf("xß-%dçk", s.id),
	}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		for _, text := range spellings {
			if i := bytes.Index(b, []byte(text)); i >= 0 {
				found = append(found, fmt.Sprintf("%s at %d: %q", filepath.Base(path), i, text))
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// bodies are what PeopleForce posts about somebody.
func (s somebody) bodies() []string {
	escaped, _ := json.Marshal(s.name())
	ascii := strings.NewReplacer("ë", `\u00eb`, "å", `\u00E5`, "ñ", `\u00f1`, "ß", `\u00df`, "ç", `\u00e7`).Replace(string(escaped))
	return []string{
		fmt.Sprintf(`{"action":"employee_create","data":{"id":%d,"attributes":{"last_name":%s}}}`, s.id, escaped),
		fmt.Sprintf(`{"action":"employee_update","data":{"id":%d,"attributes":{"last_name":%s,"pad":%q}}}`, s.id, ascii,
			strings.Repeat("-", 900*(s.id%9))),
		fmt.Sprintf(`{"action":"leave_request_create","data":{"id":%d,"attributes":{"employee_id":%d,"description":%s}}}`,
			7000+s.id, s.id, escaped),
	}
}

// TestErase erases people whose webhooks were delivered, died, wait for a retry or are in flight, from a host that runs
// and goes on with others. Far ends quote their names in what they answer.
func TestErase(t *testing.T) {
	t.Parallel()
	hang := make(chan struct{})
	far := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var e struct {
			PartitionKey string          `json:"partitionkey"`
			Data         json.RawMessage `json:"data"`
		}
		if err := json.Unmarshal(body, &e); err != nil {
			t.Error(err)
		}
		var id int
		fmt.Sscanf(e.PartitionKey, "employee/%d", &id)
		switch id % 4 {
		case 1:
			w.WriteHeader(http.StatusInternalServerError)
			fmt.Fprintf(w, "not now, %s", somebody{id}.name())
		case 2:
			w.WriteHeader(http.StatusUnprocessableEntity)
			fmt.Fprintf(w, "there is no %s here", somebody{id}.name())
		case 3:
			select {
			case <-hang:
			case <-r.Context().Done():
			}
		}
	}))
	defer far.Close()
	defer far.CloseClientConnections()

	h := programs.NewHost(t, harness.Options{Config: fmt.Sprintf(`
source "peopleforce" "people" {
  secrets = [env("PEOPLEFORCE_SECRET")]
}
source "youforce" "hr" {
  secrets = [env("YOUFORCE_SECRET")]
}
sink "file" "out" {
  dir = "out"
}
sink "http" "far" {
  url           = %q
  allow_private = true
  delivery {
    concurrency = 64
    retry {
      min = "20m"
      max = "1h"
    }
    breaker {
      failures = 100000
    }
  }
}
route "all" {
  to "file" "out" {}
}
route "far" {
  from = [source.peopleforce.people]
  to "http" "far" {}
}
`, far.URL)})
	h.Start()
	inFlight := func(sink string) int {
		for _, s := range h.Status().Sinks {
			if s.Sink == sink {
				return s.InFlight
			}
		}
		return 0
	}
	var all []somebody
	for id := range 24 {
		s := somebody{4100 + id}
		all = append(all, s)
		for _, body := range s.bodies() {
			h.MustPost(harness.SignPeopleForce("people", []byte(body)))
		}
	}
	// Several in one request.
	var parts []string
	for _, s := range all {
		parts = append(parts, fmt.Sprintf(`{"id":"%d","operation":"Update","tenantId":"1","value":{"name":%q}}`, s.id, s.name()))
	}
	h.MustPost(harness.SignYouforce("hr", "EMPLOYMENT_CHANGED", "all of them", []byte("["+strings.Join(parts, ",")+"]")))
	deadBody := []byte(fmt.Sprintf(`{"no":"topic","id":%d,"name":%q}`, all[0].id, all[0].name()))
	h.MustPost(harness.SignPeopleForce("people", deadBody))
	h.Eventually(harness.Patience, "everything has met its end or its obstacle", func() bool {
		st := h.Status().Stats
		out, farEnd := st.Deliveries["out"], st.Deliveries["far"]
		return st.Requests[core.RequestReceived] == 0 && out[core.DeliveryDelivered] == 72+24 &&
			farEnd[core.DeliveryDelivered] == 18 && farEnd[core.DeliveryDead] == 18 && inFlight("far") > 0
	})
	data := h.Path("data")
	gone, stay := all[:8], all[8:]
	for _, s := range all {
		if len(s.nameIn(t, data)) == 0 {
			t.Fatalf("%s is nowhere to begin with", s.name())
		}
	}

	h.MustRun("requests", "retry", "--state", "dead") // it dies again
	for i, s := range gone {
		out := h.MustRun("requests", "erase", "--subject", s.subject(), "--yes", "--json")
		var r struct {
			Removed store.Removed
			Sent    []store.SentDelivery
		}
		if err := json.Unmarshal([]byte(out), &r); err != nil {
			t.Fatal(err)
		}
		states := map[string]int{}
		for _, d := range r.Sent {
			states[d.Sink+" "+d.State]++
		}
		want := []string{"far delivered", "far tried", "far tried", "far in_flight"}[i%4]
		if r.Removed.Requests != 3 || r.Removed.Events != 3 || states["out delivered"] != 3 || states[want] == 0 {
			t.Errorf("%s: removed %+v, sent %v, want %s", s.subject(), r.Removed, states, want)
		}
		h.MustRun("requests", "erase", "--subject", fmt.Sprintf("employment/%d", s.id), "--tenant", "1", "--yes")
	}
	var one struct{ ID string }
	if err := json.Unmarshal([]byte(h.MustRun("requests", "list", "--state", "dead", "--json")), &one); err != nil {
		t.Fatal(err)
	}
	h.MustRun("requests", "erase", one.ID, "--yes")

	nowhere := func(when string) {
		t.Helper()
		for _, s := range gone {
			for _, place := range s.nameIn(t, data) {
				t.Errorf("%s: %s", when, place)
			}
		}
		for _, s := range stay {
			if len(s.nameIn(t, data)) == 0 {
				t.Errorf("%s: %s is gone, too", when, s.name())
			}
		}
	}
	nowhere("after the erasure")

	// What was in flight ends, and the provider repeats all it has: nobody comes back.
	close(hang)
	h.Eventually(harness.Patience, "the calls in flight have ended", func() bool {
		return h.Count("far", core.DeliveryDelivered) == int64(3*len(stay)/2) && inFlight("far") == 0
	})
	before := h.Status().Stats.Accepted
	for _, s := range gone {
		for _, body := range s.bodies() {
			if a := h.MustPost(harness.SignPeopleForce("people", []byte(body))); a.Status != http.StatusOK {
				t.Errorf("a repetition was answered with %d", a.Status)
			}
		}
	}
	h.MustPost(harness.SignPeopleForce("people", deadBody))
	if n := h.Status().Stats.Accepted; n != before {
		t.Errorf("%d repetitions were stored", n-before)
	}
	nowhere("after repetitions")
	h.Kill()
	h.Start()
	nowhere("after a crash")
	h.Stop()
	nowhere("after the end")
	if out := h.MustRun("requests", "receipts", "--json"); strings.Count(out, `"done_at"`) != 2*len(gone)+1 {
		t.Errorf("receipts:\n%s", out)
	}

	// Who was not erased is still there, whole.
	for _, s := range stay {
		out := h.MustRun("events", "list", "--subject", s.subject(), "--json")
		if strings.Count(out, `"type"`) != 2 {
			t.Errorf("%s has the events %s", s.subject(), out)
		}
	}
}
