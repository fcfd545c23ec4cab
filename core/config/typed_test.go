package config

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/sdk"
)

// described is a catalogue of the repository's plugins, from what they say about themselves. A test of the commands keeps
// the files true.
type described map[string]*core.PluginInfo

func describedPlugins(t testing.TB) described {
	t.Helper()
	files, err := filepath.Glob("testdata/plugins/*.json")
	if err != nil || len(files) == 0 {
		t.Fatal("no descriptions", err)
	}
	out := described{}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var info core.PluginInfo
		if err := json.Unmarshal(b, &info); err != nil {
			t.Fatal(file, err)
		}
		info.Version = "0.1.0"
		out[strings.TrimSuffix(filepath.Base(file), ".json")] = &info
	}
	return out
}

func (d described) Describe(_ context.Context, kind core.PluginKind, name string) (*core.PluginInfo, error) {
	if info := d[string(kind)+"-"+name]; info != nil {
		return info, nil
	}
	return nil, fmt.Errorf("grapnel-%s-%s: %w", kind, name, core.ErrNoPlugin)
}

func (d described) Validate(context.Context, core.PluginKind, string, []byte) (core.Validation, error) {
	return core.Validation{}, nil
}

// options are for a configuration whose environment has everything that it asks for.
func (d described) options() Options {
	return Options{
		Getenv:  func(name string) (string, bool) { return "value-of-" + name, !strings.HasSuffix(name, "_LISTEN") },
		Plugins: func(Plugins) (Catalog, error) { return d, nil },
	}
}

// typedCase is a configuration of the corpus: base.hcl and some routes.
type typedCase struct {
	name, src, want string
	archive         *txtar.Archive
	file            string
}

// typedCases reads the archives of testdata/typed: for each case NAME.hcl, and NAME.want, what validate says about it.
// What right.txtar has is right.
func typedCases(t testing.TB) (wrong, right []typedCase) {
	t.Helper()
	files, err := filepath.Glob("testdata/typed/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no corpus", err)
	}
	for _, file := range files {
		a, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if file, err = filepath.Abs(file); err != nil {
			t.Fatal(err)
		}
		class := strings.TrimSuffix(filepath.Base(file), ".txtar")
		for i, f := range a.Files {
			name, ok := strings.CutSuffix(f.Name, ".hcl")
			if !ok {
				continue
			}
			c := typedCase{name: class + "/" + name, src: string(f.Data), archive: a, file: file}
			if class != "right" && i+1 < len(a.Files) && a.Files[i+1].Name == name+".want" {
				c.want = string(a.Files[i+1].Data)
			}
			if class == "right" {
				right = append(right, c)
			} else {
				wrong = append(wrong, c)
			}
		}
	}
	return wrong, right
}

// loadCase loads a case; what is said about it names its file case.hcl.
func loadCase(t testing.TB, base []byte, src string, opt Options) (*Config, string) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string][]byte{"base.hcl": base, "case.hcl": []byte(src)} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cfg, diags := Load(t.Context(), dir, opt)
	if (cfg == nil) != diags.HasErrors() {
		t.Errorf("a configuration with errors, or none without: %v", diags.Err())
	}
	var out bytes.Buffer
	if err := diags.Write(&out, false, 0); err != nil {
		t.Fatal(err)
	}
	return cfg, strings.ReplaceAll(out.String(), dir+string(filepath.Separator), "")
}

func typedBase(t testing.TB) []byte {
	t.Helper()
	base, err := os.ReadFile("testdata/typed/base.hcl")
	if err != nil {
		t.Fatal(err)
	}
	return base
}

// TestTypedRoutes runs the corpus.
func TestTypedRoutes(t *testing.T) {
	wrong, right := typedCases(t)
	if len(wrong) < 60 || len(right) < 20 {
		t.Errorf("%d wrong and %d right configurations", len(wrong), len(right))
	}
	base, opt := typedBase(t), describedPlugins(t).options()
	got := map[string]string{}
	for _, c := range slices.Concat(wrong, right) {
		t.Run(c.name, func(t *testing.T) {
			_, said := loadCase(t, base, c.src, opt)
			got[c.name] = said
			if strings.Contains(said, "s3cr3t") {
				t.Errorf("a secret shows:\n%s", said)
			}
			if *update {
				return
			}
			if diff := cmp.Diff(c.want, said); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
	for _, c := range wrong {
		if got[c.name] == "" {
			t.Errorf("%s: nothing is said about it", c.name)
		}
	}
	if *update {
		updateTyped(t, slices.Concat(wrong, right), got)
	}
}

func updateTyped(t *testing.T, cases []typedCase, got map[string]string) {
	t.Helper()
	byFile := map[string]*txtar.Archive{}
	for _, c := range cases {
		a := byFile[c.file]
		if a == nil {
			a = &txtar.Archive{Comment: c.archive.Comment}
			byFile[c.file] = a
		}
		name := c.name[strings.LastIndexByte(c.name, '/')+1:]
		a.Files = append(a.Files, txtar.File{Name: name + ".hcl", Data: []byte(c.src)})
		if said := got[c.name]; said != "" && !strings.HasSuffix(c.file, "right.txtar") {
			a.Files = append(a.Files, txtar.File{Name: name + ".want", Data: []byte(said)})
		}
	}
	for _, file := range slices.Sorted(maps.Keys(byFile)) {
		if err := os.WriteFile(file, txtar.Format(byFile[file]), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// sampleEvents decodes nothing: it takes what the decoders' tests say their samples become.
func sampleEvents(t testing.TB, d described) []*core.Event {
	t.Helper()
	var out []*core.Event
	for _, name := range slices.Sorted(maps.Keys(d)) {
		p := d[name].Provider
		if p == nil {
			continue
		}
		for _, et := range p.Events {
			for _, s := range et.Samples {
				file := filepath.Join("../../plugins", name, "testdata/golden", filepath.Base(s.Name)+".json")
				b, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				var events []struct {
					Type, Subject, PartitionKey, Operation, Tenant, Time string

					Data    json.RawMessage
					Changes []struct {
						Field    string
						Old, New json.RawMessage
					}
				}
				if bytes.HasPrefix(b, []byte("{")) {
					b = slices.Concat([]byte("["), b, []byte("]")) // of a decoder that never makes more than one
				}
				if err := json.Unmarshal(b, &events); err != nil {
					t.Fatal(file, err)
				}
				for i, e := range events {
					ev := &core.Event{Index: i, Data: e.Data, Envelope: sdk.Envelope{
						ID: s.Name, Type: e.Type, Subject: e.Subject, PartitionKey: e.PartitionKey, Operation: e.Operation,
						Tenant: e.Tenant, Time: e.Time, Provider: p.Name,
					}}
					changes := map[string]core.Change{}
					for _, c := range e.Changes {
						changes[c.Field] = core.Change{Old: c.Old, New: c.New}
					}
					if len(changes) > 0 {
						if ev.Changes, err = json.Marshal(changes); err != nil {
							t.Fatal(err)
						}
					}
					if e.Time == "" {
						ev.Time = "2026-02-14T08:30:00Z"
					}
					out = append(out, ev)
				}
			}
		}
	}
	if len(out) < 50 {
		t.Fatalf("only %d events", len(out))
	}
	return out
}

// routeAll evaluates all that a configuration has for every event that its sources may send. failed gets what fails.
func routeAll(cfg *Config, events []*core.Event, failed func(r *Route, ev *core.Event, err error)) (matched int) {
	rec := cfg.Set.NewRecord()
	for _, s := range cfg.Sources {
		for _, ev := range events {
			if ev.Provider != s.Info.Provider.Name {
				continue
			}
			own := *ev
			own.Source = "urn:grapnel:source:" + s.Name
			rec.Reset(&own, &core.Request{Source: s.Name, ReceivedAt: time.Date(2026, 2, 14, 8, 30, 0, 0, time.UTC)})
			for i := range cfg.Routes {
				r := &cfg.Routes[i]
				if r.Sources != nil && !slices.Contains(r.Sources, s.Name) ||
					r.On != nil && !slices.ContainsFunc(r.On, func(p string) bool { return matches(p, ev.Type) }) {
					continue
				}
				if r.When != nil {
					ok, err := r.When.Eval(rec)
					if err != nil {
						failed(r, ev, err)
					}
					if !ok {
						continue
					}
				}
				matched++
				for _, to := range r.To {
					if _, err := to.Message.Append(nil, rec); err != nil {
						failed(r, ev, err)
					}
					for _, sink := range cfg.Sinks {
						if sink.Name == to.Sink && sink.Delivery.OrderBy != nil {
							if _, _, err := sink.Delivery.OrderBy.Eval(rec); err != nil {
								failed(r, ev, err)
							}
						}
					}
				}
			}
		}
	}
	return matched
}

// TestNothingSaidNothingFails checks what the checks promise: a configuration about which there is nothing to say fails on
// no sample of the providers. And the other way round: where a sample shows what is said, routing it fails.
func TestNothingSaidNothingFails(t *testing.T) {
	d := describedPlugins(t)
	events := sampleEvents(t, d)
	base := typedBase(t)
	wrong, right := typedCases(t)
	for _, c := range right {
		t.Run(c.name, func(t *testing.T) {
			cfg, said := loadCase(t, base, c.src, d.options())
			if said != "" {
				t.Fatal(said)
			}
			routeAll(cfg, events, func(r *Route, ev *core.Event, err error) {
				t.Errorf("route %s, %s %s: %v", r.Name, ev.Type, ev.ID, err)
			})
		})
	}
	maps.Copy(d, stubs())
	all := examples(t)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		t.Run(name, func(t *testing.T) {
			cfg, said := loadCase(t, nil, complete(t, all[name], name), d.options())
			if said != "" {
				t.Fatal(said)
			}
			routeAll(cfg, events, func(r *Route, ev *core.Event, err error) {
				t.Errorf("route %s, %s %s: %v", r.Name, ev.Type, ev.ID, err)
			})
		})
	}
	shown := 0
	for _, c := range wrong {
		if !strings.HasPrefix(c.name, "null/") {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			cfg, _ := loadCase(t, base, c.src, d.options())
			if cfg == nil {
				return
			}
			failures := 0
			routeAll(cfg, events, func(*Route, *core.Event, error) { failures++ })
			if failures > 0 {
				shown++
			}
			if want := strings.HasPrefix(c.src, "# Samples show it.\n"); want != (failures > 0) {
				t.Errorf("%d samples show it, it says %t", failures, want)
			}
		})
	}
	if shown < 5 {
		t.Errorf("samples show only %d of the mistakes about null", shown)
	}
}

var unknownField = regexp.MustCompile(`There is no field "([^"]+)" in event\.data(\S*)\n`)

// TestUnknownFieldsAreUnknown checks that no sample has a field of which the corpus is told that there is none.
func TestUnknownFieldsAreUnknown(t *testing.T) {
	d := describedPlugins(t)
	events := sampleEvents(t, d)
	wrong, _ := typedCases(t)
	n := 0
	for _, c := range wrong {
		on := regexp.MustCompile(`"([a-z_.*]+\.[a-z_.*]+)"`).FindAllStringSubmatch(c.src, -1)
		for _, m := range unknownField.FindAllStringSubmatch(c.want, -1) {
			if !strings.HasPrefix(c.name, "unknown_field/") {
				continue // there it depends on what narrows the route
			}
			n++
			path := append(strings.Split(strings.TrimPrefix(m[2], "."), "."), m[1])
			if m[2] == "" {
				path = path[1:]
			}
			for _, ev := range events {
				if !slices.ContainsFunc(on, func(p []string) bool { return matches(p[1], ev.Type) }) || len(ev.Data) == 0 {
					continue
				}
				var v any
				if err := json.Unmarshal(ev.Data, &v); err != nil {
					t.Fatal(err)
				}
				for i, name := range path {
					object, _ := v.(map[string]any)
					if v = object[name]; v != nil && i == len(path)-1 {
						t.Errorf("%s: %s %s has %s", c.name, ev.Type, ev.ID, strings.Join(path, "."))
					}
				}
			}
		}
	}
	if n < 15 {
		t.Errorf("only %d fields", n)
	}
}

// thousandRoutes is a configuration of n routes, each with a condition and a message on patterns that match up to dozens of
// event types.
func thousandRoutes(n int) string {
	fields := [4][2]string{
		{"try(event.data.attributes.first_name, event.data.knownAs, null)", "try(event.data.attributes.email, null)"},
		{"try(event.data.knownAs, event.data.jobProfileName, null)", "event.raw.mail"},
		{"try(event.data.attributes.first_name, event.data.knownAs, null)", "try(event.data.job.jobName, null)"},
		{"try(event.data.job.jobName, null)", "try(event.data.contact.id, null)"},
	}
	var b strings.Builder
	for i := range n {
		switch i % 4 {
		case 0:
			fmt.Fprintf(&b, `route "r%d" {
  on   = ["peopleforce.*", "youforce.*", "acculynx.*"]
  when = (
    startswith(event.type, "peopleforce.employee.") && event.data.attributes.hired_on != null &&
    event.data.department.name != "Department %d" || event.type == "youforce.person.created" && event.data.lastName == "x"
  )
`, i, i)
		case 1:
			fmt.Fprintf(&b, "route \"r%d\" {\n  on   = [\"youforce.*\"]\n  when = event.tenant == \"%d\" && event.operation != \"deleted\"\n",
				i, i)
		case 2:
			fmt.Fprintf(&b, "route \"r%d\" {\n  on   = [\"*.*\"]\n  when = event.subject == \"%d\"\n", i, i)
		case 3:
			fmt.Fprintf(&b, "route \"r%d\" {\n  from = [source.acculynx.roofing]\n  when = try(event.data.job.id, null) == \"%d\"\n", i, i)
		}
		fmt.Fprintf(&b, `  to "file" "audit" {
    path = "route-%d/${date(event.time)}-${event.operation == "created" ? "new" : lower(coalesce(event.subject, "none"))}.jsonl"
    record = {
      id      = event.id
      name    = %s
      mail    = coalesce(%s, "none")
      changed = [for name, change in coalesce(event.changes, {}) : name if change.has_new]
      at      = formatdate("YYYY", request.received_at)
    }
  }
  to "slack" "ops" {
    text = "${event.type} ${coalesce(event.partitionkey, "none")} ${request.source == "hr" ? "Youforce" : "other"}"
  }
}
`, i, fields[i%4][0], fields[i%4][1])
	}
	return b.String()
}

// BenchmarkThousandRoutes loads a configuration of 1 000 routes with all checks, and says how much of it they take.
func BenchmarkThousandRoutes(b *testing.B) {
	dir := b.TempDir()
	for name, text := range map[string]string{"base.hcl": string(typedBase(b)), "case.hcl": thousandRoutes(1000)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	opt := describedPlugins(b).options()
	for b.Loop() {
		if _, diags := Load(b.Context(), dir, opt); len(diags.All()) > 0 {
			var out bytes.Buffer
			_ = diags.Write(&out, false, 0)
			b.Fatal(out.String()[:min(out.Len(), 3000)])
		}
	}
}

// TestCataloguesCoverTheirSamples checks that a route can name every field that a sample has, with its type.
func TestCataloguesCoverTheirSamples(t *testing.T) {
	d := describedPlugins(t)
	schemas := map[string]*sdk.Schema{}
	for _, info := range d {
		if info.Provider == nil {
			continue
		}
		for i := range info.Provider.Events {
			schemas[info.Provider.Events[i].Type] = &info.Provider.Events[i].Data
		}
	}
	var check func(at string, v any, s *sdk.Schema)
	check = func(at string, v any, s *sdk.Schema) {
		kind := s.Kind
		switch v := v.(type) {
		case nil:
			if !s.Nullable && kind != sdk.KindAny {
				t.Errorf("%s is null, and the catalogue does not say so", at)
			}
			return
		case map[string]any:
			if kind == sdk.KindObject {
				for name, member := range v {
					if a := s.Attribute(name); a == nil {
						t.Errorf("the catalogue lacks %s.%s", at, name)
					} else {
						check(at+"."+name, member, a)
					}
				}
				for i := range s.Attributes {
					if _, ok := v[s.Attributes[i].Name]; !ok && !s.Attributes[i].Schema.Optional {
						t.Errorf("%s.%s is not there, and the catalogue does not say so", at, s.Attributes[i].Name)
					}
				}
				return
			}
			if kind == sdk.KindMap {
				for name, member := range v {
					check(at+"."+name, member, s.Element)
				}
				return
			}
		case []any:
			if kind == sdk.KindList {
				for _, el := range v {
					check(at+"[]", el, s.Element)
				}
				return
			}
		case string:
			if kind == sdk.KindString && (len(s.Enum) == 0 || slices.Contains(s.Enum, v)) {
				return
			}
		case bool:
			if kind == sdk.KindBool {
				return
			}
		case float64:
			if kind == sdk.KindNumber || kind == sdk.KindInteger && v == float64(int64(v)) {
				return
			}
		}
		if kind != sdk.KindAny {
			t.Errorf("%s is %T, and the catalogue says %s", at, v, kind)
		}
	}
	for _, ev := range sampleEvents(t, d) {
		var v any
		if len(ev.Data) > 0 {
			if err := json.Unmarshal(ev.Data, &v); err != nil {
				t.Fatal(err)
			}
		}
		check(ev.Type+" of "+ev.ID+": data", v, schemas[ev.Type])
	}
}
