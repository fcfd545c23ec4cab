package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/grapnelhq/grapnel/core/pluginfile"
	"github.com/grapnelhq/grapnel/core/pluginsource"
)

func newPluginPack() *cobra.Command {
	c := &cobra.Command{
		Use:   "pack SOURCE...",
		Short: "Make a mirror of plugins, or add to one",
		Long: `Put plugins' programs into a mirror: a folder that any web server can serve, and that grapnel plugin install takes. A
SOURCE is a program, or a folder or archive of programs, with those for other platforms in folders such as linux_arm64.
Give all platforms of a version at once: they go into one archive.

Programs for this platform are started once, and asked for their name and version. Those for other platforms need their
version in their name: grapnel-sink-file_v1.2.0.`,
		Args: cobra.MinimumNArgs(1),
	}
	dir := c.Flags().String("out", "mirror", "the mirror's `folder`")
	replace := c.Flags().Bool("replace", false, "replace a version that is in the mirror with other content")
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, args []string) (err error) {
		in := &install{c: c}
		if in.stage, err = os.MkdirTemp("", "grapnel-pack-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(in.stage)) }()
		var programs []pluginsource.Program
		for _, source := range args {
			some, err := in.pack(source)
			if err != nil {
				return err
			}
			programs = append(programs, some...)
		}
		releases, err := pluginsource.Pack(*dir, programs, *replace)
		if err != nil {
			return err
		}
		return page(newPrinter(c, *asJSON), releases, "", "PLUGIN VERSION PLATFORMS ARCHIVE",
			func(r pluginsource.Release) []string {
				return []string{r.Plugin, r.Version, strings.Join(r.Platforms, ","), r.Archive}
			})
	}
	return c
}

// pack stages the programs of one source and checks what can be checked.
func (in *install) pack(source string) ([]pluginsource.Program, error) {
	dir, err := os.MkdirTemp(in.stage, "")
	if err != nil {
		return nil, err
	}
	programs, err := pluginsource.Stage(source, dir, pluginsource.Limits{}, nil)
	if err != nil {
		return nil, err
	}
	if len(programs) == 0 {
		return nil, fmt.Errorf("%s holds no plugin: a program is named grapnel-<kind>-<name>", source)
	}
	for i, p := range programs {
		if p.Platform == pluginfile.Current() && p.Version == "" {
			if p, err = in.version(p); err != nil {
				return nil, err
			}
			programs[i] = p
		} else if p.Platform == pluginfile.Current() {
			if _, err := describeFile(in.c, p.Path); err != nil {
				return nil, fmt.Errorf("%s: %w", p.From, err)
			}
		}
		if p.Version == "" {
			return nil, fmt.Errorf("%s: a mirror's programs have a version such as 1.2.0, and it has none; "+
				"build it with one, as `make build VERSION=1.2.0` does, and for another platform name it %s_v1.2.0",
				p.From, strings.TrimSuffix(p.FileName(), ".exe"))
		}
	}
	return programs, nil
}
