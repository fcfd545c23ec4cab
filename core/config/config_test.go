package config

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/auth"
	"github.com/grapnelhq/grapnel/core/pluginfile"
	"github.com/grapnelhq/grapnel/sdk"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// plugins is a catalogue of made-up plugins.
type plugins map[core.PluginKind]map[string]*core.PluginInfo

func (p plugins) Describe(_ context.Context, kind core.PluginKind, name string) (*core.PluginInfo, error) {
	if name == "broken" {
		return nil, fmt.Errorf("it exits at once: exit status 2")
	}
	if info := p[kind][name]; info != nil {
		return info, nil
	}
	return nil, fmt.Errorf("grapnel-%s-%s: %w", kind, name, core.ErrNoPlugin)
}

// pinned is a catalogue that minds the lock file. All its programs have one hash.
type pinned struct {
	plugins
	p Plugins
}

const programHash = "a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1"

func (p pinned) Describe(ctx context.Context, kind core.PluginKind, name string) (*core.PluginInfo, error) {
	dev := slices.ContainsFunc(p.p.Pins, func(x Pin) bool { return x.Kind == kind && x.Name == name && x.Dev != "" })
	for _, x := range p.p.Locked {
		if name == "old" && x.Name == name {
			return nil, fmt.Errorf("no program has version %s (there are: 0.9.0): %w", x.Version, core.ErrNoVersion)
		}
		if x.Kind == kind && x.Name == name && x.Hash(pluginfile.Current()) != programHash && !dev {
			return nil, fmt.Errorf("plugin %s: %w: its hash is another", name, core.ErrNotLocked)
		}
	}
	info, err := p.plugins.Describe(ctx, kind, name)
	if err == nil {
		info.SHA256 = programHash
	}
	return info, err
}

func (p plugins) Names(kind core.PluginKind) []string {
	var out []string
	for name := range p[kind] {
		out = append(out, name)
	}
	return out
}

func (p plugins) Validate(
	_ context.Context, kind core.PluginKind, name string, config []byte,
) (core.Validation, error) {
	if kind == core.PluginSink && name == "file" {
		var c struct {
			MaxSize int `json:"max_size"` // also of its batches
		}
		err := json.Unmarshal(config, &c)
		return core.Validation{MaxBatch: c.MaxSize}, err
	}
	if kind == core.PluginDecoder && name == "own" {
		return validateOwn(config)
	}
	if kind != core.PluginSink || name != "crm" {
		return core.Validation{}, nil
	}
	var c struct {
		Dialect string            `json:"dialect"`
		Token   string            `json:"token"`
		Fields  map[string]string `json:"fields"`
		Retry   struct {
			Codes []int `json:"codes"`
		} `json:"retry"`
	}
	if err := json.Unmarshal(config, &c); err != nil {
		return core.Validation{}, err
	}
	var errs []sdk.AttributeError
	if c.Dialect == "salesforce" && len(c.Token) < 20 {
		errs = append(errs, sdk.AttributeError{Path: []string{"token"}, Summary: "the token " + c.Token + " is too short"})
	}
	if _, ok := c.Fields["id"]; ok {
		errs = append(errs, sdk.AttributeError{
			Path: []string{"fields", "id"}, Summary: "id cannot be written", Detail: "the CRM gives it",
		})
	}
	for i, code := range c.Retry.Codes {
		if code < 400 {
			errs = append(errs, sdk.AttributeError{
				Path: []string{"retry", "codes", fmt.Sprint(i)}, Summary: fmt.Sprintf("%d is no error", code),
			})
		}
	}
	return core.Validation{Errors: errs}, nil
}

// validateOwn answers for a decoder whose manifest depends on its configuration.
func validateOwn(config []byte) (core.Validation, error) {
	var c struct{ Header, Word string }
	if err := json.Unmarshal(config, &c); err != nil {
		return core.Validation{}, err
	}
	if c.Header == "" {
		return core.Validation{Errors: []sdk.AttributeError{{Path: []string{"header"}, Summary: "is empty"}}}, nil
	}
	return core.Validation{Provider: &sdk.Provider{
		Name: c.Word, Events: []sdk.EventType{{Type: c.Word + ".thing.made"}},
		Schemes: []sdk.Scheme{
			{Name: "declared", HMAC: &sdk.HMAC{Headers: []string{c.Header}, Encoding: sdk.Hex}},
			{Name: "token", Attribute: "path_token", Token: &sdk.Token{Part: sdk.Part{Kind: sdk.PartPathToken}}},
		},
	}}, nil
}

func text() sdk.Schema { return sdk.Schema{Kind: sdk.KindString} }

func optional(s sdk.Schema, def string) sdk.Schema {
	s.Optional = true
	if def != "" {
		s.Default = json.RawMessage(def)
	}
	return s
}

func object(attrs ...sdk.Attribute) sdk.Schema {
	return sdk.Schema{Kind: sdk.KindObject, Attributes: attrs}
}

func of(kind sdk.Kind, element sdk.Schema) sdk.Schema {
	return sdk.Schema{Kind: kind, Element: &element}
}

func catalog() plugins {
	secret := text()
	secret.Sensitive = true
	path := text()
	path.Format = sdk.FormatPath
	path.Description = "the folder to write to"
	dialect := text()
	dialect.Enum = []string{"hubspot", "salesforce", "pipedrive"}
	region := text()
	region.Nullable = true
	kind := func(k sdk.Kind) sdk.Schema { return sdk.Schema{Kind: k} }

	file := &core.PluginInfo{
		Kind: core.PluginSink, Name: "file", Version: "1.4.0", MaxBatch: 100,
		Config: object(
			sdk.Attribute{Name: "dir", Schema: path},
			sdk.Attribute{Name: "fsync", Schema: optional(kind(sdk.KindBool), "true")},
			sdk.Attribute{Name: "max_size", Schema: optional(kind(sdk.KindInteger), "")},
		),
		Message: object(sdk.Attribute{Name: "file", Schema: optional(text(), "")}),
	}
	crm := &core.PluginInfo{
		Kind: core.PluginSink, Name: "crm", Version: "0.3.1", MaxBatch: 1,
		Config: object(
			sdk.Attribute{Name: "dialect", Schema: dialect},
			sdk.Attribute{Name: "token", Schema: secret},
			sdk.Attribute{Name: "region", Schema: optional(region, "")},
			sdk.Attribute{Name: "timeout", Schema: optional(kind(sdk.KindDuration), "5000000000")},
			sdk.Attribute{Name: "ratio", Schema: optional(kind(sdk.KindNumber), "")},
			sdk.Attribute{Name: "fields", Schema: optional(of(sdk.KindMap, text()), "")},
			sdk.Attribute{Name: "extra", Schema: optional(kind(sdk.KindAny), "")},
			sdk.Attribute{Name: "retry", Schema: optional(object(
				sdk.Attribute{Name: "codes", Schema: of(sdk.KindList, kind(sdk.KindInteger))},
				sdk.Attribute{Name: "quick", Schema: optional(kind(sdk.KindBool), "false")},
				sdk.Attribute{Name: "password", Schema: optional(secret, "")},
			), "")},
		),
		Message: object(
			sdk.Attribute{Name: "object", Schema: text()},
			sdk.Attribute{Name: "fields", Schema: optional(of(sdk.KindMap, kind(sdk.KindAny)), "")},
		),
	}
	hmac := sdk.Scheme{Name: "hmac", HMAC: &sdk.HMAC{Headers: []string{"X-Signature"}, Encoding: sdk.Hex}}
	people := &core.PluginInfo{
		Kind: core.PluginDecoder, Name: "people", Version: "1.0.0", Config: object(),
		Provider: &sdk.Provider{Name: "people", Schemes: []sdk.Scheme{hmac}, Events: []sdk.EventType{
			{Type: "people.employee.created"}, {Type: "people.employee.updated"}, {Type: "people.leave.approved"},
		}},
	}
	tenants := sdk.AllowList{Attribute: "tenants", Part: sdk.Part{Kind: sdk.PartHeader, Name: "x-tenant"}}
	token := sdk.Scheme{Name: "token", Attribute: "path_token", Token: &sdk.Token{Part: sdk.Part{Kind: sdk.PartPathToken}}}
	signed := hmac
	signed.Allow = []sdk.AllowList{tenants}
	force := &core.PluginInfo{
		Kind: core.PluginDecoder, Name: "force", Version: "2.1.0",
		Config: object(
			sdk.Attribute{Name: "language", Schema: optional(text(), `"en"`)},
			sdk.Attribute{Name: "api_key", Schema: optional(secret, "")},
		),
		Provider: &sdk.Provider{Name: "force", Schemes: []sdk.Scheme{signed, token}, Events: []sdk.EventType{
			{Type: "force.employment.created"}, {Type: "force.person.deleted"},
		}},
	}
	header := sdk.Part{Kind: sdk.PartHeader, Name: "Authorization"}
	many := &core.PluginInfo{
		Kind: core.PluginDecoder, Name: "many", Version: "1.0.0", Config: object(),
		Provider: &sdk.Provider{Name: "many", Schemes: []sdk.Scheme{
			hmac,
			{Name: "basic", Attribute: "accounts", Basic: &sdk.Basic{}},
			{Name: "bearer", Token: &sdk.Token{Part: header, Prefix: "Bearer "}},
			{Name: "public", Attribute: "public_keys", Ed25519: &sdk.Ed25519{Headers: []string{"x"}, Encoding: sdk.Hex}},
		}},
	}
	proven := &core.PluginInfo{
		Kind: core.PluginDecoder, Name: "proven", Version: "1.0.0", Config: object(),
		Provider: &sdk.Provider{Name: "proven", Schemes: []sdk.Scheme{hmac, many.Provider.Schemes[2]}, Handshake: &sdk.Handshake{
			Echo: sdk.Part{Kind: sdk.PartQuery, Name: "token"}, Proof: &sdk.Proof{Member: "proof", Encoding: sdk.Hex},
		}},
	}
	bare := &core.PluginInfo{
		Kind: core.PluginDecoder, Name: "bare", Version: "devel", Config: object(), Provider: &sdk.Provider{Name: "bare"},
	}
	own := &core.PluginInfo{
		Kind: core.PluginDecoder, Name: "own", Version: "1.0.0", Capabilities: []string{core.ManifestPerSource},
		Config: object(
			sdk.Attribute{Name: "header", Schema: optional(text(), `"X-Own"`)}, sdk.Attribute{Name: "word", Schema: text()},
		),
		Provider: &sdk.Provider{Name: "own", Schemes: []sdk.Scheme{token}},
	}
	choose := &core.PluginInfo{
		Kind: core.PluginDecoder, Name: "choose", Version: "1.0.0", Config: object(),
		Provider: &sdk.Provider{Name: "choose", Schemes: []sdk.Scheme{hmac, token}, ChooseScheme: true},
	}
	return plugins{
		core.PluginSink: {"file": file, "crm": crm},
		core.PluginDecoder: {
			"people": people, "force": force, "bare": bare, "many": many, "proven": proven, "own": own, "choose": choose,
		},
	}
}

// unpack writes an archive's files to a folder of its own, makes it the working folder and returns what is not
// configuration.
func unpack(t *testing.T, a *txtar.Archive) map[string]string {
	t.Helper()
	t.Chdir(t.TempDir())
	rest := map[string]string{}
	for _, f := range a.Files {
		switch f.Name {
		case "want", "env":
			rest[f.Name] = string(f.Data)
			continue
		}
		if err := os.MkdirAll(filepath.Dir(f.Name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(f.Name, f.Data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return rest
}

// environ reads NAME=value lines.
func environ(lines string) map[string]string {
	env := map[string]string{}
	for line := range strings.Lines(lines) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			env[name] = value
		}
	}
	return env
}

func options(env map[string]string) Options {
	return Options{
		Getenv: func(name string) (string, bool) {
			v, ok := env[name]
			return v, ok
		},
		Plugins: func(p Plugins) (Catalog, error) { return pinned{catalog(), p}, nil },
		CheckAuth: func(scheme sdk.Scheme, secrets []string, allow map[string][]string) error {
			for _, s := range secrets {
				if strings.HasPrefix(s, "bad") {
					return fmt.Errorf("a key is malformed")
				}
			}
			_, err := auth.New(scheme, secrets, allow)
			return err
		},
		CheckTLS: func(cert, key string) (string, error) {
			c, err := os.ReadFile(cert)
			if err != nil {
				return "", err
			}
			if k, err := os.ReadFile(key); err != nil || string(c) != string(k) {
				return "", errors.Join(err, errors.New("private key does not match public key"))
			}
			if string(c) == "old\n" {
				return "expires at 2026-01-02T03:04:05Z", nil
			}
			return "", nil
		},
	}
}

// TestDiagnostics runs the cases in testdata: an archive of a configuration (config.hcl, or the folder conf), its
// environment, and what Load has to say about it. No text with "s3cr3t" in it may show.
func TestDiagnostics(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
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
			path := "config.hcl"
			if _, err := os.Stat("conf"); err == nil {
				path = "conf"
			}
			opt := options(environ(rest["env"]))
			opt.Incomplete = strings.HasPrefix(filepath.Base(file), "incomplete")
			cfg, diags := Load(t.Context(), path, opt)
			if (cfg == nil) != diags.HasErrors() {
				t.Errorf("a configuration with errors, or none without: %v", diags.Err())
			}
			var out bytes.Buffer
			if err := diags.Write(&out, false, 0); err != nil {
				t.Fatal(err)
			}
			dir, _ := os.Getwd()
			got := strings.ReplaceAll(out.String(), dir, "$DIR")
			if strings.Contains(got, "s3cr3t") || diags.Err() != nil && strings.Contains(diags.Err().Error(), "s3cr3t") {
				t.Errorf("a secret shows:\n%s", got)
			}
			for _, width := range []int{1, 30, 80} { // any width, with color, and still no secret
				var narrow bytes.Buffer
				if err := diags.Write(&narrow, true, width); err != nil || strings.Contains(narrow.String(), "s3cr3t") {
					t.Errorf("width %d: %v\n%s", width, err, narrow.String())
				}
			}
			if *update {
				i := slices.IndexFunc(archive.Files, func(f txtar.File) bool { return f.Name == "want" })
				if i < 0 {
					archive.Files = append(archive.Files, txtar.File{Name: "want"})
					i = len(archive.Files) - 1
				}
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
