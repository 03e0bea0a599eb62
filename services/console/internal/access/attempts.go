package access

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Bounds of wrong tokens: ten at once from one network, then one every six
// seconds. Addresses beyond the table share one allowance.
const (
	attemptsAtOnce = 10
	attemptEvery   = 6 * time.Second
	maxNetworks    = 4096
)

// attempts counts wrong tokens by where they came from.
type attempts struct {
	now func() time.Time

	mu       sync.Mutex // guards what follows
	networks map[netip.Prefix]*rate.Limiter
	others   *rate.Limiter
}

func newAttempts(now func() time.Time) *attempts {
	return &attempts{now: now, networks: map[netip.Prefix]*rate.Limiter{}, others: allowance()}
}

func allowance() *rate.Limiter { return rate.NewLimiter(rate.Every(attemptEvery), attemptsAtOnce) }

// wrong notes a wrong token from an address, and reports whether its network may
// still have some.
func (a *attempts) wrong(address string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	from, now := network(address), a.now()
	l, ok := a.networks[from]
	if !ok && len(a.networks) >= maxNetworks {
		if a.others.TokensAt(now) < 1 { // else every attempt would search the table for room
			return false
		}
		a.forget(now)
	}
	if !ok {
		if l = a.others; len(a.networks) < maxNetworks {
			l = allowance()
			a.networks[from] = l
		}
	}
	return l.AllowN(now, 1)
}

// forget drops networks whose wrong tokens count no more.
func (a *attempts) forget(now time.Time) {
	for from, l := range a.networks {
		if l.TokensAt(now) >= attemptsAtOnce {
			delete(a.networks, from)
		}
	}
}

// network is what an address is counted under: itself, or its /64, of which one
// machine has all addresses.
func network(address string) netip.Prefix {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return netip.Prefix{}
	}
	ip = ip.Unmap().WithZone("")
	bits := 64
	if ip.Is4() {
		bits = 32
	}
	p, _ := ip.Prefix(bits)
	return p
}
