package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/docs"
	"github.com/grapnelhq/grapnel/sdk"
	"github.com/grapnelhq/grapnel/sdk/reference"
)

func newDocs() *cobra.Command {
	c := &cobra.Command{
		Use:   "docs",
		Short: "Write the reference of a configuration: its plugins, their messages and events",
		Long: `Write the reference of a configuration in Markdown: what can be written into it, and for every plugin that it names the
settings, the message or the events, each with its fields and a sample. What a source itself says about its events is
there, too. No secret needs to be in the environment.

Without --dir it goes to standard output. With it, it is a folder of files, which --check compares instead of writing.`,
		Example: `  grapnel docs --plugin peopleforce
  grapnel docs --dir reference
  grapnel docs --dir reference --check`,
		Args: cobra.NoArgs,
	}
	path := configFlag(c)
	plugin := c.Flags().String("plugin", "", "only that plugin: its `name`, kind-name, or the path of its program")
	dir := c.Flags().String("dir", "", "`folder` of the files")
	check := c.Flags().Bool("check", false, "write nothing; exit with 1 if the files are not what would be written")
	c.RunE = func(c *cobra.Command, _ []string) error {
		switch {
		case *check && *dir == "":
			return usage(c, "--check compares the files of a folder: name it with --dir")
		case *plugin != "" && *dir != "":
			return usage(c, "--plugin writes to standard output, --dir writes the files of all plugins")
		}
		flags := &pluginFlags{config: *path}
		if *plugin != "" {
			info, err := describePlugin(c, flags, *plugin)
			if err != nil {
				return err
			}
			_, err = c.OutOrStdout().Write(pluginPage(info))
			return err
		}
		place, err := flags.place(c)
		if err != nil {
			return err
		}
		pages, err := configPages(c, *path, place)
		switch {
		case err != nil:
			return err
		case *check:
			return checkPages(*dir, pages)
		case *dir != "":
			return writePages(*dir, pages)
		}
		for i, name := range slices.Sorted(maps.Keys(pages)) { // README.md, the table of contents, is the first
			if i > 0 {
				fmt.Fprintln(c.OutOrStdout())
			}
			if _, err := c.OutOrStdout().Write(pages[name]); err != nil {
				return err
			}
		}
		return nil
	}
	return c
}

// configPages makes the pages of a configuration, by file name.
func configPages(c *cobra.Command, config string, place pluginPlace) (map[string][]byte, error) {
	cfg, err := loadToLook(c, config)
	if err != nil {
		return nil, err
	}
	host, err := newPluginHost(place.plugins, nil, hclog.NewNullLogger())
	if err != nil {
		return nil, err
	}
	defer host.Close(c.Context())

	pages := map[string][]byte{"config.md": hostPage()}
	var index bytes.Buffer
	fmt.Fprint(&index, "# Reference\n\n| page | |\n|---|---|\n| [configuration](config.md) | the blocks, values and functions |\n")
	for _, use := range place.uses {
		info, err := host.Describe(c.Context(), use.Kind, use.Name)
		if err != nil {
			return nil, err
		}
		label := string(use.Kind) + "-" + use.Name
		pages[label+".md"] = pluginPage(info)
		fmt.Fprintf(&index, "| [%s %s](%s.md) | %s |\n", use.Kind, use.Name, label, inline(describe(info)))
	}
	for _, s := range cfg.Sources {
		if s.Info.Provider == nil || !slices.Contains(s.Info.Capabilities, core.ManifestPerSource) {
			continue
		}
		var page bytes.Buffer
		fmt.Fprintf(&page, "# source %q\n\nWhat its block says about %s.\n", s.Name, inline(title(s.Info.Provider)))
		writeEvents(&page, s.Info.Provider)
		pages["source-"+s.Name+".md"] = page.Bytes()
		fmt.Fprintf(&index, "| [source %s](source-%[1]s.md) | the events of %s |\n", s.Name, inline(title(s.Info.Provider)))
	}
	if cfg.Builtin != nil {
		page := bytes.NewBufferString("# Alerts\n\nThe events of `source.grapnel`, which alert blocks send.\n")
		writeTypes(page, cfg.Builtin.Info.Provider)
		pages["alerts.md"] = page.Bytes()
		fmt.Fprint(&index, "| [alerts](alerts.md) | the events of alerts |\n")
	}
	pages["README.md"] = index.Bytes()
	return pages, nil
}

// documents is where the project's documents are, for links that leave what is written.
const documents = "https://github.com/grapnelhq/grapnel/blob/main/docs/"

var relativeLink = regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`)

// hostPage is docs/config.md as it can stand anywhere. A test compares its tables with what the loader takes.
func hostPage() []byte {
	return relativeLink.ReplaceAllFunc([]byte(docs.Config()), func(link []byte) []byte {
		m := relativeLink.FindSubmatch(link)
		base, _ := strings.CutSuffix(documents, "docs/")
		return []byte("](" + base + path.Join("docs", string(m[1])) + string(m[2]) + ")")
	})
}

// pluginPage is the reference of a plugin.
func pluginPage(p *core.PluginInfo) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# %s %q\n\n%s Version %s.\n\n## Configuration\n\n%s", p.Kind, p.Name, inline(describe(p)), p.Version,
		reference.Config(&p.Config))
	switch {
	case p.Kind == core.PluginSink:
		fmt.Fprintf(&b, "\n## Message\n\n%s", reference.Message(&p.Message))
	case slices.Contains(p.Capabilities, core.ManifestPerSource):
		fmt.Fprint(&b, "\nEvents and signatures are what a source's block says.\n")
	default:
		writeEvents(&b, p.Provider)
	}
	return b.Bytes()
}

// writeEvents writes what a manifest says.
func writeEvents(b *bytes.Buffer, p *sdk.Provider) {
	fmt.Fprint(b, "\n## Authentication\n\n")
	if len(p.Schemes) == 0 {
		fmt.Fprint(b, "None: sources have to say `auth = \"none\"`.\n")
	}
	for _, s := range p.Schemes {
		attribute := s.Attribute
		if attribute == "" {
			attribute = "secrets"
		}
		fmt.Fprintf(b, "- `auth = %q`, with `%s`", s.Name, attribute)
		for _, a := range s.Allow {
			fmt.Fprintf(b, ", `%s`", a.Attribute)
		}
		fmt.Fprintf(b, ": %s\n", inline(s.Description))
	}
	writeTypes(b, p)
}

// writeTypes writes the event types of a manifest.
func writeTypes(b *bytes.Buffer, p *sdk.Provider) {
	fmt.Fprint(b, "\n## Events\n")
	if len(p.Events) == 0 {
		fmt.Fprint(b, "\nNone are declared.\n")
	}
	for _, e := range p.Events {
		fmt.Fprintf(b, "\n### %s\n\n", e.Type)
		if e.Description != "" {
			fmt.Fprintf(b, "%s\n\n", inline(e.Description))
		}
		fmt.Fprint(b, reference.Data(&e.Data))
		if len(e.Samples) > 0 {
			writeSample(b, &e.Samples[0])
		}
	}
}

// writeSample writes the request of a sample.
func writeSample(b *bytes.Buffer, s *sdk.Sample) {
	method := s.Method
	if method == "" {
		method = http.MethodPost
	}
	fmt.Fprintf(b, "\nA sample, %s", method)
	if s.Query != "" {
		fmt.Fprintf(b, " with the query `%s`", s.Query)
	}
	for _, h := range s.Headers {
		fmt.Fprintf(b, ", `%s: %s`", h.Name, h.Value)
	}
	fmt.Fprintln(b, ":")
	language, text := "text", string(s.Body)
	var laid bytes.Buffer
	if json.Indent(&laid, s.Body, "", "  ") == nil {
		language, text = "json", laid.String()
	}
	fence := "```"
	for strings.Contains(text, fence) {
		fence += "`"
	}
	fmt.Fprintf(b, "\n%s%s\n%s\n%s\n", fence, language, strings.TrimRight(text, "\n"), fence)
}

func title(p *sdk.Provider) string {
	if p.Title != "" {
		return p.Title
	}
	return p.Name
}

// inline keeps a plugin's text within its line or cell.
func inline(s string) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(s), " "), "|", `\|`)
}

// writePages writes the files of a reference. Other files of the folder are left alone.
func writePages(dir string, pages map[string][]byte) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(pages)) {
		if err := os.WriteFile(filepath.Join(dir, name), pages[name], 0o644); err != nil {
			return err
		}
	}
	return nil
}

// checkPages says which files of a reference are not as they should be.
func checkPages(dir string, pages map[string][]byte) error {
	var wrong []string
	for _, name := range slices.Sorted(maps.Keys(pages)) {
		text, err := os.ReadFile(filepath.Join(dir, name))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			wrong = append(wrong, name+" is missing")
		case err != nil:
			return err
		case !bytes.Equal(text, pages[name]):
			wrong = append(wrong, name+" is not up to date")
		}
	}
	if wrong != nil {
		return fmt.Errorf("%s: %s; grapnel docs --dir %[1]s writes it", dir, strings.Join(wrong, ", "))
	}
	return nil
}
