//go:build unix

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/grapnelhq/grapnel/core/internal/e2e/harness"
)

// TestReadme runs the first README in a copy of the repository: every command, with every block of HCL added in its turn. So it also builds, tests and runs what `grapnel plugin new` writes, in the repository's workspace.
func TestReadme(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, setUp, _ := strings.Cut(string(text), "\n```sh\n")
	setUp, _, _ = strings.Cut(setUp, "```")
	if lines := strings.Split(strings.TrimSpace(setUp), "\n"); len(lines) != 2 ||
		!strings.HasPrefix(lines[0], "make demo ") || !strings.HasPrefix(lines[1], "make test ") {
		t.Errorf("the commands that set up are not make demo and make test, but\n%s", setUp)
	}
	copied, address := programs.Copy(t), programs.FreeAddress(t)
	harness.Readme{
		Path: "README.md", Env: []string{"GOWORK=", "GRAPNEL_LISTEN=" + address, "GRAPNEL_ADMIN_LISTEN=" + programs.FreeAddress(t)},
		Replace: map[string]string{setUp: ":\n", "127.0.0.1:8080": address}, // what they build is there
	}.Run(t, &programs, copied)
	for _, plugin := range []string{"sink-tickets", "decoder-parcels"} {
		vet := exec.Command("go", "vet", "./...")
		vet.Dir, vet.Env = filepath.Join(copied, plugin), append(os.Environ(), "GOWORK=")
		if out, err := vet.CombinedOutput(); err != nil {
			t.Errorf("%s: go vet: %v\n%s", plugin, err, out)
		}
	}
}

// TestDocumentedSteps validates the configurations in the README of the CRM sink's dialect for any JSON API.
func TestDocumentedSteps(t *testing.T) {
	t.Parallel()
	for _, heading := range []string{"", "Tryton", "PocketBase", "Pipedrive"} {
		h := programs.NewHost(t, harness.Options{
			Config: harness.Documented(t, "../../../plugins/sink-crm/rest/README.md", heading),
			Env: []string{
				"DIRECTORY_TOKEN=token-123456", "TRYTON_URL=https://tryton.test", "TRYTON_PASSWORD=password-123456",
				"POCKETBASE_URL=https://pocketbase.test", "POCKETBASE_PASSWORD=password-123456", "PIPEDRIVE_TOKEN=token-123456",
				"PIPEDRIVE_HR_ID=9dc80c50d78a15643bfc4ca79d76156a73a1ca0e",
			},
		})
		out, errOut, err := h.Run("validate")
		if err != nil || strings.Contains(out+errOut, "error:") || strings.Contains(out+errOut, "warning:") {
			t.Errorf("%q: %v\n%s%s", heading, err, out, errOut)
		}
	}
}
