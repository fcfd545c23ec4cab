//go:build foreign && linux

package foreign

import (
	"bufio"
	"bytes"
	"encoding/json"
	"net/http"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/grapnelhq/grapnel/core/internal/e2e/harness"
)

const (
	slackToken = "xoxb-000000000000-token-of-a-bot"
	slackHook  = "/services/T00000000/B00000000/a0webhook"
)

// fakeSlack starts the fake that the Slack sink is tested against, and returns its address and that of its control.
func fakeSlack(t *testing.T) (address, control string) {
	t.Helper()
	stdout := harness.StartFake(t, "./plugins/sink-slack/internal/fakeslack/serve",
		"-token", slackToken, "-hook", slackHook+"=C04", "-channel", "C01=people", "-channel", "C02=other",
		"-channel", "C03=busy", "-channel", "C04=hooked", "-spacing", "1s", "-burst", "6")
	lines := bufio.NewScanner(stdout)
	for _, line := range []*string{&address, &control} {
		if !lines.Scan() {
			t.Fatalf("fakeslack prints no address: %v", lines.Err())
		}
		*line = lines.Text()
	}
	return address, control
}

// TestSlackSDKs has Slack's own SDKs work with the fake of Slack: messages, threads, updates, its words for errors, and
// a 429 that one of them obeys. So what the Slack sink is tested against is what the SDKs know.
func TestSlackSDKs(t *testing.T) {
	need(t, "node")
	packages, err := filepath.Abs("npm/node_modules")
	if err != nil {
		t.Fatal(err)
	}
	address, control := fakeSlack(t)
	cmd := exec.CommandContext(t.Context(), "node", "drive.cjs", address, slackToken, slackHook)
	cmd.Dir = "../../../plugins/sink-slack/testdata/sdk"
	cmd.Env = append(cmd.Environ(), "NODE_PATH="+packages)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("drive.cjs: %v\n%s", err, errs.String())
	}
	const expected = `{
		"auth": "T1", "scopes": ["chat:write", "chat:write.customize"], "channel": "C01", "replied": true, "updated": true,
		"orphan": "none",
		"errors": {
			"channel": "channel_not_found", "token": "invalid_auth", "noToken": "not_authed", "text": "no_text",
			"blocks": "invalid_blocks", "header": "invalid_blocks", "bytes": "msg_blocks_too_long", "long": "msg_too_long",
			"gone": "message_not_found"
		},
		"limited": ["ok", "slack_webapi_rate_limited_error 1"], "patient": "ok",
		"hook": ["ok", "ok", "An HTTP protocol error occurred: statusCode = 404"]
	}`
	var got, want any
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := json.Unmarshal([]byte(expected), &want); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the SDKs say %s\n%s", out, errs.String())
	}

	resp, err := http.Get(control + "/messages")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var messages []struct {
		Channel, Text, Username string
		ThreadTS                string `json:"thread_ts"`
		Broadcast               bool   `json:"reply_broadcast"`
		Hook                    bool
		Updates                 int
		Metadata                struct {
			Payload struct{ ID int } `json:"event_payload"`
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&messages); err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, m := range messages {
		if m.Channel != "C03" {
			texts = append(texts, m.Text)
		}
	}
	if all := strings.Join(texts, ", "); all != "changed, reply, orphan, plain, with blocks" {
		t.Fatalf("posted: %s", all)
	}
	if m := messages[1]; m.ThreadTS == "" || !m.Broadcast || m.Username != "HR" || m.Metadata.Payload.ID != 4101 {
		t.Errorf("the reply is %+v", m)
	}
	if messages[0].Updates != 1 || !messages[len(messages)-1].Hook {
		t.Errorf("posted: %+v", messages)
	}
}
