//go:build foreign && linux

package foreign

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/grapnelhq/grapnel/core/internal/e2e/harness"
)

// TestNodeExample runs the commands of the README of the sink in Node.js: it is built, passes the conformance kit, and a
// webhook comes out at the far end.
func TestNodeExample(t *testing.T) {
	need(t, "npm")
	ntfy := harness.NewEndpoint(t)
	readme := harness.Readme{
		Path:    "examples/sink-node/README.md",
		Replace: map[string]string{"https://ntfy.sh": ntfy.URL},
	}
	readme.Run(t, &programs, programs.Copy(t))
	sent := ntfy.Requests()
	if len(sent) != 1 {
		t.Fatalf("%d notifications were sent: %+v", len(sent), sent)
	}
	var body struct {
		Topic      string `json:"topic"`
		Title      string `json:"title"`
		Message    string `json:"message"`
		SequenceID string `json:"sequence_id"`
	}
	if err := json.Unmarshal(sent[0].Body, &body); err != nil {
		t.Fatal(err)
	}
	if body.Topic != "people-8uq2xk" || body.Title != "A new colleague" || !strings.HasPrefix(body.Message, "Welcome ") ||
		!strings.HasPrefix(body.SequenceID, "dlv_") {
		t.Errorf("the notification is %s", sent[0].Body)
	}
}
