package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/admin"
	"github.com/grapnelhq/grapnel/core/config"
	"github.com/grapnelhq/grapnel/core/pluginhost"
)

func newPluginDev(flags *pluginFlags) *cobra.Command {
	c := &cobra.Command{
		Use:   "dev DIR",
		Short: "Build a plugin and swap it in the running host, with every save",
		Long: `Build the Go program in a folder and swap it into the running host, whose configuration names the plugin,
and do so again whenever a source file of it changes. Webhooks go on meanwhile: a swap is a plugin upgrade, so none is lost.

When it does not build, does not start, does not open a block or dies at once, the version before goes on, and the reason is
told. Pins and the lock file do not apply. When the plugin's configuration, messages or manifest have changed so that
they do not fit under the running configuration any more, what has to change is told; the host then needs a restart
with the new program, for which the plugins block may name it: plugin "sink-x" { dev = "path" }.

An interrupt (Ctrl-C) swaps back to what a start of the host would run.`,
		Example: `  grapnel plugin dev ./sink-chat`,
		Args:    cobra.ExactArgs(1),
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		dir, err := filepath.Abs(args[0])
		if err != nil {
			return err
		}
		if info, err := os.Stat(dir); err != nil {
			return err
		} else if !info.IsDir() {
			return fmt.Errorf("%s is no folder: dev takes the folder of the plugin's main package", args[0])
		}
		if _, err := exec.LookPath("go"); err != nil {
			return fmt.Errorf("plugin dev builds with the go command: %w", err)
		}
		client, err := runningHost(c.Context(), flags.config)
		if err != nil {
			return err
		}
		defer client.Close()
		builds, err := os.MkdirTemp("", "grapnel-dev-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(builds)
		d := &developer{c: c, out: c.OutOrStdout(), client: client, config: flags.config, dir: dir, builds: builds}
		return d.run(c.Context())
	}
	return c
}

const (
	devPoll  = 200 * time.Millisecond // between looks at the sources
	devTrial = time.Second
)

// developer swaps a plugin whenever its sources change.
type developer struct {
	c      *cobra.Command
	out    io.Writer
	client *admin.Client
	config string
	dir    string // of the main package
	builds string // folder of the programs
	n      int    // builds so far
	plugin string // label; empty before the first swap that worked
}

// run works until ctx ends. What is saved while a build or a swap is under way is built after it.
func (d *developer) run(ctx context.Context) error {
	w := &watcher{dir: d.dir, every: devPoll}
	for {
		w.look(ctx)
		d.cycle(ctx)
		if ctx.Err() == nil {
			d.say("watching %s", d.dir)
		}
		if !w.wait(ctx) {
			return d.goBack()
		}
	}
}

func (d *developer) say(format string, args ...any) {
	fmt.Fprintf(d.out, time.Now().Format(time.TimeOnly)+" "+format+"\n", args...)
}

// cycle builds and swaps once, and tells how it went.
func (d *developer) cycle(ctx context.Context) {
	started := time.Now()
	program, words, err := d.build(ctx)
	switch {
	case ctx.Err() != nil:
		return
	case err != nil:
		d.say("does not build, the version before goes on:\n%s", bytes.TrimRight(words, "\n"))
		return
	}
	took := time.Since(started).Round(10 * time.Millisecond)
	info, err := describeProgram(ctx, program)
	switch {
	case ctx.Err() != nil:
		return
	case err != nil:
		d.say("built in %s, but does not start, the version before goes on: %v", took, err)
		return
	}
	label := string(info.Kind) + "-" + info.Name
	result, err := d.client.Upgrade(ctx, admin.UpgradeOrder{
		Plugin: label, Program: program, Dev: true, NoWait: true, TrialMS: float64(devTrial / time.Millisecond),
	}, nil)
	var told *admin.UpgradeError
	switch {
	case ctx.Err() != nil:
		return
	case err != nil:
		d.say("built in %s, but not swapped: %v", took, err)
		if errors.As(err, &told) && told.Misfit {
			d.adapt(ctx, info)
		}
	case result.Same:
		d.plugin = label
		d.say("built in %s: nothing has changed", took)
	default:
		d.plugin = label
		d.say("built in %s, swapped: %s runs this build for %s", took, label, strings.Join(result.Blocks, ", "))
		for _, n := range result.Notes {
			d.say("note: %s", n)
		}
	}
}

// build compiles the program. words is what the compiler had to say.
func (d *developer) build(ctx context.Context) (program string, words []byte, err error) {
	if d.n > 0 { // The host has a copy of what it runs.
		_ = os.RemoveAll(filepath.Join(d.builds, strconv.Itoa(d.n)))
	}
	d.n++
	program = filepath.Join(d.builds, strconv.Itoa(d.n), "plugin")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", program, ".")
	cmd.Dir = d.dir
	words, err = cmd.CombinedOutput()
	if err != nil && len(words) == 0 {
		words = []byte(err.Error())
	}
	if err == nil {
		// Without a main package nothing is linked.
		if _, statErr := os.Stat(program); statErr != nil {
			err, words = statErr, fmt.Appendf(nil, "%s holds no main package", d.dir)
		}
	}
	return program, words, err
}

// describeProgram asks a program who it is.
func describeProgram(ctx context.Context, program string) (*core.PluginInfo, error) {
	host, err := pluginhost.New(pluginhost.Options{Logger: hclog.NewNullLogger()})
	if err != nil {
		return nil, err
	}
	defer host.Close(ctx)
	return host.DescribeFile(ctx, program)
}

// adapt tells what has to change in the configuration for a program, as validate does.
func (d *developer) adapt(ctx context.Context, info *core.PluginInfo) {
	ref := config.Pin{Kind: info.Kind, Name: info.Name, Dev: info.Path}
	_, diags := loadWith(d.c, d.config, config.Options{Incomplete: true}, ref)
	if ctx.Err() != nil {
		return
	}
	if diags.HasErrors() {
		d.say("for this build the configuration has to change:")
		_ = diags.Write(d.out, onTerminal(), 100)
		return
	}
	d.say("the configuration is right for this build. To run it, give its path in the plugins block and restart the host: "+
		"plugin %q { dev = \"…\" }", string(info.Kind)+"-"+info.Name)
}

// goBack swaps to what a start of the host would run.
func (d *developer) goBack() error {
	if d.plugin == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	o := admin.UpgradeOrder{Plugin: d.plugin, NoWait: true, TrialMS: float64(devTrial / time.Millisecond)}
	result, err := d.client.Upgrade(ctx, o, nil)
	switch {
	case errors.Is(err, admin.ErrNotRunning):
		return nil
	case err != nil:
		return fmt.Errorf("%s runs the last build until the host is started again: %w", d.plugin, err)
	}
	d.say("%s runs version %s again, %s", result.Plugin, result.To.Version, result.To.Path)
	return nil
}
