//go:build unix

package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/internal/e2e/harness"
)

// secret is a text that must be nowhere but in the plugin whose block names it.
type secret struct{ name, text string }

// spellings are how a secret may be written.
func (s secret) spellings() []string {
	quoted, _ := json.Marshal(s.text) // a text does not fail
	b := base64.StdEncoding.EncodeToString([]byte(s.text))
	u := base64.URLEncoding.EncodeToString([]byte(s.text))
	whole := len(s.text) / 3 * 4 // what no padding changes
	return []string{
		s.text, url.QueryEscape(s.text), url.PathEscape(s.text), string(quoted[1 : len(quoted)-1]), strconv.Quote(s.text),
		b[:whole], u[:whole], hex.EncodeToString([]byte(s.text)),
	}
}

// finder searches for secrets.
type finder struct {
	t       *testing.T
	secrets []secret
	bytes   int
	places  int
}

// in returns the names of the secrets that are in some bytes.
func (f *finder) in(b []byte) []string {
	f.bytes += len(b)
	f.places++
	var found []string
	for _, s := range f.secrets {
		if slices.ContainsFunc(s.spellings(), func(text string) bool { return bytes.Contains(b, []byte(text)) }) {
			found = append(found, s.name)
		}
	}
	return found
}

// none fails if a secret is in some bytes, unless it is one of those that may be.
func (f *finder) none(where string, b []byte, may ...string) {
	f.t.Helper()
	for _, name := range f.in(b) {
		if !slices.Contains(may, name) {
			f.t.Errorf("the secret %q is in %s", name, where)
			for _, s := range f.secrets {
				for _, text := range s.spellings() {
					if i := bytes.Index(b, []byte(text)); s.name == name && i >= 0 {
						f.t.Logf("…%q…", b[max(0, i-200):min(len(b), i+len(text)+60)])
						break
					}
				}
			}
		}
	}
}

// files searches all files of a folder, but for those that are named.
func (f *finder) files(dir string, but ...string) (n int) {
	f.t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || slices.Contains(but, d.Name()) {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		n++
		f.none(path, b)
		return nil
	})
	if err != nil {
		f.t.Error(err)
	}
	return n
}

// proc reads a file of a process; a system without /proc has none.
func proc(t *testing.T, pid int, name string) []byte {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
	if err != nil {
		if _, err := os.Stat("/proc/self/environ"); err == nil {
			t.Errorf("%s of %d: %v", name, pid, err)
		}
	}
	return b
}

// TestFinder has the searcher find each spelling of a planted secret.
func TestFinder(t *testing.T) {
	t.Parallel()
	f := &finder{t: t, secrets: []secret{{"planted", `p1anted "s€cret"/+ & more`}, {"other", "0ther-secret"}}}
	for _, text := range append(f.secrets[0].spellings(),
		base64.StdEncoding.EncodeToString([]byte(f.secrets[0].text)),
		base64.RawURLEncoding.EncodeToString([]byte(f.secrets[0].text)),
	) {
		if got := f.in([]byte("before" + text + "behind")); !slices.Equal(got, []string{"planted"}) {
			t.Errorf("in %q: found %q", text, got)
		}
	}
	if got := f.in([]byte("p1anted and 0ther secret")); got != nil {
		t.Errorf("found %q where nothing is", got)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "x"), []byte("..0ther-secret.."), 0o600); err != nil {
		t.Fatal(err)
	}
	quiet := &finder{t: &testing.T{}, secrets: f.secrets}
	if n := quiet.files(dir); n != 1 || !quiet.t.Failed() {
		t.Error("a file with a secret is not found")
	}
}

// TestSecrets has secrets in every place of a configuration, sinks that tell theirs in every way they have, and failures
// of all kinds. Then no secret may be in any output, file, database or process but those of the plugin that it belongs to.
func TestSecrets(t *testing.T) {
	t.Parallel()
	f := &finder{t: t}
	values := map[string]string{}
	for _, name := range []string{
		"hmac", "hmac_next", "hmac_file", "path_token", "query_token", "bearer", "query_key", "whsec",
		"token", "key_1", "key_2", "by_name", "account", "accounts_1", "accounts_2", "label", "other_sink", "parked_sink",
		"environment_only", "basic", "api_key", "form_bearer", "proof",
	} {
		text := fmt.Sprintf("s3cret-%s-%x", strings.ReplaceAll(name, "_", "."), len(name)*7919)
		switch name {
		case "whsec":
			text = "whsec_" + base64.StdEncoding.EncodeToString([]byte("s3cret of standard webhooks, 32b"))
		case "basic":
			f.secrets = append(f.secrets, secret{"password", text})
			text = "me:" + text
		case "hmac", "token", "label", "account":
			text += ` "q€"/+&` // needs escaping everywhere
		}
		values[name] = text
		f.secrets = append(f.secrets, secret{name, text})
	}
	var env []string
	for name, text := range values {
		if name != "hmac_file" {
			env = append(env, "S_"+strings.ToUpper(name)+"="+text)
		}
	}
	// The harness's own are not in use here.
	config := `
locals {
  hidden = sensitive(env("S_LABEL"))
  parked = env("S_PARKED_SINK") # not marked, but the sink below makes it one
}
source "youforce" "hr" {
  secrets = [env("S_HMAC"), env("S_HMAC_NEXT"), trimspace(file("hmac.txt"))]
}
source "acculynx" "roofing" {
  path       = "/in"
  path_token = [env("S_PATH_TOKEN"), env("S_QUERY_TOKEN")]
}
source "signed" "bearer" {
  auth    = "bearer"
  secrets = [env("S_BEARER")]
}
source "signed" "query" {
  auth    = "query"
  secrets = [env("S_QUERY_KEY")]
}
source "signed" "standard" {
  auth    = "standard_webhooks"
  secrets = [env("S_WHSEC")]
}
source "signed" "proof" {
  secrets = [env("S_PROOF")]
}
source "forms" "basic" {
  accounts = [env("S_BASIC")]
}
source "forms" "key" {
  auth     = "key"
  api_keys = [env("S_API_KEY")]
}
source "forms" "form_bearer" {
  auth    = "bearer"
  secrets = [env("S_FORM_BEARER")]
}
sink "leaky" "leaky" {
  token   = env("S_TOKEN")
  keys    = [env("S_KEY_1"), env("S_KEY_2")]
  by_name = { x = env("S_BY_NAME") }
  account {
    user     = "me"
    password = env("S_ACCOUNT")
  }
  accounts = [{ password = env("S_ACCOUNTS_1") }, { password = env("S_ACCOUNTS_2") }]
  label    = local.hidden
  delivery {
    retry {
      max_attempts = 2
      min          = "10ms"
      max          = "20ms"
    }
  }
}
sink "leaky" "parked" {
  token    = env("S_PARKED_SINK")
  isolated = true
}
sink "leaky" "other" {
  token    = sensitive("` + values["other_sink"] + `")
  label    = local.parked
  isolated = true
}
sink "file" "out" {
  dir = "out"
}
route "each" {
  from = [source.youforce.hr]
  to "leaky" "leaky" {
    do = event.subject == "employment/parked" ? "ok" : trimprefix(event.subject, "employment/")
  }
  to "leaky" "other" {}
  to "file" "out" {}
}
route "parks" {
  from = [source.youforce.hr]
  when = event.subject == "employment/parked"
  to "leaky" "parked" {
    do = "suspend"
  }
}
route "rest" {
  from = [
    source.acculynx.roofing, source.signed.bearer, source.signed.query, source.signed.standard, source.signed.proof,
    source.forms.basic, source.forms.key, source.forms.form_bearer,
  ]
  to "file" "out" {}
}
`
	h := programs.NewHost(t, harness.Options{Config: config, Env: env, Level: "trace"})
	if err := os.WriteFile(h.Path("hmac.txt"), []byte(values["hmac_file"]+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	h.Start()

	// Authentic requests with each secret, and every kind of failure behind them.
	for i, do := range []string{"ok", "retry", "reject", "skip", "panic", "crash", "parked"} {
		p := harness.Youforce("hr", do, i)
		key := []string{"hmac", "hmac_next", "hmac_file"}[i%3]
		p.Header.Set("X-VWD-Signature-V1", base64.StdEncoding.EncodeToString(mac([]byte(values[key]), string(p.Body))))
		h.MustPost(p)
	}
	lynx := func(path string, n int) harness.Post {
		body := fmt.Appendf(nil, `{"topicName":"job_updated","eventId":"e-%d","event":{"job":{"id":"j"}}}`, n)
		return harness.NewPost(path, body)
	}
	h.MustPost(lynx("/in/"+values["path_token"], 1))
	h.MustPost(lynx("/in?a=b&token="+values["query_token"], 2))
	bearer := harness.NewPost("/hooks/bearer", []byte(`{"n":1}`))
	bearer.Header.Set("Authorization", "Bearer "+values["bearer"])
	h.MustPost(bearer)
	h.MustPost(harness.NewPost("/hooks/query?key="+url.QueryEscape(values["query_key"])+"&x=y", []byte(`{"n":2}`)))
	h.MustPost(standard(values["whsec"], time.Now(), "msg_1", `{"n":3}`))
	pair := base64.StdEncoding.EncodeToString([]byte(values["basic"]))
	formed := form("/hooks/basic?api_key="+values["api_key"], "id=1") // a credential of a scheme that this source does not use
	formed.Header.Set("Authorization", "Basic "+pair)
	formed.Header.Set("X-Api-Key", values["api_key"])
	h.MustPost(formed)
	formed = form("/hooks/key", "id=2")
	formed.Header.Set("X-Api-Key", values["api_key"])
	h.MustPost(formed)
	if a := ask(t, h, "GET", "/hooks/key?id=3&api_key="+values["api_key"], "", nil); a.Status != 202 {
		t.Errorf("%+v", a)
	}
	formed = form("/hooks/form_bearer", "id=4")
	formed.Header.Set("Authorization", "Bearer "+values["form_bearer"])
	h.MustPost(formed)
	validation := h.MustPost(harness.NewPost("/hooks/proof",
		[]byte(`{"event":"endpoint.url_validation","payload":{"plainToken":"abc"}}`)))
	f.none("the proof of a handshake", []byte(validation.Body))

	// Requests that are refused, with secrets where they do not belong.
	token := values["path_token"]
	if a := ask(t, h, "GET", "/hooks/basic?hub.mode=subscribe&hub.challenge=%3C"+values["api_key"], "", nil); a.Status != 400 {
		t.Errorf("%+v", a)
	}
	for _, path := range []string{
		"/in/" + token + "x", "/inn/" + token, "/" + token, "/" + token + "/" + token, "/hooks/" + token, "/in/x/" + token,
		"/in/" + token + "/", "/in/" + token + "?token=" + token, "/in?token=" + token + "&token=" + token,
		"/in/" + url.PathEscape(token+"/"),
		"/hooks/hr?key=" + values["query_key"], "/hooks/query?key=" + values["query_key"] + "&key=" + values["query_key"],
		"/nowhere?token=" + token, "/in/" + strings.ReplaceAll(token, "-", "%2D") + "%20",
	} {
		a, err := h.Post(lynx(path, 3))
		if err != nil || a.Status < 400 {
			t.Errorf("%d, %v", a.Status, err)
		}
		f.none("an answer", []byte(a.Body))
	}
	for _, name := range []string{"Authorization", "X-Vwd-Signature-V1", "X-Other", "X-Api-Key"} {
		for _, path := range []string{
			"/hooks/hr", "/hooks/bearer", "/nowhere", "/hooks/basic", "/hooks/basic?hub.mode=subscribe&hub.challenge=" + pair,
			"/hooks/key?api_key=" + values["api_key"],
		} {
			p := lynx(path, 4)
			p.Header[name] = []string{"Bearer " + values["bearer"] + "x", values["query_key"], "Basic " + pair, values["api_key"]}
			a, err := h.Post(p)
			if err != nil || a.Status < 400 {
				t.Errorf("%d, %v", a.Status, err)
			}
			f.none("an answer", []byte(a.Body))
		}
	}
	malformed, err := dial(h)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(malformed, "POST /in/%s HTTP/1.1\r\nHost: x\r\nBad Header %s\r\n\r\n", token, values["bearer"])
	answer := make([]byte, 4096)
	n, _ := malformed.Read(answer) // whatever it says
	f.none("an answer", answer[:n])
	_ = malformed.Close()

	h.Eventually(60*time.Second, "all but what is parked is settled", func() bool {
		s := h.Status().Stats
		waiting := s.Requests[core.RequestReceived]
		for _, sink := range []string{"leaky", "other", "out"} {
			waiting += s.Deliveries[sink][core.DeliveryPending]
		}
		return waiting == 0
	})
	stats := h.Status().Stats
	d := stats.Deliveries["leaky"]
	if d[core.DeliveryDelivered] != 2 || d[core.DeliverySkipped] != 1 || d[core.DeliveryDead] != 4 {
		t.Errorf("the leaky sink's deliveries: %v", d)
	}
	if d := stats.Deliveries["parked"]; d[core.DeliveryPending] != 1 {
		t.Errorf("the parked sink's deliveries: %v", d)
	}

	// Processes: a plugin has no secret of anybody in its arguments and environment, the host none in its arguments.
	plugins := h.Plugins()
	if len(plugins) < 6 {
		t.Errorf("plugin processes: %v", plugins)
	}
	f.none("the host's command line", proc(t, h.PID(), "cmdline"))
	for _, p := range plugins {
		f.none("the command line of "+p.String(), proc(t, p.PID, "cmdline"))
		f.none("the environment of "+p.String(), proc(t, p.PID, "environ"))
	}
	if b := proc(t, h.PID(), "environ"); b != nil && len(f.in(b)) < 15 {
		t.Errorf("the search does not find the secrets in the host's environment: %v", f.in(b))
	}

	// What people are shown, while the host runs and afterwards.
	showAll := func() {
		t.Helper()
		for _, list := range []string{"requests", "deliveries", "rejections"} {
			f.none(list+" list", []byte(h.MustRun(list, "list")))
			out := h.MustRun(list, "list", "--json", "--limit", "1000")
			f.none(list+" list --json", []byte(out))
			shown := 0
			for line := range strings.Lines(out) {
				var v struct{ ID any }
				if err := json.Unmarshal([]byte(line), &v); err != nil {
					t.Fatal(err)
				}
				if shown++; shown <= 12 {
					f.none(list+" show", []byte(h.MustRun(list, "show", fmt.Sprint(v.ID))))
				}
			}
			if shown < 10 {
				t.Errorf("%d %s", shown, list)
			}
		}
		f.none("status", []byte(h.MustRun("status")))
		f.none("status --json", []byte(h.MustRun("status", "--json")))
	}
	showAll()
	for _, args := range [][]string{
		{"send", "roofing", "acculynx.job.created"}, {"send", "basic", "forms.message.sent"}, {"send", "key", "forms.message.query"},
		{"send", "form_bearer", "forms.message.payload"},
	} {
		out, errOut, err := h.Run(args...)
		f.none("send", []byte(out+errOut))
		if err != nil {
			t.Errorf("send: %v %s", err, errOut)
		}
	}
	f.files(h.Path("data")) // with the log that is being written ahead
	h.Stop()
	showAll()
	out, errOut, err := h.Run("send", "roofing", "acculynx.job.created")
	f.none("send without a host", []byte(out+errOut))
	if err == nil {
		t.Error("send without a host succeeds")
	}

	// Mistakes beside secrets, and a plugin that tells them when it is asked to check them.
	f.none("validate", []byte(h.MustRun("validate")))
	mistakes := strings.NewReplacer(
		`[env("S_KEY_1"), env("S_KEY_2")]`, `[env("S_KEY_1"), { x = env("S_KEY_2") }]`,
		`path_token = [env("S_PATH_TOKEN"), env("S_QUERY_TOKEN")]`, `path_token = "${env("S_PATH_TOKEN")}/ not a segment"`,
		`{ x = env("S_BY_NAME") }`, `"${env("S_BY_NAME")}"`,
		`secrets = [env("S_WHSEC")]`, `secrets = ["x${env("S_WHSEC")}"]`,
		`accounts = [env("S_BASIC")]`, `accounts = [replace(env("S_BASIC"), ":", "")]`,
		`secrets = [env("S_FORM_BEARER")]`, `secrets = ["${env("S_FORM_BEARER")}\nsecond line"]`,
		`label    = local.parked`, `labl = local.hidden`,
		`isolated = true`, `isolated = env("S_PARKED_SINK")`,
		`from = [source.youforce.hr]`, `when = local.hidden == local.parked || local.parked == 1`,
		`dir = "out"`, "dir = \"out\"\n  file_mode = env(\"S_PARKED_SINK\")",
	).Replace(config) + `
server "` + values["token"][:10] + `" {}
sink "leaky" "refusing" {
  token  = env("S_TOKEN")
  label  = sensitive(env("S_LABEL"))
  refuse = true
}
sink "file" "third" {
  dir       = "x"
  max_open_files = env("S_TOKEN")
  delivery {
    timeout = env("S_ACCOUNT")
    order_by = env("S_KEY_1")
  }
}
`
	for i, text := range []string{
		mistakes, strings.ReplaceAll(config, "}", "} }"), config + "\nroute \"x\" {\n  when = env(\"S_TOKEN\") == \"x\"\n}\n",
	} {
		h.Configure(text)
		for _, flags := range [][]string{nil, {"--json"}} {
			out, errOut, err := h.Run(append([]string{"validate"}, flags...)...)
			if err == nil {
				t.Errorf("configuration %d is valid:\n%s", i, out)
			}
			may := []string{}
			if i == 1 {
				may = append(may, "other_sink") // spelt out in a file whose syntax is broken: nobody can know that it is one
			}
			f.none(fmt.Sprintf("validate of configuration %d", i), []byte(out+errOut), may...)
			if i == 0 && flags == nil && strings.Count(errOut, "error:") < 8 {
				t.Errorf("too few mistakes are found:\n%s", errOut)
			}
		}
		_, errOut, _ := h.Run("run")
		f.none("run of a bad configuration", []byte(errOut), "other_sink")
	}

	// Files: the log, the database, what plugins wrote and what is remembered of them.
	log := h.Log()
	f.none("the log", []byte(log))
	for _, word := range []string{`"@level":"trace"`, "plain: (s", "json: (s", "slog: (s", "crash: (s"} {
		if !strings.Contains(log, word) {
			t.Errorf("the log does not hold %q: is all of it there?", word)
		}
	}
	files := f.files(h.Dir, "config.hcl", "hmac.txt")
	files += f.files(filepath.Join(filepath.Dir(programs.PluginDir(t)), "cache"))
	if files < 5 {
		t.Errorf("only %d files were searched", files)
	}
	t.Logf("%d secrets, each in %d spellings, searched in %d places, %d files of them, %.1f MiB",
		len(f.secrets), len(f.secrets[0].spellings()), f.places, files, float64(f.bytes)/(1<<20))
}
