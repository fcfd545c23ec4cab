package conform

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/grapnelhq/grapnel/sdk"
	"github.com/grapnelhq/grapnel/sdk/wire"
)

const (
	// prompt is how long a plugin may take to return from a call whose context has ended.
	prompt = 2 * time.Second
	// callTime is the deadline of Deliver and Decode.
	callTime = 30 * time.Second
	// closeTime is the deadline of Close.
	closeTime = 5 * time.Second
)

// Suite is one pass of the checks over one connection. It is used from one goroutine.
type Suite struct {
	opts    Options
	client  *Client
	desc    *wire.Description
	secrets []string
	far     *farEnd
	close   func()
	results Results         // of samples, also of an earlier pass
	broken  map[string]bool // checks that found something, or were not run because of one that did
	all     bool            // mutate every byte
}

// Run runs all checks that need a connection only, and those of the kind of plugin that it leads to. thorough: a
// decoder is tried with a change of every byte of its samples, not only of some thousand. The result, of a decoder, may
// be handed to a later Run or Program, in another process, which must give the same events; nil: there was none.
func Run(ctx context.Context, c *Client, opts Options, thorough bool, earlier Results, run Runner) Results {
	s := newSuite(c, opts)
	defer s.close()
	s.all = thorough
	s.run(ctx, earlier, run)
	return s.results
}

// Use opens an instance, calls it once and closes it. Where that goes wrong, it says how.
func Use(ctx context.Context, c *Client, opts Options) []Finding {
	s := newSuite(c, opts)
	defer s.close()
	f := s.findings()
	var err error
	if s.desc, err = c.Describe(ctx); s.failed(f, "Describe", s.opts.Timeout, err) {
		return f.done()
	}
	s.learn(f)
	if i := s.mustOpen(ctx, f); i != nil {
		s.use(ctx, f, i)
		s.mustClose(ctx, f, i)
	}
	return f.done()
}

// Results are what a decoder made of its samples, by their names.
type Results map[string]sdk.Decoded

func newSuite(c *Client, opts Options) *Suite {
	s := &Suite{opts: opts, client: c}
	s.far, s.close = s.opts.prepare()
	return s
}

// run reports whether the plugin still runs.
func (s *Suite) run(ctx context.Context, earlier Results, run Runner) bool {
	s.results = Results{}
	maps.Copy(s.results, earlier)
	if !s.describe(ctx, run) {
		return false
	}
	s.broken = map[string]bool{}
	for _, check := range s.checks() {
		if check.Run != nil && s.broken[check.needs] {
			check.Run, check.Skip = nil, check.needs+" has failed"
		}
		if bare := check.Run; bare != nil {
			check.Run = func(ctx context.Context) []Finding {
				list := bare(ctx)
				s.broken[check.Name] = len(list) > 0
				return list
			}
		}
		run(check.Check)
		s.broken[check.Name] = s.broken[check.Name] || check.Run == nil && s.broken[check.needs]
		if s.lost() {
			return false // the check has said so
		}
	}
	return true
}

// step is a check that makes sense only where another has found nothing.
type step struct {
	Check
	needs string
}

// lost reports whether there is no process any more.
func (s *Suite) lost() bool {
	if s.client.proc == nil {
		return false
	}
	select {
	case <-s.client.proc.Ended():
		return true
	default:
		return false
	}
}

// describe runs the first check, without which there is no other.
func (s *Suite) describe(ctx context.Context, run Runner) (ok bool) {
	run(Check{Name: "describe", Run: func(context.Context) []Finding {
		f := s.findings()
		ctx, cancel := context.WithTimeout(ctx, s.opts.Timeout)
		defer cancel()
		desc, err := s.client.Describe(ctx)
		if err != nil {
			s.failed(f, "Describe", s.opts.Timeout, err)
			return f.done()
		}
		s.desc = desc
		s.learn(f)
		again, err := s.client.Describe(ctx)
		if err != nil {
			s.failed(f, "a second Describe", s.opts.Timeout, err)
		} else if !reflect.DeepEqual(desc, again) {
			f.add("the host asks once and keeps the answer", "answer from what is fixed when the program is built",
				"Describe gives another answer the second time (%s)", difference(desc, again))
		}
		s.noSecrets(f, "Describe", fmt.Sprintf("%+v", *desc))
		if !isName(desc.Name, 64) {
			f.add("a name is [a-z][a-z0-9_]*, at most 64 bytes", "choose another", "it calls itself %q", desc.Name)
		}
		if len(f.list) == 0 {
			err := s.client.specialize(ctx, s.desc, s.opts.Config)
			if isAnswer(err) {
				err = nil // the next check says so
			}
			s.failed(f, "Validate", s.opts.Timeout, err)
		}
		ok = len(f.list) == 0
		return f.done()
	}})
	return ok
}

// learn completes the options from the description and remembers the secrets.
func (s *Suite) learn(f *findings) {
	for _, config := range []string{s.opts.Config, s.opts.Down, s.opts.Slow, s.opts.Refused} {
		var v any
		if json.Unmarshal([]byte(config), &v) == nil {
			s.secrets = append(s.secrets, secrets(&s.desc.Config, v, false)...)
		}
	}
	if s.desc.Sink != nil && strings.TrimSpace(s.opts.Message) == "" {
		s.opts.Message = string(example(&s.desc.Message))
	}
	if missing := required(&s.desc.Config); strings.TrimSpace(s.opts.Config) == "{}" && len(missing) > 0 {
		f.add("an instance is opened with a complete configuration",
			"give the kit one (Options.Config; grapnel plugin test --config)",
			"it needs %s, and was given no configuration", strings.Join(missing, ", "))
		return
	}
	const do = "let the schema say what the plugin takes, or give the kit what the schema says"
	for _, given := range []struct {
		name, text string
		schema     *sdk.Schema
	}{{"configuration", s.opts.Config, &s.desc.Config}, {"message", s.opts.Message, &s.desc.Message}} {
		if given.name == "message" && s.desc.Sink == nil {
			continue
		}
		if err := checkGiven(given.schema, given.text); err != nil {
			f.add("the host hands over only what the declared schema allows", do,
				"the schema that it declares refuses the %s that it was to be checked with (%s)", given.name,
				clip(err.Error(), 500))
		}
	}
}

func (s *Suite) checks() []step {
	steps := []step{{Check{Name: "config", Run: s.config}, ""}, {Check{Name: "open", Run: s.open}, ""}}
	if s.desc.Sink == nil {
		return append(steps,
			step{Check{Name: "catalogue", Run: s.catalogue}, ""}, step{Check{Name: "samples", Run: s.samples}, "open"},
			step{Check{Name: "order", Run: s.order}, "samples"}, step{Check{Name: "instances", Run: s.instances}, "samples"},
			step{Check{Name: "bytes", Run: s.bytes}, "samples"}, step{Check{Name: "structure", Run: s.structure}, "bytes"},
			step{Check{Name: "hostile", Run: s.hostile}, "structure"})
	}
	steps = append(steps, step{Check{Name: "message", Run: s.message}, "open"}, step{Check{Name: "deliver",
		Run: s.deliver}, "open"},
		step{Check{Name: "concurrent", Run: s.concurrent}, "deliver"}, step{Check{Name: "instances", Run: s.instances},
			"deliver"})
	if s.desc.Sink.MaxBatch > 1 {
		steps = append(steps, step{Check{Name: "batch", Run: s.batch}, "deliver"})
	}
	if s.desc.Sink.State {
		steps = append(steps, step{Check{Name: "state", Run: s.state}, "deliver"})
	}
	steps = append(steps, step{Check{Name: "large", Run: s.large}, "open"}, step{Check{Name: "cancel",
		Run: s.cancel}, "open"})
	for _, c := range []struct {
		Check
		given bool
		lacks string
	}{
		{Check{Name: "slow", Run: s.slow}, s.opts.Slow != "", "a configuration whose far end never answers (slow)"},
		{Check{Name: "down", Run: s.down}, s.opts.Down != "", "a configuration whose far end is not there (down)"},
		{
			Check{Name: "refused", Run: s.refused}, s.opts.Refused+s.opts.RefusedMessage != "",
			"a configuration or message that the far end refuses for good (refused, refused_message)",
		},
	} {
		if !c.given {
			c.Check = Check{Name: c.Name, Skip: "it needs " + c.lacks}
		}
		steps = append(steps, step{c.Check, "open"})
	}
	return steps
}

func (s *Suite) findings() *findings { return &findings{redact: s.redact} }

// redact is a text that may be shown.
func (s *Suite) redact(text string) string {
	for _, secret := range s.secrets {
		text = strings.ReplaceAll(text, secret, "<SECRET>")
	}
	return text
}

// noSecrets finds secrets of the configuration in what the plugin says.
func (s *Suite) noSecrets(f *findings, where, text string) {
	for _, secret := range s.secrets {
		if at := strings.Index(text, secret); at >= 0 {
			if begin := strings.LastIndexByte(text[:at], '\n') + 1; at-begin < 200 {
				text, at = text[begin:], at-begin
			} else {
				text, at = text[at-200:], 200
			}
			line, _, _ := strings.Cut(text[at+len(secret):], "\n")
			text = text[:at+len(secret)] + line[:min(len(line), 100)]
			f.add("secrets leave the plugin only for the far end", "leave it out there, also of the errors of libraries",
				"it shows a secret of the configuration in %s (%q)", where, strings.ToValidUTF8(s.redact(text), ""))
			return
		}
	}
}

// failed says what an error of a call means, which is never an answer of the plugin. It reports whether there was one.
func (s *Suite) failed(f *findings, call string, limit time.Duration, err error) bool {
	if err == nil {
		return false
	}
	var answer *AnswerError
	if errors.As(err, &answer) {
		f.add("an answer has exactly one entry for each that was asked for, by its id", "answer for each, once",
			"%s: %s", call, answer.Did)
		return true
	}
	if p := s.client.proc; p != nil && status.Code(err) == codes.Unavailable && p.ended(time.Second) {
		f.add("it lives until its host ends it", "catch what goes wrong in a call and answer with it",
			"its process ended during %s (%s)", call, p.LastWords())
		return true
	}
	text := status.Convert(err).Message()
	s.noSecrets(f, "a gRPC status of "+call, text)
	switch status.Code(err) {
	case codes.DeadlineExceeded:
		f.add(fmt.Sprintf("the host gives it up after %s", limit), "return as soon as the call's context ends",
			"%s did not answer", call)
	case codes.ResourceExhausted:
		f.add(fmt.Sprintf("a message has up to %d MiB, in both directions", wire.MaxMessage>>20),
			"raise the limits of the gRPC library to that, and send no more", "%s failed over the size of a message (%s)",
			call, clip(text, 200))
	case codes.Unknown:
		if status.Code(err) == codes.Unknown && !isStatus(err) { // the conversion from the wire
			f.add("the host refuses what it does not understand", "say what plugin.proto has words for",
				"%s answers with something else (%s)",
				call, clip(err.Error(), 300))
			return true
		}
		fallthrough
	default:
		f.add("what happened is said in the response, and a status other than OK means that nobody knows",
			"answer with an error, outcome or refusal", "%s failed with the gRPC status %s (%s)", call, status.Code(err),
			clip(text, 300))
	}
	return true
}

func isStatus(err error) bool {
	_, ok := status.FromError(err)
	return ok
}

// isAnswer reports whether an error of Open, Validate or Check is the plugin's answer and not a failed call.
func isAnswer(err error) bool {
	return err != nil && (sdk.HasAttributeError(err) || errors.Is(err, ErrUnavailable))
}

func (s *Suite) within(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, s.opts.Timeout)
}

// mustOpen opens an instance with the configuration.
func (s *Suite) mustOpen(ctx context.Context, f *findings) *Instance {
	ctx, cancel := s.within(ctx)
	defer cancel()
	i, err := s.client.Open(ctx, s.opts.Config)
	switch {
	case err == nil:
		return i
	case isAnswer(err):
		s.noSecrets(f, "an error of Open", err.Error())
		f.add("the configuration that it is checked with is a good one", "mend Open, or give the kit another configuration",
			"Open refuses the configuration (%s)", clip(err.Error(), 500))
	default:
		s.failed(f, "Open", s.opts.Timeout, err)
	}
	return nil
}

func (s *Suite) mustClose(ctx context.Context, f *findings, i *Instance) {
	if s.lost() {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTime)
	defer cancel()
	if err := i.Close(ctx); err != nil {
		var notes *notesError
		if errors.As(err, &notes) {
			s.noSecrets(f, "a note of Close", err.Error())
			f.add("Close ends what Open began, and only says what is lost by it", "mend Close",
				"Close has something to tell (%s)", clip(err.Error(), 300))
			return
		}
		s.failed(f, "Close", closeTime, err)
	}
}

// config: what does not fit the schema is refused by name, at any depth.
func (s *Suite) config(ctx context.Context) []Finding {
	f := s.findings()
	validates := false
	for _, c := range s.desc.Capabilities {
		validates = validates || c == wire.CapabilityValidate
	}
	validate := func(config string) error {
		ctx, cancel := s.within(ctx)
		defer cancel()
		return s.client.Validate(ctx, config)
	}
	if validates {
		if err := validate(s.opts.Config); isAnswer(err) {
			f.add("the configuration that it is checked with is a good one",
				"mend Validate, or give the kit another configuration",
				"Validate refuses the configuration (%s)", clip(err.Error(), 500))
			return f.done()
		} else if s.failed(f, "Validate", s.opts.Timeout, err) {
			return f.done()
		}
	}
	for _, w := range wrongs(&s.desc.Config, s.opts.Config) {
		if validates {
			s.refusedConfig(f, "Validate", w, validate(w.object))
		}
		octx, cancel := s.within(ctx)
		i := s.client.instance()
		err := i.open(octx, w.object)
		cancel()
		s.refusedConfig(f, "Open", w, err)
		if err == nil {
			s.mustClose(ctx, f, i)
		} else if sdk.HasAttributeError(err) {
			s.notOpen(ctx, f, i, "which Open refused")
		}
		if s.lost() {
			break
		}
	}
	return f.done()
}

func (s *Suite) refusedConfig(f *findings, call string, w wrong, err error) {
	if err != nil && !isAnswer(err) {
		s.failed(f, call+" with a configuration in which "+w.what, s.opts.Timeout, err)
		return
	}
	if err != nil {
		s.noSecrets(f, "an error of "+call, err.Error())
		if blames(err, w.path) {
			return
		}
	}
	contract := "what does not fit the schema is refused with the path " + strings.Join(w.path, ".")
	const do = "check the configuration against the schema and name the attribute"
	if err == nil {
		f.add(contract, do, "%s accepts a configuration in which %s", call, w.what)
		return
	}
	f.add(contract, do, "%s says of a configuration in which %s only %q", call, w.what, clip(err.Error(), 200))
}

// notOpen: an instance that is not there takes no call.
func (s *Suite) notOpen(ctx context.Context, f *findings, i *Instance, which string) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	var err error
	if s.desc.Sink != nil {
		_, err = i.Deliver(ctx, Delivery(1, s.opts.Message, s.opts.Data))
	} else {
		_, err = i.Decode(ctx, s.request(0, []byte("{}")))
	}
	var answer *AnswerError
	if err == nil || errors.As(err, &answer) {
		f.add("a call to an instance that is not open is answered with the gRPC status FAILED_PRECONDITION",
			"forget an instance that was closed or did not open", "it takes a call to an instance %s", which)
	}
}

// open: Open and Close come in any order that a host may come to.
func (s *Suite) open(ctx context.Context) []Finding {
	f := s.findings()
	s.mustClose(ctx, f, s.client.instance()) // never open
	i := s.mustOpen(ctx, f)
	if i == nil {
		return f.done()
	}
	s.mustClose(ctx, f, i)
	s.notOpen(ctx, f, i, "that was closed")
	s.mustClose(ctx, f, i) // the answer to the first may have been lost
	if again := s.mustOpen(ctx, f); again != nil {
		s.use(ctx, f, again)
		s.mustClose(ctx, f, again)
	}
	return f.done()
}

// use calls an instance once. Whether what it says is right is for other checks.
func (s *Suite) use(ctx context.Context, f *findings, i *Instance) (outcomes []sdk.Outcome) {
	if s.desc.Sink != nil {
		return s.send(ctx, f, "Deliver", i, Delivery(5, s.opts.Message, s.opts.Data))
	}
	if all := samples(s.desc.Provider); len(all) > 0 {
		s.decode(ctx, f, i, "Decode", s.sampleRequest(all[0]))
	}
	return nil
}

// manyInstances is how many blocks a process serves at once in the check.
const manyInstances = 12

// instances: a process serves many blocks, and none knows of the others.
func (s *Suite) instances(ctx context.Context) []Finding {
	f := s.findings()
	opened := make([]*Instance, manyInstances)
	errs := make([]error, manyInstances)
	var calls sync.WaitGroup
	octx, cancel := s.within(ctx)
	defer cancel()
	for k := range opened {
		calls.Go(func() { opened[k], errs[k] = s.client.Open(octx, s.opts.Config) })
	}
	calls.Wait()
	for k, err := range errs {
		if isAnswer(err) {
			s.noSecrets(f, "an error of Open", err.Error())
			f.add("one process serves every block that names the plugin",
				"keep what an instance needs in the instance, not in the program",
				"Open refuses one of %d instances with the same configuration (%s)", manyInstances, clip(err.Error(), 300))
		} else {
			s.failed(f, fmt.Sprintf("one of %d Opens at once", manyInstances), s.opts.Timeout, err)
		}
		if err != nil {
			opened[k] = nil
		}
		if len(f.list) > 0 {
			break
		}
	}
	var other *Instance // with another configuration
	if s.opts.Down != "" && s.desc.Sink != nil {
		other, _ = s.client.Open(octx, s.opts.Down) // what becomes of it is for the check of that
	}
	for k, i := range opened {
		if i != nil && k%2 == 0 {
			s.mustClose(ctx, f, i)
		}
	}
	for k, i := range opened {
		if i != nil && k%2 == 1 {
			for _, o := range s.use(ctx, f, i) {
				if o.Kind != sdk.Delivered && o.Kind != sdk.Skipped && len(f.list) == 0 {
					f.add("one process serves every block that names the plugin, and none knows of the others",
						"keep what an instance needs in the instance, not in variables of the program",
						"Deliver ends with %s (%s) where it was delivered before other instances were opened, with other "+
							"configurations, and closed", o.Kind, clip(o.Reason, 300))
				}
			}
			s.mustClose(ctx, f, i)
		}
		if s.lost() {
			break
		}
	}
	if other != nil {
		s.mustClose(ctx, f, other)
	}
	return f.done()
}

// wordy finds texts that are longer than the host keeps.
func wordy(f *findings, what, text string, most int) {
	if len(text) > most {
		f.add(fmt.Sprintf("what is longer than %d bytes is cut", most), "say it shorter",
			"it gives %s of %d bytes", what, len(text))
	}
	if !utf8.ValidString(text) {
		f.add("texts are UTF-8", "replace other bytes", "it gives %s that is not UTF-8", what)
	}
}

// Limits of docs/plugin-protocol.md.
const (
	maxReference = 512
	maxNotes     = 16
	maxNote      = 512
	maxSubject   = 1024
	maxOperation = 128
	maxTenant    = 256
	maxEvents    = 4096
	maxType      = 128
)

func isName(s string, most int) bool {
	if s == "" || len(s) > most || s[0] < 'a' || s[0] > 'z' {
		return false
	}
	return strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789_") == ""
}

// difference is where two values differ first, as JSON.
func difference(a, b any) string {
	x, err1 := json.Marshal(a)
	y, err2 := json.Marshal(b)
	if err1 != nil || err2 != nil || string(x) == string(y) {
		x, y = []byte(fmt.Sprintf("%+v", a)), []byte(fmt.Sprintf("%+v", b))
	}
	at := 0
	for at < len(x) && at < len(y) && x[at] == y[at] {
		at++
	}
	from := max(0, at-40)
	return fmt.Sprintf("first …%s…, then …%s…", x[from:min(len(x), at+40)], y[from:min(len(y), at+40)])
}
