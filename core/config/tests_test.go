package config

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/tools/txtar"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/sdk"
)

// testOptions are options whose catalogue has samples.
func testOptions(env map[string]string) Options {
	opt := options(env)
	opt.Plugins = func(p Plugins) (Catalog, error) {
		c := catalog()
		c[core.PluginDecoder]["people"].Provider.Events[0].Samples = []sdk.Sample{
			{Name: "plain", Body: json.RawMessage(`{"type":"created","data":{"first_name":"Ada","tags":["a"],"n":null}}`)},
			{Name: "other", Body: json.RawMessage(`{}`)},
		}
		return pinned{c, p}, nil
	}
	return opt
}

// TestTestDiagnostics runs the cases in testdata/tests: an archive of a configuration, files of tests, and what LoadTests
// has to say about them.
func TestTestDiagnostics(t *testing.T) {
	files, err := filepath.Glob("testdata/tests/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no golden files", err)
	}
	for _, file := range files {
		file, err := filepath.Abs(file)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			rest := unpack(t, archive)
			found, err := FindTests("config.hcl")
			if err != nil {
				t.Fatal(err)
			}
			cfg, tests, diags := LoadTests(t.Context(), "config.hcl", found, testOptions(environ(rest["env"])))
			if (cfg == nil) != diags.HasErrors() || cfg == nil && tests != nil {
				t.Errorf("a configuration with errors, or none without: %v", diags.Err())
			}
			var out bytes.Buffer
			if err := diags.Write(&out, false, 0); err != nil {
				t.Fatal(err)
			}
			dir, _ := os.Getwd()
			got := strings.ReplaceAll(out.String(), dir, "$DIR")
			if strings.Contains(got, "s3cr3t") {
				t.Errorf("a secret shows:\n%s", got)
			}
			if *update {
				i := slices.IndexFunc(archive.Files, func(f txtar.File) bool { return f.Name == "want" })
				archive.Files[i].Data = []byte(got)
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(rest["want"], got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

const testedConfig = `
source "people" "p" {
  secrets = [env("SECRET")]
}
sink "file" "audit" {
  enabled = env("AUDIT", null) != null
  dir     = "x"
}
sink "crm" "main" {
  dialect = "hubspot"
  token   = env("TOKEN")
}
locals {
  limit = 10
}
route "r" {
  to "file" "audit" {}
  to "crm" "main" {
    object = "x"
  }
}
`

func TestLoadTests(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "config.hcl", testedConfig)
	write(t, "request.http", "POST /hooks/p\n\n{}")
	write(t, "config.test.hcl", `
env {
  AUDIT = "yes"
  GONE  = null
}
test "a sample" {
  given {
    source      = source.people.p
    type        = "people.employee.created"
    sample      = "plain"
    received_at = "2026-05-06T07:08:09Z"
    set = {
      "data.first_name" = "Grace"
      "/data/n/x"       = { big = 12345678901234567890.5, list = [local.limit, true, null] }
      "data.tags[1]"    = upper("b")
    }
    remove  = ["data.tags[0]"]
    headers = { "X-A" = "1", "X-B" = null }
  }
  expect {
    others = true
    to "file" "audit" {
      route     = "r"
      order_key = null
      message   = { file = "x" }
    }
    to "crm" "main" {
      order_key = "k"
      fields    = { "fields.first_name" = "Grace", "/fields/n" = 1 }
      absent    = ["fields.last_name"]
      matches   = { object = "^con" }
    }
  }
}
`)
	write(t, "more.test.hcl", `
test "a file" {
  given {
    file = "request.http"
    body = jsonencode({ a = 1 })
  }
  expect {
    refused = "why"
  }
}
test "dead" {
  given {
    source = source.people.p
    file   = "request.http"
  }
  expect {
    to "crm" "main" {
      dead = true
    }
    events = ["people.employee.created"]
  }
}
test "nobody" {
  given {
    source = source.people.p
    type   = "people.employee.created"
  }
  expect {
    unrouted = true
    events   = []
  }
}
test "rejected" {
  given {
    source = source.people.p
    type   = "people.employee.created"
    body   = "x"
  }
  expect {
    rejected = "bad_json"
  }
}
`)
	files, err := FindTests("config.hcl")
	if err != nil || !slices.Equal(files, []string{"config.test.hcl", "more.test.hcl"}) {
		t.Fatal(files, err)
	}
	cfg, got, diags := LoadTests(t.Context(), "config.hcl", files, testOptions(map[string]string{"AUDIT": ""}))
	if len(diags.All()) > 0 {
		t.Fatal(diags.All())
	}
	if len(cfg.Sinks) != 2 {
		t.Errorf("%d sinks: the env block is not seen", len(cfg.Sinks))
	}
	none, key := "", "k"
	dir, _ := os.Getwd()
	sample := Given{Source: "p", Type: "people.employee.created", At: testTime}
	changed := sample
	changed.Sample, changed.At = "plain", time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC)
	changed.Set = []Edit{
		{Pointer: "/data/first_name", Value: []byte(`"Grace"`)},
		{Pointer: "/data/n/x", Value: []byte(`{"big":12345678901234567890.5,"list":[10,true,null]}`)},
		{Pointer: "/data/tags/1", Value: []byte(`"B"`)},
		{Pointer: "/data/tags/0"},
	}
	changed.Headers = []HeaderEdit{{Name: "X-A", Value: "1"}, {Name: "X-B", Remove: true}}
	rejected := sample
	rejected.Body = []byte("x")
	want := []Test{
		{Name: "a sample", Given: changed, Expect: Expectation{Others: true, To: []ExpectedTo{
			{Plugin: "file", Sink: "audit", Route: "r", OrderKey: &none, Message: []byte(`{"file":"x"}`)},
			{
				Plugin: "crm", Sink: "main", OrderKey: &key,
				Fields: []Field{
					{Path: "fields.first_name", Pointer: "/fields/first_name", Value: []byte(`"Grace"`)},
					{Path: "/fields/n", Pointer: "/fields/n", Value: []byte(`1`)},
				},
				Absent:  []Field{{Path: "fields.last_name", Pointer: "/fields/last_name"}},
				Matches: []Field{{Path: "object", Pointer: "/object"}},
			},
		}}},
		{
			Name: "a file", Given: Given{File: filepath.Join(dir, "request.http"), Body: []byte(`{"a":1}`), At: testTime},
			Expect: Expectation{Refused: &Phrase{"why"}},
		},
		{
			Name: "dead", Given: Given{Source: "p", File: filepath.Join(dir, "request.http"), At: testTime},
			Expect: Expectation{
				To:     []ExpectedTo{{Plugin: "crm", Sink: "main", Dead: &Phrase{}}},
				Events: []string{"people.employee.created"},
			},
		},
		{Name: "nobody", Given: sample, Expect: Expectation{Unrouted: true, Events: []string{}}},
		{Name: "rejected", Given: rejected, Expect: Expectation{Rejected: "bad_json"}},
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreTypes(Range{}), cmpopts.IgnoreFields(Field{}, "Pattern")); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if p := got[0].Expect.To[1].Matches[0].Pattern; p == nil || !p.MatchString("contacts") {
		t.Errorf("the pattern is %v", p)
	}
}

// FuzzLoadTests loads any text as a file of tests.
func FuzzLoadTests(f *testing.F) {
	f.Add("test \"x\" {\n given {\n source = source.people.p\n type = \"people.employee.created\"\n set = { a = 1 }\n }\n" +
		" expect {\n to \"crm\" \"main\" {\n fields = { \"fields.x\" = 1 }\n matches = { object = \"x\" }\n }\n }\n}\n")
	f.Add("env {\n AUDIT = \"x\"\n}\ntest \"y\" {\n given {\n file = \"config.hcl\"\n }\n expect {\n refused = true\n }\n}\n")
	dir := f.TempDir()
	config, tests := filepath.Join(dir, "config.hcl"), filepath.Join(dir, "x.test.hcl")
	if err := os.WriteFile(config, []byte(testedConfig), 0o600); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		write(t, tests, text)
		cfg, loaded, diags := LoadTests(t.Context(), config, []string{tests}, testOptions(nil))
		if (cfg == nil) != diags.HasErrors() {
			t.Errorf("a configuration with errors, or none without: %v", diags.Err())
		}
		for _, test := range loaded {
			if test.Name == "" || test.Given.Type == "" && test.Given.File == "" {
				t.Errorf("a test without a request: %+v", test)
			}
		}
	})
}
