package config

import (
	"bytes"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/expr"
)

// load loads one file's text and fails on errors.
func load(t *testing.T, src string, env map[string]string) *Config {
	t.Helper()
	t.Chdir(t.TempDir())
	if err := os.Mkdir("tls", 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"config.hcl": src, "tls/cert.pem": ""} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cfg, diags := Load(t.Context(), "config.hcl", options(env))
	if diags.HasErrors() {
		var out bytes.Buffer
		if err := diags.Write(&out, false, 0); err != nil {
			t.Fatal(err)
		}
		t.Fatal(out.String())
	}
	return cfg
}

func TestLoadDefaults(t *testing.T) {
	cfg := load(t, "", nil)
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	want := &Config{
		Path: "config.hcl",
		Dir:  dir,
		Server: Server{
			Listen:          ":8080",
			ShutdownTimeout: 30 * time.Second,
			Limits: Limits{
				MaxBody: 5 << 20, MaxHeader: 16 << 10, HeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second,
				IdleTimeout: 2 * time.Minute, Connections: 4096,
			},
		},
		Storage: Storage{
			Driver: "sqlite", Path: filepath.Join(dir, "data/grapnel.db"), Retention: 30 * day,
			StateRetention: 365 * day, DedupeWindow: 7 * day, MinFree: 256 << 20,
		},
		Plugins: Plugins{Dir: filepath.Join(dir, "bin/plugins")},
		Log:     Log{Level: "info"},

		Retention: map[string]time.Duration{},
	}
	cfg.Set, cfg.Digest = nil, ""
	if diff := cmp.Diff(want, cfg); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

const full = `
server {
  listen          = "127.0.0.1:${env("PORT")}"
  trusted_proxies = ["10.1.2.3/8", "::1", "192.0.2.7"]
  limits {
    max_body = env("MAX_BODY")
  }
  tls {
    cert = "tls/cert.pem"
    key  = env("KEY_FILE")
  }
}
storage "sqlite" {
  path          = "var/db"
  retention     = "1d12h"

  state_retention = "90d"
  dedupe_window = "1s"
}
plugins {
  dir          = "plugins"
  memory_limit = "512MiB"
  plugin "sink-file" {
    version = "~> 1.2"
  }
}
locals {
  token = sensitive("literal-secret")
  codes = [500, 503]
}
source "force" "payroll" {
  secrets   = [env("SECRET"), env("SECRET_NEXT", null)]
  tenants   = ["acme"]
  allow_ips = ["18.202.121.26"]
  tenant    = "t1"
  api_key   = local.token
  isolated  = true
}
source "people" "hr" {
  auth = "none"
  path = "/in/hr"
  max_body = 1000
  retention = "7d"
}
source "people" "old" {
  enabled   = false
  secrets   = [env("NOT_SET_OLD")]
  retention = "400d"
}
sink "file" "audit" {
  dir      = "data/events"
  max_size = 9007199254740993
  delivery {
    concurrency = 2
    batch       = 10
    timeout     = "5s"
    order_by    = null
    retry {
      max_attempts = 3
    }
  }
}
sink "crm" "main" {
  dialect = "hubspot"
  token   = env("CRM_TOKEN")
  region  = null
  timeout = "3d"
  ratio   = 0.1
  fields  = { b = "2", a = "1" }
  extra   = { deep = [1, true, null, 12345678901234567890.5, "<a>"] }
  retry {
    codes    = local.codes
    password = env("SECRET")
  }
}
sink "file" "off" {
  enabled = env("OFF", null) != null
  dir     = env("OFF")
}
route "all" {
  to "file" "audit" {}
  to "file" "off" {}
}
route "some" {
  from = source.people.hr
  on   = ["people.*"]
  when = event.type != ""
  to "crm" "main" {
    object = "contacts"
  }
}
route "none" {
  enabled = false
  to "file" "off" {}
}
`

func TestLoad(t *testing.T) {
	env := map[string]string{
		"PORT": "9000", "MAX_BODY": "2MiB", "SECRET": "secret-one", "CRM_TOKEN": "crm-token", "SECRET_NEXT": "",
		"KEY_FILE": filepath.Join(t.TempDir(), "key.pem"),
	}
	if err := os.WriteFile(env["KEY_FILE"], nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := load(t, full, env)
	dir := cfg.Dir

	if got, want := cfg.Server.Listen, "127.0.0.1:9000"; got != want {
		t.Errorf("listen %q, want %q", got, want)
	}
	proxies := []netip.Prefix{
		netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128"), netip.MustParsePrefix("192.0.2.7/32"),
	}
	if !slices.Equal(cfg.Server.TrustedProxies, proxies) {
		t.Errorf("proxies %v, want %v", cfg.Server.TrustedProxies, proxies)
	}
	if got, want := *cfg.Server.TLS, (TLS{filepath.Join(dir, "tls/cert.pem"), env["KEY_FILE"]}); got != want {
		t.Errorf("tls %v, want %v", got, want)
	}
	wantStorage := Storage{
		Driver: "sqlite", Path: filepath.Join(dir, "var/db"), Retention: 36 * time.Hour,
		StateRetention: 90 * day, DedupeWindow: time.Second, MinFree: 256 << 20,
	}
	if cfg.Storage != wantStorage {
		t.Errorf("storage %+v, want %+v", cfg.Storage, wantStorage)
	}
	// Of a source that is switched off, too: what it has stored is still there.
	if diff := cmp.Diff(map[string]time.Duration{"hr": 7 * day, "old": 400 * day}, cfg.Retention); diff != "" {
		t.Errorf("retention of sources (-want +got):\n%s", diff)
	}

	if got, want := cfg.Plugins.Dir, filepath.Join(dir, "plugins"); got != want {
		t.Errorf("plugins in %q, want %q", got, want)
	}
	if got := cfg.Plugins.MemoryLimit; got != 512<<20 {
		t.Errorf("memory limit %d", got)
	}

	payroll := cfg.Sources[0]
	payroll.Info, payroll.Scheme, payroll.Range = nil, nil, Range{}
	wantSource := Source{
		Name: "payroll", Plugin: "force", Path: "/hooks/payroll", Auth: "hmac", Secrets: []string{"secret-one"},
		Allow:    map[string][]string{"tenants": {"acme"}},
		AllowIPs: []netip.Prefix{netip.MustParsePrefix("18.202.121.26/32")},
		Tenant:   "t1", MaxBody: 2 << 20, Isolated: true, Config: []byte(`{"language":"en","api_key":"literal-secret"}`),
	}
	if diff := cmp.Diff(wantSource, payroll, cmp.AllowUnexported(Range{}), cmp.Comparer(equalPrefix)); diff != "" {
		t.Errorf("source: -want +got:\n%s", diff)
	}
	if hr := cfg.Sources[1]; hr.Auth != "none" || hr.Scheme != nil || hr.Path != "/in/hr" || hr.MaxBody != 1000 {
		t.Errorf("source hr: %+v", hr)
	}

	audit, crm := cfg.Sinks[0], cfg.Sinks[1]
	wantConfig := `{"dir":"` + filepath.Join(dir, "data/events") + `","fsync":true,"max_size":9007199254740993}`
	if got := string(audit.Config); got != wantConfig {
		t.Errorf("config %s\nwant   %s", got, wantConfig)
	}
	wantDelivery := Delivery{
		Concurrency: 2, Batch: 10, Timeout: 5 * time.Second,
		Retry:   Retry{MaxAttempts: 3, MaxAge: 3 * day, Min: time.Second, Max: time.Hour},
		Breaker: Breaker{Failures: 10, Min: 5 * time.Second, Max: 5 * time.Minute},
	}
	if audit.Delivery != wantDelivery {
		t.Errorf("delivery %+v, want %+v", audit.Delivery, wantDelivery)
	}
	wantConfig = `{"dialect":"hubspot","token":"crm-token","region":null,"timeout":259200000000000,"ratio":0.1,` +
		`"fields":{"a":"1","b":"2"},"extra":{"deep":[1,true,null,12345678901234567890.5,"<a>"]},` +
		`"retry":{"codes":[500,503],"quick":false,"password":"secret-one"}}`
	if got := string(crm.Config); got != wantConfig {
		t.Errorf("config %s\nwant   %s", got, wantConfig)
	}
	if crm.Delivery.OrderBy == nil || crm.Delivery.Batch != 1 {
		t.Errorf("delivery %+v, want the order of the partition key and batches of 1", crm.Delivery)
	}
	if want := []string{"literal-secret", "secret-one", "crm-token"}; !slices.Equal(cfg.Secrets, want) {
		t.Errorf("secrets %q, want %q", cfg.Secrets, want)
	}

	all, some := cfg.Routes[0], cfg.Routes[1]
	if all.Sources != nil || all.On != nil || all.When != nil || len(all.To) != 1 || all.To[0].Sink != "audit" {
		t.Errorf("route all: %+v", all)
	}
	if !slices.Equal(some.Sources, []string{"hr"}) || !slices.Equal(some.On, []string{"people.*"}) || some.When == nil {
		t.Errorf("route some: %+v", some)
	}
	if some.To[0].SchemaDigest != crm.SchemaDigest || crm.SchemaDigest == audit.SchemaDigest || crm.SchemaDigest == "" {
		t.Errorf("schema digests: %q, %q, %q", some.To[0].SchemaDigest, crm.SchemaDigest, audit.SchemaDigest)
	}
	if got, want := some.To[0].Range.String(), "config.hcl:88,6"; got != want {
		t.Errorf("range %q, want %q", got, want)
	}
	var out []string
	for _, d := range cfg.Disabled {
		out = append(out, d.Kind+" "+d.Name)
	}
	if want := []string{"source old", "sink off", "route none"}; !slices.Equal(out, want) {
		t.Errorf("disabled %q, want %q", out, want)
	}
	if len(cfg.Idle) != 1 || cfg.Idle[0].Route != "all" || cfg.Idle[0].Sink != "off" {
		t.Errorf("idle %+v", cfg.Idle)
	}
}

// TestLock checks which lock file is read, and what of it the host gets.
// TestBatchOfConfiguration is about sinks whose batches depend on their configuration.
func TestBatchOfConfiguration(t *testing.T) {
	for config, want := range map[string][2]int{ // batch, concurrency
		``:              {100, 2},
		`max_size = 1`:  {1, 8},
		`max_size = 30`: {30, 2},
		"max_size = 30\ndelivery {\nbatch = 20\n}": {20, 2},
		"max_size = 1\ndelivery {\nbatch = 1\n}":   {1, 8},
	} {
		d := load(t, "sink \"file\" \"out\" {\ndir = \"x\"\n"+config+"\n}", nil).Sinks[0].Delivery
		if d.Batch != want[0] || d.Concurrency != want[1] {
			t.Errorf("%q: batch %d, concurrency %d, want %v", config, d.Batch, d.Concurrency, want)
		}
	}
}

func TestLock(t *testing.T) {
	sum := strings.Repeat("0", 64)
	text := "plugin \"sink-file\" {\n  version = \"1.4.0\"\n  sha256 = \"" + strings.ToUpper(programHash) + "\"\n}\n" +
		"plugin \"decoder-x\" {\n  version = \"0.1.0-rc.1\"\n  sha256 = \"" + sum + "\"\n}\n"
	want := []Locked{
		{Kind: core.PluginSink, Name: "file", Version: "1.4.0", SHA256: programHash},
		{Kind: core.PluginDecoder, Name: "x", Version: "0.1.0-rc.1", SHA256: sum},
	}
	for path, file := range map[string]string{
		"config.hcl": "grapnel.lock.hcl", "conf": "conf/grapnel.lock.hcl", "conf/main.hcl": "conf/grapnel.lock.hcl",
		"other": "",
	} {
		t.Run(path, func(t *testing.T) {
			t.Chdir(t.TempDir())
			for name, src := range map[string]string{"config.hcl": "", "conf/main.hcl": "", "other/main.hcl": "", file: text} {
				if name == "" {
					continue
				}
				if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(name, []byte(src), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			cfg, diags := Load(t.Context(), path, options(nil))
			if len(diags.All()) > 0 {
				t.Fatal(diags.All())
			}
			if cfg.Plugins.LockFile != file {
				t.Errorf("lock file %q, want %q", cfg.Plugins.LockFile, file)
			}
			if file == "" {
				if cfg.Plugins.Locked != nil {
					t.Errorf("locked %+v without a file", cfg.Plugins.Locked)
				}
				return
			}
			if diff := cmp.Diff(want, cfg.Plugins.Locked, cmpopts.IgnoreTypes(Range{})); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
	t.Run("dangling", func(t *testing.T) {
		t.Chdir(t.TempDir())
		if err := errors.Join(os.WriteFile("config.hcl", nil, 0o644), os.Symlink("gone", "grapnel.lock.hcl")); err != nil {
			t.Fatal(err)
		}
		opt := options(nil)
		opt.Plugins = func(Plugins) (Catalog, error) {
			t.Error("plugins are asked without the lock file")
			return catalog(), nil
		}
		if _, diags := Load(t.Context(), "config.hcl", opt); !diags.HasErrors() {
			t.Error("a lock file that leads nowhere is taken for none")
		}
	})
}

func equalPrefix(a, b netip.Prefix) bool { return a == b }

func TestDigest(t *testing.T) {
	base := `
locals {
  a = "1"
}
sink "file" "audit" {
  dir = "x"
}
route "all" {
  to "file" "audit" {
    file = local.a
  }
}
`
	digest := load(t, base, nil).Digest
	if digest == "" {
		t.Fatal("no digest")
	}
	for name, c := range map[string]struct {
		src  string
		same bool
	}{
		"same":        {base, true},
		"other place": {"# moved\n" + base, true},
		"other dir":   {strings.Replace(base, `dir = "x"`, `dir = "y"`, 1), true},
		"message":     {strings.Replace(base, "file = local.a", `file = "b"`, 1), false},
		"local":       {strings.Replace(base, `a = "1"`, `a = "2"`, 1), false},
		"condition":   {strings.Replace(base, `to "file"`, "when = true\n  to \"file\"", 1), false},
		"disabled":    {strings.Replace(base, `dir = "x"`, "dir = \"x\"\n  enabled = false", 1), false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := load(t, c.src, nil).Digest; (got == digest) != c.same {
				t.Errorf("digests %s and %s, want same: %v", digest, got, c.same)
			}
		})
	}
}

// TestSecretLocals checks which locals routes may not use.
func TestSecretLocals(t *testing.T) {
	t.Chdir(t.TempDir())
	src := `
locals {
  token    = env("TOKEN")
  bearer   = "Bearer ${local.token}"
  upper    = [{ x = env("TOKEN") }]
  has      = env("TOKEN", null) != null
  copied   = "prefix-the-token"
  site     = env("SITE")
  declared = sensitive("quiet")
  plain    = { a = 1, b = ["x"] }
}
sink "crm" "main" {
  dialect = "hubspot"
  token   = local.token
}
`
	if err := os.WriteFile("config.hcl", []byte(src), 0o644); err != nil {
		t.Fatal(err)
	}
	l := newLoader(t.Context(), "config.hcl", options(map[string]string{"TOKEN": "the-token", "SITE": "oslo"}))
	if !l.read("config.hcl") {
		t.Fatal(l.diags.All())
	}
	l.load()
	if l.diags.HasErrors() {
		t.Fatal(l.diags.All())
	}
	got := map[string]bool{}
	for name, v := range l.routeLocals() {
		bare, marks := v.UnmarkDeep()
		for m := range marks {
			if m != expr.Sensitive {
				t.Errorf("local %s has the mark %v", name, m)
			}
		}
		got[name] = len(marks) > 0
		if name == "site" && bare != cty.StringVal("oslo") {
			t.Errorf("site is %#v", bare)
		}
	}
	want := map[string]bool{
		"token": true, "bearer": true, "upper": true, "has": false, "copied": true, "site": false, "declared": true,
		"plain": false,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestLoadStorage(t *testing.T) {
	t.Chdir(t.TempDir())
	write := func(src string) {
		if err := os.WriteFile("config.hcl", []byte(src), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	opt := options(map[string]string{"DATA": "/var/lib/grapnel"})
	write(`
locals {
  dir    = "${local.base}/db"
  base   = env("DATA")
  secret = env("NOT_SET")
}
storage "sqlite" {
  path = "${local.dir}/grapnel.db"
}
source "nowhere" "hr" {
  secrets = [env("NOT_SET")]
}
unknown {}
`)
	got, err := LoadStorage("config.hcl", opt)
	if want := "/var/lib/grapnel/db/grapnel.db"; err != nil || got.Path != want {
		t.Errorf("path %q, %v; want %q", got.Path, err, want)
	}
	for src, want := range map[string]string{
		"storage \"sqlite\" {\n  path = env(\"X\")\n}": "config.hcl:2:10: The environment variable X is not set",
		"storage \"sqlite\" {":                         "config.hcl:1:18: Unclosed configuration block",
	} {
		write(src)
		if _, err := LoadStorage("config.hcl", opt); err == nil || !strings.HasPrefix(err.Error(), want+": ") {
			t.Errorf("%q: %v, want %s", src, err, want)
		}
	}
}

func TestCatalogFails(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("config.hcl", []byte("plugins {}\nsink \"file\" \"audit\" {}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	opt := options(nil)
	opt.Plugins = func(Plugins) (Catalog, error) { return nil, errors.New("no folder") }
	cfg, diags := Load(t.Context(), "config.hcl", opt)
	if cfg != nil || len(diags.All()) != 1 || diags.All()[0].Detail != "No folder." {
		t.Errorf("%v, %+v", cfg, diags.All())
	}
	if got, want := diags.Err().Error(), "config.hcl:1:1: The plugins cannot be read: No folder."; got != want {
		t.Errorf("error %q, want %q", got, want)
	}
}

func TestOutOfBounds(t *testing.T) {
	for name, expression := range map[string]string{
		"brackets":     strings.Repeat("[", 100000),
		"parentheses":  strings.Repeat("(", 100000),
		"templates":    strings.Repeat(`"${`, 100000),
		"signs":        strings.Repeat("!", 100000) + "true",
		"conditionals": strings.Repeat("true ? 1 : ", 50000) + "2",
		"number":       `"${9999999E9899999}"`,
		"large":        "\"" + strings.Repeat("x", maxFile) + "\"",
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "config.hcl")
			if err := os.WriteFile(path, []byte("locals {\n  x = "+expression+"\n}\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			cfg, diags := Load(t.Context(), path, options(nil))
			if cfg != nil || len(diags.All()) != 1 {
				t.Errorf("%v", diags.All())
			}
		})
	}
}

// TestNoSecretShows breaks a configuration at every token and looks for secrets in what is said about it.
func TestNoSecretShows(t *testing.T) {
	env := map[string]string{
		"PORT": "9000", "MAX_BODY": "2MiB", "SECRET": "s3cr3t-one", "CRM_TOKEN": "s3cr3t-<two>",
		"SECRET_NEXT": "s3cr3t\nthree",
	}
	path := filepath.Join(t.TempDir(), "config.hcl")
	tokens, _ := hclsyntax.LexConfig([]byte(full), path, hcl.InitialPos)
	for _, tok := range tokens {
		for _, instead := range []string{"nonsense", `env("SECRET")`, `timecmp(env("CRM_TOKEN"), "x")`} {
			src := full[:tok.Range.Start.Byte] + instead + full[tok.Range.End.Byte:]
			if err := os.WriteFile(path, []byte(src), 0o644); err != nil {
				t.Fatal(err)
			}
			_, diags := Load(t.Context(), path, options(env))
			var out bytes.Buffer
			if err := diags.Write(&out, false, 0); err != nil {
				t.Fatal(err)
			}
			text := out.String()
			if err := diags.Err(); err != nil {
				text += err.Error()
			}
			for _, d := range diags.All() {
				text += d.Summary + d.Detail
			}
			if strings.Contains(text, "s3cr3t") {
				t.Fatalf("with %q instead of %q:\n%s", instead, tok.Bytes, text)
			}
		}
	}
}

func TestUnits(t *testing.T) {
	for in, want := range map[string]time.Duration{
		"0s": 0, "500ms": 500 * time.Millisecond, "1h30m": 90 * time.Minute, "3d": 72 * time.Hour, "1d12h": 36 * time.Hour,
		"0.5d": 12 * time.Hour, "": -1, "3": -1, "d": -1, "-1s": -1, "1d-1h": -1, "1w": -1, "+3d": -1, "999999d": -1,
		"NaNd": -1, "1e3d": -1, "2d3d": -1, "100000d2500000h": -1,
	} {
		got, err := ParseDuration(in)
		if (want < 0) != (err != nil) || err == nil && got != want {
			t.Errorf("ParseDuration(%q) = %v, %v; want %v", in, got, err, want)
		}
	}
	for in, want := range map[string]int64{
		"0": 0, "4096": 4096, "1B": 1, "1kB": 1000, "1KiB": 1024, "1.5MiB": 3 << 19, "2 GB": 2e9, "": -1,
		"MiB": -1, "-1MB": -1,
		"1mb": -1, "9999999TiB": -1, "1e3": -1, "NaN": -1,
	} {
		got, err := ParseSize(in)
		if (want < 0) != (err != nil) || err == nil && got != want {
			t.Errorf("ParseSize(%q) = %v, %v; want %v", in, got, err, want)
		}
	}
}

func TestMatches(t *testing.T) {
	for _, c := range []struct {
		pattern, text string
		want          bool
	}{
		{"a.b", "a.b", true}, {"a.b", "a.bc", false}, {"*", "a.b", true}, {"a.*", "a.b.c", true}, {"a.*", "b.a.c", false},
		{"*.c", "a.b.c", true}, {"a*c", "abbc", true}, {"a*b*c", "a.c.b.c", true}, {"a*b*c", "a.c", false}, {"*a", "a", true},
		{"aa*a", "aa", false},
	} {
		if got := matches(c.pattern, c.text); got != c.want {
			t.Errorf("matches(%q, %q) = %v", c.pattern, c.text, got)
		}
	}
}

// FuzzLoad loads arbitrary files: no panic, and a configuration exactly when there is no error.
func FuzzLoad(f *testing.F) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		_, rest, _ := bytes.Cut(b, []byte("-- config.hcl --\n"))
		src, _, _ := bytes.Cut(rest, []byte("-- want --\n"))
		f.Add(src)
	}
	f.Add([]byte(full))
	opt := options(map[string]string{"SECRET": "s3cr3t-one", "CRM_TOKEN": "s3cr3t-two", "PORT": "9000", "MAX_BODY": "1MB"})
	f.Fuzz(func(t *testing.T, src []byte) {
		dir := t.TempDir()
		path := filepath.Join(dir, "config.hcl")
		if err := os.WriteFile(path, src, 0o644); err != nil {
			t.Fatal(err)
		}
		cfg, diags := Load(t.Context(), path, opt)
		if (cfg == nil) != diags.HasErrors() {
			t.Errorf("a configuration with errors, or none without: %v", diags.Err())
		}
		for _, width := range []int{0, 40} {
			var out bytes.Buffer
			if err := diags.Write(&out, width > 0, width); err != nil {
				t.Error(err)
			}
			if bytes.Contains(out.Bytes(), []byte("s3cr3t-")) && !bytes.Contains(src, []byte("s3cr3t-")) {
				t.Errorf("a secret shows:\n%s", out.String())
			}
		}
	})
}

var _ Catalog = plugins{}
