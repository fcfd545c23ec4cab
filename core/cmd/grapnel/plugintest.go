package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"github.com/grapnelhq/grapnel/core/pluginhost"
	"github.com/grapnelhq/grapnel/sdk/conform"
)

// optionsFile is where a plugin keeps what it is tested with, beside its program or go.mod.
const optionsFile = "plugintest.json"

func newPluginTest(flags *pluginFlags) *cobra.Command {
	c := &cobra.Command{
		Use:   "test FILE|DIR|NAME|COMMAND [ARG...]",
		Short: "Check that a plugin keeps its contract",
		Long: `Start a plugin as the host does, in whatever language it is written, and check what
docs/plugin-protocol.md asks of it: configuration and messages that do not fit are refused by name, deliveries come
out as they should, samples decode to what the catalogue declares, damaged requests do no harm, no secret shows, signals and the
end of the host are minded. The host itself checks what the plugin says of itself and, for a decoder, its samples:
signed as each scheme says, and damaged.

FILE is a plugin's program, of which a copy runs, alone, as under the host; NAME is one in the folder of --dir, such
as sink-file. DIR is the folder of a Go module: its own tests run first, then the checks on the program that is
built from it. With arguments, a command runs where it is: write -- before it, as in "grapnel plugin test -- node
plugin.js".

What it is tested with comes from the flags, each a file or the JSON itself, or from the file plugintest.json beside
FILE or in DIR, an object of config, message, data, down, slow, refused, refused_message and answer. In these texts
$FAR_END is the address, http://host:port, of an HTTP server that answers everything with 200 and "answer", and
/status/N with N. In "down" nobody is there, in "slow" nobody answers; a configuration with $FAR_END needs neither.

What was not given is not checked, and the output says so.`,
		Example: `  grapnel plugin test ./my-sink
  grapnel plugin test bin/plugins/grapnel-sink-chat --config '{"url": "$FAR_END", "token": "t0ken-t0ken"}'
  grapnel plugin test --config config.json --message message.json -- node plugin.js`,
		Args: cobra.MinimumNArgs(1),
	}
	var given struct{ options, config, message, data, down, slow, refused, refusedMessage string }
	for _, f := range []struct {
		name, usage string
		to          *string
	}{
		{"options", "`file` with all of the following (default: " + optionsFile + ", if it is there)", &given.options},
		{"config", "configuration, `JSON` or a file with it", &given.config},
		{"message", "message that a sink delivers with it, `JSON` or a file", &given.message},
		{"data", "event's data for a sink that asks for it, `JSON` or a file", &given.data},
		{"down", "configuration whose far end is not there, `JSON` or a file", &given.down},
		{"slow", "configuration whose far end never answers, `JSON` or a file", &given.slow},
		{"refused", "configuration whose far end refuses for good, `JSON` or a file", &given.refused},
		{"refused-message", "message that the far end refuses for good, `JSON` or a file", &given.refusedMessage},
	} {
		c.Flags().StringVar(f.to, f.name, "", f.usage)
	}
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		target, err := newTestTarget(args, cmp.Or(flags.dir, filepath.Join("bin", "plugins")))
		if err != nil {
			return err
		}
		opts, err := target.options(given.options)
		if err != nil {
			return err
		}
		for _, f := range []struct {
			name, value string
			to          *string
		}{
			{"config", given.config, &opts.Config}, {"message", given.message, &opts.Message}, {"data", given.data, &opts.Data},
			{"down", given.down, &opts.Down}, {"slow", given.slow, &opts.Slow}, {"refused", given.refused, &opts.Refused},
			{"refused-message", given.refusedMessage, &opts.RefusedMessage},
		} {
			if f.value == "" {
				continue
			}
			if *f.to, err = jsonOrFile(f.value); err != nil {
				return fmt.Errorf("--%s: %w", f.name, err)
			}
		}
		return target.test(c.Context(), opts, &checkPrinter{printer: newPrinter(c, *asJSON)})
	}
	return c
}

// jsonOrFile returns a flag's JSON object, or that of the file which the flag names.
func jsonOrFile(value string) (string, error) {
	if !strings.HasPrefix(strings.TrimSpace(value), "{") {
		b, err := os.ReadFile(value)
		if err != nil {
			return "", err
		}
		value = string(b)
	}
	if !json.Valid([]byte(value)) {
		return "", errors.New("it is no JSON")
	}
	return value, nil
}

// testTarget is what is tested.
type testTarget struct {
	module string // folder of a Go module, or empty
	cmd    conform.Command
}

func newTestTarget(args []string, plugins string) (*testTarget, error) {
	info, err := os.Stat(args[0])
	if err != nil && len(args) == 1 {
		found, _ := pluginhost.Discover(plugins) // what is wrong with the folder matters only if it is in it
		for _, b := range found {
			if args[0] == b.Name || args[0] == string(b.Kind)+"-"+b.Name {
				info, err = os.Stat(b.Path)
				args = []string{b.Path}
				break
			}
		}
	}
	if len(args) > 1 || errors.Is(err, fs.ErrNotExist) && !strings.ContainsAny(args[0], `/\`) {
		if _, err := exec.LookPath(args[0]); err != nil {
			return nil, fmt.Errorf("%s is neither a file, nor a folder, nor a plugin in %s, nor a program in $PATH",
				args[0], plugins)
		}
		return &testTarget{cmd: conform.Command{Path: args[0], Args: args[1:]}}, nil
	}
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		path, err := filepath.Abs(args[0])
		return &testTarget{cmd: conform.Command{Path: path}}, err
	}
	if _, err := os.Stat(filepath.Join(args[0], "go.mod")); err != nil {
		return nil, fmt.Errorf("%s has no go.mod: name the plugin's program instead, or its module's folder", args[0])
	}
	return &testTarget{module: args[0]}, nil
}

// options reads the file with the options that is named or, where there is one, that of the target.
func (t *testTarget) options(file string) (conform.Options, error) {
	if file != "" {
		return conform.ReadOptions(file)
	}
	dir := t.module
	if dir == "" {
		dir = filepath.Dir(t.cmd.Path)
	}
	opts, err := conform.ReadOptions(filepath.Join(dir, optionsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return conform.Options{}, nil
	}
	return opts, err
}

// test runs all checks.
func (t *testTarget) test(ctx context.Context, opts conform.Options, p *checkPrinter) error {
	if t.module != "" {
		dir, err := os.MkdirTemp("", "grapnel-test")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		p.run(ctx, "module")(conform.Check{Name: "go test", Run: t.goTest})
		p.run(ctx, "module")(conform.Check{Name: "go build",
			Run: func(ctx context.Context) []conform.Finding { return t.goBuild(ctx, dir) }})
		if t.cmd.Path == "" {
			return p.end()
		}
	}
	provider := conform.Program(ctx, t.cmd, opts, nil, p.run(ctx, "program"))
	if len(t.cmd.Args) == 0 {
		p.run(ctx, "host")(conform.Check{Name: "describe", Run: t.describe})
	}
	if provider != nil {
		for _, check := range gateChecks(provider) {
			p.run(ctx, "host")(check)
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return p.end()
}

// goTest runs the module's own tests.
func (t *testTarget) goTest(ctx context.Context) []conform.Finding {
	out, err := t.goTool(ctx, "test", "./...")
	if err == nil {
		return nil
	}
	return []conform.Finding{{
		Did:      fmt.Sprintf("its own tests fail (%v)\n%s\n", err, strings.TrimSpace(out)),
		Contract: "they are a part of the checks",
		Do:       "go test ./... shows the same",
	}}
}

// goBuild builds the module's program as the host is to find it.
func (t *testTarget) goBuild(ctx context.Context, dir string) []conform.Finding {
	abs, err := filepath.Abs(t.module)
	if err != nil {
		return []conform.Finding{{Did: err.Error(), Contract: "the folder is to be read", Do: "look at its path"}}
	}
	name := filepath.Base(abs)
	if strings.HasPrefix(name, "sink-") || strings.HasPrefix(name, "decoder-") {
		name = "grapnel-" + name // so that the host compares
	}
	program := filepath.Join(dir, name)
	if runtime.GOOS == "windows" {
		program += ".exe"
	}
	if out, err := t.goTool(ctx, "build", "-o", program, "."); err != nil {
		return []conform.Finding{{
			Did:      fmt.Sprintf("it cannot be built (%v)\n%s\n", err, strings.TrimSpace(out)),
			Contract: "the program is the module's root package",
			Do:       "go build . shows the same",
		}}
	}
	t.cmd.Path = program
	return nil
}

func (t *testTarget) goTool(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = t.module
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// describe asks the host itself what it refuses.
func (t *testTarget) describe(ctx context.Context) []conform.Finding {
	const contract, do = "the host starts no such plugin", `see docs/plugin-protocol.md, section "What the host refuses"`
	host, err := pluginhost.New(pluginhost.Options{Dir: filepath.Dir(t.cmd.Path), Logger: hclog.NewNullLogger()})
	if err == nil {
		defer host.Close(ctx)
		_, err = host.DescribeFile(ctx, t.cmd.Path)
	}
	if err == nil {
		return nil
	}
	return []conform.Finding{{Did: fmt.Sprintf("the host refuses it (%v)", err), Contract: contract, Do: do}}
}

// checkPrinter shows checks as they come.
type checkPrinter struct {
	printer
	checks, failed int
}

// checked is a check as --json shows it.
type checked struct {
	Check    string            `json:"check"`
	OK       bool              `json:"ok"`
	TookMS   int64             `json:"took_ms"`
	Findings []conform.Finding `json:"findings,omitempty"`
	Skipped  string            `json:"skipped,omitempty"` // why it was not checked
}

// run makes a runner for one group of checks.
func (p *checkPrinter) run(ctx context.Context, group string) conform.Runner {
	return func(c conform.Check) {
		if ctx.Err() != nil {
			return
		}
		name := group + ": " + c.Name
		if c.Skip != "" {
			if !p.json {
				fmt.Fprintf(p.out, "--    %-22s not checked: %s\n", name, c.Skip)
			} else {
				_ = p.value(checked{Check: name, Skipped: c.Skip})
			}
			return
		}
		started := time.Now()
		found := c.Run(ctx)
		took := time.Since(started)
		p.checks++
		if len(found) > 0 {
			p.failed++
		}
		if p.json {
			_ = p.value(checked{Check: name, OK: len(found) == 0, TookMS: took.Milliseconds(), Findings: found})
			return
		}
		word := "ok  "
		if len(found) > 0 {
			word = "FAIL"
		}
		fmt.Fprintf(p.out, "%s  %-22s %6.2fs\n", word, name, took.Seconds())
		for _, f := range found {
			fmt.Fprintf(p.out, "      %s\n", strings.ReplaceAll(f.String(), "\n", "\n      "))
		}
	}
}

// end says how it went.
func (p *checkPrinter) end() error {
	if p.failed > 0 {
		return fmt.Errorf("the plugin fails %d of %d checks", p.failed, p.checks)
	}
	if !p.json {
		fmt.Fprintf(p.out, "all %d checks passed\n", p.checks)
	}
	return nil
}
