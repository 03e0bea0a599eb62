package pipeline

import (
	"time"

	"github.com/tercelhq/tercel/pkg/config"
)

// Team reads enriched events with a durable consumer of its own, which "tercel
// setup" makes. It can be let do that and nothing else, in a NATS account of its
// own: whoever makes a consumer says where its messages go, and could have them
// go anywhere.
type Team struct {
	// Subscribe are patterns SOURCE.ACCOUNT.TYPE over enriched subjects, as of a
	// destination. Required.
	Subscribe []string `yaml:"subscribe"`
	// AckWait is how long the server waits for an answer before it delivers
	// again. Defaults to 30s.
	AckWait time.Duration `yaml:"ack_wait"`
}

// Validate reports every fault of the team and fills in the default.
func (t *Team) Validate(c *config.Check) {
	if t.AckWait == 0 {
		t.AckWait = 30 * time.Second
	}
	if t.AckWait < time.Second {
		c.Fault("ack_wait", "", "at least 1s")
	}
	if len(t.Subscribe) == 0 {
		c.Missing("subscribe", `patterns such as "orders.>" or "stripe.*.invoice.>"`)
	}
	validateSubscribe(c, t.Subscribe)
}

// Subjects are the enriched subjects that the team reads.
func (t Team) Subjects() []string { return enriched(t.Subscribe) }
