//go:build foreign && linux

package foreign

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/grapnelhq/grapnel/core/internal/e2e/harness"
)

// fakeCRM starts the fakes of HubSpot and Salesforce that the CRM sink is tested against, and returns their addresses.
func fakeCRM(t *testing.T) map[string]string {
	t.Helper()
	stdout := harness.StartFake(t, "./plugins/sink-crm/internal/fakecrm")
	var addresses map[string]string
	if err := json.NewDecoder(stdout).Decode(&addresses); err != nil {
		t.Fatal(err)
	}
	return addresses
}

// TestVendorsClients has the vendors' own clients work with the fakes of HubSpot and Salesforce: what the CRM sink is
// tested against is what these clients know.
func TestVendorsClients(t *testing.T) {
	need(t, "node")
	packages, err := filepath.Abs("npm/node_modules")
	if err != nil {
		t.Fatal(err)
	}
	addresses := fakeCRM(t)
	for _, test := range []struct{ script, address, token, want string }{
		{"hubspot.cjs", addresses["hubspot"], "pat-na1-fake-token", `{
			"created": [true, true], "createdAgain": [false, false], "traces": ["d-1", "d-2"], "flagged": ["left"],
			"ids": ["101", "102"], "page": 0,
			"refused": {"results": 1, "numErrors": 1, "category": "VALIDATION_ERROR", "trace": ["d-1"]}
		}`},
		{"salesforce.cjs", addresses["salesforce"], "fake-session-token", `{
			"created": [true, true], "again": false, "ids": ["003000000000001AAA", "003000000000002AAA"],
			"updated": [true, true],
			"refused": {"errorCode": "INVALID_FIELD", "message": "No such column 'Nmae' on sobject of type Contact"},
			"partly": [[true, []], [false, ["INVALID_EMAIL_ADDRESS"]]], "deleted": [true, true]
		}`},
	} {
		cmd := exec.CommandContext(t.Context(), "node", test.script, test.address, test.token)
		cmd.Dir = "../../../plugins/sink-crm/testdata/sdk"
		cmd.Env = append(cmd.Environ(), "NODE_PATH="+packages)
		var errs bytes.Buffer
		cmd.Stderr = &errs
		out, err := cmd.Output()
		if err != nil {
			t.Errorf("%s: %v\n%s", test.script, err, errs.String())
			continue
		}
		var got, want any
		if err := json.Unmarshal(out, &got); err != nil {
			t.Fatalf("%s: %v\n%s", test.script, err, out)
		}
		if err := json.Unmarshal([]byte(test.want), &want); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %s", test.script, out)
		}
	}
}
