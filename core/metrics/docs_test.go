package metrics

import (
	"encoding/json"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/grapnelhq/grapnel/core/auth"
)

const operations = "../../docs/operations/"

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(operations + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestReference compares metrics.md with what the host has, both ways.
func TestReference(t *testing.T) {
	row := regexp.MustCompile("(?m)^\\| `(grapnel_[a-z_]+)` \\| ([a-z]+) \\| ([^|]*)\\| ([^|]+) \\|$")
	documented := map[string]string{}
	for _, m := range row.FindAllStringSubmatch(read(t, "metrics.md"), -1) {
		if documented[m[1]] != "" {
			t.Errorf("%s is documented twice", m[1])
		}
		documented[m[1]] = strings.TrimRight(m[2]+" "+strings.ReplaceAll(m[3], "`", ""), " ")
	}
	for _, f := range New(Options{}).families.all {
		want := strings.TrimRight(f.kind+" "+strings.Join(f.labels, " "), " ")
		if got := documented[f.name]; got != want {
			t.Errorf("metrics.md has %s as %q, it is %q", f.name, got, want)
		}
		delete(documented, f.name)
	}
	for name := range documented {
		t.Errorf("metrics.md has %s, which there is not", name)
	}
}

// uses are the metrics of expressions, each with the labels that are asked of it.
type uses map[string]map[string]bool

var (
	token    = regexp.MustCompile(`"(?:[^"\\]|\\.)*"|[a-zA-Z_:$][a-zA-Z0-9_:]*|\[[^\]]*\]|[0-9.]+[a-z]*|[=!]~|[!=<>]=|\S`)
	notNames = []string{"by", "without", "on", "ignoring", "or", "and", "unless", "group_left", "group_right", "bool", "offset"}
)

// find reads an expression: no parser, but it knows metrics, functions and labels apart.
func (u uses) find(expr string) {
	word := regexp.MustCompile(`^[a-zA-Z_:]`)
	tokens := token.FindAllString(expr, -1)
	at := func(i int) string {
		if i < len(tokens) {
			return tokens[i]
		}
		return ""
	}
	var grouped []string // labels of by (…), which are asked of every metric of the expression
	names := map[string]bool{}
	for i := 0; i < len(tokens); i++ {
		switch {
		case tokens[i] == "by" || tokens[i] == "on":
			for i++; at(i) != ")" && i < len(tokens); i++ {
				if word.MatchString(at(i)) {
					grouped = append(grouped, at(i))
				}
			}
		case !word.MatchString(tokens[i]) || at(i+1) == "(" || at(i+1) == "by" || slices.Contains(notNames, tokens[i]):
		default:
			name := tokens[i]
			names[name] = true
			if u[name] == nil {
				u[name] = map[string]bool{}
			}
			if at(i+1) == "{" {
				for i += 2; at(i) != "}" && i < len(tokens); i++ {
					if word.MatchString(at(i)) {
						u[name][at(i)] = true
					}
				}
			}
		}
	}
	for name := range names {
		for _, l := range grouped {
			u[name][l] = true
		}
	}
}

// check compares with the registry of a host that has everything.
func (u uses) check(t *testing.T, file string) {
	t.Helper()
	m := full()
	all, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	have := map[string][]string{"up": {}}
	for _, f := range all {
		labels := map[string]bool{}
		for _, metric := range f.GetMetric() {
			for _, l := range metric.GetLabel() {
				labels[l.GetName()] = true
			}
		}
		have[f.GetName()] = slices.Collect(maps.Keys(labels))
		if f.GetMetric()[0].GetHistogram() != nil {
			delete(have, f.GetName())
			have[f.GetName()+"_sum"], have[f.GetName()+"_count"] = slices.Collect(maps.Keys(labels)), slices.Collect(maps.Keys(labels))
			have[f.GetName()+"_bucket"] = append(slices.Collect(maps.Keys(labels)), "le")
		}
	}
	if len(u) < 10 {
		t.Errorf("%s: only the metrics %v", file, slices.Sorted(maps.Keys(u)))
	}
	for name, labels := range u {
		known, ok := have[name]
		if !ok {
			t.Errorf("%s uses %s, which there is not", file, name)
			continue
		}
		for l := range labels {
			if !slices.Contains(append(known, "job", "instance"), l) {
				t.Errorf("%s asks for the label %s of %s, which has %v", file, l, name, known)
			}
		}
	}
}

func TestFind(t *testing.T) {
	u := uses{}
	u.find(`histogram_quantile(0.99, sum by (le, a) (rate(m_bucket{b=~"x{y}z",c!="\"q"}[5m]))) > 2.5e3 or on (d) other offset 5m == bool 1`)
	if got := slices.Sorted(maps.Keys(u)); !slices.Equal(got, []string{"m_bucket", "other"}) {
		t.Errorf("metrics %v", got)
	}
	if got := slices.Sorted(maps.Keys(u["m_bucket"])); !slices.Equal(got, []string{"a", "b", "c", "d", "le"}) {
		t.Errorf("labels %v", got)
	}
}

// TestDashboard finds every metric of every panel in the registry.
func TestDashboard(t *testing.T) {
	var d struct {
		Panels []struct {
			ID      int
			Title   string
			Type    string
			GridPos struct{ X, Y, W, H int }
			Targets []struct{ Expr string }
		}
		Templating struct {
			List []struct{ Name, Definition string }
		}
	}
	if err := json.Unmarshal([]byte(read(t, "grapnel-dashboard.json")), &d); err != nil {
		t.Fatal(err)
	}
	u, ids, cells := uses{}, map[int]bool{}, map[[2]int]string{}
	for _, p := range d.Panels {
		if ids[p.ID] {
			t.Errorf("two panels have the id %d", p.ID)
		}
		ids[p.ID] = true
		if len(p.Targets) == 0 && p.Type != "row" {
			t.Errorf("the panel %q shows nothing", p.Title)
		}
		for _, q := range p.Targets {
			u.find(strings.ReplaceAll(q.Expr, "$__rate_interval", "5m"))
		}
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := cells[[2]int{x, y}]; other != "" || x >= 24 {
					t.Fatalf("the panels %q and %q are in one place", other, p.Title)
				}
				cells[[2]int{x, y}] = p.Title
			}
		}
	}
	for _, v := range d.Templating.List {
		if q, ok := strings.CutPrefix(v.Definition, "label_values("); ok {
			name, label, _ := strings.Cut(strings.TrimSuffix(q, ")"), ", ")
			u.find(name + "{" + label + `=""}`)
		}
	}
	u.check(t, "the dashboard")
	// Every metric of the host is somewhere.
	for _, f := range New(Options{}).families.all {
		if u[f.name] == nil && u[f.name+"_bucket"] == nil && u[f.name+"_sum"] == nil {
			t.Errorf("the dashboard does not show %s", f.name)
		}
	}
}

// rules reads the alert rules: their names, in order, and expressions.
func rules(t *testing.T) (names []string, exprs map[string]string) {
	t.Helper()
	exprs = map[string]string{}
	block := regexp.MustCompile(`(?ms)^      - alert: (\w+)\n        expr: (.*?)\n        [a-z]+:`)
	for _, m := range block.FindAllStringSubmatch(read(t, "grapnel-rules.yml"), -1) {
		names = append(names, m[1])
		exprs[m[1]] = strings.TrimPrefix(m[2], "|")
	}
	if n := strings.Count(read(t, "grapnel-rules.yml"), "- alert:"); n != len(names) || n < 10 {
		t.Fatalf("read %d of %d rules", len(names), n)
	}
	return names, exprs
}

// TestRules finds every metric of every alert rule in the registry, and every rule in the reference.
func TestRules(t *testing.T) {
	names, exprs := rules(t)
	u := uses{}
	for _, e := range exprs {
		u.find(e)
	}
	u.check(t, "the rules")

	var documented []string
	for _, m := range regexp.MustCompile("(?m)^\\| `(Grapnel\\w+)` \\|").FindAllStringSubmatch(read(t, "metrics.md"), -1) {
		documented = append(documented, m[1])
	}
	if !slices.Equal(slices.Sorted(slices.Values(names)), slices.Sorted(slices.Values(documented))) {
		t.Errorf("metrics.md has the rules %v, there are %v", documented, names)
	}

	m := regexp.MustCompile(`cause=~"([^"]+)"`).FindStringSubmatch(exprs["GrapnelRejectedSignatures"])
	want := slices.DeleteFunc(auth.Causes(), func(c string) bool { return c == auth.CauseNotAllowed }) // authentic
	if m == nil || !slices.Equal(slices.Sorted(slices.Values(strings.Split(m[1], "|"))), slices.Sorted(slices.Values(want))) {
		t.Errorf("GrapnelRejectedSignatures counts the causes %v, want %v", m, want)
	}
}
