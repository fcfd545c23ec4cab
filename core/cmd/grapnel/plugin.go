package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/config"
	"github.com/grapnelhq/grapnel/core/pluginhost"
	"github.com/grapnelhq/grapnel/sdk"
)

func newPlugin() *cobra.Command {
	flags := &pluginFlags{}
	show := &cobra.Command{
		Use:   "describe FILE-OR-NAME",
		Short: "Show a plugin's configuration, messages and events",
		Long: `Show what a plugin says about itself. The argument is the path of a plugin's program, with at least one slash in it,
or the name of one in the folder: "file", or "sink-file" where a sink and a decoder share a name. Of several versions it is
the one that runs, see grapnel plugin list.`,
		Args: cobra.ExactArgs(1),
	}
	showJSON := jsonFlag(show)
	show.RunE = func(c *cobra.Command, args []string) error {
		info, err := describePlugin(c, flags, args[0])
		if err != nil {
			return err
		}
		if *showJSON {
			return newPrinter(c, true).value(info)
		}
		writePlugin(c.OutOrStdout(), info)
		return nil
	}
	g := group("plugin", "Write, install, lock, upgrade, show, develop and test plugins",
		newPluginNew(flags), newPluginList(flags), show, newPluginLock(flags), newPluginInstall(flags), newPluginPack(),
		newPluginUpgrade(flags), newPluginDev(flags), newPluginTest(flags))
	g.PersistentFlags().StringVar(&flags.dir, "dir", "", "`folder` of the plugins' programs, without the configuration "+
		"(default: the configuration's, or bin/plugins)")
	g.PersistentFlags().StringVar(&flags.config, "config", "config.hcl", "configuration `file` or folder")
	return g
}

// pluginFlags say which plugins a command is about.
type pluginFlags struct{ dir, config string }

// pluginPlace is where plugins are and what a configuration asks of them.
type pluginPlace struct {
	config  string // path; empty: there is no configuration
	plugins config.Plugins
	uses    []config.Use
}

// place finds the folder and, unless --dir stands alone, the configuration. That there is none matters only to those who
// need it, or named it.
func (f *pluginFlags) place(c *cobra.Command) (pluginPlace, error) {
	dir := filepath.Join("bin", "plugins")
	if f.dir != "" {
		dir = f.dir
	}
	named := c.Flags().Changed("config")
	if _, err := os.Stat(f.config); !named && (f.dir != "" || errors.Is(err, fs.ErrNotExist)) {
		return pluginPlace{plugins: config.Plugins{Dir: dir}}, nil
	}
	p := pluginPlace{config: f.config}
	var diags *config.Diagnostics
	p.plugins, p.uses, diags = config.LoadPlugins(f.config, config.Options{})
	if diags.HasErrors() {
		return p, showDiagnostics(c, diags)
	}
	if f.dir != "" {
		p.plugins.Dir = f.dir
	}
	return p, nil
}

// pin finds what the configuration asks of a plugin; the zero value is nothing.
func (p pluginPlace) pin(label string) config.Pin {
	for _, x := range p.plugins.Pins {
		if string(x.Kind)+"-"+x.Name == label {
			return x
		}
	}
	return config.Pin{}
}

// locked finds a plugin's entry in the lock file, or nil.
func (p pluginPlace) locked(label string) *config.Locked {
	for i, x := range p.plugins.Locked {
		if string(x.Kind)+"-"+x.Name == label {
			return &p.plugins.Locked[i]
		}
	}
	return nil
}

// describeFile asks a program that may be anywhere.
func describeFile(c *cobra.Command, path string) (*core.PluginInfo, error) {
	host, err := newPluginHost(config.Plugins{}, nil, hclog.NewNullLogger())
	if err != nil {
		return nil, err
	}
	defer host.Close(c.Context())
	return host.DescribeFile(c.Context(), path)
}

// describePlugin asks the plugin that an argument names: a file, a name, or kind-name.
func describePlugin(c *cobra.Command, flags *pluginFlags, arg string) (*core.PluginInfo, error) {
	if strings.ContainsAny(arg, "/"+string(filepath.Separator)) {
		return describeFile(c, arg)
	}
	place, err := flags.place(c)
	if err != nil {
		return nil, err
	}
	host, err := newPluginHost(place.plugins, nil, hclog.NewNullLogger())
	if err != nil {
		return nil, err
	}
	defer host.Close(c.Context())
	dir := place.plugins.Dir
	found, odd := pluginhost.Discover(dir)
	var names []string
	for _, b := range found {
		full := string(b.Kind) + "-" + b.Name
		if arg == full || arg == b.Name {
			return host.Describe(c.Context(), b.Kind, b.Name)
		}
		names = append(names, full)
	}
	if len(names) == 0 {
		return nil, errors.Join(odd, fmt.Errorf("no plugin is in %s", dir))
	}
	return nil, errors.Join(odd, fmt.Errorf("no plugin %q in %s; there are %s", arg, dir, strings.Join(names, ", ")))
}

func describe(p *core.PluginInfo) string {
	if p.Provider != nil {
		return "Decodes the webhooks of " + p.Provider.Title + "."
	}
	return p.Description
}

// writePlugin prints a plugin for people.
func writePlugin(w io.Writer, p *core.PluginInfo) {
	fmt.Fprintf(w, "%s %s %s\n%s\n", p.Kind, p.Name, p.Version, describe(p))
	fmt.Fprintf(w, "\nConfiguration (%s %q \"…\" { … }):\n", block(p.Kind), p.Name)
	writeAttributes(w, "  ", p.Config.Attributes)
	if p.Kind == core.PluginSink {
		fmt.Fprintf(w, "\nMessage (to %q \"…\" { … }):\n", p.Name)
		writeAttributes(w, "  ", p.Message.Attributes)
		return
	}
	writeRequests(w, p.Provider)
	fmt.Fprintln(w, "\nAuthentication:")
	for _, s := range p.Provider.Schemes {
		attribute := s.Attribute
		if attribute == "" {
			attribute = "secrets"
		}
		fmt.Fprintf(w, "  %s: %s = […]  %s\n", s.Name, attribute, cmp.Or(s.Description, schemeKind(&s)))
		for _, a := range s.Allow {
			fmt.Fprintf(w, "    %s = […]  %s\n", a.Attribute, a.Description)
		}
	}
	if len(p.Provider.Addresses) > 0 {
		fmt.Fprintf(w, "  published source addresses: %s\n", strings.Join(p.Provider.Addresses, ", "))
	}
	fmt.Fprintln(w, "\nEvents:")
	for _, e := range p.Provider.Events {
		fmt.Fprintf(w, "\n  %s\n    %s\n", e.Type, e.Description)
		writeAttributes(w, "    ", e.Data.Attributes)
	}
}

// writeRequests prints what a decoder's provider may send, where that is not the usual.
func writeRequests(w io.Writer, p *sdk.Provider) {
	if len(p.Methods) == 0 && len(p.ContentTypes) == 0 && p.Handshake == nil {
		return
	}
	or := func(list []string, usual string) string {
		if len(list) == 0 {
			return usual
		}
		return strings.Join(list, ", ")
	}
	fmt.Fprintf(w, "\nRequests: %s; %s\n", or(p.Methods, http.MethodPost), or(p.ContentTypes, "application/json"))
	if p.Handshake != nil {
		fmt.Fprintln(w, "  the provider's test of the endpoint is answered")
	}
}

func block(k core.PluginKind) string {
	if k == core.PluginDecoder {
		return "source"
	}
	return string(k)
}

// defaultText is a default as a configuration would say it.
func defaultText(s *sdk.Schema) string {
	var d time.Duration
	if s.Kind == sdk.KindDuration && json.Unmarshal(s.Default, &d) == nil {
		return strconv.Quote(config.FormatDuration(d))
	}
	return string(s.Default)
}

// schemeKind describes a scheme that has no description.
func schemeKind(s *sdk.Scheme) string {
	switch {
	case s.HMAC != nil:
		return fmt.Sprintf("HMAC in the header %s", strings.Join(s.HMAC.Headers, " or "))
	case s.Ed25519 != nil:
		return "Ed25519 signature"
	case s.Basic != nil:
		return "user and password (basic), as user:password"
	case s.Token != nil:
		return "token"
	}
	return ""
}

func writeAttributes(w io.Writer, indent string, as []sdk.Attribute) {
	if len(as) == 0 {
		fmt.Fprintln(w, indent+"(none)")
	}
	for _, a := range as {
		s := a.Schema
		kind := string(s.Kind)
		for s.Element != nil {
			s = *s.Element
			kind += " of " + string(s.Kind)
		}
		words := []string{kind}
		for _, f := range []struct {
			set  bool
			word string
		}{
			{a.Schema.Optional, "optional"}, {a.Schema.Nullable, "nullable"}, {a.Schema.Sensitive, "sensitive"},
			{len(a.Schema.Default) > 0, "default " + defaultText(&a.Schema)},
			{len(a.Schema.Enum) > 0, "one of " + strings.Join(a.Schema.Enum, ", ")},
		} {
			if f.set {
				words = append(words, f.word)
			}
		}
		line := fmt.Sprintf("%s%s  (%s)  %s", indent, a.Name, strings.Join(words, ", "), a.Schema.Description)
		fmt.Fprintln(w, strings.TrimRight(line, " "))
		if len(s.Attributes) > 0 {
			writeAttributes(w, indent+"  ", s.Attributes)
		}
	}
}
