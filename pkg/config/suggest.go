package config

import (
	"fmt"
	"strings"
)

// oneOf phrases a closed choice.
func oneOf(known []string) string {
	switch len(known) {
	case 0:
		return "none"
	case 1:
		return known[0]
	}
	if len(known) > maxListed {
		return fmt.Sprintf("one of %s and %d more", strings.Join(known[:maxListed], ", "), len(known)-maxListed)
	}
	return "one of " + strings.Join(known, ", ")
}

// maxListed is how many names a fault lists; more would hide the rest of it.
const maxListed = 12

// suggest returns the name in known that given is probably a slip of, or "".
// Letter case, hyphens and underscores count as nothing.
func suggest(given string, known []string) string {
	if len(given) > 64 {
		return "" // nobody's slip, and the distance is quadratic
	}
	plain := strings.NewReplacer("-", "", "_", "")
	g := []rune(plain.Replace(strings.ToLower(given)))
	best, found := 1+min(3, (len(g)+2)/3), ""
	for _, k := range known {
		if dist := distance(g, []rune(plain.Replace(strings.ToLower(k)))); dist < best && k != given {
			best, found = dist, k
		}
	}
	return found
}

// distance is the number of insertions, deletions, replacements and swaps of
// neighbours between a and b (optimal string alignment).
func distance(a, b []rune) int {
	before, prev, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			row[j] = min(prev[j]+1, row[j-1]+1, prev[j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, prev, row = prev, row, before
	}
	return prev[len(b)]
}
