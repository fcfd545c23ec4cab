package main

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/grapnelhq/grapnel/sdk"
)

func TestNotPublic(t *testing.T) {
	for kind, addresses := range map[string]string{
		"": "1.1.1.1 8.8.8.8 172.15.255.255 172.32.0.1 100.63.255.255 100.128.0.1 192.0.1.1 198.17.0.1 223.255.255.255 " +
			"2606:4700::1111 2a00:1450::1 64:ff9b::101:101 ::ffff:8.8.8.8 2001:200::1 2003::1",
		"loopback": "127.0.0.1 127.255.255.255 ::1 ::ffff:127.0.0.1 64:ff9b::7f00:1",
		"private": "10.0.0.1 172.16.0.1 172.31.255.255 192.168.1.1 fc00::1 fd12::1 ::ffff:10.0.0.1 ::ffff:c0a8:101 " +
			"64:ff9b::a00:1",
		"link-local":        "169.254.169.254 fe80::1 fe80::1%eth0 ::ffff:169.254.169.254 64:ff9b::a9fe:a9fe",
		"carrier-grade NAT": "100.64.0.1 100.127.255.255",
		"unspecified":       "0.0.0.0 0.1.2.3 ::",
		"multicast":         "224.0.0.1 239.255.255.255 ff02::1",
		"reserved":          "240.0.0.1 255.255.255.255 192.0.0.8 2001::1 2001:20::1 ::2 ::7f00:1 1000::1 4000::1 fe00::1",
		"documentation":     "192.0.2.1 198.51.100.1 203.0.113.1 2001:db8::1 3fff::1",
		"benchmarking":      "198.18.0.1 198.19.255.255",
		"6to4":              "2002:7f00:1::",
		"6to4 relay":        "192.88.99.1",
		"NAT64":             "64:ff9b:1::7f00:1",
		"discard-only":      "100::1",
		"site-local":        "fec0::1",
	} {
		for a := range strings.FieldsSeq(addresses) {
			if got := notPublic(netip.MustParseAddr(a)); got != kind {
				t.Errorf("%s is %q, want %q", a, got, kind)
			}
		}
	}
}

// TestResolvedAddresses has names that lead to this machine and the like, which only shows when they are resolved.
func TestResolvedAddresses(t *testing.T) {
	names := map[string][]string{
		"v4.example.com.":     {"127.0.0.1"},
		"mapped.example.com.": {"::ffff:127.0.0.1"},
		"v6.example.com.":     {"::1"},
		"many.example.com.":   {"127.0.0.1", "10.255.255.1", "::1"},
		"meta.example.com.":   {"169.254.169.254"},
		"zero.example.com.":   {"0.0.0.0"},
	}
	serveNames(t, names)
	e := newEndpoint(t, nil)
	port := e.URL[strings.LastIndex(e.URL, ":"):]
	for name := range names {
		s := newSink(t, `{"url": "http://`+strings.TrimSuffix(name, ".")+port+`/"}`)
		for range 2 { // every connection is looked at
			o := deliverOne(t, s, newDelivery(1))
			if o.Kind != sdk.Suspended || !strings.Contains(o.Reason, "allow_private = true") {
				t.Errorf("%s: %+v", name, o)
			}
		}
		if err := s.Check(t.Context()); outcomeOf(err).Kind != sdk.Suspended {
			t.Errorf("%s: Check: %v", name, err)
		}
	}
	token := newSink(t, `{"url": "https://v4.example.com`+port+`/", "oauth": {
		"token_url": "https://v4.example.com`+port+`/", "client_id": "a", "client_secret": "s3cr3t"}}`)
	o := deliverOne(t, token, newDelivery(1))
	if o.Kind != sdk.Suspended || !strings.Contains(o.Reason, "loopback address 127.0.0.1") {
		t.Errorf("token address: %+v", o)
	}
	if n := len(e.requests()); n > 0 {
		t.Errorf("%d requests reached the endpoint", n)
	}
	allowed := newSink(t, configFor("http://v4.example.com"+port, ""))
	if o := deliverOne(t, allowed, newDelivery(1)); o.Kind != sdk.Delivered {
		t.Errorf("with allow_private: %+v", o)
	}
}

// serveNames makes the resolver of this process ask a server of the test's own, which knows the names in the map; they
// end with a dot.
func serveNames(t *testing.T, names map[string][]string) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		buf := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buf[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			q := m.Questions[0]
			m.Response, m.Additionals = true, nil
			for _, text := range names[strings.ToLower(q.Name.String())] {
				a := netip.MustParseAddr(text)
				header := dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, Type: q.Type}
				switch {
				case a.Is4() && q.Type == dnsmessage.TypeA:
					m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AResource{A: a.As4()}})
				case a.Is6() && q.Type == dnsmessage.TypeAAAA:
					m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}})
				}
			}
			if out, err := m.Pack(); err == nil {
				conn.WriteTo(out, from)
			}
		}
	}()
	before := net.DefaultResolver
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
	t.Cleanup(func() {
		net.DefaultResolver = before
		conn.Close()
		<-served
	})
}

func FuzzNotPublic(f *testing.F) {
	f.Add([]byte{127, 0, 0, 1})
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		a, ok := netip.AddrFromSlice(b)
		if !ok || notPublic(a) != "" {
			return
		}
		if u := a.Unmap(); !u.IsGlobalUnicast() || u.IsPrivate() {
			t.Fatalf("%s counts as public", a)
		}
	})
}
