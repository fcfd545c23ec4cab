package main

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/pluginfile"
	"github.com/grapnelhq/grapnel/core/pluginhost"
)

// listed is one program in the plugins' folder, or one that a development path names.
type listed struct {
	Kind        core.PluginKind `json:"kind"`
	Name        string          `json:"name"`
	Version     string          `json:"version,omitempty"` // empty: its file name has none, and it was not asked
	Platform    string          `json:"platform"`
	SHA256      string          `json:"sha256"`
	Path        string          `json:"path"`
	Protocol    int             `json:"protocol,omitempty"` // 0: it was not asked
	Runs        bool            `json:"runs"`               // it is the one that a host takes
	Why         string          `json:"why"`                // it is taken, or not
	Description string          `json:"description,omitempty"`
}

func newPluginList(flags *pluginFlags) *cobra.Command {
	c := &cobra.Command{
		Use:   "list",
		Short: "List the plugins of the folder, all versions, and say which one runs and why",
		Long: `List the programs in the plugins' folder: every version, for every platform. RUNS says which one the configuration and
its lock file take, and why; without a configuration that is the newest.

A program that has no version in its name is asked for it, unless a lock file says that it must not run.`,
		Args: cobra.NoArgs,
	}
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		place, err := flags.place(c)
		if err != nil {
			return err
		}
		rows, err := listPlugins(c, place)
		if rows == nil && err != nil {
			return err
		}
		return errors.Join(err, page(newPrinter(c, *asJSON), rows, "", "KIND NAME VERSION PLATFORM SHA256 RUNS DESCRIPTION",
			func(l listed) []string {
				runs := "no: "
				if l.Runs {
					runs = "yes: "
				}
				return []string{
					string(l.Kind), l.Name, cmp.Or(l.Version, "?"), l.Platform, l.SHA256[:min(12, len(l.SHA256))],
					runs + l.Why, short(l.Description),
				}
			}))
	}
	return c
}

// listPlugins looks at every program. One that does not start hides no other: rows and error come together.
func listPlugins(c *cobra.Command, place pluginPlace) ([]listed, error) {
	files, odd := pluginfile.List(place.plugins.Dir)
	if len(files) == 0 && odd != nil {
		return nil, odd
	}
	host, err := newPluginHost(place.plugins, nil, hclog.NewNullLogger())
	if err != nil {
		return nil, err
	}
	defer host.Close(c.Context())
	errs := []error{odd}
	rows := []listed{}
	taken := map[string]*core.PluginInfo{} // by label; nil: none can be
	for _, f := range files {
		if _, asked := taken[f.Label()]; !asked && f.Platform == pluginfile.Current() {
			info, err := host.Describe(c.Context(), f.Kind, f.Name)
			if err != nil {
				errs = append(errs, err)
			}
			taken[f.Label()] = info
			if info != nil && info.Dev {
				rows = append(rows, listed{
					Kind: f.Kind, Name: f.Name, Version: info.Version, Platform: f.Platform, SHA256: info.SHA256, Path: info.Path,
					Protocol: info.Protocol, Runs: true, Why: "development path", Description: describe(info),
				})
			}
		}
		row, err := listOne(c, place, host, f, taken[f.Label()])
		if err != nil {
			errs = append(errs, err)
		}
		if row.SHA256 != "" {
			rows = append(rows, row)
		}
	}
	return rows, errors.Join(errs...)
}

// listOne describes one program, given the one of its plugin that is taken.
func listOne(c *cobra.Command, place pluginPlace, host *pluginhost.Host, f pluginfile.File, taken *core.PluginInfo) (
	listed, error) {
	row := listed{Kind: f.Kind, Name: f.Name, Version: f.Version, Platform: f.Platform, Path: f.Path}
	sum, err := pluginfile.Hash(f.Path)
	if err != nil {
		return row, err
	}
	row.SHA256 = sum
	locked, pin := place.locked(f.Label()), place.pin(f.Label())
	allowed := locked == nil || pin.Dev != ""
	if f.Platform == pluginfile.Current() {
		info := taken
		switch {
		case taken != nil && samePath(taken.Path, f.Path):
			row.Runs = true
		case !allowed: // It is not to be started.
			info = nil
		default:
			// What does not start, or is not what its name says, was or will be told for the plugin if it is the one to take.
			if info, err = host.DescribeFile(c.Context(), f.Path); err != nil && taken == nil {
				err = nil
			}
		}
		if info != nil {
			row.Version, row.Protocol, row.Description = info.Version, info.Protocol, describe(info)
		}
	}
	row.Why = why(row, place, taken)
	return row, err
}

// why says why a program is the one that runs, or is not.
func why(row listed, place pluginPlace, taken *core.PluginInfo) string {
	label := string(row.Kind) + "-" + row.Name
	locked, pin := place.locked(label), place.pin(label)
	if row.Runs {
		switch {
		case locked != nil:
			return "locked"
		case pin.SHA256 != "":
			return "has the sha256 of the configuration"
		case pin.Version != "":
			return "newest that is " + pin.Version
		}
		return "newest"
	}
	switch {
	case row.Platform != pluginfile.Current():
		if locked != nil && locked.Version == row.Version && locked.Hash(row.Platform) == row.SHA256 {
			return "for another platform, locked"
		}
		return "for another platform"
	case pin.Dev != "":
		return "a development path is taken"
	case locked != nil && locked.Version != row.Version:
		return fmt.Sprintf("%s is locked", locked.Version)
	case locked != nil:
		return "not the program that was locked"
	case row.Version != "" && !pin.Constraint.Allows(row.Version):
		return "not " + pin.Version
	case taken == nil:
		return "does not work, see below"
	case pin.SHA256 != "":
		return "another sha256 than that of the configuration"
	}
	return fmt.Sprintf("%s is newer", taken.Version)
}
