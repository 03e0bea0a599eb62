package provider

import (
	"slices"
	"strings"

	"github.com/tercelhq/tercel/pkg/config"
)

// AgainstLedger compares listed records with the pipeline's own ledger.
const AgainstLedger = "ledger"

// againstDestination begins the name of a destination that is compared too.
const againstDestination = "destination:"

// Destinations are the names of those that listed records are compared with.
func (r *Reconcile) Destinations() []string {
	var names []string
	for _, a := range r.Against {
		if name, ok := strings.CutPrefix(a, againstDestination); ok {
			names = append(names, name)
		}
	}
	return names
}

// validateAgainst reports what can't be compared with. The ledger always is:
// what it lacks, no destination can have got.
func (r *Reconcile) validateAgainst(c *config.Check) {
	for i, a := range r.Against {
		name, ok := strings.CutPrefix(a, againstDestination)
		if a != AgainstLedger && (!ok || name == "") {
			c.OneOf("against", a, []string{AgainstLedger, againstDestination + "NAME"})
		}
		if slices.Contains(r.Against[:i], a) {
			c.Fault("against", a, "each only once")
		}
	}
	if !slices.Contains(r.Against, AgainstLedger) {
		c.Fault("against", "", AgainstLedger+" among them")
	}
}
