package ingress

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
)

func discard() hclog.Logger { return hclog.NewNullLogger() }

func TestClient(t *testing.T) {
	trusted := []netip.Prefix{
		netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8"), netip.MustParsePrefix("192.168.1.1/32"),
	}
	for _, c := range []struct {
		name      string
		peer      string
		forwarded bool
		header    []string
		want      string
		ok        bool
	}{
		{"direct", "1.2.3.4:5", false, nil, "1.2.3.4", true},
		{"direct with a lie", "1.2.3.4:5", false, []string{"9.9.9.9"}, "1.2.3.4", true},
		{"proxy without header", "10.0.0.1:5", false, nil, "10.0.0.1", true},
		{"one proxy", "10.0.0.1:5", false, []string{"9.9.9.9"}, "9.9.9.9", true},
		{"two proxies", "10.0.0.1:5", false, []string{"9.9.9.9, 10.0.0.2"}, "9.9.9.9", true},
		{"forged left", "10.0.0.1:5", false, []string{"8.8.8.8, 9.9.9.9,10.0.0.2"}, "9.9.9.9", true},
		{"two lines", "10.0.0.1:5", false, []string{"8.8.8.8", "9.9.9.9", "10.0.0.2"}, "9.9.9.9", true},
		{"all trusted", "10.0.0.1:5", false, []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3", true},
		{"port", "10.0.0.1:5", false, []string{"9.9.9.9:1234"}, "9.9.9.9", true},
		{"v6", "[fd00::1]:5", false, []string{"2001:db8::1"}, "2001:db8::1", true},
		{"v6 in brackets", "[fd00::1]:5", false, []string{"[2001:db8::1]"}, "2001:db8::1", true},
		{"v6 with port", "[fd00::1]:5", false, []string{"[2001:db8::1]:80"}, "2001:db8::1", true},
		{"v4 in v6", "[::ffff:10.0.0.1]:5", false, []string{"::ffff:9.9.9.9"}, "9.9.9.9", true},
		{"zone", "[fd00::1%eth0]:5", false, []string{"9.9.9.9"}, "9.9.9.9", true},
		{"rubbish", "10.0.0.1:5", false, []string{"9.9.9.9, unknown"}, "10.0.0.1", false},
		{"rubbish further", "10.0.0.1:5", false, []string{"9.9.9.9, x, 10.0.0.2"}, "10.0.0.2", false},
		{"rubbish beyond the client", "10.0.0.1:5", false, []string{"x, 9.9.9.9"}, "9.9.9.9", true},
		{"empty", "10.0.0.1:5", false, []string{""}, "10.0.0.1", false},
		{"trailing comma", "10.0.0.1:5", false, []string{"9.9.9.9,"}, "10.0.0.1", false},
		{"too many", "10.0.0.1:5", false, []string{strings.Repeat("10.0.0.2,", 40) + "10.0.0.2"}, "10.0.0.2", false},
		{"no peer", "@", false, []string{"9.9.9.9"}, "invalid IP", false},
		{"forwarded", "10.0.0.1:5", true, []string{`for=9.9.9.9;proto=https;by=1.1.1.1`}, "9.9.9.9", true},
		{"forwarded list", "10.0.0.1:5", true, []string{`for=8.8.8.8, For="9.9.9.9:80" ; proto=http, for=10.0.0.2`},
			"9.9.9.9", true},
		{"forwarded v6", "10.0.0.1:5", true, []string{`for="[2001:db8::1]:47011"`}, "2001:db8::1", true},
		{"forwarded hidden", "10.0.0.1:5", true, []string{`for=_secret`}, "10.0.0.1", false},
		{"forwarded twice", "10.0.0.1:5", true, []string{`for=9.9.9.9;for=8.8.8.8`}, "10.0.0.1", false},
		{"forwarded quoted comma", "10.0.0.1:5", true, []string{`for=9.9.9.9;host="a,for=8.8.8.8"`}, "9.9.9.9", true},
		{"forwarded open quote", "10.0.0.1:5", true, []string{`for=9.9.9.9;host="a, for=8.8.8.8`}, "9.9.9.9", true},
	} {
		r := &http.Request{RemoteAddr: c.peer, Header: http.Header{}}
		name := "X-Forwarded-For"
		if c.forwarded {
			name = "Forwarded"
		}
		if c.header != nil {
			r.Header[name] = c.header
		}
		p := proxies{trusted: trusted, forwarded: c.forwarded}
		if got, ok := p.client(r); got.String() != c.want || ok != c.ok {
			t.Errorf("%s: %s %v, want %s %v", c.name, got, ok, c.want, c.ok)
		}
	}
}

// FuzzClient: whatever stands in the headers, the answer is never a trusted proxy's word against itself: an address
// that is not trusted and is not the peer stands in the header, and everything right of it is trusted.
func FuzzClient(f *testing.F) {
	f.Add("9.9.9.9, 10.0.0.2", false)
	f.Add("[2001:db8::1]:80,::ffff:1.2.3.4", false)
	f.Add(`for="[2001:db8::1]:47011";by=x, for=unknown`, true)
	f.Add(`for="\",";"`, true)
	trusted := netip.MustParsePrefix("10.0.0.0/8")
	f.Fuzz(func(t *testing.T, value string, forwarded bool) {
		name := "X-Forwarded-For"
		if forwarded {
			name = "Forwarded"
		}
		p := proxies{trusted: []netip.Prefix{trusted}, forwarded: forwarded}
		r := &http.Request{RemoteAddr: "10.0.0.1:5", Header: http.Header{name: {value}}}
		got, ok := p.client(r)
		if !got.IsValid() || got.Zone() != "" || got.Is4In6() {
			t.Fatalf("%q: %s", value, got)
		}
		if forwarded || trusted.Contains(got) {
			return
		}
		if !ok {
			t.Fatalf("%q: unsure of %s, which no proxy vouches for", value, got)
		}
		items := strings.Split(value, ",")
		for i := len(items) - 1; i >= 0; i-- {
			a, ok := parseHop(items[i])
			if !ok {
				t.Fatalf("%q: went past %q", value, items[i])
			}
			if a == got {
				return
			}
			if !trusted.Contains(a) {
				t.Fatalf("%q: went past %s to %s", value, a, got)
			}
		}
		t.Fatalf("%q: %s is not in it", value, got)
	})
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{"a/b": "a/b", "a\nb\x00é": "a?b??", strings.Repeat("x", 20): "xxxxxxxxxx…"} {
		if got := printable(in, 10); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
