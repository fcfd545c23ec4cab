package starter

import (
	"slices"
	"strings"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/config"
)

// Draft is a configuration in the making.
type Draft struct {
	Plugins string // folder, as the configuration names it
	Source  *Block
	Sink    *Block // nil: the source alone, which is enough to decode a sample

	SinkInfo *core.PluginInfo
	On       []string // event types or patterns; empty: all
	Event    Event
}

// Route is the name of the route.
func (d *Draft) Route() string { return d.Source.name + "_to_" + d.Sink.name }

// Variables lists the environment variables that the configuration asks for.
func (d *Draft) Variables() []Variable {
	list := d.Source.Variables()
	if d.Sink != nil {
		list = append(list, d.Sink.Variables()...)
	}
	return list
}

// Separate gives the sink's variables other names where the source has the same.
func (d *Draft) Separate() {
	for _, v := range d.Source.Variables() {
		if strings.HasPrefix(v.Name, d.Sink.prefix+"_") && d.Source.prefix == d.Sink.prefix {
			d.Sink.rename("SINK_" + d.Sink.prefix)
			return
		}
	}
}

// rename gives all variables another prefix.
func (b *Block) rename(prefix string) {
	old := b.prefix
	b.prefix = prefix
	var each func([]*node)
	each = func(nodes []*node) {
		for _, n := range nodes {
			if v := n.variable; v != nil {
				name := prefix + strings.TrimPrefix(v.Name, old)
				n.text = strings.Replace(n.text, config.Quote(v.Name), config.Quote(name), 1)
				v.Name = name
			}
			each(n.children)
		}
	}
	each(b.nodes)
}

// HCL writes the configuration in the usual layout.
func (d *Draft) HCL() []byte {
	var w writer
	w.comment("Grapnel's configuration. Check it with `grapnel validate`, run it with `grapnel run`.")
	w.comment("Relative paths start at this file's folder.")
	w.WriteString(`
server {
  listen = env("GRAPNEL_LISTEN", ":8080") # for webhooks; put a TLS proxy in front, or add a tls block with cert and key

  # trusted_proxies = ["10.0.0.0/8"] # whose X-Forwarded-For header names the client
}

storage "sqlite" {
  path          = "data/grapnel.db" # one file, written by one host at a time
  retention     = "30d"             # how long settled requests and what came of them are kept
  dedupe_window = "7d"              # how long a repeated request is recognized
}

plugins {
  dir = ` + config.Quote(d.Plugins) + ` # the programs grapnel-<kind>-<name>
}

`)
	w.comment("Who posts webhooks, to /hooks/" + d.Source.name + ".")
	w.WriteString(d.Source.HCL())
	if d.Sink != nil {
		w.WriteString("\n")
		w.comment("Where events go.")
		w.WriteString(d.Sink.HCL())
		w.WriteString("\n")
		d.route(&w)
	}
	out, _ := config.Format("config.hcl", []byte(w.String())) // with a mistake it is returned as it is, and Load tells
	return out
}

func (d *Draft) route(w *writer) {
	w.comment("Which events go there.")
	w.line("route %s {", config.Quote(d.Route()))
	w.line("from = [source.%s.%s]", d.Source.plugin, d.Source.name)
	if len(d.On) > 0 {
		quoted := make([]string, len(d.On))
		for i, t := range d.On {
			quoted[i] = config.Quote(t)
		}
		if len(quoted) < 4 {
			w.line("%s", "on = ["+strings.Join(quoted, ", ")+"]")
		} else {
			w.line("%s", "on = [\n"+strings.Join(quoted, ",\n")+",\n]")
		}
	}
	w.gap()
	w.line("to %s %s {", config.Quote(d.Sink.plugin), config.Quote(d.Sink.name))
	newMessage(d.provider(), d.Event).to(w, d.SinkInfo)
	w.end()
	w.end()
}

func (d *Draft) provider() string {
	if d.Source.manifest == nil {
		return d.Source.plugin
	}
	return d.Source.manifest.Name
}

// Test writes a test of the route: what comes of the first sample.
func (d *Draft) Test() []byte {
	if len(d.Event.Types) == 0 || len(d.Event.Data) == 0 {
		return nil
	}
	eventType := d.Event.Types[0].Type
	var w writer
	w.comment("Tests of the routes: `grapnel test` runs them.")
	w.WriteString("\n")
	w.line("%s", "test "+config.Quote(eventType+" goes to "+d.Sink.name)+" {")
	w.line("given {")
	w.line("source = source.%s.%s", d.Source.plugin, d.Source.name)
	w.line("%s", "type = "+config.Quote(eventType))
	w.end()
	w.line("expect {")
	if d.Event.Several {
		w.line("others = true # the sample makes several events")
	}
	w.line("to %s %s {", config.Quote(d.Sink.plugin), config.Quote(d.Sink.name))
	w.line("route = %s", config.Quote(d.Route()))
	w.end()
	w.end()
	w.end()
	out, _ := config.Format("config.test.hcl", []byte(w.String()))
	return out
}

// Asks reports whether a variable gives the attribute at a path, or something in it.
func (b *Block) Asks(path []string) bool {
	return slices.ContainsFunc(b.Variables(), func(v Variable) bool {
		return len(path) >= len(v.Path) && slices.Equal(path[:len(v.Path)], v.Path)
	})
}
