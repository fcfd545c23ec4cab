package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/grapnelhq/grapnel/plugins/sink-crm/internal/fake"
	"github.com/grapnelhq/grapnel/sdk"
	"github.com/grapnelhq/grapnel/sdk/plugintest"
)

func restConfig(address string) string {
	return fmt.Sprintf(`{"dialect": "rest", "base_url": %q, "rest": %s}`, address, fake.RPCSteps)
}

func TestRest(t *testing.T) {
	rpc := fake.NewRPC()
	t.Cleanup(rpc.Close)
	plugintest.Sink(t, factory(), plugintest.Options{
		Config:  restConfig(rpc.URL),
		Message: `{"object": "party.party", "key": {"code": "PF-4101"}, "fields": {"name": "Jane", "rank": 1.10}}`,
		Down:    restConfig(down),
		Slow:    restConfig("$FAR_END"),
		Refused: restConfig("$FAR_END/status/401"),
		// The program is the same.
		NoProgram: true,
	})
	rpc.Lock()
	defer rpc.Unlock()
	if p := rpc.Parties; len(p) != 1 || string(p[0]["name"]) != `"Jane"` || string(p[0]["rank"]) != "1.10" {
		t.Errorf("%s", p)
	}
}

// told is an event about a party, as a test plays it.
type told struct {
	id     string
	code   string
	at     time.Duration
	fields map[string]any // nil: archive
}

// TestRestModel has events about parties reach a far end that fails in every way it can, in the order of their keys,
// again and again until each is done. In the end every party is as its events say by their times.
func TestRestModel(t *testing.T) {
	for seed := range uint64(5) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { restModel(t, seed) })
	}
}

func restModel(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 7))
	rpc := fake.NewRPC()
	t.Cleanup(rpc.Close)
	// Of the far end, which holds its lock then.
	luck := rand.New(rand.NewPCG(seed, 8))
	failures := 0
	fails := func() bool {
		if luck.IntN(8) > 0 {
			return false
		}
		failures++
		return true
	}
	rpc.Before = func(method string, w http.ResponseWriter) bool {
		if !fails() {
			return false
		}
		switch luck.IntN(6) {
		case 0:
			w.WriteHeader(http.StatusTooManyRequests)
		case 1:
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = io.WriteString(w, "<h1>Internal Server Error</h1>")
		case 2:
			_, _ = io.WriteString(w, `{"id": 1, "error": ["ConcurrencyException", ["changed meanwhile"]]}`)
		case 3:
			_, _ = io.WriteString(w, `<html>welcome to the proxy`)
		case 4:
			panic(http.ErrAbortHandler)
		default: // all sessions end
			rpc.Sessions++
			return false
		}
		return true
	}
	rpc.After = func(string) bool { return fails() }

	// A key's events, some late.
	const keys, each = 12, 20
	queues := make([][]*told, keys)
	for k := range queues {
		for n := range each {
			e := &told{id: fmt.Sprintf("d%d-%d", k, n), code: fmt.Sprintf("P%d", k), at: time.Duration(n) * time.Minute}
			if n == 0 || r.IntN(6) > 0 {
				e.fields = map[string]any{"active": true}
				for _, name := range []string{"name", "rank", "phone"} {
					if r.IntN(3) > 0 {
						e.fields[name] = []any{nil, float64(n), fmt.Sprintf("n%d \"ü\"", n)}[r.IntN(3)]
					}
				}
			}
			queues[k] = append(queues[k], e)
		}
		for n := 1; n+3 < each; n++ {
			if r.IntN(5) == 0 {
				queues[k][n], queues[k][n+1+r.IntN(2)] = queues[k][n+1+r.IntN(2)], queues[k][n]
			}
		}
	}
	want := map[string]map[string]any{}
	for _, q := range queues {
		want[q[0].code] = play(q)
	}

	in, err := factory().Open(t.Context(), []byte(restConfig(rpc.URL)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Sink().(io.Closer).Close() })
	state := map[string][]byte{}
	sequence := map[string]int64{}
	start := time.Date(2026, 1, 15, 10, 0, 0, 0, time.UTC)
	attempts := 0
	for left := keys * each; left > 0; {
		k := r.IntN(keys)
		if len(queues[k]) == 0 {
			continue
		}
		if attempts++; attempts > 50*keys*each {
			t.Fatalf("%d events are not done after %d attempts", left, attempts)
		}
		e := queues[k][0]
		if sequence[e.id] == 0 {
			sequence[e.id] = int64(len(sequence) + 1)
		}
		m := map[string]any{
			"object": "party.party", "key": map[string]string{"code": e.code}, "on_null": "clear", "operation": "archive",
		}
		if e.fields != nil {
			m["fields"], m["operation"] = e.fields, "upsert"
		}
		text, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		o := in.DeliverRaw(t.Context(), []*sdk.Delivery[json.RawMessage]{{
			ID: e.id, OrderKey: e.code, Sequence: sequence[e.id], State: state[e.code], Message: text,
			Event: sdk.Envelope{ID: e.id, Source: "urn:grapnel:source:hr", Time: start.Add(e.at).Format(time.RFC3339Nano)},
		}})[0]
		switch o.Kind {
		case sdk.Delivered, sdk.Skipped:
			queues[k], left = queues[k][1:], left-1
			// The outcome of a call can be lost with what it says.
			if r.IntN(20) == 0 {
				queues[k], left = slices.Insert(queues[k], 0, e), left+1
				continue
			}
		case sdk.Retried, sdk.Suspended: // a session that ends twice in a row looks like wrong credentials
		default:
			t.Fatalf("%s: %s: %s", e.id, o.Kind, o.Reason)
		}
		if o.StateSet {
			state[e.code] = o.State
		}
	}
	rpc.Lock()
	defer rpc.Unlock()
	t.Logf("%d attempts, %d failures", attempts, failures)
	got := map[string]map[string]any{}
	for _, p := range rpc.Parties {
		text, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		var v map[string]any
		if err := json.Unmarshal(text, &v); err != nil {
			t.Fatal(err)
		}
		code := v["code"].(string)
		if delete(v, "code"); got[code] != nil {
			t.Errorf("two parties %s", code)
		}
		got[code] = v
	}
	for code, w := range want {
		if !maps.Equal(got[code], w) {
			t.Errorf("%s is %v, want %v", code, got[code], w)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d parties, want %d", len(got), len(want))
	}
}

// play is what a party is in the end: of every field, the latest value. What comes after a later archive counts for
// nothing, as does an archive after a later value.
func play(events []*told) map[string]any {
	out := map[string]any{}
	at := map[string]time.Duration{}
	var archived time.Duration = -1
	for _, e := range events {
		if e.fields == nil {
			last := slices.Max(append(slices.Collect(maps.Values(at)), archived))
			if e.at > last {
				archived, out["active"] = e.at, false
			}
			continue
		}
		for name, v := range e.fields {
			if last, ok := at[name]; e.at > archived && (!ok || e.at > last) {
				out[name], at[name] = v, e.at
			}
		}
	}
	return out
}

func TestRestLogins(t *testing.T) {
	config := strings.Replace(restConfig("http://127.0.0.1:1"), `"dialect"`, `"token": "t0k3n-123456", "dialect"`, 1)
	err := factory().Validate([]byte(config))
	if all := sdk.AttributeErrors(err); len(all) != 1 || strings.Join(all[0].Path, ".") != "rest.login" {
		t.Errorf("token and login: %v", err)
	}
}
