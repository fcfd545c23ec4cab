package pluginhost

import (
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/mod/semver"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/auth"
	"github.com/grapnelhq/grapnel/core/pluginfile"
	"github.com/grapnelhq/grapnel/sdk"
)

const (
	maxBatch      = 10_000
	maxTypeLength = 128
	maxReply      = 64 << 10 // bytes
)

// problems collects what is wrong with a description.
type problems struct{ errs []error }

func (p *problems) addf(format string, args ...any) {
	p.errs = append(p.errs, fmt.Errorf(format, args...))
}

// checkInfo says everything that is wrong with what a plugin says about itself: names, schemas, and features that this
// host does not have. Nothing behind it has to doubt a description again.
func checkInfo(info *core.PluginInfo) error {
	var p problems
	if info.Version != "devel" && !semver.IsValid("v"+info.Version) {
		p.addf("version %q is neither a semantic version without v nor devel", clip(info.Version, 40))
	}
	p.schema("config", &info.Config, true)
	p.object("config", &info.Config)
	for _, a := range info.Config.Attributes {
		if core.ReservedAttribute(a.Name) {
			p.addf("config.%s: the name belongs to the host, the plugin must choose another", a.Name)
		}
	}
	switch info.Kind {
	case core.PluginSink:
		p.schema("message", &info.Message, true)
		p.object("message", &info.Message)
		if info.MaxBatch < 0 || info.MaxBatch > maxBatch {
			p.addf("max_batch is %d, it must be within 0 and %d", info.MaxBatch, maxBatch)
		}
	case core.PluginDecoder:
		p.provider(info, false)
	}
	return errors.Join(p.errs...)
}

func (p *problems) object(path string, s *sdk.Schema) {
	if s.Kind != sdk.KindObject {
		p.addf("%s: the schema is of kind %q, it must be an object", path, s.Kind)
	}
}

// schema checks one level of a schema and what is below; package wire has bounded how deep that is. named: attribute
// names are names of the configuration language.
func (p *problems) schema(path string, s *sdk.Schema, named bool) {
	switch s.Kind {
	case sdk.KindAny, sdk.KindString, sdk.KindNumber, sdk.KindInteger, sdk.KindBool, sdk.KindDuration, sdk.KindObject:
	case sdk.KindMap, sdk.KindList:
		if s.Element == nil {
			p.addf("%s: a %s without a schema of its elements", path, s.Kind)
			return
		}
		p.schema(path+"[]", s.Element, named)
	default:
		p.addf("%s: unknown kind %q", path, s.Kind)
	}
	if s.Kind != sdk.KindObject && len(s.Attributes) > 0 {
		p.addf("%s: attributes on a %s", path, s.Kind)
	}
	if s.Kind != sdk.KindString && (len(s.Enum) > 0 || s.Format != sdk.FormatNone) {
		p.addf("%s: enum and format are for strings, not for a %s", path, s.Kind)
	}
	if s.Escape != sdk.EscapeNone && s.Kind != sdk.KindString && s.Kind != sdk.KindAny {
		p.addf("%s: an escape is for strings and any value, not for a %s", path, s.Kind)
	}
	switch s.Escape {
	case sdk.EscapeNone, sdk.EscapeHTML, sdk.EscapeURL, sdk.EscapeSlackMrkdwn:
	default:
		p.addf("%s: unknown escape %q", path, s.Escape)
	}
	switch s.Format {
	case sdk.FormatNone, sdk.FormatPath:
	default:
		p.addf("%s: unknown format %q", path, s.Format)
	}
	if len(s.Default) > 0 {
		if !json.Valid(s.Default) {
			p.addf("%s: the default is not JSON", path)
		}
		if !s.Optional {
			p.addf("%s: a default on a required attribute", path)
		}
	}
	seen := map[string]bool{}
	for i := range s.Attributes {
		a := &s.Attributes[i]
		switch {
		case seen[a.Name]:
			p.addf("%s: attribute %q twice", path, a.Name)
		case named && !pluginfile.ValidName(a.Name):
			p.addf("%s: %q is not an attribute name: lower-case letters, digits and _, starting with a letter",
				path, clip(clean(a.Name), 80))
		case a.Name == "" || len(a.Name) > 256 || !utf8.ValidString(a.Name):
			p.addf("%s: an attribute's name is empty, too long or no UTF-8", path)
		}
		seen[a.Name] = true
		p.schema(path+"."+a.Name, &a.Schema, named)
	}
}

// provider checks a manifest: the plugin's own or, with another name if it likes, that of one of its instances.
func (p *problems) provider(info *core.PluginInfo, instance bool) {
	m := info.Provider
	if m == nil {
		p.addf("a decoder without a manifest")
		return
	}
	switch {
	case instance && !pluginfile.ValidName(m.Name):
		p.addf("the provider's name %q is no name: lower-case letters, digits and _, starting with a letter",
			clip(clean(m.Name), 80))
	case !instance && m.Name != info.Name:
		p.addf("the manifest is of provider %q, the plugin is named %q: they must be the same", clip(m.Name, 80), info.Name)
	}
	if m.Handshake != nil {
		if err := auth.CheckHandshake(m); err != nil {
			p.addf("%s", clip(clean(err.Error()), maxReason))
		}
	}
	p.reply(m.Reply)
	for _, method := range m.Methods {
		if method == "" || strings.Trim(method, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
			p.addf("methods: %q is no HTTP method", clip(clean(method), 40))
		}
	}
	for _, t := range m.ContentTypes {
		if parsed, params, err := mime.ParseMediaType(t); err != nil || len(params) > 0 || parsed != t {
			p.addf("content_types: %q is no media type in lower case without parameters", clip(clean(t), 80))
		}
	}
	for _, a := range m.Addresses {
		if _, err := netip.ParseAddr(a); err != nil {
			if _, err := netip.ParsePrefix(a); err != nil {
				p.addf("addresses: %q is neither an IP address nor a CIDR range", clip(clean(a), 80))
			}
		}
	}
	for i, key := range m.Dedupe {
		if len(key) == 0 {
			p.addf("dedupe[%d]: no parts", i)
		}
		for _, part := range key {
			p.part(fmt.Sprintf("dedupe[%d]", i), part)
		}
	}
	p.schemes(info)
	p.events(m)
}

func (p *problems) reply(r sdk.Reply) {
	switch {
	case r.Status != 0 && (r.Status < 200 || r.Status > 299):
		p.addf("reply: status %d is not within 200 and 299", r.Status)
	case (r.Status == http.StatusNoContent || r.Status == http.StatusResetContent) && len(r.Body) > 0:
		p.addf("reply: status %d has no body", r.Status)
	case len(r.Body) > maxReply:
		p.addf("reply: the body has %d bytes, at most %d are allowed", len(r.Body), maxReply)
	}
	if _, _, err := mime.ParseMediaType(r.ContentType); r.ContentType != "" && (err != nil || clean(r.ContentType) != r.ContentType) {
		p.addf("reply: %q is no content type", clip(clean(r.ContentType), 80))
	}
}

func (p *problems) schemes(info *core.PluginInfo) {
	seen := map[string]bool{}
	for i := range info.Provider.Schemes {
		s := &info.Provider.Schemes[i]
		path := "scheme " + clip(clean(s.Name), 80)
		switch {
		case !pluginfile.ValidName(s.Name):
			p.addf("%s: not a name", path)
		case s.Name == "none":
			p.addf("%s: the name belongs to the host", path)
		case seen[s.Name]:
			p.addf("%s: twice", path)
		}
		seen[s.Name] = true
		if s.Attribute != "" && s.Attribute != "secrets" {
			p.schemeAttribute(path, info, s.Attribute)
		}
		for _, a := range s.Allow {
			p.schemeAttribute(path, info, a.Attribute)
		}
		if err := auth.Check(*s); err != nil {
			p.addf("%s", clip(clean(err.Error()), maxReason))
		}
		if slices.Contains(info.Provider.Methods, http.MethodGet) && signsNoQuery(s) {
			p.addf("%s: methods has GET, whose content is the query, and no part of it is signed", path)
		}
	}
}

// signsNoQuery reports whether a scheme signs requests, but no query parameter.
func signsNoQuery(s *sdk.Scheme) bool {
	var content []sdk.Part
	switch {
	case s.HMAC != nil:
		content = s.HMAC.SignedContent
	case s.Ed25519 != nil:
		content = s.Ed25519.SignedContent
	default:
		return false
	}
	return !slices.ContainsFunc(content, func(p sdk.Part) bool { return p.Kind == sdk.PartQuery })
}

// schemeAttribute checks an attribute that a scheme adds to a source block. Schemes may share one.
func (p *problems) schemeAttribute(path string, info *core.PluginInfo, name string) {
	switch {
	case !pluginfile.ValidName(name):
		p.addf("%s: %q is not an attribute name", path, clip(clean(name), 80))
	case core.ReservedAttribute(name):
		p.addf("%s: the attribute name %q belongs to the host", path, name)
	case info.Config.Attribute(name) != nil:
		p.addf("%s: the attribute %q is also in the plugin's configuration", path, name)
	}
}

func (p *problems) part(path string, part sdk.Part) {
	if _, err := auth.NewPart(part); err != nil {
		p.addf("%s: %s", path, clip(clean(err.Error()), maxReason))
	}
}

func (p *problems) events(m *sdk.Provider) {
	seen := map[string]bool{}
	for i := range m.Events {
		e := &m.Events[i]
		if why := checkType(e.Type, m.Name); why != "" {
			p.addf("event type %q %s", clip(clean(e.Type), 80), why)
			continue
		}
		if seen[e.Type] {
			p.addf("event type %q twice", e.Type)
		}
		seen[e.Type] = true
		p.schema(e.Type, &e.Data, false)
	}
}

// checkType says what is wrong with an event type; empty: nothing.
func checkType(t, provider string) string {
	if len(t) > maxTypeLength {
		return fmt.Sprintf("is longer than %d bytes", maxTypeLength)
	}
	dot := true // at the beginning of a part
	for i := range len(t) {
		switch c := t[i]; {
		case c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '_':
			dot = false
		case c == '.' && !dot:
			dot = true
		default:
			return "is not made of parts of a-z, 0-9 and _ with a full stop between them"
		}
	}
	if dot {
		return "is not made of parts of a-z, 0-9 and _ with a full stop between them"
	}
	if len(t) <= len(provider) || t[:len(provider)] != provider || t[len(provider)] != '.' {
		return fmt.Sprintf("does not begin with the provider's name and a full stop, %q", provider+".")
	}
	return ""
}
