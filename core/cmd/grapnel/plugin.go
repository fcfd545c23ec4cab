package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/config"
	"github.com/grapnelhq/grapnel/core/pluginhost"
	"github.com/grapnelhq/grapnel/sdk"
)

func newPlugin() *cobra.Command {
	var dir string

	list := &cobra.Command{Use: "list", Short: "List the plugins of the folder", Args: cobra.NoArgs}
	listJSON := jsonFlag(list)
	list.RunE = func(c *cobra.Command, _ []string) error {
		found, odd := pluginhost.Discover(dir)
		if len(found) == 0 && odd != nil {
			return odd
		}
		host, err := newPluginHost(config.Plugins{Dir: dir}, nil, hclog.NewNullLogger())
		if err != nil {
			return err
		}
		defer host.Close(c.Context())
		var infos []*core.PluginInfo
		errs := []error{odd} // one plugin that does not start hides no other
		for _, b := range found {
			info, err := host.Describe(c.Context(), b.Kind, b.Name)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			infos = append(infos, info)
		}
		err = page(newPrinter(c, *listJSON), infos, "", "KIND NAME VERSION DESCRIPTION", func(p *core.PluginInfo) []string {
			return []string{string(p.Kind), p.Name, p.Version, describe(p)}
		})
		return errors.Join(append(errs, err)...)
	}

	show := &cobra.Command{
		Use:   "describe FILE-OR-NAME",
		Short: "Show a plugin's configuration, messages and events",
		Long: `Show what a plugin says about itself. The argument is the path of a plugin's program, with at least one slash in it,
or the name of one in the folder: "file", or "sink-file" where a sink and a decoder share a name.`,
		Args: cobra.ExactArgs(1),
	}
	showJSON := jsonFlag(show)
	show.RunE = func(c *cobra.Command, args []string) error {
		info, err := describePlugin(c, dir, args[0])
		if err != nil {
			return err
		}
		if *showJSON {
			return newPrinter(c, true).value(info)
		}
		writePlugin(c.OutOrStdout(), info)
		return nil
	}
	g := group("plugin", "Show plugins", list, show)
	g.PersistentFlags().StringVar(&dir, "dir", filepath.Join("bin", "plugins"), "`folder` of the plugins' programs")
	return g
}

// describePlugin asks the plugin that an argument names: a file, a name, or kind-name.
func describePlugin(c *cobra.Command, dir, arg string) (*core.PluginInfo, error) {
	host, err := newPluginHost(config.Plugins{Dir: dir}, nil, hclog.NewNullLogger())
	if err != nil {
		return nil, err
	}
	defer host.Close(c.Context())
	if strings.ContainsAny(arg, "/"+string(filepath.Separator)) {
		return host.DescribeFile(c.Context(), arg)
	}
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
		fmt.Fprintf(w, "  %s: %s = […]  %s\n", s.Name, attribute, s.Description)
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
			{len(a.Schema.Default) > 0, "default " + string(a.Schema.Default)},
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
