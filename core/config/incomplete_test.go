package config

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestIncomplete loads a configuration whose variables and files are not there, and which can decode and route all the
// same.
func TestIncomplete(t *testing.T) {
	src := `
server {
  listen = env("LISTEN")
  tls {
    cert = env("CERT")
    key  = "tls/key.pem"
  }
}
storage "sqlite" {
  path = "${env("DATA")}/grapnel.db"
}
locals {
  token  = trimspace(file("token"))
  unused = env("A") == "x" ? [upper(env("B"))] : [1]
  site   = env("SITE", "main")
}
source "force" "hr" {
  secrets   = [env("SECRET"), env("SECRET_NEXT", null)]
  tenants   = split(",", env("TENANTS"))
  allow_ips = [env("ADDRESS")]
  api_key   = env("API_KEY", null)
}
source "people" "p" {
  secrets = [env("GIVEN")]
}
sink "crm" "main" {
  dialect = env("DIALECT")
  token   = local.token
  delivery {
    concurrency = env("CONCURRENCY")
    order_by    = event.subject
  }
}
sink "file" "audit" {
  enabled = env("AUDIT", null) != null
  dir     = env("AUDIT")
}
route "r" {
  when = event.data.site == local.site
  to "crm" "main" {
    object = "x"
  }
  to "file" "audit" {}
}
`
	t.Chdir(t.TempDir())
	write(t, "config.hcl", src)
	opt := options(map[string]string{"GIVEN": "given-secret"})
	opt.Incomplete = true
	cfg, diags := Load(t.Context(), "config.hcl", opt)
	if len(diags.All()) > 0 {
		t.Fatal(diags.All())
	}
	want := []string{
		"environment variable ADDRESS", "environment variable CERT", "environment variable CONCURRENCY",
		"environment variable DATA", "environment variable DIALECT", "environment variable LISTEN",
		"environment variable SECRET", "environment variable TENANTS", "file token",
	}
	if diff := cmp.Diff(want, cfg.Unset); diff != "" {
		t.Errorf("unset (-want +got)\n%s", diff)
	}
	hr, p := cfg.Sources[0], cfg.Sources[1]
	if diff := cmp.Diff([]string{"environment variable TENANTS", "environment variable SECRET"}, hr.Unset); diff != "" {
		t.Errorf("unset of the source (-want +got)\n%s", diff)
	}
	if hr.Secrets != nil || p.Unset != nil || len(p.Secrets) != 1 {
		t.Errorf("secrets %v and %v, unset %v", hr.Secrets, p.Secrets, p.Unset)
	}
	if string(hr.Config) != `{"language":"en"}` || cfg.Sinks[0].Config != nil || len(cfg.Routes[0].To) != 1 {
		t.Errorf("configurations %s and %s, %d sinks of the route", hr.Config, cfg.Sinks[0].Config, len(cfg.Routes[0].To))
	}
	rec := cfg.Set.NewRecord()
	if ok, err := cfg.Routes[0].When.Eval(rec); ok || err != nil {
		t.Errorf("when is %t, %v", ok, err)
	}

	opt.Incomplete = false
	if _, diags := Load(t.Context(), "config.hcl", opt); len(diags.All()) < 9 {
		t.Errorf("without Incomplete: %v", diags.All())
	}
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
