package pipeline

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/provider"
)

// Console is how operators look into the pipeline and act on it: the admin API
// and its pages.
type Console struct {
	// Listen is the address of the admin API and of the pages. Defaults to
	// 127.0.0.1:8089; to be reached from outside, set tokens, and TLS or a TLS
	// proxy in front.
	Listen string `yaml:"listen"`
	// TLS encrypts connections. Defaults to plain HTTP.
	TLS TLS `yaml:"tls"`
	// Tokens are who may call, by the names that audit records have. Without any,
	// only tercel up takes calls: those that come from the machine itself, on a
	// loopback address. Defaults to none.
	Tokens map[string]Token `yaml:"tokens"`
	// Index is a folder for the index that events are found by, which one console
	// uses at a time. Defaults to none: the index is kept in memory and made anew
	// at each start; tercel up keeps it in its data folder.
	Index string `yaml:"index"`
}

// Token lets one person or program call the admin API.
type Token struct {
	// Role is what it may do: a viewer reads, an operator also acts. Required.
	Role Role `yaml:"role"`
	// Token is a reference to the token, at least 16 characters; make one with
	// "openssl rand -base64 32". A file is read again when it changes. Required.
	Token config.Secret `yaml:"token"`
	// Expires is when the token ends: a day such as 2027-03-01, which begins in
	// UTC, or a time such as 2027-03-01T12:00:00Z. Defaults to never.
	Expires string `yaml:"expires"`
}

// Role is what a caller of the admin API may do.
type Role string

// The roles, a closed set.
const (
	Viewer   Role = "viewer"
	Operator Role = "operator"
)

// Values lists the roles, for configuration errors.
func (Role) Values() []string { return []string{string(Viewer), string(Operator)} }

// minTokenBytes is the shortest token that can't be guessed.
const minTokenBytes = 16

// ExpiresAt is when the token ends, or zero if it doesn't. It is also zero for
// what Validate refuses.
func (t Token) ExpiresAt() time.Time {
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if at, err := time.Parse(layout, t.Expires); err == nil {
			return at
		}
	}
	return time.Time{}
}

// Validate reports every fault of the token.
func (t *Token) Validate(c *config.Check) {
	if t.Role == "" {
		c.Missing("role", "viewer or operator")
	}
	switch n := len(t.Token.Reveal()); {
	case t.Token.IsZero() && t.Token.Ref() == "":
		c.Missing("token", "a reference to the token, such as file:/run/secrets/NAME")
	case n > 0 && n < minTokenBytes:
		c.Fault("token", fmt.Sprintf("%d characters", n), fmt.Sprintf("at least %d", minTokenBytes))
	}
	if t.Expires != "" && t.ExpiresAt().IsZero() {
		c.Fault("expires", "", "a day such as 2027-03-01 or a time such as 2027-03-01T12:00:00Z")
	}
}

// Validate reports every fault of the section.
func (s *Console) Validate(c *config.Check) {
	byToken := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(s.Tokens)) {
		if !provider.Name.MatchString(name) {
			c.Fault("tokens."+name, "", "a name of lower-case letters, digits, - and _, at most 63")
		}
		token := s.Tokens[name].Token.Reveal()
		if other, twice := byToken[token]; twice && token != "" {
			c.Fault("tokens."+name+".token", "the token of "+other, "a token of its own, so that it is known who acted")
		}
		byToken[token] = name
	}
	if _, _, err := net.SplitHostPort(s.Listen); err != nil {
		c.Fault("listen", "", "HOST:PORT, such as 127.0.0.1:8089")
	} else if len(s.Tokens) == 0 && !s.Loopback() {
		c.Missing("tokens", "at least one token, because "+s.Listen+" can be reached from outside; or listen on 127.0.0.1")
	}
}

// Loopback reports whether only the machine itself can reach the address.
func (s *Console) Loopback() bool {
	host, _, err := net.SplitHostPort(s.Listen)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}
