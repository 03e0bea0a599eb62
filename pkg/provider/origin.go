package provider

import (
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/field"
)

// Origin says which addresses a source sends from. The zero Origin is any.
type Origin struct {
	// Allow are networks such as 192.0.2.0/24, or single addresses.
	Allow []Network `yaml:"allow"`
	// List is where further networks are published. Defaults to nowhere.
	List OriginList `yaml:"list"`
}

// OriginList is a published list of networks. The last good one is kept while
// a new one can't be had; where there has never been one, only [Origin].Allow
// counts.
type OriginList struct {
	// File is the path of a file that has the list; it is read again when it
	// changes.
	File string `yaml:"file"`
	// URL is an https address that answers with the list, such as
	// https://api.example.com/meta.
	URL string `yaml:"url"`
	// AllowPrivate permits plain http and addresses on loopback and private
	// networks, for a list of one's own.
	AllowPrivate bool `yaml:"allow_private"`
	// Path finds the networks in a JSON document: an array of texts, such as
	// hooks, or one text each, such as prefixes[].cidr. Defaults to the whole
	// document, which may also be text with a network in each line.
	Path string `yaml:"path"`
	// Refresh is how often a URL is asked again. Defaults to 24h.
	Refresh time.Duration `yaml:"refresh"`
}

// IsZero reports whether every address is allowed.
func (o Origin) IsZero() bool { return len(o.Allow) == 0 && o.List.IsZero() }

// IsZero reports whether there is no list.
func (l OriginList) IsZero() bool { return l.File == "" && l.URL == "" }

// Validate reports every fault of the section.
func (o *Origin) Validate(c *config.Check) {
	if o.IsZero() {
		c.Fault("", "", "networks to allow, or a list of them: without origin every address is allowed")
	}
}

// Validate reports every fault of the list, and sets its default.
func (l *OriginList) Validate(c *config.Check) {
	if (l.File == "") == (l.URL == "") {
		c.Fault("", "", "one of file and url")
	}
	if l.URL != "" {
		u, err := url.Parse(l.URL)
		switch {
		case err != nil || u.Hostname() == "" || u.User != nil:
			c.Fault("url", "no URL", "a URL such as https://api.example.com/meta, without credentials") // which may be part of it
		case u.Scheme != "https" && (u.Scheme != "http" || !l.AllowPrivate):
			c.Fault("url", "", "https, or allow_private: true: who can change the list on its way decides who may send")
		}
	}
	if _, err := field.ParsePath(l.Path); err != nil {
		c.Fault("path", "", "a path such as hooks or prefixes[].cidr")
	}
	if l.Refresh == 0 {
		l.Refresh = 24 * time.Hour
	}
	if l.Refresh < time.Second {
		c.Fault("refresh", "", "at least 1s")
	}
}

// maxNetworks bounds a list.
const maxNetworks = 20_000

// Read returns the networks of a list that was fetched. A list that has none,
// or anything else among them, is an error as a whole: half a list would refuse
// genuine webhooks. The error doesn't quote it.
func (l OriginList) Read(doc []byte) ([]Network, error) {
	texts, err := l.texts(doc)
	if err != nil {
		return nil, err
	}
	if len(texts) == 0 || len(texts) > maxNetworks {
		return nil, fmt.Errorf("%d networks, want 1 to %d", len(texts), maxNetworks)
	}
	nets := make([]Network, len(texts))
	for i, text := range texts {
		if nets[i], err = ParseNetwork(text); err != nil {
			return nil, fmt.Errorf("entry %d: no network or address", i+1)
		}
	}
	return nets, nil
}

func (l OriginList) texts(doc []byte) ([]string, error) {
	text := strings.TrimSpace(string(doc))
	if l.Path == "" && !strings.HasPrefix(text, "[") {
		return lines(text), nil
	}
	if err := field.Valid(doc); err != nil {
		return nil, err
	}
	path, err := field.ParsePath(l.Path)
	if err != nil {
		return nil, err
	}
	found, err := path.All(doc)
	if err != nil {
		return nil, err
	}
	var texts []string
	for _, v := range found {
		values := [][]byte{v}
		if v.Kind() == '[' {
			if values, err = field.Elements(v); err != nil {
				return nil, err
			}
		}
		for _, v := range values {
			text, err := field.Text(v)
			if err != nil {
				return nil, fmt.Errorf("entry %d: %w", len(texts)+1, err)
			}
			texts = append(texts, text)
		}
	}
	return texts, nil
}

// lines returns the lines of text that aren't empty or comments.
func lines(text string) []string {
	var kept []string
	for line := range strings.Lines(text) {
		if line, _, _ = strings.Cut(line, "#"); strings.TrimSpace(line) != "" {
			kept = append(kept, strings.TrimSpace(line))
		}
	}
	return kept
}

// Network is a range of IP addresses. IPv4 addresses that are written as IPv6
// are IPv4 addresses. Make it with [ParseNetwork].
type Network struct{ prefix netip.Prefix }

// ParseNetwork reads a network such as 192.0.2.0/24 or 2001:db8::/32, or a
// single address. Bits behind the prefix don't matter.
func ParseNetwork(text string) (Network, error) {
	if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return Network{netip.PrefixFrom(a, a.BitLen())}, nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil || p.Addr().Is4In6() && p.Bits() < 96 {
		return Network{}, fmt.Errorf("%q: no network and no address", text)
	}
	if p.Addr().Is4In6() {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return Network{p.Masked()}, nil
}

// Contains reports whether a is in the network.
func (n Network) Contains(a netip.Addr) bool { return n.prefix.Contains(a.Unmap().WithZone("")) }

// String gives the network as it is written.
func (n Network) String() string { return n.prefix.String() }

// Forms lists what DecodeNode takes, for the schema of files.
func (Network) Forms() []any { return []any{""} }

// DecodeNode reads the text of a network.
func (n *Network) DecodeNode(node config.Node) {
	var err error
	if *n, err = ParseNetwork(node.Text()); err != nil || node.Kind() != config.Scalar {
		node.Fault("a network such as 192.0.2.0/24, or an address")
	}
}
