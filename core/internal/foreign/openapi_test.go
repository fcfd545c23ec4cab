//go:build foreign && linux

package foreign

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/internal/e2e/harness"
)

// TestOpenAPI has the OpenAPI document that a host serves linted by Redocly, and the host driven by a client whose types
// openapi-typescript generates from it, and which holds every answer against it with Ajv.
func TestOpenAPI(t *testing.T) {
	t.Parallel()
	need(t, "node")
	const token = "foreign-admin-token-51d0"
	address := programs.FreeAddress(t)
	h := programs.NewHost(t, harness.Options{Config: harness.YouforceToFile + fmt.Sprintf(`
admin {
  listen = %q
  token  = env("ADMIN_TOKEN")
}
route "picky" {
  when = event.raw.number == 1000
  to "file" "out" {}
}
route "broken" {
  when = event.subject == "employment/k2"
  to "file" "out" {
    record = { half = 1 / (event.raw.number - event.raw.number) }
  }
}
`, address), Env: []string{"ADMIN_TOKEN=" + token}})
	h.Start()
	for i := range 5 {
		h.MustPost(harness.Youforce("hr", fmt.Sprintf("k%d", i), i))
	}
	if a, err := h.Post(harness.NewPost("/hooks/hr", []byte("{}"))); err != nil || a.Status != http.StatusUnauthorized {
		t.Fatalf("%+v, %v", a, err)
	}
	h.WaitSettled(20 * time.Second)
	if n := h.Count("out", core.DeliveryDead); n != 1 {
		t.Fatalf("%d dead letters", n)
	}

	dir := t.TempDir()
	packages, err := filepath.Abs("npm/node_modules")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(packages, filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	client, err := os.ReadFile("npm/openapi/client.ts")
	if err != nil {
		t.Fatal(err)
	}
	doc := fetchDocument(t, "http://"+address+"/v1/openapi.json", token)
	for name, b := range map[string][]byte{
		"client.ts": client, "openapi.json": doc, "package.json": []byte(`{"type":"module"}`),
		"tsconfig.json": []byte(`{"compilerOptions":{"strict":true,"noUncheckedIndexedAccess":true,"target":"es2022",` +
			`"module":"nodenext","lib":["es2023","dom","dom.iterable"],"skipLibCheck":true},"files":["client.ts","node.d.ts"]}`),
		// All that the client needs of Node.js.
		"node.d.ts": []byte(`declare module "node:fs" { export function readFileSync(path: string, encoding: "utf8"): string }
declare const process: { argv: string[] };
`),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	node := func(program string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "node", append([]string{program}, args...)...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "REDOCLY_TELEMETRY=off", "REDOCLY_SUPPRESS_UPDATE_NOTICE=true", "NO_COLOR=1")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", program, err, out)
		}
		return string(out)
	}
	said := node("node_modules/@redocly/cli/bin/cli.js", "lint", "openapi.json", "--extends", "recommended-strict")
	if !strings.Contains(said, "Your API description is valid") || strings.Contains(said, "warning.") {
		t.Errorf("redocly lint:\n%s", said)
	}
	node("node_modules/openapi-typescript/bin/cli.js", "openapi.json", "--output", "api.d.ts")
	node("node_modules/typescript/bin/tsc")
	out := strings.TrimSpace(node("client.js", "openapi.json", "http://"+address, token))
	var called []string
	if err := json.Unmarshal([]byte(out[strings.LastIndex(out, "\n")+1:]), &called); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var all struct {
		Paths map[string]map[string]struct {
			OperationID string
			Servers     []struct{ URL string } // the socket, for calls that are not at the admin listener
		}
	}
	if err := json.Unmarshal(doc, &all); err != nil {
		t.Fatal(err)
	}
	elsewhere := []string{"testAlert"} // there is no alert
	for _, ops := range all.Paths {
		for _, op := range ops {
			if len(op.Servers) == 0 && !slices.Contains(called, op.OperationID) && !slices.Contains(elsewhere, op.OperationID) {
				t.Errorf("the client has not called %s", op.OperationID)
			}
		}
	}
	t.Logf("the client called %d operations", len(called))
	h.Stop()
}

func fetchDocument(t *testing.T, url, token string) []byte {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v", url, resp.Status, err)
	}
	return b
}
