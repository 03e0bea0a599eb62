package provider

import (
	"time"

	"github.com/tercelhq/tercel/pkg/config"
)

// Reply is what a source wants to be answered, where that isn't what Tercel
// says by itself: a JSON object with status 200, or 401 for a signature that
// isn't accepted.
type Reply struct {
	// OK answers what was stored, for the first time or again.
	OK Answer `yaml:"ok"`
	// Refused is the status for a request whose signature isn't accepted: for
	// senders that take a 4xx for the end of the address. Defaults to 401.
	Refused int `yaml:"refused"`
}

// Answer is a fixed answer. The zero Answer leaves it to Tercel.
type Answer struct {
	// Status is the HTTP status, 200 to 299. Required for an answer of one's own.
	Status int `yaml:"status"`
	// Body is the whole body, word for word. Defaults to none.
	Body string `yaml:"body"`
	// ContentType is the body's. Defaults to text/plain.
	ContentType string `yaml:"content_type"`
}

func (r *Reply) validate(c *config.Check) {
	if ok := r.OK; ok != (Answer{}) && (ok.Status < 200 || ok.Status > 299) {
		c.Fault("reply.ok.status", "", "200 to 299: the answer to what was stored")
	}
	if r.OK.Status == 204 && r.OK.Body != "" {
		c.Fault("reply.ok.body", "", "nothing, since a 204 has no body")
	}
	if r.Refused != 0 && (r.Refused < 400 || r.Refused > 599) {
		c.Fault("reply.refused", "", "400 to 599")
	}
	if r.OK.Body != "" && r.OK.ContentType == "" {
		r.OK.ContentType = "text/plain"
	}
}

// Delivery is what is known of a provider's deliveries. It decides nothing: it tells
// people how much a webhook alone can be relied on, as tercel init does.
type Delivery struct {
	// Timeout is how long the provider waits for an answer; 0 is not known.
	Timeout time.Duration `yaml:"timeout"`
	// Retries says in a few words when it tries again, such as "none".
	Retries string `yaml:"retries"`
	// Horizon is for how long it tries; 0 is not at all, or not known.
	Horizon time.Duration `yaml:"horizon"`
	// RedeliveryKeepsID says that a repeat has the id of the first attempt.
	RedeliveryKeepsID bool `yaml:"redelivery_keeps_id"`
}
