// Package starter writes first configurations: a source, a sink and a route between them, out of what the plugins say about
// themselves. The command line calls it; it starts nothing and writes no file. What a plugin's schema does not say, its own
// validation does: the caller shows it a draft and adds what is missing with Add.
package starter

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/config"
	"github.com/grapnelhq/grapnel/sdk"
)

// Variable is an environment variable that a configuration asks for.
type Variable struct {
	Name        string
	Description string
	Kind        sdk.Kind // of the attribute, by which a stand-in can be made
	Path        []string // of the attribute, in its block
}

// StandIn is a text that an attribute of the variable's kind takes.
func (v Variable) StandIn() string {
	switch v.Kind {
	case sdk.KindNumber, sdk.KindInteger:
		return "1"
	case sdk.KindBool:
		return "true"
	case sdk.KindDuration:
		return "1s"
	}
	if last := v.Path[len(v.Path)-1]; strings.Contains(last, "url") {
		return "https://example.com/" + strings.ToLower(v.Name)
	}
	return "stand-in for " + v.Name
}

// Block is a source or sink block in the making.
type Block struct {
	kind   core.PluginKind
	plugin string
	name   string
	prefix string // of its variables
	schema *sdk.Schema
	nodes  []*node

	manifest *sdk.Provider // of a source
}

// node is an attribute, or a block of attributes, that is set.
type node struct {
	name     string
	schema   *sdk.Schema
	text     string // the expression; empty: a block
	note     string // in place of the schema's description
	variable *Variable
	children []*node
}

// NewBlock makes a block of a plugin with all that its schema requires.
func NewBlock(info *core.PluginInfo, name string) *Block {
	b := &Block{
		kind: info.Kind, plugin: info.Name, name: name, prefix: strings.ToUpper(info.Name), schema: &info.Config,
		manifest: info.Provider,
	}
	if generic(info) {
		b.prefix = strings.ToUpper(name) // the plugin's says nothing
	}
	b.nodes = b.required(b.schema, nil)
	for _, h := range known[string(b.kind)+"-"+b.plugin].config {
		b.set(h)
	}
	return b
}

// SetManifest says what the manifest of the source is, where that depends on its configuration.
func (b *Block) SetManifest(p *sdk.Provider) { b.manifest = p }

// generic reports whether a decoder's plugin is for any provider: the block describes which.
func generic(info *core.PluginInfo) bool {
	return info.Kind == core.PluginDecoder && info.Name == "json"
}

// DefaultName is what a block of a plugin is called when nobody chooses a name.
func DefaultName(info *core.PluginInfo) string {
	if generic(info) {
		return "shop"
	}
	return info.Name
}

// required makes what an object's schema requires.
func (b *Block) required(s *sdk.Schema, path []string) []*node {
	var nodes []*node
	for i := range s.Attributes {
		if a := &s.Attributes[i]; !a.Schema.Optional && !a.Schema.Nullable {
			nodes = append(nodes, b.node(a, append(slices.Clone(path), a.Name)))
		}
	}
	return nodes
}

// node makes an attribute's value out of its schema: where that leaves a choice it is the first, and where it does not say
// what to choose from, the environment does.
func (b *Block) node(a *sdk.Attribute, path []string) *node {
	n := &node{name: a.Name, schema: &a.Schema}
	switch s := n.schema; {
	case s.Kind == sdk.KindObject:
		n.children = b.required(s, path)
	case s.Kind == sdk.KindMap:
		n.text = "{}"
	case s.Kind == sdk.KindList && (s.Element == nil || !scalar(s.Element.Kind)):
		n.text = "[]"
	case s.Kind == sdk.KindList:
		n.text = "[" + b.env(n, path, s.Element.Kind) + "]"
	case len(s.Enum) > 0:
		n.text = config.Quote(s.Enum[0])
	case s.Format == sdk.FormatPath:
		n.text = config.Quote("data/" + b.name)
	default:
		n.text = b.env(n, path, s.Kind)
	}
	return n
}

func scalar(k sdk.Kind) bool { return k != sdk.KindObject && k != sdk.KindMap && k != sdk.KindList }

// env has the environment say what an attribute's value is.
func (b *Block) env(n *node, path []string, kind sdk.Kind) string {
	name := b.prefix + "_" + strings.ToUpper(strings.Join(path, "_"))
	n.variable = &Variable{Name: name, Description: n.schema.Description, Kind: kind, Path: path}
	return "env(" + config.Quote(name) + ")"
}

// Add sets an attribute that the plugin asks for, and reports whether it did: not if there is none of that name, or it is
// set.
func (b *Block) Add(path []string) bool {
	nodes, schema := &b.nodes, b.schema
	for i, name := range path {
		k := slices.IndexFunc(schema.Attributes, func(a sdk.Attribute) bool { return a.Name == name })
		if schema.Kind != sdk.KindObject || k < 0 {
			return false
		}
		a := &schema.Attributes[k]
		at := slices.IndexFunc(*nodes, func(n *node) bool { return n.name == name })
		if at < 0 {
			b.insert(nodes, schema, b.node(a, slices.Clone(path[:i+1])))
			return true
		}
		nodes, schema = &(*nodes)[at].children, &a.Schema
	}
	return false
}

// set takes a hint: the blocks around it are made.
func (b *Block) set(h hint) {
	nodes, schema := &b.nodes, b.schema
	for i, name := range h.path {
		k := slices.IndexFunc(schema.Attributes, func(a sdk.Attribute) bool { return a.Name == name })
		if k < 0 {
			return // another version of the plugin
		}
		a := &schema.Attributes[k]
		at := slices.IndexFunc(*nodes, func(n *node) bool { return n.name == name })
		if at < 0 {
			b.insert(nodes, schema, &node{name: name, schema: &a.Schema})
			at = slices.IndexFunc(*nodes, func(n *node) bool { return n.name == name })
		}
		n := (*nodes)[at]
		if i == len(h.path)-1 {
			n.text, n.note, n.variable = strings.ReplaceAll(h.text, "NAME", b.name), h.note, nil
			return
		}
		nodes, schema = &n.children, &a.Schema
	}
}

// insert keeps the order of the schema.
func (b *Block) insert(nodes *[]*node, s *sdk.Schema, n *node) {
	place := func(name string) int {
		return slices.IndexFunc(s.Attributes, func(a sdk.Attribute) bool { return a.Name == name })
	}
	at := len(*nodes)
	for at > 0 && place((*nodes)[at-1].name) > place(n.name) {
		at--
	}
	*nodes = slices.Insert(*nodes, at, n)
}

// Variables lists the environment variables that the block asks for, its credentials last.
func (b *Block) Variables() []Variable {
	var list []Variable
	var collect func([]*node)
	collect = func(nodes []*node) {
		for _, n := range nodes {
			if n.variable != nil {
				list = append(list, *n.variable)
			}
			collect(n.children)
		}
	}
	collect(b.nodes)
	if s := b.Scheme(); s != nil {
		list = append(list, b.credential(s))
	}
	return list
}

// Scheme is how the requests of a source are authenticated; nil: its decoder knows no way.
func (b *Block) Scheme() *sdk.Scheme {
	if b.manifest == nil || len(b.manifest.Schemes) == 0 {
		return nil
	}
	schemes := b.manifest.Schemes
	if h := b.manifest.Handshake; h != nil && h.Proof != nil && b.manifest.ChooseScheme {
		for i := range schemes { // which the answer to the handshake needs
			if schemes[i].HMAC != nil {
				return &schemes[i]
			}
		}
	}
	return &schemes[0]
}

// credential is the variable of a scheme's credentials.
func (b *Block) credential(s *sdk.Scheme) Variable {
	v := Variable{Description: s.Description, Kind: sdk.KindString, Path: []string{credentialName(s)}}
	switch {
	case s.Token != nil:
		v.Name = "TOKEN"
	case s.Basic != nil:
		v.Name, v.Description = "CREDENTIALS", strings.TrimSpace("user:password. "+s.Description)
	case s.Ed25519 != nil:
		v.Name = "PUBLIC_KEY"
	default:
		v.Name = "SECRET"
	}
	v.Name = b.prefix + "_" + v.Name
	return v
}

// Credential is the name of the variable with a source's credentials; empty: there is none.
func (b *Block) Credential() string {
	if s := b.Scheme(); s != nil {
		return b.credential(s).Name
	}
	return ""
}

func credentialName(s *sdk.Scheme) string {
	if s.Attribute == "" {
		return "secrets"
	}
	return s.Attribute
}

// HCL writes the block.
func (b *Block) HCL() string {
	var w writer
	word := "sink"
	if b.kind == core.PluginDecoder {
		word = "source"
	}
	w.line("%s %s %s {", word, config.Quote(b.plugin), config.Quote(b.name))
	if b.kind == core.PluginDecoder {
		b.auth(&w)
	}
	w.nodes(b.nodes)
	w.optional(b.schema, b.nodes)
	w.end()
	return w.String()
}

// auth writes the credentials of a source, and what else its manifest lets it say.
func (b *Block) auth(w *writer) {
	s := b.Scheme()
	if s == nil {
		w.comment("The decoder knows no way to tell who sends: anybody who knows the address can.")
		w.line(`auth = "none"`)
		w.gap()
	} else {
		var others []string
		for _, other := range b.manifest.Schemes {
			if other.Name != s.Name {
				others = append(others, config.Quote(other.Name))
			}
		}
		w.comment(s.Description)
		if len(others) > 0 {
			w.comment("Other ways to authenticate: auth = " + strings.Join(others, ", ") + ".")
		}
		if b.manifest.ChooseScheme {
			w.line("auth = %s", config.Quote(s.Name))
		}
		v := b.credential(s)
		if name := credentialName(s); name == "secrets" {
			w.line("secrets = [env(%s)] # several overlap while one is rotated", config.Quote(v.Name))
		} else {
			w.line("%s = env(%s)", name, config.Quote(v.Name))
		}
		w.gap()
		for _, a := range s.Allow {
			w.comment(a.Description)
			w.comment(a.Attribute + ` = ["…"]`)
			w.gap()
		}
	}
	if b.manifest != nil && len(b.manifest.Addresses) > 0 {
		quoted := make([]string, len(b.manifest.Addresses))
		for i, a := range b.manifest.Addresses {
			quoted[i] = config.Quote(a)
		}
		w.comment("The addresses that it is known to send from. Behind a proxy this needs trusted_proxies in the server block.")
		w.comment("allow_ips = [" + strings.Join(quoted, ", ") + "]")
		w.gap()
	}
}

// writer writes lines of a configuration. Their layout comes later.
type writer struct {
	strings.Builder
	open bool // a gap would be between two things
}

func (w *writer) line(format string, args ...any) {
	fmt.Fprintf(w, format+"\n", args...)
	w.open = !strings.HasSuffix(format, "{")
}

// gap separates what follows by an empty line, unless a block begins here.
func (w *writer) gap() {
	if w.open {
		w.WriteString("\n")
	}
	w.open = false
}

const commentWidth = 100

// comment writes a text in lines of a comment.
func (w *writer) comment(text string) {
	line := ""
	flush := func() {
		if line != "" {
			w.line("%s", "# "+line)
		}
		line = ""
	}
	for _, word := range strings.Fields(clean(text)) {
		if line != "" && len([]rune(line))+1+len([]rune(word)) > commentWidth {
			flush()
			if strings.HasPrefix(text, "  ") {
				line = "  "
			}
		}
		if line != "" && strings.TrimSpace(line) != "" {
			line += " "
		}
		line += word
	}
	flush()
}

// clean takes out of a plugin's text what would end a comment.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == 0x85 || r == 0x2028 || r == 0x2029 {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, ""))
}

// nodes writes what is set.
func (w *writer) nodes(nodes []*node) {
	for _, n := range nodes {
		note := n.note
		if note == "" {
			note = n.schema.Description
			if len(n.schema.Enum) > 1 && n.text == config.Quote(n.schema.Enum[0]) {
				note = strings.TrimSpace(note + " One of " + choices(n.schema.Enum) + ".")
			}
		}
		w.comment(note)
		if n.text == "" {
			w.line("%s {", n.name)
			w.nodes(n.children)
			w.end()
		} else {
			w.line("%s", n.name+" = "+n.text)
		}
		w.gap()
	}
}

// optional lists what could be set besides.
func (w *writer) optional(s *sdk.Schema, set []*node) {
	first := true
	for i := range s.Attributes {
		a := &s.Attributes[i]
		if slices.ContainsFunc(set, func(n *node) bool { return n.name == a.Name }) {
			continue
		}
		if first {
			w.comment("Optional:")
			first = false
		}
		w.line("%s", strings.TrimRight("#   "+a.Name+" "+about(&a.Schema), " "))
	}
}

// about describes an optional attribute in a line.
func about(s *sdk.Schema) string {
	text := clean(kindOf(s) + " " + s.Description)
	const most = 105
	if r := []rune(text); len(r) > most {
		cut := string(r[:most])
		if i := strings.LastIndexByte(cut, ' '); i > 0 {
			cut = cut[:i]
		}
		text = strings.TrimRight(cut, " ,;:.") + " …"
	}
	return text
}

// kindOf says what an optional attribute takes, and what its value is when it is left out.
func kindOf(s *sdk.Schema) string {
	kind := string(s.Kind)
	switch {
	case s.Kind == sdk.KindObject:
		return "{ … }"
	case len(s.Enum) > 0:
		kind = choices(s.Enum)
	case s.Kind == sdk.KindString:
		kind = "text"
	case s.Kind == sdk.KindBool:
		kind = "true or false"
	case s.Kind == sdk.KindAny:
		kind = "any value"
	}
	standard := string(s.Default)
	var ns time.Duration
	if s.Kind == sdk.KindDuration && json.Unmarshal(s.Default, &ns) == nil {
		standard = config.Quote(config.FormatDuration(ns))
	}
	if standard != "" {
		kind += ", default " + standard
	}
	return "(" + kind + ")"
}

func choices(words []string) string {
	quoted := make([]string, len(words))
	for i, x := range words {
		quoted[i] = config.Quote(x)
	}
	return strings.Join(quoted, ", ")
}

// end closes a block.
func (w *writer) end() {
	text := strings.TrimRight(w.String(), "\n")
	w.Reset()
	w.WriteString(text + "\n")
	w.line("}")
}
