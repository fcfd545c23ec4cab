package config

import (
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strings"

	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// minToken is how long the token of the admin listener is at least, in bytes: nobody guesses one as long as this that is
// made by chance.
const minToken = 16

func (l *loader) admin(blocks []*hclsyntax.Block) {
	if len(blocks) == 0 {
		return
	}
	c := &l.cfg.Admin
	c.Listen = "127.0.0.1:8081"
	b := l.block(blocks[0], "admin")
	b.address("listen", &c.Listen)
	b.hostNames("hosts", &c.Hosts)
	if t := b.block("tls"); t != nil {
		c.TLS = t.tls()
	}
	b.token(c)
	b.finish()
}

// token takes the token, without which only this machine may listen.
func (b *block) token(c *Admin) {
	a := b.attr("token")
	if a == nil {
		if !loopback(c.Listen) && !b.l.partial {
			b.l.error(b.at, fmt.Sprintf("%q is missing in %s, which listens at %s", "token", b.what, c.Listen),
				fmt.Sprintf(`Other machines may reach it there. Write token = env("GRAPNEL_ADMIN_TOKEN") and set it to a text of at `+
					`least %d characters made by chance, or listen at "127.0.0.1:8081".`, minToken))
		}
		return
	}
	b.l.hide(a.Expr.Range())
	v, unset, ok := b.l.evalUnset(a.Expr)
	if !ok || len(unset) > 0 {
		return
	}
	bare, marks := v.UnmarkDeep()
	if bare.IsNull() {
		if !loopback(c.Listen) {
			b.l.error(a.Expr.Range(), fmt.Sprintf("%q of %s is null, and it listens at %s", "token", b.what, c.Listen),
				strings.TrimSpace(b.l.because(v)+" Other machines may reach it there."))
		}
		return
	}
	for _, m := range origins(marks) {
		b.l.taint[m] = true
	}
	text, isText := asText(bare)
	why := ""
	switch {
	case !isText:
		why = "a text: put it in quotes"
	case len(text) < minToken:
		why = fmt.Sprintf("a text of at least %d characters", minToken)
	case strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }):
		why = "made of visible ASCII characters, without spaces" // it goes into a header
	}
	if isText && text != "" {
		b.l.secret(text)
	}
	if why != "" {
		b.wrong("token", a.Expr.Range(), why)
		b.l.veilValue(a.Expr)
		return
	}
	c.Token = text
}

// loopback reports whether only this machine reaches an address to listen on. One that is wrong is reported already.
func loopback(listen string) bool {
	host, _, err := net.SplitHostPort(listen)
	if err != nil || strings.EqualFold(host, "localhost") {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback()
}

var hostName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$`)

// hostNames takes a list of names and addresses without ports, in lower case.
func (b *block) hostNames(name string, to *[]string) {
	texts, ok := b.texts(name)
	if !ok {
		return
	}
	for i, t := range texts {
		t = strings.ToLower(t)
		if a, err := netip.ParseAddr(strings.Trim(t, "[]")); err == nil {
			t = a.String()
		} else if !hostName.MatchString(t) {
			b.l.error(b.item(name, i), fmt.Sprintf("An item of %q is no name of a host", name),
				`Write "grapnel.example.com", without https:// and without a port.`)
			continue
		}
		*to = append(*to, t)
	}
}
