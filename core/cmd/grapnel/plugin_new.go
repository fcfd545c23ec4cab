package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/pluginhost"
	"github.com/grapnelhq/grapnel/core/scaffold"
)

func newPluginNew(flags *pluginFlags) *cobra.Command {
	c := &cobra.Command{
		Use:   "new sink|decoder NAME",
		Short: "Write the module of a new plugin, which builds and passes its tests",
		Long: `Write a Go module with a plugin that works: a sink that posts JSON with a token, or a decoder of signed webhooks. It has
tests with the conformance kit, a README that says what to change, a Makefile and a CI workflow. What to do next is printed:
the commands that test and build it, and a block and a route for the configuration.

In a checkout of Grapnel, or with --sdk DIR, the sdk is the checkout's. Elsewhere it is the release that is as old as this
program, or the one that --sdk names. Where a Go workspace (go.work) holds the new folder, the module is added to it.`,
		Example: `  grapnel plugin new sink tickets
  grapnel plugin new decoder shop --dir ../shop --sdk .`,
		Args: cobra.ExactArgs(2),
	}
	var o scaffold.Options
	c.Flags().StringVar(&o.Dir, "dir", "", "`folder` to write, which is empty or does not exist (default: <kind>-NAME)")
	c.Flags().StringVar(&o.Module, "module", "", "`path` of the Go module (default: example.com/grapnel-<kind>-NAME)")
	c.Flags().StringVar(&o.SDK, "sdk", "", "`folder` of a checkout of Grapnel, or a released version such as v1.2.0")
	c.RunE = func(c *cobra.Command, args []string) error {
		o.Kind, o.Name, o.Version, o.Program = core.PluginKind(args[0]), args[1], version, programName()
		if err := scaffold.CheckName(o.Kind, o.Name); err != nil {
			return err
		}
		place, err := flags.place(c)
		if err != nil {
			return err
		}
		o.Plugins = place.plugins.Dir
		o.Dir = filepath.ToSlash(cmp.Or(o.Dir, args[0]+"-"+o.Name))
		found, _ := pluginhost.Discover(o.Plugins) // which need not be there
		for _, b := range found {
			if b.Kind == o.Kind && b.Name == o.Name {
				return fmt.Errorf("there is a %s %q in %s already, whose place the new one would take: choose another name",
					o.Kind, o.Name, o.Plugins)
			}
		}
		plugin, err := scaffold.New(o)
		if err != nil {
			return err
		}
		joined, err := joinWorkspace(c.Context(), o.Dir)
		writeNext(c.OutOrStdout(), o, plugin, joined)
		return err
	}
	return c
}

// programName is how this program was called, as far as it can be called so again from the same folder.
func programName() string {
	if name := os.Args[0]; strings.ContainsRune(name, filepath.Separator) && !filepath.IsAbs(name) {
		return name
	}
	return "grapnel"
}

// joinWorkspace adds a module to the Go workspace that its folder lies in, without which Go would not build it there. It
// returns the workspace's file, or "".
func joinWorkspace(ctx context.Context, dir string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "env", "GOWORK")
	cmd.Dir = dir
	out, err := cmd.Output()
	if errors.Is(err, exec.ErrNotFound) {
		return "", errors.New("the module is written, but there is no go command: install Go from https://go.dev/dl to build it")
	}
	file := strings.TrimSpace(string(out))
	if err != nil || file == "" || file == "off" {
		return "", err
	}
	cmd = exec.CommandContext(ctx, "go", "work", "use", ".")
	cmd.Dir = dir
	if words, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("the module is written, but the Go workspace %s does not take it: %s; a folder that it names and that is "+
			"gone is taken out with go work edit -dropuse ./FOLDER, then: go work use %s", file, strings.TrimSpace(string(words)), dir)
	}
	return file, nil
}

// writeNext prints what to do with a new plugin.
func writeNext(w io.Writer, o scaffold.Options, p *scaffold.Plugin, workspace string) {
	fmt.Fprintf(w, "%s is a module with the %s %q; its README.md says what to change.\n", o.Dir, o.Kind, o.Name)
	if workspace != "" {
		fmt.Fprintln(w, "It was added to the workspace, go.work.")
	}
	dev := strings.Replace(strings.Split(p.Test, "\n")[1], " plugin test ", " plugin dev ", 1)
	fmt.Fprintf(w, "\nTest it, build it where the host looks for plugins, and check the program:\n\n%s\n"+
		"\nFor config.hcl:\n\n%s"+
		"\nWhile a host with this configuration runs, have it take every save of the code:\n\n%s\n",
		indent(p.Test), indent(p.Config), indent(dev))
}

// indent sets a text off by two spaces.
func indent(s string) string {
	lines := strings.SplitAfter(s, "\n")
	for i, l := range lines {
		if strings.TrimSpace(l) != "" {
			lines[i] = "  " + l
		}
	}
	return strings.Join(lines, "")
}
