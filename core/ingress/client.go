package ingress

import (
	"net/http"
	"net/netip"
	"strings"
)

// maxHops bounds how far back a chain of proxies is followed.
const maxHops = 32

// proxies knows whom to believe about the client's address.
type proxies struct {
	trusted   []netip.Prefix
	forwarded bool
}

// client returns the address of the first hop, seen from here, that is no trusted proxy. If a trusted proxy names
// something that is no address, nobody can say who the client is: the proxy's own address is returned, and ok is false.
func (p *proxies) client(r *http.Request) (addr netip.Addr, ok bool) {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}, false
	}
	addr = normal(peer.Addr())
	if !p.trusts(addr) {
		return addr, true
	}
	var lines []string
	if p.forwarded {
		lines = r.Header["Forwarded"]
	} else {
		lines = r.Header["X-Forwarded-For"]
	}
	hops := 0
	for i := len(lines) - 1; i >= 0; i-- {
		for rest := lines[i]; ; {
			comma := lastComma(rest, p.forwarded)
			item := rest[comma+1:]
			if p.forwarded {
				item = forwardedFor(item)
			}
			next, ok := parseHop(item)
			if hops++; !ok || hops > maxHops {
				return addr, false
			}
			if addr = next; !p.trusts(addr) {
				return addr, true
			}
			if comma < 0 {
				break
			}
			rest = rest[:comma]
		}
	}
	return addr, true // proxies all the way: the farthest
}

func (p *proxies) trusts(a netip.Addr) bool {
	for _, t := range p.trusted {
		if t.Contains(a) {
			return true
		}
	}
	return false
}

// normal makes an address comparable with prefixes: no IPv4 in IPv6, no zone.
func normal(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

// parseHop reads an address with or without port: 1.2.3.4, 1.2.3.4:5, 2001:db8::1, [2001:db8::1], [2001:db8::1]:5.
func parseHop(s string) (netip.Addr, bool) {
	s = strings.Trim(s, " \t")
	if len(s) > 64 {
		return netip.Addr{}, false
	}
	if inner, ok := strings.CutPrefix(s, "["); ok && strings.HasSuffix(s, "]") {
		a, err := netip.ParseAddr(inner[:len(inner)-1])
		return normal(a), err == nil && a.Is6()
	}
	if a, err := netip.ParseAddr(s); err == nil {
		return normal(a), true
	}
	ap, err := netip.ParseAddrPort(s)
	return normal(ap.Addr()), err == nil
}

// lastComma finds the last comma of a list; in Forwarded those within quotes do not count.
func lastComma(s string, quotes bool) int {
	if !quotes {
		return strings.LastIndexByte(s, ',')
	}
	last, quoted := -1, false
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '"':
			quoted = !quoted
		case s[i] == '\\' && quoted:
			i++
		case s[i] == ',' && !quoted:
			last = i
		}
	}
	return last
}

// forwardedFor returns the for= of one element of Forwarded, or "" if there is not exactly one.
func forwardedFor(element string) string {
	found, n := "", 0
	for pair := range strings.SplitSeq(element, ";") {
		k, v, _ := strings.Cut(strings.Trim(pair, " \t"), "=")
		if strings.EqualFold(k, "for") {
			found = v
			n++
		}
	}
	if n != 1 {
		return ""
	}
	if len(found) >= 2 && found[0] == '"' && found[len(found)-1] == '"' {
		found = found[1 : len(found)-1]
	}
	return found
}
