//go:build foreign && linux

package foreign

import (
	"bufio"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/internal/e2e/harness"
)

// received is what npm/receiver.mjs says of a request.
type received struct {
	Path   string           `json:"path"`
	ID     string           `json:"id"`
	Status int              `json:"status"`
	Error  string           `json:"error"`
	Events []map[string]any `json:"events"`
}

// receiver is a running npm/receiver.mjs.
type receiver struct {
	url string

	mu   sync.Mutex
	seen []received
}

// startReceiver runs the endpoint of npm's packages until the test ends.
func startReceiver(t *testing.T, secret string) *receiver {
	t.Helper()
	need(t, "node")
	if _, err := os.Stat("npm/node_modules/cloudevents"); err != nil {
		t.Fatalf("%v; `npm ci` in core/internal/foreign/npm installs it, `make foreign` does that", err)
	}
	cmd := exec.Command("node", "receiver.mjs")
	cmd.Dir, cmd.Env, cmd.Stderr = "npm", append(os.Environ(), "WEBHOOK_SECRET="+secret), os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 16<<20)
	read := make(chan struct{})
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-read
		_ = cmd.Wait() // it was killed
	})
	var first struct {
		Port int `json:"port"`
	}
	if !lines.Scan() || json.Unmarshal(lines.Bytes(), &first) != nil || first.Port == 0 {
		close(read)
		t.Fatalf("the receiver does not start: %q, %v", lines.Text(), lines.Err())
	}
	r := &receiver{url: fmt.Sprintf("http://127.0.0.1:%d", first.Port)}
	go func() {
		defer close(read)
		for lines.Scan() {
			var one received
			if err := json.Unmarshal(lines.Bytes(), &one); err != nil {
				t.Errorf("the receiver says %q: %v", lines.Text(), err)
			}
			r.mu.Lock()
			r.seen = append(r.seen, one)
			r.mu.Unlock()
		}
	}()
	return r
}

// at are the requests to a path so far.
func (r *receiver) at(path string) []received {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(r.seen), func(one received) bool { return one.Path != path })
}

// TestReceivedByNPM has packages that know nothing of this project verify and read what the HTTP sink sends, in every
// mode, and refuse what is signed with another key.
func TestReceivedByNPM(t *testing.T) {
	key := func() string {
		b := make([]byte, 32)
		_, _ = rand.Read(b) // never fails
		return "whsec_" + base64.StdEncoding.EncodeToString(b)
	}
	good, wrong := key(), key()
	r := startReceiver(t, good)

	// Per mode a sink with a new and an old key, of which the receiver knows the old one.
	config := `
source "peopleforce" "people" {
  secrets = [env("PEOPLEFORCE_SECRET")]
  tenant  = "Bücher AG \"€\" 100%"
}
`
	modes := []string{"structured", "binary", "batch", "raw"}
	sink := func(name, mode string, keys string) {
		config += fmt.Sprintf(`
sink "http" %[1]q {
  url           = "%[2]s/%[3]s"
  mode          = %[3]q
  allow_private = true
  signing {
    keys = [%[4]s]
  }
  delivery {
    concurrency = 1
  }
}
route %[1]q {
  to "http" %[1]q {
`, name, r.url, mode, keys)
		if mode == "raw" {
			config += "    body = { subject = event.subject, tenant = event.tenant, type = event.type, data = event.raw }\n"
		}
		config += "  }\n}\n"
	}
	for _, mode := range modes {
		sink(mode, mode, `env("KEY_NEW"), env("KEY"), env("KEY_NONE", null)`)
	}
	sink("wrong", "structured", `env("KEY_NEW")`)
	h := programs.NewHost(t, harness.Options{Config: config, Env: []string{"KEY=" + good, "KEY_NEW=" + wrong}})
	h.Start()
	var sent []map[string]any
	files, err := filepath.Glob("../../../plugins/decoder-peopleforce/testdata/*/*.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		body, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var request struct {
			Action string         `json:"action"`
			Data   map[string]any `json:"data"`
		}
		if json.Unmarshal(body, &request) != nil || request.Action == "" || request.Data == nil {
			continue // what a decoder made, or a body that it refuses
		}
		if a, err := h.Post(harness.SignPeopleForce("people", body)); err != nil || a.Status/100 != 2 {
			t.Fatalf("%s: %+v, %v", f, a, err)
		}
		sent = append(sent, request.Data)
	}
	if len(sent) < 10 {
		t.Fatalf("only %d samples in %d files", len(sent), len(files))
	}
	h.Eventually(20*time.Second, "everything is delivered", func() bool {
		for _, mode := range modes {
			if h.Count(mode, core.DeliveryDelivered) < int64(len(sent)) {
				return false
			}
		}
		return slices.ContainsFunc(r.at("/structured"), func(one received) bool { return one.Status == 401 })
	})
	for _, mode := range modes {
		ids, most := map[string]bool{}, 0
		var got []map[string]any
		for _, one := range r.at("/" + mode) {
			if one.Status == 401 && mode == "structured" {
				continue // of the sink with the wrong key
			}
			if one.Status != 200 {
				t.Errorf("%s: answered %d: %s", mode, one.Status, one.Error)
			}
			most = max(most, len(one.Events))
			for _, e := range one.Events {
				if mode != "raw" {
					if len(one.Events) == 1 && e["deliveryid"] != one.ID {
						t.Errorf("%s: webhook-id %s, deliveryid %v", mode, one.ID, e["deliveryid"])
					}
					ids[fmt.Sprint(e["deliveryid"])] = true
					if e["specversion"] != "1.0" || e["source"] != "urn:grapnel:source:people" || e["provider"] != "peopleforce" {
						t.Errorf("%s: %v", mode, e)
					}
				} else {
					ids[one.ID] = true
				}
				if e["tenant"] != `Bücher AG "€" 100%` || !strings.HasPrefix(fmt.Sprint(e["type"]), "peopleforce.") ||
					!strings.Contains(fmt.Sprint(e["subject"]), "/") {
					t.Errorf("%s: %v", mode, e)
				}
				data, _ := e["data"].(map[string]any)
				got = append(got, data)
			}
		}
		if len(ids) != len(sent) || len(got) != len(sent) {
			t.Errorf("%s: %d events with %d ids, want %d", mode, len(got), len(ids), len(sent))
		}
		if mode == "batch" && most < 2 {
			t.Error("no batch holds more than one event")
		}
		for _, data := range sent {
			if !slices.ContainsFunc(got, func(d map[string]any) bool { return cmp.Equal(d, data) }) {
				t.Errorf("%s: never received: %v", mode, data)
			}
		}
	}
	refused := r.at("/structured")
	refused = slices.DeleteFunc(refused, func(one received) bool { return one.Status == 200 })
	if len(refused) == 0 || h.Count("wrong", core.DeliveryDelivered) > 0 {
		t.Errorf("%d requests with the wrong key were refused, %d delivered", len(refused), h.Count("wrong", core.DeliveryDelivered))
	}
	for _, one := range refused {
		if one.Status != 401 || !strings.Contains(one.Error, "No matching signature") {
			t.Errorf("with the wrong key: %+v", one)
		}
	}
	t.Logf("npm's packages accept %d events in each of %d modes and refuse %d requests with a wrong key",
		len(sent), len(modes), len(refused))
	h.Stop()
}
