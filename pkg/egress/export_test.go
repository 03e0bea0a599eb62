package egress

import "net/netip"

// Reach tells the tests where the guard thinks that an address leads to: what
// is public can't be dialed in a test.
func Reach(a netip.Addr) string { return [...]string{"public", "private", "never"}[reachOf(a)] }
