package config

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/pluginfile"
)

const (
	maxDuration  = 10 * 366 * day
	minRetention = time.Minute
)

func (l *loader) server(blocks []*hclsyntax.Block) {
	c := &l.cfg.Server
	*c = Server{
		Listen:          ":8080",
		ShutdownTimeout: 30 * time.Second,
		Limits: Limits{
			MaxBody:       5 << 20,
			MaxHeader:     16 << 10,
			HeaderTimeout: 10 * time.Second,
			ReadTimeout:   30 * time.Second,
			IdleTimeout:   2 * time.Minute,
			Connections:   4096,
		},
	}
	if len(blocks) == 0 {
		return
	}
	b := l.block(blocks[0], "server")
	b.address("listen", &c.Listen)
	b.prefixes("trusted_proxies", &c.TrustedProxies)
	b.duration("shutdown_timeout", &c.ShutdownTimeout, 0, time.Hour)
	if t := b.block("tls"); t != nil {
		c.TLS = t.tls()
	}
	if t := b.block("limits"); t != nil {
		t.size("max_body", &c.Limits.MaxBody, 1, maxBody)
		header := int64(c.Limits.MaxHeader)
		t.size("max_header", &header, 4<<10, 16<<20)
		c.Limits.MaxHeader = int(header)
		t.duration("header_timeout", &c.Limits.HeaderTimeout, time.Millisecond, time.Hour)
		t.duration("read_timeout", &c.Limits.ReadTimeout, time.Millisecond, time.Hour)
		t.duration("idle_timeout", &c.Limits.IdleTimeout, time.Millisecond, day)
		t.integer("connections", &c.Limits.Connections, 1, 1<<20)
		t.rate("rate", &c.Limits.Rate)
		t.finish()
	}
	b.finish()
}

// maxBody bounds what a body limit can be: a request is held in memory and sent to its decoder in one message.
// Half of what a message may be leaves room for the rest of a call.
const maxBody = 32 << 20

func (l *loader) storage(blocks []*hclsyntax.Block) {
	c := &l.cfg.Storage
	*c = Storage{
		Driver:         "sqlite",
		Path:           l.abs(filepath.FromSlash("data/grapnel.db")),
		Retention:      30 * day,
		StateRetention: 365 * day,
		DedupeWindow:   7 * day,
		MinFree:        256 << 20,
	}
	if len(blocks) == 0 {
		return
	}
	switch label := blocks[0].Labels[0]; label {
	case "sqlite":
	case "postgres", "postgresql":
		l.error(blocks[0].LabelRanges[0], "Storage in PostgreSQL is not supported by this version yet", `Use "sqlite".`)
		return
	default:
		l.error(blocks[0].LabelRanges[0], fmt.Sprintf("There is no storage %q", label), `Use "sqlite".`)
		return
	}
	b := l.block(blocks[0], "storage")
	b.path("path", &c.Path)
	b.duration("retention", &c.Retention, minRetention, maxDuration)
	b.duration("state_retention", &c.StateRetention, day, maxDuration)
	b.duration("dedupe_window", &c.DedupeWindow, time.Second, maxDuration)
	b.size("min_free", &c.MinFree, 0, 1<<50)
	b.finish()
}

func (l *loader) log(blocks []*hclsyntax.Block) {
	l.cfg.Log = Log{Level: "info"}
	if len(blocks) == 0 {
		return
	}
	b := l.block(blocks[0], "log")
	b.choice("level", &l.cfg.Log.Level, "trace", "debug", "info", "warn", "error")
	b.choice("format", &l.cfg.Log.Format, "text", "json")
	b.finish()
}

func (l *loader) plugins(blocks []*hclsyntax.Block) {
	c := &l.cfg.Plugins
	c.Dir = l.abs(filepath.FromSlash("bin/plugins"))
	if len(blocks) == 0 {
		return
	}
	b := l.block(blocks[0], "plugins")
	b.needed = []string{"dir"}
	b.path("dir", &c.Dir)
	b.size("memory_limit", &c.MemoryLimit, minMemory, 1<<40)
	if c.MemoryLimit > 0 && runtime.GOOS != "linux" {
		l.warn(b.body.Attributes["memory_limit"].NameRange, `"memory_limit" has no effect on this system`,
			"What a process uses is measured on Linux only.")
	}
	b.blocks = append(b.blocks, "plugin")
	seen := map[string]bool{}
	for _, n := range b.body.Blocks {
		if n.Type != "plugin" {
			continue
		}
		ref, ok := l.pluginLabel(n)
		if !ok {
			continue
		}
		if seen[n.Labels[0]] {
			l.error(blockHeader(n), fmt.Sprintf("A second block for the plugin %q", n.Labels[0]), "")
			continue
		}
		seen[n.Labels[0]] = true
		pin := Pin{Kind: ref.kind, Name: ref.name, Range: rangeOf(blockHeader(n))}
		p := l.block(n, fmt.Sprintf("plugin %q", n.Labels[0]))
		p.needed = []string{"version", "dev"}
		if p.text("version", &pin.Version) {
			var err error
			if pin.Constraint, err = pluginfile.ParseConstraint(pin.Version); err != nil {
				p.wrong("version", p.body.Attributes["version"].Expr.Range(), `a constraint such as "~> 1.2" or ">= 1.2, < 2"`)
			}
		}
		if p.text("sha256", &pin.SHA256) && !hashPattern.MatchString(pin.SHA256) {
			p.wrong("sha256", p.body.Attributes["sha256"].Expr.Range(), wantHash)
		}
		pin.SHA256 = strings.ToLower(pin.SHA256)
		p.path("dev", &pin.Dev)
		p.finish()
		if pin.Dev != "" {
			l.warn(p.at, fmt.Sprintf("The plugin %q is run from a development path", n.Labels[0]),
				"The lock file is not consulted for it.")
		}
		c.Pins = append(c.Pins, pin)
	}
	b.finish()
}

// minMemory is more than an idle plugin needs: with less it would be replaced for ever.
const minMemory = 32 << 20

// pluginLabel reads the label of a plugin block.
func (l *loader) pluginLabel(n *hclsyntax.Block) (pluginRef, bool) {
	if len(n.Labels) != 1 {
		l.error(blockHeader(n), "A plugin block has one label", `Write plugin "sink-file" { … }`)
		return pluginRef{}, false
	}
	kind, name, ok := strings.Cut(n.Labels[0], "-")
	ref := pluginRef{core.PluginKind(kind), name}
	if !ok || ref.kind != core.PluginDecoder && ref.kind != core.PluginSink || !namePattern.MatchString(name) {
		l.error(n.LabelRanges[0], fmt.Sprintf("%q names no plugin", n.Labels[0]),
			`Write its kind and its name: "decoder-youforce" or "sink-file".`)
		return pluginRef{}, false
	}
	return ref, true
}

// namePattern is what names of blocks look like.
var namePattern = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)

// address takes a "host:port" to listen on.
func (b *block) address(name string, to *string) bool {
	if !b.text(name, to) {
		return false
	}
	_, port, err := net.SplitHostPort(*to)
	if err == nil {
		var n uint64
		if n, err = strconv.ParseUint(port, 10, 16); err == nil && n > 65535 {
			err = strconv.ErrRange
		}
	}
	if err != nil {
		b.wrong(name, b.body.Attributes[name].Expr.Range(), `an address and a port such as ":8080" or "127.0.0.1:8080"`)
	}
	return true
}

// readable reports a file that cannot be opened.
func (b *block) readable(name, path string) bool {
	if path == "" {
		return false // said already
	}
	f, err := os.Open(path)
	if err != nil && b.l.opt.Incomplete {
		return false
	}
	if err != nil {
		b.l.error(b.body.Attributes[name].Expr.Range(), fmt.Sprintf("The file of %q of %s cannot be read", name, b.what),
			sentence(fmt.Sprintf("%s: %s", path, ioMessage(err))))
		return false
	}
	f.Close()
	return true
}

// tls takes a block of a certificate and its key.
func (b *block) tls() *TLS {
	t := &TLS{}
	b.path("cert", &t.Cert)
	b.path("key", &t.Key)
	b.required("cert", "key")
	good := b.readable("cert", t.Cert)
	if b.readable("key", t.Key) && good {
		b.pair(t)
	}
	b.finish()
	return t
}

// pair reports a certificate and a key that cannot be used, or not for long.
func (b *block) pair(t *TLS) {
	if b.l.opt.CheckTLS == nil {
		return
	}
	warning, err := b.l.opt.CheckTLS(t.Cert, t.Key)
	if err != nil {
		b.l.error(b.at, fmt.Sprintf("The certificate and the key of %s cannot be used", b.what), sentence(err.Error()))
	} else if warning != "" {
		b.l.warn(b.body.Attributes["cert"].Expr.Range(), fmt.Sprintf("The certificate of %s %s", b.what, warning), "")
	}
}

// required reports attributes that are left out or null. Those whose value is wrong are reported already.
func (b *block) required(names ...string) {
	for _, name := range names {
		a := b.body.Attributes[name]
		if a == nil {
			if !b.l.partial {
				b.l.error(b.at, fmt.Sprintf("%q is missing in %s", name, b.what), "")
			}
			continue
		}
		n := len(b.l.diags.list)
		v, ok := b.l.eval(a.Expr)
		b.l.diags.list = b.l.diags.list[:n] // said when it was taken
		if ok && v.IsNull() {
			b.l.error(a.Expr.Range(), fmt.Sprintf("%q of %s is null", name, b.what), b.l.because(v))
		}
	}
}
