package pipeline

import (
	"strings"

	"github.com/tercelhq/tercel/pkg/config"
)

// Relay publishes events to a stream of this NATS cluster or of another, as they
// are: attributes in headers and body untouched. An event is delivered once that
// stream has acknowledged it. A repeat within the stream's duplicate window is
// dropped by it; Nats-Msg-Id tells repeats of this destination and prefix alone, and
// ce-id is what to tell events by.
type Relay struct {
	// NATS is the cluster. Its url is required.
	NATS `yaml:",inline"`
	// Prefix begins the subjects: an event goes to PREFIX.SOURCE.ACCOUNT.TYPE.
	// It is none of Tercel's own, so that no event comes back. Required.
	Prefix string `yaml:"prefix"`
	// Stream is the stream that has to take the events. Defaults to whichever
	// has their subjects.
	Stream string `yaml:"stream"`
}

// Validate reports every fault of the relay. It doesn't quote addresses: a
// password may be part of one.
func (r *Relay) Validate(c *config.Check) {
	if r.URL == "" {
		c.Missing("url", "nats://HOST:PORT, several separated by commas")
	}
	first, _, _ := strings.Cut(r.Prefix, ".")
	switch {
	case r.Prefix == "":
		c.Missing("prefix", "a subject such as orders.enriched")
	case !validPattern(r.Prefix) || strings.ContainsAny(r.Prefix, "*>") || len(r.Prefix) > 200:
		c.Fault("prefix", "", "a subject of at most 200 bytes without wildcards, such as orders.enriched")
	case first == "tercel" || strings.HasPrefix(first, "$") || strings.HasPrefix(first, "_"):
		c.Fault("prefix", "", "a subject that is neither Tercel's own nor the server's: its events would come back")
	}
	if strings.HasPrefix(r.Stream, "TERCEL_") || strings.ContainsAny(r.Stream, " .*>/\\\t\r\n") {
		c.Fault("stream", "", "the name of a stream that is not Tercel's own")
	}
}
