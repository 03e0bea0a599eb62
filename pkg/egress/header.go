package egress

import "strings"

// ValidHeader reports whether a header of this name and value can be sent.
func ValidHeader(name, value string) bool {
	return name != "" && !strings.ContainsFunc(name, notInName) && !strings.ContainsFunc(value, isControl)
}

func notInName(r rune) bool {
	return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
}
func isControl(r rune) bool { return r < ' ' || r == 0x7f }
