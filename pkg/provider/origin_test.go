package provider_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/tercelhq/tercel/pkg/provider"
)

func TestOriginListIsReadWholeOrNotAtAll(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		path, doc string
		want      string // "" is an error
	}{
		"array at a path":   {"hooks", `{"hooks":["192.0.2.0/24","2001:db8::/32"],"web":["0.0.0.0/0"]}`, "192.0.2.0/24 2001:db8::/32"},
		"text each":         {"prefixes[].cidr", `{"prefixes":[{"cidr":"192.0.2.1"},{"cidr":"192.0.2.2"}]}`, "192.0.2.1/32 192.0.2.2/32"},
		"array alone":       {"", ` ["192.0.2.7/24"]`, "192.0.2.0/24"},
		"lines":             {"", "# ours\n192.0.2.0/24 # a\r\n\n2001:db8::1\n", "192.0.2.0/24 2001:db8::1/128"},
		"IPv4 in IPv6":      {"", "::ffff:192.0.2.0/120", "192.0.2.0/24"},
		"nothing":           {"", "", ""},
		"empty array":       {"hooks", `{"hooks":[]}`, ""},
		"no such path":      {"hook", `{"hooks":["192.0.2.0/24"]}`, ""},
		"one is wrong":      {"hooks", `{"hooks":["192.0.2.0/24","192.0.2.0/33"]}`, ""},
		"one is no text":    {"hooks", `{"hooks":["192.0.2.0/24",{}]}`, ""},
		"cut":               {"hooks", `{"hooks":["192.0.2.0/24"`, ""},
		"a page of HTML":    {"", "<html>", ""},
		"too wide in IPv6":  {"", "::ffff:0.0.0.0/90", ""},
		"an address's zone": {"", "fe80::1%eth0", ""},
	} {
		nets, err := provider.OriginList{File: "list", Path: tt.path}.Read([]byte(tt.doc))
		var got []string
		for _, n := range nets {
			got = append(got, n.String())
		}
		if strings.Join(got, " ") != tt.want || (err != nil) != (tt.want == "") {
			t.Errorf("%s: Read() = %v, %v, want %q", name, got, err, tt.want)
		}
	}
}

func TestNetworkContainsBothSpellingsOfIPv4(t *testing.T) {
	t.Parallel()
	n, err := provider.ParseNetwork("192.0.2.0/24")
	if err != nil {
		t.Fatal(err)
	}
	if !n.Contains(netip.MustParseAddr("::ffff:192.0.2.1")) || n.Contains(netip.MustParseAddr("192.0.3.1")) {
		t.Error("192.0.2.0/24 must contain ::ffff:192.0.2.1 and not 192.0.3.1")
	}
}
