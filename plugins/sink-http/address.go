package main

import (
	"fmt"
	"net/netip"
	"syscall"
)

// prefix is a range of addresses of one kind.
type prefix struct {
	netip.Prefix
	kind string
}

// notPublicRanges are the special-purpose registries of IANA. IPv6 is public only within 2000::/3; notPublic knows that.
var notPublicRanges = []prefix{
	{netip.MustParsePrefix("0.0.0.0/8"), "unspecified"},
	{netip.MustParsePrefix("10.0.0.0/8"), "private"},
	{netip.MustParsePrefix("100.64.0.0/10"), "carrier-grade NAT"},
	{netip.MustParsePrefix("127.0.0.0/8"), "loopback"},
	{netip.MustParsePrefix("169.254.0.0/16"), "link-local"},
	{netip.MustParsePrefix("172.16.0.0/12"), "private"},
	{netip.MustParsePrefix("192.0.0.0/24"), "reserved"},
	{netip.MustParsePrefix("192.0.2.0/24"), "documentation"},
	{netip.MustParsePrefix("192.88.99.0/24"), "6to4 relay"},
	{netip.MustParsePrefix("192.168.0.0/16"), "private"},
	{netip.MustParsePrefix("198.18.0.0/15"), "benchmarking"},
	{netip.MustParsePrefix("198.51.100.0/24"), "documentation"},
	{netip.MustParsePrefix("203.0.113.0/24"), "documentation"},
	{netip.MustParsePrefix("224.0.0.0/4"), "multicast"},
	{netip.MustParsePrefix("240.0.0.0/4"), "reserved"},
	{netip.MustParsePrefix("::/128"), "unspecified"},
	{netip.MustParsePrefix("::1/128"), "loopback"},
	{netip.MustParsePrefix("64:ff9b:1::/48"), "NAT64"},
	{netip.MustParsePrefix("100::/64"), "discard-only"},
	{netip.MustParsePrefix("2001::/23"), "reserved"}, // Teredo, ORCHID, benchmarking
	{netip.MustParsePrefix("2001:db8::/32"), "documentation"},
	{netip.MustParsePrefix("2002::/16"), "6to4"},
	{netip.MustParsePrefix("3fff::/20"), "documentation"},
	{netip.MustParsePrefix("fc00::/7"), "private"},
	{netip.MustParsePrefix("fe80::/10"), "link-local"},
	{netip.MustParsePrefix("fec0::/10"), "site-local"},
	{netip.MustParsePrefix("ff00::/8"), "multicast"},
}

var (
	nat64         = netip.MustParsePrefix("64:ff9b::/96")
	publicUnicast = netip.MustParsePrefix("2000::/3")
)

// notPublic says of which kind an address is that is not on the public internet, or "". An address that stands for
// another one is what that one is.
func notPublic(ip netip.Addr) string {
	ip = ip.Unmap().WithZone("")
	for _, r := range notPublicRanges {
		if r.Contains(ip) {
			return r.kind
		}
	}
	switch {
	case ip.Is4():
		return ""
	case nat64.Contains(ip):
		b := ip.As16()
		return notPublic(netip.AddrFrom4([4]byte(b[12:])))
	case !publicUnicast.Contains(ip):
		return "reserved"
	}
	return ""
}

// addressError is a connection that was not made because of where it leads.
type addressError struct {
	ip   netip.Addr
	kind string
}

func (e *addressError) Error() string {
	return fmt.Sprintf("the endpoint's name leads to the %s address %s; if that is meant, write allow_private = true",
		e.kind, e.ip)
}

// controlPublic is a net.Dialer's Control that lets only connections to public addresses pass. It sees what names were
// resolved to, for every connection anew.
func controlPublic(_, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("the address of a connection cannot be read: %w", err)
	}
	if kind := notPublic(ap.Addr()); kind != "" {
		return &addressError{ap.Addr().Unmap(), kind}
	}
	return nil
}
