//go:build unix

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/grapnelhq/grapnel/core/internal/e2e/harness"
)

// authored makes a module of an author's own, outside of the repository, of the trial sink's source.
func authored(t *testing.T) (dir string) {
	t.Helper()
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	for from, to := range map[string]string{
		"core/internal/e2e/testdata/sink-trial/main.go": "main.go", "examples/sink-chat/go.mod": "go.mod",
		"examples/sink-chat/go.sum": "go.sum",
	} {
		b, err := os.ReadFile(filepath.Join(root, from))
		if err != nil {
			t.Fatal(err)
		}
		text := strings.Replace(string(b), "=> ../../sdk", "=> "+filepath.Join(root, "sdk"), 1)
		if err := os.WriteFile(filepath.Join(dir, to), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestPluginDev has an author save one thing after the other while webhooks come in. None is lost or even repeated, and
// whatever is wrong with a build is told.
func TestPluginDev(t *testing.T) {
	t.Parallel()
	h := programs.NewHost(t, harness.Options{Config: upgraded})
	h.Start()
	installed := h.Plugin("sink-trial").PID
	l := h.StartLoad(harness.LoadOptions{Rate: 200})
	dir := authored(t)
	source, err := os.ReadFile(filepath.Join(dir, "main.go"))
	if err != nil {
		t.Fatal(err)
	}

	out, err := os.Create(h.Path("dev.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd := exec.Command(programs.Grapnel(t), "plugin", "dev", dir, "--config", h.Path("config.hcl"))
	cmd.Env = append(os.Environ(), "GOWORK=off", "YOUFORCE_SECRET="+harness.YouforceSecret)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	defer cmd.Process.Kill()

	seen := 0
	// told waits for the end of a round and returns what was said in it.
	told := func() string {
		t.Helper()
		var said string
		h.Eventually(2*time.Minute, "dev watches again", func() bool {
			b, err := os.ReadFile(out.Name())
			if err != nil {
				t.Fatal(err)
			}
			if said = string(b[seen:]); !strings.Contains(said, "watching "+dir) {
				select {
				case err := <-exited:
					t.Fatalf("dev has ended: %v\n%s", err, b)
				default:
				}
				return false
			}
			seen = len(b)
			return true
		})
		return said
	}
	save := func(old, text string) {
		t.Helper()
		changed := strings.Replace(string(source), old, text, 1)
		// As editors do it.
		tmp := filepath.Join(dir, ".main.go.swp")
		if err := os.WriteFile(tmp, []byte(changed), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(tmp, filepath.Join(dir, "main.go")); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(what string, parts ...string) {
		t.Helper()
		said := told()
		for _, p := range parts {
			if !strings.Contains(said, p) {
				t.Errorf("%s: it does not say %q:\n%s", what, p, said)
			}
		}
	}
	expect("the first build", "swapped: sink-trial runs this build for alone, trial")
	if h.Plugin("sink-trial").PID == installed {
		t.Error("the installed program runs")
	}
	running := h.Plugin("sink-trial").PID
	save("func fault() string {", "func fault() string")
	expect("what does not compile", "does not build, the version before goes on:", "main.go:", "syntax error")
	save(`if fault() == "noopen" {`, "if true {")
	expect("what does not open", "not swapped: taken back, the old version goes on: the new version does not open",
		"trial: this version opens nothing")
	save("type message struct {", "type message struct {\n\tNeeded string `json:\"needed\"`")
	expect("another message", `messages must have "needed", which no route sets`, "for this build the configuration has to change:",
		`The argument "needed" is required`, "config.hcl:")
	save("type config struct {", "type config struct {\n\tMore string `json:\"more,omitempty\"`")
	expect("an optional attribute", "swapped: sink-trial runs this build")
	if h.Plugin("sink-trial").PID == running {
		t.Error("the build before runs")
	}

	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := <-exited; err != nil {
		t.Errorf("dev ended with %v", err)
	}
	if b, err := os.ReadFile(out.Name()); err != nil || !strings.Contains(string(b[seen:]), "sink-trial runs version devel again") {
		t.Errorf("at the end: %s, %v", b[seen:], err)
	}
	l.Stop()
	h.WaitSettled(time.Minute)
	for _, file := range []string{"trial.jsonl", "alone.jsonl"} {
		found := l.Verify(h.Lines(file))
		t.Logf("%s: %s", file, found)
		if check(t, found); found.Repeats > 0 {
			t.Errorf("%d repeats", found.Repeats)
		}
	}
	h.Eventually(10*time.Second, "nothing of the builds is left", func() bool {
		copies, _ := filepath.Glob(h.Path("run/*/plugin.*"))
		return len(copies) == 0 && len(h.Plugins()) == 4
	})
	h.Stop()
}
