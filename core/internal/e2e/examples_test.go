//go:build unix

package e2e

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/grapnelhq/grapnel/core/internal/e2e/harness"
)

// TestExamples runs the commands of every example's README. Those that need more than Go are run by `make foreign`.
func TestExamples(t *testing.T) {
	t.Parallel()
	const root = "../../.."
	found, err := filepath.Glob(filepath.Join(root, "examples/*"))
	if err != nil || len(found) < 4 {
		t.Fatalf("%d examples: %v", len(found), err)
	}
	copied := programs.Copy(t)
	for _, dir := range found {
		info, err := os.Stat(dir)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(dir, "package.json")); err == nil || !info.IsDir() {
			continue // of Node.js, or the list of all
		}
		name := filepath.Base(dir)
		t.Run(name, func(t *testing.T) {
			readme := harness.Readme{Path: "examples/" + name + "/README.md"}
			if name != "sink-chat" {
				readme.Run(t, &programs, copied)
				return
			}
			chat := harness.NewEndpoint(t)
			readme.Replace = map[string]string{"https://chat.example.com/post": chat.URL}
			readme.Run(t, &programs, copied)
			posted := chat.Requests()
			if len(posted) != 1 || posted[0].Header.Get("Authorization") != "Bearer a-secret-token" || len(posted[0].Body) < len("Order ") {
				t.Errorf("the chat got %+v", posted)
			}
		})
	}
}
