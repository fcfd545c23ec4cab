package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/config"
	"github.com/grapnelhq/grapnel/core/config/starter"
	"github.com/grapnelhq/grapnel/core/pluginfile"
	"github.com/grapnelhq/grapnel/core/pluginhost"
	"github.com/grapnelhq/grapnel/sdk"
)

// initFlags are what init is told, or asks for.
type initFlags struct {
	provider, source, sink, sinkName string
	events                           []string
	plugins                          string
	force                            bool
}

func newInit() *cobra.Command {
	c := &cobra.Command{
		Use:   "init [DIR]",
		Short: "Write a first configuration: a provider, a sink and a route",
		Long: `Write a configuration that works, with comments: config.hcl and config.test.hcl in DIR, or here. On a terminal, what
the flags do not say is asked for. Secrets and addresses are not: the configuration takes them from environment variables,
which are printed with what to do next.`,
		Example: `  grapnel init
  grapnel init hr --provider peopleforce --source people --sink slack --events peopleforce.employee.created`,
		Args: cobra.MaximumNArgs(1),
	}
	var f initFlags
	c.Flags().StringVar(&f.provider, "provider", "", "decoder `plugin` of the provider that posts webhooks")
	c.Flags().StringVar(&f.source, "source", "", "`name` of the source, which makes its URL (default: the provider's)")
	c.Flags().StringVar(&f.sink, "sink", "", "sink `plugin` that events go to")
	c.Flags().StringVar(&f.sinkName, "sink-name", "", "`name` of the sink (default: the plugin's)")
	c.Flags().StringSliceVar(&f.events, "events", nil,
		"event `types`, or patterns with *, for the route (default: the first of the provider's catalogue)")
	c.Flags().StringVar(&f.plugins, "plugins", filepath.Join("bin", "plugins"), "`folder` of the plugins' programs")
	c.Flags().BoolVar(&f.force, "force", false, "overwrite files that are there")
	c.RunE = func(c *cobra.Command, args []string) error {
		dir := "."
		if len(args) > 0 {
			dir = args[0]
		}
		return initialize(c, dir, f)
	}
	return c
}

func initialize(c *cobra.Command, dir string, f initFlags) error {
	file, testFile := filepath.Join(dir, "config.hcl"), filepath.Join(dir, "config.test.hcl")
	for _, name := range []string{file, testFile} {
		if _, err := os.Lstat(name); err == nil && !f.force {
			return fmt.Errorf("%s is there already: name another folder, or overwrite it with --force", name)
		}
	}
	s := &initializer{flags: f, file: file, ask: newQuestions(c.InOrStdin(), c.ErrOrStderr())}
	defer s.close(c.Context())
	if err := s.choose(c.Context()); err != nil {
		return err
	}
	if err := s.fill(c); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	if err := writeNew(file, s.draft.HCL(), f.force); err != nil {
		return err
	}
	files := file
	if test := s.draft.Test(); test != nil {
		if err := writeNew(testFile, test, f.force); err != nil {
			return err
		}
		files += " and " + testFile
	}
	s.next(c, files)
	return nil
}

// writeNew writes a file, in place of another only if that is asked for.
func writeNew(name string, text []byte, force bool) error {
	flags := os.O_WRONLY | os.O_CREATE | os.O_EXCL
	if force {
		flags = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	}
	w, err := os.OpenFile(name, flags, 0o666)
	if err != nil {
		return err
	}
	_, err = w.Write(text)
	return errors.Join(err, w.Close())
}

// initializer makes a first configuration.
type initializer struct {
	flags initFlags
	file  string // to be written
	ask   *questions
	host  *pluginhost.Host
	draft *starter.Draft
	diags *config.Diagnostics // what remains to be said about the draft

	source, sink *core.PluginInfo
	manifest     *sdk.Provider // of the source as it is configured
}

func (s *initializer) close(ctx context.Context) {
	if s.host != nil {
		s.host.Close(ctx)
	}
}

// choose finds out which plugins it is about, and what their blocks are called.
func (s *initializer) choose(ctx context.Context) error {
	f := &s.flags
	found, odd := pluginhost.Discover(f.plugins)
	names := map[core.PluginKind][]string{}
	for _, b := range found {
		if !slices.Contains(names[b.Kind], b.Name) {
			names[b.Kind] = append(names[b.Kind], b.Name)
		}
	}
	for _, kind := range []core.PluginKind{core.PluginDecoder, core.PluginSink} {
		if len(names[kind]) == 0 {
			if odd != nil {
				return fmt.Errorf("%w; --plugins names the folder of the plugins' programs", odd)
			}
			return fmt.Errorf("no %s plugin is in %s; --plugins names the folder of the plugins' programs", kind, f.plugins)
		}
		slices.Sort(names[kind])
	}
	if sinks := names[core.PluginSink]; slices.Contains(sinks, "file") { // the default is one that needs nothing else
		names[core.PluginSink] = append([]string{"file"}, slices.DeleteFunc(sinks, func(n string) bool { return n == "file" })...)
	}
	var err error
	if s.host, err = newPluginHost(config.Plugins{Dir: f.plugins}, nil, hclog.NewNullLogger()); err != nil {
		return err
	}
	asked := f.provider == "" || f.sink == "" // then everything is asked for
	if s.source, err = s.plugin(ctx, core.PluginDecoder, &f.provider, names[core.PluginDecoder]); err != nil {
		return err
	}
	if err := s.name(ctx, asked, "--source", "Name of the source, which makes its URL", &f.source,
		starter.DefaultName(s.source)); err != nil {
		return err
	}
	if s.sink, err = s.plugin(ctx, core.PluginSink, &f.sink, names[core.PluginSink]); err != nil {
		return err
	}
	if err := s.name(ctx, asked, "--sink-name", "Name of the sink", &f.sinkName, starter.DefaultName(s.sink)); err != nil {
		return err
	}
	s.draft = &starter.Draft{SinkInfo: s.sink, Source: starter.NewBlock(s.source, f.source)}
	if s.draft.Plugins, err = pluginsFrom(filepath.Dir(s.file), f.plugins); err != nil {
		return err
	}
	if err := s.settle(ctx, s.draft.Source, core.PluginDecoder); err != nil {
		return err
	}
	if s.manifest == nil {
		s.manifest = s.source.Provider
	}
	return s.events(ctx, asked)
}

// plugin takes a plugin of the folder, or asks for one.
func (s *initializer) plugin(
	ctx context.Context, kind core.PluginKind, name *string, names []string,
) (*core.PluginInfo, error) {
	flag, question := "--provider", "Who posts webhooks?"
	if kind == core.PluginSink {
		flag, question = "--sink", "Where do events go?"
	}
	if *name == "" {
		if !s.ask.possible() {
			return nil, s.needFlags(names, flag)
		}
		choices := make([]choice, len(names))
		for i, n := range names {
			choices[i].word = n
			if info, err := s.host.Describe(ctx, kind, n); err == nil {
				choices[i].about = info.Description
			}
		}
		picked, err := s.ask.pick(ctx, question, choices, false)
		if err != nil {
			return nil, s.needFlags(names, flag)
		}
		*name = picked[0]
	}
	*name = strings.TrimPrefix(*name, string(kind)+"-")
	if !slices.Contains(names, *name) {
		text := fmt.Sprintf("%s: no %s %q is in %s", flag, kind, *name, s.flags.plugins)
		if near := config.Nearest(*name, names); near != "" {
			return nil, fmt.Errorf("%s; did you mean %q? There are %s", text, near, strings.Join(names, ", "))
		}
		return nil, fmt.Errorf("%s; there are %s", text, strings.Join(names, ", "))
	}
	return s.host.Describe(ctx, kind, *name)
}

// needFlags says what to write where nobody can be asked.
func (s *initializer) needFlags(names []string, flag string) error {
	if !s.ask.possible() && s.flags.provider == "" && s.flags.sink == "" {
		return errors.New("there is no terminal to ask on: name a provider and a sink with --provider and --sink; " +
			"grapnel plugin list shows which there are")
	}
	return fmt.Errorf("there is no answer: write %s with one of %s", flag, strings.Join(names, ", "))
}

// name takes the name of a block, or asks for it.
func (s *initializer) name(ctx context.Context, asked bool, flag, question string, name *string, standard string) error {
	if *name == "" && asked && s.ask.possible() {
		for {
			text, err := s.ask.line(ctx, question, standard)
			if err != nil {
				return fmt.Errorf("there is no answer: write %s NAME", flag)
			}
			if pluginfile.ValidName(text) {
				*name = text
				break
			}
			s.ask.say("A name is made of lower-case letters, digits and _, and starts with a letter.\n")
		}
	}
	*name = cmp.Or(*name, standard)
	if !pluginfile.ValidName(*name) {
		return fmt.Errorf("%s: %q is no name: lower-case letters, digits and _, starting with a letter", flag, *name)
	}
	return nil
}

// pluginsFrom writes the plugins' folder as the configuration has it: from its own folder, if that is below the working
// folder.
func pluginsFrom(dir, plugins string) (string, error) {
	to, err := filepath.Abs(plugins)
	if err != nil {
		return "", err
	}
	if filepath.IsLocal(dir) && !filepath.IsAbs(plugins) {
		from, err := filepath.Abs(dir)
		if err != nil {
			return "", err
		}
		if to, err = filepath.Rel(from, to); err != nil {
			return "", err
		}
	}
	return filepath.ToSlash(to), nil
}

// events takes the event types of the route, or asks for them.
func (s *initializer) events(ctx context.Context, asked bool) error {
	var types []string
	var choices []choice
	for _, e := range s.manifest.Events {
		types = append(types, e.Type)
		choices = append(choices, choice{e.Type, e.Description})
	}
	switch {
	case len(s.flags.events) > 0:
		s.draft.On = s.flags.events
	case len(types) == 0: // there is no catalogue: whatever comes
	case asked && s.ask.possible():
		picked, err := s.ask.pick(ctx, "Which events? (several with commas)", choices, true)
		if err != nil {
			return errors.New("there is no answer: write --events with event types")
		}
		s.draft.On = picked
	default:
		s.draft.On = types[:1]
	}
	for _, on := range s.draft.On {
		n := len(s.draft.Event.Types)
		for i := range s.manifest.Events {
			e := &s.manifest.Events[i]
			if ok, err := path.Match(on, e.Type); (ok && err == nil) && !slices.Contains(s.draft.Event.Types, e) {
				s.draft.Event.Types = append(s.draft.Event.Types, e)
			}
		}
		if len(s.draft.Event.Types) > n || len(types) == 0 || slices.Contains(types, on) {
			continue
		}
		text := fmt.Sprintf("--events: %s has no event type %q", s.manifest.Name, on)
		if near := config.Nearest(on, types); near != "" {
			return fmt.Errorf("%s; did you mean %q?", text, near)
		}
		return fmt.Errorf("%s; `grapnel plugin describe %s --dir %s` lists them", text, s.source.Name, s.flags.plugins)
	}
	return nil
}

// fill makes the rest: the data that the route can expect, the sink and the route.
func (s *initializer) fill(c *cobra.Command) error {
	ctx := c.Context()
	if len(s.draft.Event.Types) > 0 {
		data, err := s.sampleData(ctx, s.draft.Event.Types[0].Type)
		if err != nil {
			return err
		}
		s.draft.Event.Data = data
	}
	s.draft.Sink = starter.NewBlock(s.sink, s.flags.sinkName)
	s.draft.Separate()
	return s.settle(ctx, s.draft.Sink, core.PluginSink)
}

// rounds is how often a plugin is shown what it asked for.
const rounds = 16

// settle shows the draft to the plugin of a block until it asks for no more attributes.
func (s *initializer) settle(ctx context.Context, b *starter.Block, kind core.PluginKind) error {
	for range rounds {
		asked := asking{catalog: catalog{s.host, s.flags.plugins}, draft: s.draft}
		_, s.diags = config.LoadText(ctx, s.file, s.draft.HCL(), config.Options{
			Getenv:  s.standIn,
			Plugins: func(config.Plugins) (config.Catalog, error) { return &asked, nil },
		})
		if err := ctx.Err(); err != nil {
			return err
		}
		if p := asked.provider; p != nil {
			s.manifest = p
			s.draft.Source.SetManifest(p)
		}
		added := false
		for _, path := range asked.paths[kind] {
			added = b.Add(path) || added
		}
		if !added {
			return nil
		}
	}
	return nil
}

// standIn answers for the variables of the draft, so that only other mistakes are found.
func (s *initializer) standIn(name string) (string, bool) {
	for _, v := range s.draft.Variables() {
		if v.Name == name {
			return v.StandIn(), true
		}
	}
	return "", false
}

// asking is a catalogue that notes what plugins ask for. What they say of values that come from the environment does not
// count: these are stand-ins.
type asking struct {
	catalog
	draft    *starter.Draft
	paths    map[core.PluginKind][][]string
	provider *sdk.Provider
}

// Validate implements config.Catalog.
func (a *asking) Validate(
	ctx context.Context, kind core.PluginKind, name string, text []byte,
) (core.Validation, error) {
	answer, err := a.catalog.Validate(ctx, kind, name, text)
	b := a.draft.Source
	if kind == core.PluginSink {
		b = a.draft.Sink
	}
	if answer.Provider != nil {
		a.provider = answer.Provider
	}
	answer.Errors = slices.DeleteFunc(slices.Clone(answer.Errors), func(e sdk.AttributeError) bool { return b.Asks(e.Path) })
	if a.paths == nil {
		a.paths = map[core.PluginKind][][]string{}
	}
	for _, e := range answer.Errors {
		a.paths[kind] = append(a.paths[kind], e.Path)
	}
	return answer, err
}

// sampleData decodes the first sample of an event type. nil: there is none, or it says nothing.
func (s *initializer) sampleData(ctx context.Context, eventType string) ([]byte, error) {
	cfg, _ := config.LoadText(ctx, s.file, s.draft.HCL(), config.Options{
		Getenv:     func(string) (string, bool) { return "", false },
		Incomplete: true,
		Plugins: func(config.Plugins) (config.Catalog, error) {
			return catalog{s.host, s.flags.plugins}, nil
		},
	})
	if cfg == nil {
		return nil, ctx.Err() // the decoder wants to know more than can be said here
	}
	src := &cfg.Sources[0]
	smp, err := findSample(src, eventType, "")
	if err != nil {
		return nil, nil // an event type without a sample
	}
	g, err := newGates(cfg)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	r, err := sampleRequest(ctx, src, typedSample{eventType, smp}, now)
	if err != nil {
		return nil, err
	}
	l, err := g.look(r, now)
	if err != nil || l.Request == nil {
		return nil, err
	}
	run, err := openDryRun(ctx, cfg, hclog.NewNullLogger())
	if err != nil {
		return nil, err
	}
	defer run.close()
	results, err := run.Run(ctx, []*core.Request{l.Request})
	if err != nil {
		return nil, err
	}
	s.draft.Event.Several = len(results[0].Events) > 1
	for _, ev := range results[0].Events {
		if ev.Type == eventType {
			return ev.Data, nil
		}
	}
	return nil, nil
}

// next tells what was written, and what to do.
func (s *initializer) next(c *cobra.Command, files string) {
	out := c.OutOrStdout()
	self, option := programName(), ""
	if s.file != "config.hcl" {
		option = " --config " + quoteShell(s.file)
	}
	title := cmp.Or(s.manifest.Title, s.manifest.Name)
	fmt.Fprintf(out, "Written: %s. What %s posts goes to %s.\n", files, title, s.flags.sinkName)
	if list := s.diags.All(); len(list) > 0 {
		fmt.Fprintln(out, "\nThis is left to you:")
		for _, d := range list {
			fmt.Fprintf(out, "  %s: %s\n", d.Range, strings.TrimSpace(d.Summary+". "+d.Detail))
		}
	}
	if list := s.draft.Variables(); len(list) > 0 {
		fmt.Fprintln(out, "\nSet the variables:")
		for _, v := range list {
			fmt.Fprintf(out, "  export %s=…%s\n", v.Name, aboutVariable(v))
		}
	}
	address := "https://HOST/hooks/" + s.flags.source
	if takesPathToken(s.draft.Source.Scheme()) {
		address += "/$" + s.draft.Source.Credential()
	}
	fmt.Fprintf(out, "\nCheck the configuration and run the host:\n  %s validate%s\n  %[1]s run%[2]s\n", self, option)
	fmt.Fprintf(out, "\nGive %s this address, with the host's name for HOST:\n  %s\n", title, address)
	if len(s.draft.Event.Data) > 0 {
		fmt.Fprintf(out, "\nOr send a signed sample from another terminal:\n  %s send%s %s %s\n",
			self, option, s.flags.source, s.draft.Event.Types[0].Type)
	}
}

func aboutVariable(v starter.Variable) string {
	if v.Description == "" {
		return ""
	}
	text := []rune(v.Description)
	if len(text) > 80 {
		text = append(text[:79], '…')
	}
	return "  # " + string(text)
}

// quoteShell writes a path as one word for a shell.
func quoteShell(s string) string {
	if strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// questions asks on a terminal.
type questions struct {
	out   io.Writer
	lines *bufio.Reader // nil: there is nobody to ask
}

func newQuestions(in io.Reader, out io.Writer) *questions {
	q := &questions{out: out}
	if f, ok := in.(*os.File); ok {
		null, _ := os.Stat(os.DevNull) // which is a device, too
		if info, err := f.Stat(); err == nil && info.Mode()&fs.ModeCharDevice != 0 && !os.SameFile(info, null) {
			q.lines = bufio.NewReader(f)
		}
	}
	return q
}

func (q *questions) possible() bool { return q.lines != nil }

func (q *questions) say(format string, args ...any) { fmt.Fprintf(q.out, format, args...) }

// line asks for a line; an empty one is the default.
func (q *questions) line(ctx context.Context, question, standard string) (string, error) {
	q.say("%s [%s]: ", question, standard)
	type answer struct {
		text string
		err  error
	}
	read := make(chan answer, 1)
	go func() { // which a terminal that says nothing outlives: the program ends with ctx
		text, err := q.lines.ReadString('\n')
		read <- answer{text, err}
	}()
	select {
	case <-ctx.Done():
		q.say("\n")
		return "", ctx.Err()
	case a := <-read:
		text := strings.TrimSpace(a.text)
		if a.err != nil && text == "" {
			q.say("\n")
			q.lines = nil
			return "", a.err
		}
		return cmp.Or(text, standard), nil
	}
}

// choice is something to choose.
type choice struct{ word, about string }

// pick has one chosen, or several, by number or by name. The first is the default.
func (q *questions) pick(ctx context.Context, question string, choices []choice, several bool) ([]string, error) {
	q.say("\n%s\n", question)
	width := 0
	for _, c := range choices {
		width = max(width, len(c.word))
	}
	for i, c := range choices {
		q.say("%s\n", strings.TrimRight(fmt.Sprintf("  %2d  %-*s  %s", i+1, width, c.word, c.about), " "))
	}
	for {
		text, err := q.line(ctx, "Number or name", choices[0].word)
		if err != nil {
			return nil, err
		}
		words := []string{text}
		if several {
			words = strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' })
		}
		var picked []string
		wrong := ""
		for _, w := range words {
			i := slices.IndexFunc(choices, func(c choice) bool { return c.word == w })
			if n, err := strconv.Atoi(w); err == nil && n >= 1 && n <= len(choices) {
				i = n - 1
			}
			switch {
			case i < 0:
				wrong = w
			case !slices.Contains(picked, choices[i].word):
				picked = append(picked, choices[i].word)
			}
		}
		if wrong == "" && len(picked) > 0 {
			return picked, nil
		}
		q.say("%q is none of them: answer with a number from 1 to %d, or a name.\n", wrong, len(choices))
	}
}
