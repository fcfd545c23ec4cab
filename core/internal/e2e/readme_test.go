//go:build unix

package e2e

import (
	"strings"
	"testing"

	"github.com/grapnelhq/grapnel/core/internal/e2e/harness"
)

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
