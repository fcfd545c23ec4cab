//go:build unix

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/grapnelhq/grapnel/core/internal/e2e/harness"
)

// TestOneHostFeedsAnother has a host send what it gets to a second one, as CloudEvents in all three modes, signed as Standard
// Webhooks: nothing is lost or changed, keys stay in order, and what is sent again is one event.
func TestOneHostFeedsAnother(t *testing.T) {
	t.Parallel()
	const key = "whsec_c2l4dGVlbiBieXRlcyBhdCBsZWFzdCBhcmUgbmVlZGVk"
	programs.AddExample(t, "decoder-cloudevents")
	second := programs.NewHost(t, harness.Options{Env: []string{"RELAY_KEY=" + key}, Config: `
source "cloudevents" "relay" {
  secrets = [env("RELAY_KEY")]
}
sink "file" "out" {
  dir = "out"
}
route "all" {
  to "file" "out" {
    path   = "${coalesce(event.data.mode, "none")}.jsonl"
    record = {
      type = event.type, subject = event.subject, key = event.partitionkey, time = event.time, tenant = event.tenant
      operation = event.operation, number = event.data.number
    }
  }
}
`})
	second.Start()
	sinks, routes := "", ""
	for _, mode := range []string{"structured", "binary", "batch"} {
		sinks += fmt.Sprintf(`
sink "http" %[1]q {
  url           = "%[2]s/hooks/relay"
  mode          = %[1]q
  allow_private = true
  signing {
    keys = [env("RELAY_KEY")]
  }
  delivery {
    retry {
      min = "10ms"
      max = "100ms"
    }
    breaker {
      failures = 0
    }
  }
}`, mode, second.URL)
		routes += fmt.Sprintf(`
route %[1]q {
  to "http" %[1]q {
    body = { mode = %[1]q, number = event.raw.number }
  }
}`, mode)
	}
	first := programs.NewHost(t, harness.Options{
		Config: harness.YouforceSource + sinks + routes, Env: []string{"RELAY_KEY=" + key},
	})
	first.Start()
	const events, keys = 30, 3
	for i := range events {
		if i == events/2 {
			second.Stop() // for a while it is not there
			second.Start()
		}
		first.MustPost(harness.Youforce("hr", fmt.Sprintf("k%d", i%keys), i/keys))
	}
	first.WaitSettled(harness.Patience)
	second.WaitSettled(harness.Patience)

	type record struct {
		Type, Subject, Key, Time, Tenant, Operation string
		Number                                      int
	}
	for _, mode := range []string{"structured", "binary", "batch"} {
		next := map[string]int{}
		lines := second.RawLines("out/" + mode + ".jsonl")
		for _, raw := range lines {
			var got record
			if err := json.Unmarshal(raw, &got); err != nil {
				t.Fatal(err)
			}
			want := record{
				Type: "cloudevents.youforce.employment.updated", Subject: got.Subject, Key: "1/" + got.Subject, Time: "2026-01-15T10:12:35Z",
				Tenant: "1", Operation: "updated", Number: next[got.Subject],
			}
			next[got.Subject]++
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", mode, diff)
			}
		}
		if len(lines) != events || len(next) != keys {
			t.Errorf("%s: %d events of %d keys, want %d of %d", mode, len(lines), len(next), events, keys)
		}
	}

	// A stranger's key is refused, and its sink stands still instead of losing anything.
	first.Stop()
	config, err := os.ReadFile(first.Path("config.hcl"))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(config), `env("RELAY_KEY")`, `"whsec_YW5vdGhlciBrZXkgb2YgZW5vdWdoIGxlbmd0aCwgdG9v"`)
	if err := os.WriteFile(first.Path("config.hcl"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	first.Start()
	first.MustPost(harness.Youforce("hr", "k0", events))
	second.Eventually(harness.Patience, "the forged request is listed", func() bool {
		out, _, err := second.Run("rejections", "list", "--json")
		return err == nil && strings.Contains(out, "bad_signature")
	})
	if n := len(second.RawLines("out/structured.jsonl")); n != events {
		t.Errorf("%d events after a forged one, want %d", n, events)
	}
}
