package config

import "strings"

// A Validator checks its own values after they were decoded. Validate runs
// for every decoded value of the type, innermost first, also after faults
// beneath; it doesn't run where the file has no node for the value. It may
// change the value, for instance to derive a field from others.
type Validator interface {
	Validate(c *Check)
}

// A Check takes the faults that a [Validator] finds. Its keys are paths
// relative to the validated node, such as "api.base" or "secrets[0]"; "" is
// the node itself. A fault has the position of its key's value or, where the
// key is absent, that of the deepest node on the way which exists.
type Check struct{ n Node }

// Fault reports that key holds found instead of want. Both are phrases,
// printed as they are, so put text in quotes; an empty found stands for what
// the file has there.
func (c *Check) Fault(key, found, want string) { c.add(key, Fault{Found: found, Want: want}) }

// Missing reports that key is absent, or empty, and should hold want.
func (c *Check) Missing(key, want string) {
	n := c.n.at(key)
	c.n.d.fault(n, Fault{Want: want})
}

// OneOf reports that key holds found, a text shown in quotes, instead of one
// of known; it suggests the nearest.
func (c *Check) OneOf(key, found string, known []string) {
	c.add(key, Fault{Found: quote(found), Want: oneOf(known), Suggestion: suggest(found, known)})
}

func (c *Check) add(key string, f Fault) {
	n := c.n.at(key)
	if !n.absent && (f.Found == "" || n.d.secret[n.n] && strings.Contains(f.Found, n.Text())) {
		f.Found = n.found()
	}
	n.d.fault(n, f)
}
