package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/textproto"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/config"
	"github.com/grapnelhq/grapnel/core/dryrun"
	"github.com/grapnelhq/grapnel/core/expr"
	"github.com/grapnelhq/grapnel/core/httpfile"
	"github.com/grapnelhq/grapnel/core/ingress"
	"github.com/grapnelhq/grapnel/core/jsonscan"
	"github.com/grapnelhq/grapnel/core/route"
	"github.com/grapnelhq/grapnel/core/sample"
	"github.com/grapnelhq/grapnel/sdk"
)

func newTest() *cobra.Command {
	c := &cobra.Command{
		Use:   "test [FILE...]",
		Short: "Test the routes of a configuration",
		Long: `Run the tests in *.test.hcl beside the configuration, or in the given files: what becomes of samples and
requests, changed or as they are, is compared with what the tests expect. Nothing is stored or sent, and no sink is opened.

The tests do not see the environment, so that they say the same everywhere: env blocks in their files set the variables
that the configuration asks for, and --env passes on what differs from machine to machine.

Exit codes: 0 all tests have passed; 1 one has failed, or something is wrong; 2 the command line is wrong.`,
		Example: `  grapnel test
  grapnel test --run payroll
  grapnel test --junit report.xml`,
		Args: cobra.ArbitraryArgs,
	}
	path, asJSON := configFlag(c), jsonFlag(c)
	only := c.Flags().String("run", "", "only tests whose name holds this `text`")
	junit := c.Flags().String("junit", "", "write a report for CI to this `file`")
	env := map[string]string{}
	c.Flags().Func("env", "let the configuration see this variable, as `NAME` or NAME=value", func(v string) error {
		name, value, given := strings.Cut(v, "=")
		if name == "" {
			return errors.New("it has no name")
		}
		if !given {
			value = os.Getenv(name)
		}
		env[name] = value
		return nil
	})
	c.RunE = func(c *cobra.Command, files []string) error {
		cfg, tests, err := loadTests(c, *path, files, env)
		if err != nil {
			return err
		}
		all := len(tests)
		tests = slices.DeleteFunc(tests, func(t config.Test) bool { return !strings.Contains(t.Name, *only) })
		if len(tests) == 0 {
			return fmt.Errorf("none of the %s has %q in its name", plural(all, "test"), *only)
		}
		r := &testRun{cfg: cfg, began: time.Now()}
		if err := r.run(c.Context(), tests); err != nil {
			return err
		}
		if *only == "" {
			r.coverage = r.cover()
		}
		if *junit != "" {
			if err := r.junit(*junit); err != nil {
				return err
			}
		}
		if err := r.show(newPrinter(c, *asJSON)); err != nil {
			return err
		}
		if r.failed() > 0 {
			return errShown
		}
		return nil
	}
	return c
}

// loadTests loads a configuration with its tests and tells every mistake.
func loadTests(c *cobra.Command, path string, files []string, env map[string]string,
) (*config.Config, []config.Test, error) {
	if len(files) == 0 {
		var err error
		if files, err = config.FindTests(path); err != nil {
			return nil, nil, err
		}
		if len(files) == 0 {
			return nil, nil, fmt.Errorf("there is no *.test.hcl beside %s; docs/testing.md says what to write", path)
		}
	}
	opt, done := commonOptions(c, config.Options{Getenv: func(name string) (string, bool) {
		v, ok := env[name]
		return v, ok
	}})
	defer done()
	cfg, tests, diags := config.LoadTests(c.Context(), path, files, opt)
	if err := showDiagnostics(c, diags); err != nil {
		return nil, nil, err
	}
	if len(tests) == 0 {
		return nil, nil, fmt.Errorf("there is no test in %s", strings.Join(files, ", "))
	}
	return cfg, tests, nil
}

// testRun is one run of tests.
type testRun struct {
	cfg      *config.Config
	began    time.Time
	took     time.Duration
	results  []tested
	coverage *coverage // nil: not all tests were run
}

// tested is a test and what became of its request.
type tested struct {
	config.Test
	rejected ingress.Inspection // the zero value: it is not
	result   dryrun.Result
	events   [][]route.Explanation // of each event
	failures []failure
}

// failure is one way in which a test fails.
type failure struct {
	Text string   `json:"text"`           // one line
	Diff []string `json:"diff,omitempty"` // of JSON, line by line: "- " is expected, "+ " is there, "  " is both
	Why  []string `json:"why,omitempty"`  // what the routes say
}

func (r *testRun) failed() (n int) {
	for i := range r.results {
		if len(r.results[i].failures) > 0 {
			n++
		}
	}
	return n
}

// run takes the requests of all tests through the configuration and compares.
func (r *testRun) run(ctx context.Context, tests []config.Test) error {
	g, err := newGates(r.cfg)
	if err != nil {
		return err
	}
	r.results = make([]tested, len(tests))
	var requests []*core.Request
	var at []int // of the tests that they are of
	for i, t := range tests {
		res := &r.results[i]
		res.Test = t
		q, err := g.testRequest(ctx, &t.Given)
		if err != nil {
			res.fail("the request cannot be made: %v", err)
			continue
		}
		in := g.server.Inspect(q, t.Given.At, true)
		if in.Request == nil {
			res.rejected = in
			continue
		}
		requests, at = append(requests, in.Request), append(at, i)
	}
	d, err := openDryRun(ctx, r.cfg, hclog.NewNullLogger())
	if err != nil {
		return err
	}
	defer d.close()
	results, err := d.Run(ctx, requests)
	if err != nil {
		return err
	}
	explainer := d.table.Explainer()
	for k, i := range at {
		res := &r.results[i]
		res.result = results[k]
		for e := range res.result.Events {
			routes, err := explainer.Explain(res.result.Request, &res.result.Events[e])
			if err != nil {
				return err
			}
			res.events = append(res.events, routes)
		}
	}
	for i := range r.results {
		if res := &r.results[i]; len(res.failures) == 0 {
			res.compare()
		}
	}
	r.took = time.Since(r.began)
	return nil
}

// testRequest makes the request of a test.
func (g *gates) testRequest(ctx context.Context, given *config.Given) (*http.Request, error) {
	f := &httpfile.Request{}
	if given.File != "" {
		var err error
		if f, err = readRequestFile(given.File, "", bytes.NewReader(nil)); err != nil {
			return nil, err
		}
	} else {
		src, err := findSource(g.cfg, given.Source)
		if err != nil {
			return nil, err
		}
		smp, err := findSample(src, given.Type, given.Sample)
		if err != nil {
			return nil, err
		}
		f = &httpfile.Request{Method: smp.Method, Target: src.Path, Header: http.Header{}, Body: smp.Body}
		if smp.Query != "" {
			f.Target += "?" + smp.Query
		}
		for _, h := range smp.Headers {
			f.Header.Set(h.Name, h.Value)
		}
	}
	for _, h := range given.Headers {
		if name := textproto.CanonicalMIMEHeaderKey(h.Name); h.Remove {
			delete(f.Header, name)
		} else {
			f.Header[name] = []string{h.Value}
		}
	}
	if given.Body != nil {
		f.Body = given.Body
	}
	form := sample.IsForm([]sdk.Header{{Name: "content-type", Value: f.Header.Get("Content-Type")}})
	for i := range given.Set {
		var err error
		if f.Body, err = given.Set[i].Apply(f.Body, form); err != nil {
			return nil, fmt.Errorf("%s: %w", given.Set[i].Range, err)
		}
	}
	return g.fileRequest(ctx, f, given.Source)
}

func (t *tested) fail(format string, args ...any) {
	t.failures = append(t.failures, failure{Text: fmt.Sprintf(format, args...)})
}

// compare finds what differs from what is expected.
func (t *tested) compare() {
	x := &t.Expect
	switch {
	case t.rejected.Handshake:
		t.fail("the request is a test of the endpoint: it is answered and not stored")
		return
	case t.rejected.Cause != "" && x.Rejected == "":
		t.fail("the request is rejected: %d %s: %s", t.rejected.Status, t.rejected.Cause, t.rejected.Detail)
		return
	case x.Rejected != "" && t.rejected.Cause != x.Rejected:
		if t.rejected.Cause == "" {
			t.fail("the request is not rejected, %s was expected", x.Rejected)
		} else {
			t.fail("the request is rejected for %s, %s was expected", t.rejected.Cause, x.Rejected)
		}
		return
	case x.Rejected != "":
		return
	case x.Refused == nil && t.result.Refusal != "":
		t.fail("the decoder refuses the request: %s", t.result.Refusal)
		return
	case x.Refused != nil && t.result.Refusal == "":
		t.fail("the decoder takes the request and makes %s of it; it was expected to refuse",
			plural(len(t.result.Events), "event"))
		return
	case x.Refused != nil:
		if !strings.Contains(t.result.Refusal, x.Refused.Text) {
			t.fail("the decoder refuses for another reason than %q: %s", x.Refused.Text, t.result.Refusal)
		}
		return
	}
	if x.Events != nil {
		var types []string
		for i := range t.result.Events {
			types = append(types, t.result.Events[i].Type)
		}
		if !slices.Equal(types, x.Events) {
			t.fail("the events are %s, expected are %s", quotedList(types), quotedList(x.Events))
		}
	}
	if x.Unrouted && len(t.result.Events) == 0 {
		t.fail("there is no event that could be unrouted")
	}
	if len(x.To) > 0 || x.Unrouted {
		t.compareDeliveries()
	}
}

// compareDeliveries pairs what is expected with what is there: first what fits in everything, then by what differs
// least.
func (t *tested) compareDeliveries() {
	x := &t.Expect
	left := slices.Clone(t.result.Deliveries)
	take := func(d *core.Delivery) {
		left = slices.DeleteFunc(left, func(o *core.Delivery) bool { return o == d })
	}
	var open []*config.ExpectedTo
	for i := range x.To {
		to := &x.To[i]
		k := slices.IndexFunc(left, func(d *core.Delivery) bool { return is(to, d) && len(differences(to, d)) == 0 })
		if k < 0 {
			open = append(open, to)
			continue
		}
		take(left[k])
	}
	for _, to := range open {
		var nearest *core.Delivery
		var least []failure
		for _, d := range left {
			if !is(to, d) {
				continue
			}
			if fs := differences(to, d); nearest == nil || len(fs) < len(least) {
				nearest, least = d, fs
			}
		}
		if nearest == nil {
			f := failure{Text: fmt.Sprintf("nothing is sent to %s", to.Sink), Why: t.why(to)}
			if to.Route != "" {
				f.Text += " by route " + to.Route
			}
			t.failures = append(t.failures, f)
			continue
		}
		take(nearest)
		t.failures = append(t.failures, least...)
	}
	if x.Others {
		return
	}
	for _, d := range left {
		f := failure{Text: fmt.Sprintf("route %s sends to %s, which was not expected: expect it, or write others = true", d.Route, d.Sink)}
		if d.State == core.DeliveryDead {
			f.Text = fmt.Sprintf("route %s makes a dead letter for %s, which was not expected: %s", d.Route, d.Sink, d.Reason)
		}
		t.failures = append(t.failures, f)
	}
}

// is reports whether a delivery could be an expected one.
func is(to *config.ExpectedTo, d *core.Delivery) bool {
	return d.Sink == to.Sink && (to.Route == "" || d.Route == to.Route)
}

// differences are between an expected delivery and one that is there.
func differences(to *config.ExpectedTo, d *core.Delivery) (fs []failure) {
	fail := func(format string, args ...any) {
		fs = append(fs, failure{Text: fmt.Sprintf("to "+to.Sink+": "+format, args...)})
	}
	switch dead := d.State == core.DeliveryDead; {
	case dead && to.Dead == nil:
		fail("it is a dead letter: %s", d.Reason)
		return fs
	case !dead && to.Dead != nil:
		fail("it is sent, a dead letter was expected")
		return fs
	case dead:
		if !strings.Contains(d.Reason, to.Dead.Text) {
			fail("it is a dead letter for another reason than %q: %s", to.Dead.Text, d.Reason)
		}
		return fs
	}
	if to.OrderKey != nil && *to.OrderKey != d.OrderKey {
		fail("the order key is %s, expected is %s", orNone(d.OrderKey), orNone(*to.OrderKey))
	}
	if to.Message != nil && !sameJSON(to.Message, d.Message) {
		fail("the message differs")
		fs[len(fs)-1].Diff = diffLines(jsonLines(to.Message), jsonLines(d.Message))
	}
	for _, f := range to.Fields {
		switch got, ok := jsonscan.Lookup(d.Message, f.Pointer, false); {
		case !ok:
			fail("%s is not there, expected is %s", f.Path, f.Value)
		case sameJSON(f.Value, got):
		default:
			want, is := jsonLines(f.Value), jsonLines(got)
			if len(want) == 1 && len(is) == 1 {
				fail("%s is %s, expected is %s", f.Path, is[0], want[0])
				continue
			}
			fail("%s differs", f.Path)
			fs[len(fs)-1].Diff = diffLines(want, is)
		}
	}
	for _, f := range to.Absent {
		if got, ok := jsonscan.Lookup(d.Message, f.Pointer, false); ok {
			fail("%s is %s, it was expected to be absent", f.Path, got)
		}
	}
	for _, f := range to.Matches {
		got, ok := jsonscan.Lookup(d.Message, f.Pointer, false)
		text, isText := jsonscan.Unquote(got)
		switch {
		case !ok:
			fail("%s is not there, it was expected to match %s", f.Path, f.Pattern)
		case !isText:
			fail("%s is %s and no text, it was expected to match %s", f.Path, got, f.Pattern)
		case !f.Pattern.MatchString(text):
			fail("%s is %s and does not match %s", f.Path, got, f.Pattern)
		}
	}
	return fs
}

func orNone(key string) string {
	if key == "" {
		return "none"
	}
	return strconv.Quote(key)
}

// why says what the routes that could send an expected delivery say of the events.
func (t *tested) why(to *config.ExpectedTo) (lines []string) {
	for i, routes := range t.events {
		for _, r := range routes {
			if to.Route != "" && r.Route != to.Route || !slices.Contains(r.Sinks, to.Sink) {
				continue
			}
			event := ""
			if len(t.events) > 1 {
				event = fmt.Sprintf(" for event %d (%s)", i+1, t.result.Events[i].Type)
			}
			line := fmt.Sprintf("route %s%s: ", r.Route, event)
			switch r.Verdict {
			case route.OtherSource:
				line += "the source is not in from"
			case route.OtherType:
				line += fmt.Sprintf("the type %s matches nothing in on", t.result.Events[i].Type)
			case route.ConditionNot:
				line += "when is false, because " + because(r.When)
			case route.Fails:
				line += "when fails: " + r.Error.Error()
			default:
				line += "it sends, to what another to block expects"
			}
			lines = append(lines, line)
		}
	}
	if len(t.events) == 0 {
		return []string{"the decoder makes no event of the request"}
	}
	return lines
}

// because finds what makes a condition false, as deep as it is one part alone.
func because(s *expr.Step) string {
	if s.Kind == expr.StepAnd {
		for i := range s.Steps {
			if part := &s.Steps[i]; string(part.Value) == "false" {
				return because(part)
			}
		}
	}
	text := s.Source + " is " + string(s.Value)
	var values []string
	references(s, func(ref *expr.Step) {
		value := string(ref.Value)
		switch {
		case ref.Absent:
			value = "absent"
		case ref.Error != nil || ref.Bytes > 0:
			return
		}
		if v := ref.Source + " is " + cut(value, longest); v != text && !slices.Contains(values, v) {
			values = append(values, v)
		}
	})
	if len(values) > 0 {
		text += " (" + strings.Join(values, ", ") + ")"
	}
	return text
}

func references(s *expr.Step, visit func(*expr.Step)) {
	if s.Kind == expr.StepReference {
		visit(s)
	}
	for i := range s.Steps {
		references(&s.Steps[i], visit)
	}
}

// place is where a test stands, as terminals and editors can follow it.
func (t *tested) place() string { return fmt.Sprintf("%s:%d", t.Range.File, t.Range.Line) }

// suite is the name of the file that a test stands in.
func (t *tested) suite() string { return filepath.Base(t.Range.File) }
