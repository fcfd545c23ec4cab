//go:build unix

package e2e

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/admin"
	"github.com/grapnelhq/grapnel/core/internal/e2e/harness"
)

var (
	reloadCount = flag.Int("reload.count", 15, "how often TestReloadUnderLoad reloads")
	reloadRate  = flag.Int("reload.rate", 300, "its events per second")
)

// mutant is a configuration of TestReloadUnderLoad. Every event goes to "trial" and "out" in all of them.
func mutant(n int) string {
	pick := func(texts ...string) string { return texts[rand.IntN(len(texts))] }
	secrets := pick(`env("YOUFORCE_SECRET")`, `"another secret, not used", env("YOUFORCE_SECRET")`,
		`env("YOUFORCE_SECRET"), "yet another secret"`)
	config := fmt.Sprintf(`
source "youforce" "hr" {
  secrets = [%s]
}
sink "trial" "trial" {
  file     = "trial.jsonl"
  switches = %q
  delivery {
    concurrency = %d
    timeout     = %q
    %s
    retry {
      min = "20ms"
      max = "200ms"
    }
  }
}
sink "file" "out" {
  dir = "out"
  %s
}
`, secrets, pick("calm", "rough"), 1+rand.IntN(16), pick("5s", "10s"), pick("", `rate = "5000/s"`, "breaker {\n failures = 0\n }"),
		pick("", "isolated = true", `file_mode = "0600"`))
	if rand.IntN(2) == 0 {
		config += `
source "youforce" "other" {
  auth = "none"
}
`
	}
	extra := ""
	if rand.IntN(2) == 0 {
		config += `
sink "file" "extra" {
  dir = "extra"
}
`
		extra = `to "file" "extra" {}`
	}
	return config + fmt.Sprintf(`
route "all" {
  to "trial" "trial" {
    %s
  }
  to "file" "out" {}
  %s
}
`, pick("", fmt.Sprintf(`do = "round %d"`, n), `do = event.subject`), extra)
}

// TestReloadUnderLoad reloads again and again under load, with random configurations, of which a third has mistakes: all
// events come, in order, once, and the mistakes change nothing.
func TestReloadUnderLoad(t *testing.T) {
	h := programs.NewHost(t, harness.Options{Config: mutant(0)})
	for _, dir := range []string{"calm", "rough"} {
		if err := os.Mkdir(h.Path(dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	put(t, h, "rough/flaky", nil)
	h.Start()
	l := h.StartLoad(harness.LoadOptions{Rate: *reloadRate, Conns: 16})
	l.WaitAccepted(int64(*reloadRate/2), time.Minute) // warm
	quiet := time.Now()
	l.WaitAccepted(l.Accepted()+int64(*reloadRate)*3, time.Minute)
	began := time.Now()
	results := map[string]int{}
	for n := range *reloadCount {
		text, want := mutant(n+1), []string{admin.ReloadApplied, admin.ReloadUnchanged}
		switch n % 6 {
		case 1:
			text, want = text+`sink "file" {`, []string{admin.ReloadInvalid}
		case 3:
			text, want = strings.ReplaceAll(text, "concurrency", "concurency"), []string{admin.ReloadInvalid}
		case 5:
			text, want = text+"\ntracing {\n endpoint = \"http://127.0.0.1:9\"\n}\n", []string{admin.ReloadRefused}
		}
		h.Configure(text)
		var v admin.Reload
		if n%5 == 4 {
			v = hangup(t, h)
		} else {
			var err error
			if v, err = h.Control.Reload(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		results[v.Result]++
		if !slices.Contains(want, v.Result) {
			t.Errorf("reload %d: %s, want %v\n%s", n, v.Result, want, v.Text)
		}
		l.WaitAccepted(l.Accepted()+int64(*reloadRate/4), time.Minute)
	}
	ended := time.Now()
	h.Configure(mutant(0) + "\nsink \"file\" \"x\" {\n dir = \"x\"\n}\nroute \"x\" {\n on = [\"nothing\"]\n to \"file\" \"x\" {}\n}\n")
	if v, err := h.Control.Reload(t.Context()); err != nil || v.Result != admin.ReloadApplied {
		t.Fatal(err, v.Text)
	}
	l.Stop()
	// What "extra" still has to get waits for it.
	h.Configure(harness.YouforceSource + `
sink "trial" "trial" {
  file     = "trial.jsonl"
  switches = "calm"
}
sink "file" "out" {
  dir = "out"
}
sink "file" "extra" {
  dir = "extra"
}
route "all" {
  to "trial" "trial" {}
  to "file" "out" {}
  to "file" "extra" {}
}
`)
	if v, err := h.Control.Reload(t.Context()); err != nil || v.Result != admin.ReloadApplied {
		t.Fatal(err, v.Text)
	}
	h.WaitSettled(2 * time.Minute)
	for _, file := range []string{"trial.jsonl", "out/events.jsonl", "extra/events.jsonl"} {
		found := l.Verify(h.Lines(file))
		if strings.HasPrefix(file, "extra") {
			found.Lost = 0 // it was not always there
		}
		t.Logf("%s: %s", file, found)
		check(t, found)
		if found.Repeats > 0 {
			t.Errorf("%s: %d repeats, though nothing died", file, found.Repeats)
		}
	}
	for _, sink := range []string{"trial", "out", "extra"} {
		if dead := h.Count(sink, core.DeliveryDead); dead > 0 {
			t.Errorf("%s: %d dead letters", sink, dead)
		}
	}
	if l.Unanswered() > 0 || l.Refused() > 0 {
		t.Errorf("the host did not accept everything: %d without answer, answers %v", l.Unanswered(), l.Statuses())
	}
	before, during := p99(l.Took(), quiet, began), p99(l.Took(), began, ended)
	t.Logf("%d reloads in %s at %d events/s: %v", *reloadCount, ended.Sub(began).Round(time.Millisecond), *reloadRate, results)
	t.Logf("p99 of accepts: %s before, %s during: %.2f ×", before, during, float64(during)/float64(before))
	h.Stop()
}

// p99 of the answers within a span.
func p99(took []harness.Took, from, to time.Time) time.Duration {
	var all []time.Duration
	for _, x := range took {
		if x.At.After(from) && x.At.Before(to) {
			all = append(all, x.Time)
		}
	}
	slices.Sort(all)
	if len(all) == 0 {
		return 0
	}
	return all[len(all)*99/100]
}

// hangup has the host reload by signal, and returns what came of it.
func hangup(t *testing.T, h *harness.Host) admin.Reload {
	t.Helper()
	n := len(loads(t, h))
	if err := syscall.Kill(h.PID(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	last := loads(t, h)[0].ID
	h.Eventually(harness.Patience, "the host reloads on SIGHUP", func() bool {
		all := loads(t, h)
		return len(all) > n || all[0].ID > last
	})
	return loads(t, h)[0]
}

// loads are all reloads of a host, the newest first.
func loads(t *testing.T, h *harness.Host) []admin.Reload {
	t.Helper()
	p, err := h.Control.Reloads(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return p.Items
}

// reload has the host reload a configuration that has no mistakes.
func reload(t *testing.T, h *harness.Host, config string) {
	t.Helper()
	h.Configure(config)
	if v, err := h.Control.Reload(t.Context()); err != nil || v.Result != admin.ReloadApplied {
		t.Fatalf("%v %s\n%s", err, v.Result, v.Text)
	}
}

// TestReload changes a configuration in all ways, one after the other, and looks at what goes on.
func TestReload(t *testing.T) {
	t.Parallel()
	const people = "source \"peopleforce\" \"people\" {\n secrets = [env(\"PEOPLEFORCE_SECRET\")]\n}\n"
	const second = "sink \"file\" \"second\" {\n dir = \"second\"\n}\nroute \"second\" {\n to \"file\" \"second\" {}\n}\n"
	h := programs.NewHost(t, harness.Options{Config: harness.YouforceToFile})
	h.Start()
	number := 0
	post := func(source string) int {
		t.Helper()
		number++
		a, err := h.Post(harness.Youforce(source, "k", number))
		if err != nil {
			t.Fatal(err)
		}
		return a.Status
	}
	lines := func(file string, n int) {
		t.Helper()
		h.Eventually(harness.Patience, fmt.Sprintf("%d lines in %s", n, file), func() bool { return len(h.RawLines(file)) == n })
	}
	post("hr")
	lines("out/events.jsonl", 1)
	sink, decoder := h.Plugin("sink-file").PID, h.Plugin("decoder-youforce").PID

	// New: a source, a sink and a route. Nothing that runs is touched.
	reload(t, h, harness.YouforceToFile+people+second)
	if got, err := h.Post(harness.NewPost("/hooks/people", []byte(`{}`))); err != nil || got.Status != http.StatusUnauthorized {
		t.Errorf("a new source: %v %d", err, got.Status)
	}
	post("hr")
	lines("out/events.jsonl", 2)
	lines("second/events.jsonl", 1)

	// A pause is kept. The paused sink goes, with what waits for it, and comes back paused.
	h.MustRun("sinks", "pause", "second")
	post("hr")
	reload(t, h, harness.YouforceToFile+"\n# the sink is gone\n"+people)
	lines("out/events.jsonl", 3)
	if n := h.Count("second", core.DeliveryPending); n != 1 {
		t.Errorf("%d deliveries wait for a sink that is gone", n)
	}
	reload(t, h, harness.YouforceToFile+second)
	h.MustRun("sinks", "resume", "second")
	lines("second/events.jsonl", 2)

	// Gone: a source.
	if got, err := h.Post(harness.NewPost("/hooks/people", []byte(`{}`))); err != nil || got.Status != http.StatusNotFound {
		t.Errorf("a source that is gone: %v %d", err, got.Status)
	}

	// A configuration with mistakes changes nothing, and everybody says so.
	h.Configure(strings.ReplaceAll(harness.YouforceToFile, `dir = "out"`, `dirr = "elsewhere"`))
	out, errOut, err := h.Run("reload")
	if err == nil || out != "" || !strings.Contains(errOut, `There is no attribute "dirr" in sink "out"`) ||
		!strings.Contains(errOut, `Did you mean "dir"?`) || !strings.Contains(errOut, "Not reloaded.") {
		t.Errorf("reload of a mistake: %v\n%s%s", err, out, errOut)
	}
	post("hr")
	lines("out/events.jsonl", 4)
	lines("second/events.jsonl", 3)
	if s := h.Status().Config; s == nil || s.Failed == nil || !strings.Contains(s.Failed.Error, "dirr") {
		t.Errorf("the status: %+v", s)
	}
	if out := h.MustRun("status"); !strings.Contains(out, "What the files say now does not run") {
		t.Error(out)
	}
	if v := loads(t, h)[0]; v.Result != admin.ReloadInvalid || len(v.Diagnostics) == 0 || v.Diagnostics[0].Line == 0 {
		t.Errorf("the history: %+v", v)
	}
	cfg, err := h.Control.Config(t.Context())
	if err != nil || cfg.Failed == nil || !strings.Contains(cfg.Failed.Text, "dirr") ||
		!slices.ContainsFunc(cfg.Files, func(f admin.ConfigFile) bool { return strings.Contains(f.Text, `dir = "second"`) }) {
		t.Errorf("the configuration: %v %+v", err, cfg)
	}
	if !strings.Contains(h.Log(), "the configuration cannot be loaded again, what runs goes on as it is") {
		t.Error("the log says nothing")
	}

	// What needs a restart is refused, with all that comes with it.
	h.Configure(strings.Replace(harness.YouforceToFile, "hr", "hr2", 1) + "\nadmin {\n listen = \"127.0.0.1:0\"\n}\n")
	_, errOut, err = h.Run("reload")
	if err == nil || !strings.Contains(errOut, `"admin.listen" cannot be changed while the host runs`) {
		t.Errorf("reload of what needs a restart: %v\n%s", err, errOut)
	}
	if got := post("hr"); got != http.StatusOK {
		t.Errorf("the source that runs: %d", got)
	}

	// Another secret, which nobody gets to see.
	reload(t, h, strings.ReplaceAll(harness.YouforceToFile, `env("YOUFORCE_SECRET")`, `"a secret that is new"`))
	if got := post("hr"); got != http.StatusUnauthorized {
		t.Errorf("with the old secret: %d", got)
	}
	if cfg, err = h.Control.Config(t.Context()); err != nil || strings.Contains(fmt.Sprint(cfg), "a secret that is new") ||
		!strings.Contains(fmt.Sprint(cfg), "(sensitive)") {
		t.Errorf("the secret is shown: %v %v", err, cfg)
	}
	h.Configure(harness.YouforceToFile)
	if v := hangup(t, h); v.Result != admin.ReloadApplied || v.Trigger != "SIGHUP" {
		t.Errorf("SIGHUP: %+v", v)
	}
	if got := post("hr"); got != http.StatusOK {
		t.Errorf("with the old secret, which is the new one again: %d", got)
	}
	if out := h.MustRun("reload"); !strings.Contains(out, "runs by this configuration already") {
		t.Error(out)
	}
	if now := h.Plugin("sink-file").PID; now != sink {
		t.Errorf("the sink's process is %d, before %d", now, sink)
	}
	if now := h.Plugin("decoder-youforce").PID; now != decoder {
		t.Errorf("the decoder's process is %d, before %d", now, decoder)
	}
	h.WaitSettled(harness.Patience)
	h.Stop()
}

// TestReloadPrograms replaces programs on disk and has blocks that choose them reopened in the new ones; what an upgrade put
// there stays, as long as the configuration chooses what it chose before.
func TestReloadPrograms(t *testing.T) {
	t.Parallel()
	h := programs.NewHost(t, harness.Options{Config: upgraded})
	installed, own := programs.PluginDir(t), h.Path("plugins")
	if err := os.Mkdir(own, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"grapnel-sink-trial", "grapnel-sink-file", "grapnel-decoder-youforce"} {
		b, err := os.ReadFile(filepath.Join(installed, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(own, name), b, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	configure := func(config, pins string) {
		t.Helper()
		text := strings.ReplaceAll(h.Configuration(config), fmt.Sprintf("dir = %q", installed), fmt.Sprintf("dir = %q\n%s", own, pins))
		put(t, h, "config.hcl", []byte(text))
	}
	configure(upgraded, "")
	h.Start()
	l := h.StartLoad(harness.LoadOptions{Rate: 300})
	l.WaitAccepted(100, time.Minute)
	again := func(want string) {
		t.Helper()
		if v, err := h.Control.Reload(t.Context()); err != nil || v.Result != want {
			t.Fatalf("%v %s, want %s\n%s", err, v.Result, want, v.Text)
		}
		l.WaitAccepted(l.Accepted()+100, time.Minute)
	}
	file, decoder, trial := h.Plugin("sink-file").PID, h.Plugin("decoder-youforce").PID, h.Plugin("sink-trial").PID

	// Another program in the place of the one that runs.
	if err := os.Rename(another(t, "sink-trial", "next"), filepath.Join(own, "grapnel-sink-trial")); err != nil {
		t.Fatal(err)
	}
	again(admin.ReloadApplied)
	only := func(plugin string) (all []int) {
		for _, p := range h.Status().Plugins {
			if p.Plugin == plugin {
				all = append(all, p.PID)
			}
		}
		return all
	}
	h.Eventually(harness.Patience, "both trial sinks run in the new program, and in it alone", func() bool {
		all := only("sink-trial")
		return len(all) == 2 && !slices.Contains(all, trial)
	})

	// An upgrade stays when something else is reloaded.
	h.MustRun("plugin", "upgrade", "sink-trial", another(t, "sink-trial", "better"), "--trial", "100ms")
	better := only("sink-trial")
	configure(strings.Replace(upgraded, "concurrency = 16", "concurrency = 4", 1), "")
	again(admin.ReloadApplied)
	if now := only("sink-trial"); !slices.Equal(now, better) {
		t.Errorf("after an upgrade and a reload the processes are %v, before %v", now, better)
	}

	// A pin that the folder cannot fulfil is a mistake; the hash of what is there is none.
	configure(upgraded, "plugin \"sink-trial\" {\n sha256 = \""+strings.Repeat("0", 64)+"\"\n}\n")
	again(admin.ReloadInvalid)
	configure(upgraded, "")
	l.Stop()
	h.WaitSettled(time.Minute)
	for _, name := range []string{"trial.jsonl", "alone.jsonl", "out/events.jsonl"} {
		found := l.Verify(h.Lines(name))
		check(t, found)
		if found.Repeats > 0 {
			t.Errorf("%s: %s", name, found)
		}
	}
	if a, b := h.Plugin("sink-file").PID, h.Plugin("decoder-youforce").PID; a != file || b != decoder {
		t.Errorf("the other plugins' processes are %d and %d, before %d and %d", a, b, file, decoder)
	}
	h.Stop()
}

// TestReloadWatch changes files as editors and Kubernetes do.
func TestReloadWatch(t *testing.T) {
	t.Parallel()
	h := programs.NewHost(t, harness.Options{})
	config := func(dir string) string {
		return "reload {\n watch = true\n}\n" + strings.ReplaceAll(harness.YouforceToFile, `dir = "out"`, fmt.Sprintf("dir = %q", dir))
	}
	h.Configure(config("one"))
	h.Start()
	number := 0
	goesTo := func(dir string) {
		t.Helper()
		h.Eventually(harness.Patience, "events go to "+dir, func() bool {
			number++
			h.MustPost(harness.Youforce("hr", "k", number))
			return len(h.RawLines(dir+"/events.jsonl")) > 0
		})
	}
	goesTo("one")

	put(t, h, "config.hcl", []byte(h.Configuration(config("two")))) // by renaming
	goesTo("two")
	if v := loads(t, h)[0]; v.Trigger != "file" || v.Result != admin.ReloadApplied {
		t.Errorf("%+v", v)
	}

	// A link to a link to a folder, of which the one in the middle moves.
	link := func(to, name string) {
		t.Helper()
		if err := os.Symlink(to, h.Path("link.new")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(h.Path("link.new"), h.Path(name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"three", "four"} {
		if err := os.Mkdir(h.Path(".."+dir), 0o700); err != nil {
			t.Fatal(err)
		}
		put(t, h, ".."+dir+"/config.hcl", []byte(h.Configuration(config(dir))))
	}
	link("..three", "..data")
	link("..data/config.hcl", "config.hcl")
	goesTo("three")
	link("..four", "..data")
	goesTo("four")

	put(t, h, "config.hcl", []byte("sink {"))
	h.Eventually(harness.Patience, "the mistake is told", func() bool { return h.Status().Config.Failed != nil })
	n := len(loads(t, h))
	goesTo("four")
	if err := os.Remove(h.Path("config.hcl")); err != nil {
		t.Fatal(err)
	}
	h.Eventually(harness.Patience, "the file is missed", func() bool { return len(loads(t, h)) > n })
	put(t, h, "config.hcl", []byte(h.Configuration(strings.ReplaceAll(config("five"), "watch = true", "watch = false"))))
	goesTo("five")
	if cfg, err := h.Control.Config(t.Context()); err != nil || cfg.Watched || cfg.Failed != nil {
		t.Errorf("%v %+v", err, cfg)
	}
	h.Stop()
}
