package config

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/sdk"
)

// sourceBlock is a source block that can be named, whatever else may be wrong with it.
type sourceBlock struct {
	plugin string
	info   *core.PluginInfo // nil: unknown
	// builtin: it is the host's own, and routes that name no source do not mean it.
	builtin bool
}

func (l *loader) allSources(blocks []*hclsyntax.Block) {
	l.sources = map[string]*sourceBlock{}
	seen := map[string]hcl.Range{}
	for _, hb := range blocks {
		what, first := l.names(hb, seen)
		s := l.source(hb, what)
		if first {
			l.diags.blocks[blockName{core.PluginDecoder, hb.Labels[1]}] = hb
			l.sources[hb.Labels[1]] = &sourceBlock{plugin: hb.Labels[0], info: s.Info}
		}
	}
	l.paths()
}

// noAuth is the value of `auth` for a source that takes unsigned requests. It is never a default.
const noAuth = "none"

func (l *loader) source(hb *hclsyntax.Block, what string) Source {
	s := Source{
		Plugin:  hb.Labels[0],
		Name:    hb.Labels[1],
		Path:    "/hooks/" + hb.Labels[1],
		MaxBody: l.cfg.Server.Limits.MaxBody,
		Range:   rangeOf(blockHeader(hb)),
	}
	b := l.block(hb, what)
	b.plugin, b.needed = true, []string{"tenant", "auth"}
	enabled := b.enabled()
	// Of a disabled source as well: what it has stored is kept for as long as before.
	var retention time.Duration
	if b.duration("retention", &retention, minRetention, maxDuration); retention > 0 {
		l.cfg.Retention[s.Name] = retention
	}
	s.Info = l.describe(core.PluginDecoder, hb, !enabled)
	known := s.Info != nil && s.Info.Provider != nil
	if !enabled {
		b.attrs = append(b.attrs, "isolated", "auth", "path", "tenant", "allow_ips", "max_body")
		if known {
			b.schemeNames(s.Info)
			pluginNames(b, &s.Info.Config)
			b.finish()
		}
		l.cfg.Disabled = append(l.cfg.Disabled, Disabled{"source", s.Plugin, s.Name, s.Range})
		return s
	}
	b.bool("isolated", &s.Isolated)
	b.urlPath(&s.Path)
	b.text("tenant", &s.Tenant)
	b.prefixes("allow_ips", &s.AllowIPs)
	b.size("max_body", &s.MaxBody, 1, maxBody)
	if !known {
		b.attr("auth")
		l.cfg.Sources = append(l.cfg.Sources, s) // for the paths; there is an error, so nobody else sees it
		return s
	}
	config, ok := l.pluginConfig(b, &s.Info.Config, true)
	if ok {
		s.Config = config
		var answer core.Validation
		if answer, ok = l.checkConfig(hb, what, s.Info, config); answer.Provider != nil {
			s.Info = withManifest(s.Info, answer.Provider)
		}
	}
	if !ok && s.Info.Has(core.ManifestPerSource) {
		// Which schemes there are is not known: what is said of them would be about others.
		b.attr("auth")
		b.schemeNames(s.Info)
	} else {
		b.auth(&s, s.Info.Provider)
	}
	b.finish()
	l.cfg.Sources = append(l.cfg.Sources, s)
	return s
}

// withManifest is what a plugin says about itself with the manifest of one source.
func withManifest(info *core.PluginInfo, manifest *sdk.Provider) *core.PluginInfo {
	own := *info
	own.Provider = manifest
	return &own
}

// schemeNames asks for all that the schemes of a plugin bring along, without looking at it.
func (b *block) schemeNames(info *core.PluginInfo) {
	b.attrs = append(b.attrs, credentialNames(info.Provider.Schemes)...)
	if info.Has(core.ManifestPerSource) {
		b.attr("secrets") // most schemes have it, and some may only be known with the configuration
	}
}

// credentialNames lists the attributes that the schemes of a manifest bring along.
func credentialNames(schemes []sdk.Scheme) []string {
	var out []string
	for i := range schemes {
		out = append(out, credential(&schemes[i]))
		for _, a := range schemes[i].Allow {
			out = append(out, a.Attribute)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// credential is the attribute that holds a scheme's credentials.
func credential(s *sdk.Scheme) string {
	if s.Attribute == "" {
		return "secrets"
	}
	return s.Attribute
}

// auth takes the scheme and what belongs to it.
func (b *block) auth(s *Source, p *sdk.Provider) {
	names := []string{}
	for _, scheme := range p.Schemes {
		names = append(names, scheme.Name)
	}
	if len(names) > 0 && !p.ChooseScheme {
		s.Auth = names[0]
	}
	n := len(b.l.diags.list)
	b.choice("auth", &s.Auth, append(slices.Clone(names), noAuth)...)
	failed := len(b.l.diags.list) > n
	i := slices.Index(names, s.Auth)
	if s.Auth != noAuth && i >= 0 {
		s.Scheme = &p.Schemes[i]
	}
	switch {
	case s.Auth != "" || failed:
	case p.ChooseScheme:
		failed = true
		if !b.l.partial {
			b.l.error(b.at, fmt.Sprintf("%q is missing in %s", "auth", b.what),
				"Use one of "+join(append(slices.Clone(names), noAuth), "or")+`; "none" takes unsigned requests.`)
		}
	default:
		b.l.error(b.at, fmt.Sprintf("The decoder %q knows no way to authenticate a request", s.Plugin),
			`Write auth = "none" to take unsigned requests.`)
	}
	if h := p.Handshake; h != nil && h.Proof != nil && !failed && s.Auth != "" && (s.Scheme == nil || s.Scheme.HMAC == nil) {
		b.l.warn(b.at, fmt.Sprintf("With auth = %q the handshake of %q cannot be answered", s.Auth, s.Plugin),
			"It proves that the secret of a signature is known, and this source has none.")
	}
	var own []string
	if s.Scheme != nil && !failed {
		own = credentialNames(p.Schemes[i : i+1])
		b.credentials(s)
	}
	for _, name := range credentialNames(p.Schemes) {
		if slices.Contains(own, name) || s.Info.Config.Attribute(name) != nil {
			continue
		}
		a := b.attr(name)
		if a == nil || failed {
			continue
		}
		b.l.warn(a.NameRange, fmt.Sprintf("%q is not used with auth = %q", name, s.Auth), "")
		b.l.veil(false)
	}
}

// credentials takes the secrets and allow lists of the source's scheme.
func (b *block) credentials(s *Source) {
	good := true
	s.Allow = map[string][]string{}
	for _, a := range s.Scheme.Allow {
		n := len(b.l.diags.list)
		if texts, ok := b.texts(a.Attribute); ok {
			s.Allow[a.Attribute] = texts
		}
		good = good && len(b.l.diags.list) == n
		if written := b.body.Attributes[a.Attribute]; written != nil && good {
			_, unset, _ := b.l.evalUnset(written.Expr)
			s.Unset = append(s.Unset, unset...)
		}
	}
	name := credential(s.Scheme)
	a := b.attr(name)
	if a == nil {
		if !b.l.partial {
			b.l.error(b.at, fmt.Sprintf("%q is missing in %s", name, b.what), fmt.Sprintf(
				`Write %s = [env("NAME")], or auth = "none" to take unsigned requests.`, name))
		}
		return
	}
	b.l.hide(a.Expr.Range())
	v, unset, ok := b.l.evalUnset(a.Expr)
	s.Unset = append(s.Unset, unset...)
	if !ok {
		return
	}
	v, marks := v.Unmark()
	items := elementsOrOne(v)
	for i, x := range items {
		bare, own := x.UnmarkDeep()
		if bare.IsNull() {
			continue
		}
		at := a.Expr.Range()
		if isList(v) {
			at = b.item(name, i)
		}
		text, ok := asText(bare)
		if !ok || text == "" {
			b.l.error(at, fmt.Sprintf("An item of %q of %s is no text", name, b.what), "An item is a text that is not empty.")
			b.l.veilValue(a.Expr)
			good = false
			continue
		}
		for _, m := range append(origins(marks), origins(own)...) {
			b.l.taint[m] = true
		}
		b.l.secret(text)
		if _, password, ok := strings.Cut(text, ":"); ok && s.Scheme.Basic != nil {
			b.l.secret(password) // alone it is one, too
		}
		if strings.TrimSpace(text) != text {
			b.l.warn(at, "The secret starts or ends with white space",
				`It is used with it. A file's newline goes away with trimspace(file("…")).`)
			b.l.veilValue(a.Expr)
		}
		s.Secrets = append(s.Secrets, text)
	}
	if len(s.Secrets) == 0 && good {
		detail := b.l.because(v.WithMarks(marks))
		b.l.error(a.Expr.Range(), fmt.Sprintf("There is nothing in %q of %s", name, b.what),
			strings.TrimSpace(detail+` Only auth = "none" takes unsigned requests.`))
		return
	}
	if good && b.l.opt.CheckAuth != nil {
		if err := b.l.opt.CheckAuth(*s.Scheme, s.Secrets, s.Allow); err != nil {
			b.l.error(a.Expr.Range(), fmt.Sprintf("%q of %s cannot be used", name, b.what), sentence(b.l.hush(err.Error())))
			b.l.veilValue(a.Expr)
		}
	}
}

var urlPath = regexp.MustCompile(`^(/[A-Za-z0-9._~-]+)+$`)

// urlPath takes the path that a source is served at.
func (b *block) urlPath(to *string) {
	if !b.text("path", to) {
		return
	}
	if dots := strings.Contains(*to+"/", "/./") || strings.Contains(*to+"/", "/../"); dots || !urlPath.MatchString(*to) {
		b.wrong("path", b.body.Attributes["path"].Expr.Range(), `the path of a URL such as "/hooks/hr"`)
		b.l.diags.list[len(b.l.diags.list)-1].Detail =
			"It starts with a slash, ends without one, and is made of letters, digits and . _ ~ -"
	}
}

// paths reports sources that could get each other's requests.
func (l *loader) paths() {
	for i, s := range l.cfg.Sources {
		for _, earlier := range l.cfg.Sources[:i] {
			if s.Path == earlier.Path && s.Name != earlier.Name {
				l.clash(s, earlier, fmt.Sprintf("both are at %s", s.Path))
			} else if below(s, earlier) || below(earlier, s) {
				l.clash(s, earlier, "the path of one could be a token below the other")
			}
		}
	}
}

func (l *loader) clash(s, earlier Source, why string) {
	l.diags.list = append(l.diags.list, Diagnostic{
		Severity: Error,
		Summary:  fmt.Sprintf("The paths of the sources %q and %q clash", earlier.Name, s.Name),
		Detail:   sentence(why) + " Give one of them another path.",
		Range:    s.Range,
	})
}

// below reports whether a's path is where b expects a path token.
func below(a, b Source) bool {
	rest, ok := strings.CutPrefix(a.Path, b.Path+"/")
	if !ok || strings.Contains(rest, "/") || b.Scheme == nil || b.Scheme.Token == nil {
		return false
	}
	parts := append([]sdk.Part{b.Scheme.Token.Part}, b.Scheme.Token.Alternatives...)
	return slices.ContainsFunc(parts, func(p sdk.Part) bool { return p.Kind == sdk.PartPathToken })
}
