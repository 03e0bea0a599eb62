package egress

import (
	"errors"
	"fmt"
	"net/netip"
	"syscall"
)

// RefusedError is a connection that was not made because of its address.
type RefusedError struct {
	// Addr is the address.
	Addr netip.Addr
	// Private says that AllowPrivate would permit it.
	Private bool
}

// Error says why, and how to permit it where that is possible.
func (r *RefusedError) Error() string {
	if r.Private {
		return fmt.Sprintf("%s is not a public address: set allow_private for a system on the premises", r.Addr)
	}
	return fmt.Sprintf("%s is not an address of a server to call", r.Addr)
}

// guard checks the address of each connection after name resolution, right
// before it is dialed, so that no answer of a name server gets around it.
func guard(allowPrivate bool) func(network, address string, _ syscall.RawConn) error {
	return func(_, address string, _ syscall.RawConn) error {
		ap, err := netip.ParseAddrPort(address)
		if err != nil {
			return errors.New("no IP address to dial")
		}
		switch reach := reachOf(ap.Addr()); {
		case reach == public, reach == private && allowPrivate:
			return nil
		default:
			return &RefusedError{ap.Addr(), reach == private}
		}
	}
}

// reach is where an address leads to.
type reach int

const (
	public  reach = iota // the internet
	private              // this machine or its owner's networks
	never                // no server to call: metadata services, multicast, reserved
)

// privateNets are loopback, RFC 1918, shared (RFC 6598) and unique local
// (RFC 4193) addresses.
var privateNets = prefixes("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "::1/128", "fc00::/7")

// neverNets are the rest of what is not the internet, from the IANA registries
// of special-purpose addresses (read November 2026), and the metadata services
// that clouds put at other addresses.
var neverNets = prefixes(
	"0.0.0.0/8", "169.254.0.0/16", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24",
	"203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4", "168.63.129.16/32", "100.100.100.200/32", "fd00:ec2::254/128", "fd20:ce::254/128",
	"2001::/23", "2001:db8::/32", "3fff::/20",
)

var (
	nat64     = netip.MustParsePrefix("64:ff9b::/96") // the IPv4 address is in bytes 12 to 15
	sixToFour = netip.MustParsePrefix("2002::/16")    // in bytes 2 to 5
	unicast   = netip.MustParsePrefix("2000::/3")     // all that is given out of IPv6
)

func prefixes(texts ...string) []netip.Prefix {
	nets := make([]netip.Prefix, len(texts))
	for i, t := range texts {
		nets[i] = netip.MustParsePrefix(t)
	}
	return nets
}

func reachOf(a netip.Addr) reach {
	a = a.Unmap().WithZone("")
	if a.Is6() {
		b := a.As16()
		switch {
		case nat64.Contains(a):
			return reachOf(netip.AddrFrom4([4]byte(b[12:16])))
		case sixToFour.Contains(a):
			return reachOf(netip.AddrFrom4([4]byte(b[2:6])))
		}
	}
	switch {
	case within(a, neverNets):
		return never
	case within(a, privateNets):
		return private
	case a.Is4() || unicast.Contains(a):
		return public
	default:
		return never
	}
}

func within(a netip.Addr, nets []netip.Prefix) bool {
	for _, n := range nets {
		if n.Contains(a) {
			return true
		}
	}
	return false
}
