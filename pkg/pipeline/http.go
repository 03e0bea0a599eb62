package pipeline

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/egress"
	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/pkg/signature"
)

// HTTP is a server that takes each event as a webhook of its own, signed after
// the Standard Webhooks specification: POST with the enriched event as the body,
// headers webhook-id, webhook-timestamp and webhook-signature, and the event's
// attributes in ce- and tercel- headers, as CloudEvents has them in its binary
// mode. A repeat of an event, whatever the reason, has the same webhook-id.
//
// 2xx means that the event was taken. 410 means that no more events are wanted:
// the destination is paused, as by tercel destination pause, until somebody
// resumes it. Those that wait are kept.
// 401, 429, 503, redirects and failing connections say nothing of an event: all
// wait, and what came last is tried at growing intervals or when the server
// said. So it is with other 5xx, with 403, 404, 408 and 425, and with answers
// that don't come, once three events in a row met them; until then they are
// retries of the one event. Every other 4xx makes the event a dead letter.
type HTTP struct {
	// URL is where events are sent. It must be https, unless allow_private is
	// set. Redirects are not followed. Required.
	URL string `yaml:"url"`
	// Secrets sign each webhook, whsec_ and at least 16 bytes in base64; several
	// while rotating. Required.
	Secrets []config.Secret `yaml:"secrets"`
	// Headers are added to each request, such as Authorization. Their values
	// are references to secrets. Defaults to none.
	Headers map[string]config.Secret `yaml:"headers"`
	// Timeout bounds one request and its answer. Defaults to 15s.
	Timeout time.Duration `yaml:"timeout"`
	// Rate bounds the requests of one process. Defaults to no limit.
	Rate provider.Rate `yaml:"rate"`
	// Concurrency bounds the requests in flight. Defaults to 8.
	Concurrency int `yaml:"concurrency"`
	// Order is record if events of one record are to come one after another, in
	// the order of the stream, also while one of them is tried again; those of
	// others don't wait. It holds within one sink: run one alone, since several
	// share a record's events. A restart may let the next one pass an event that
	// waits for another try. Defaults to none: tercel-version and
	// tercel-observed-at tell which state of a record is newer.
	Order Order `yaml:"order"`
	// AllowPrivate permits plain http and addresses on loopback and private
	// networks, for systems on the premises. Defaults to false.
	AllowPrivate bool `yaml:"allow_private"`
}

// Order is what events wait for before they are sent.
type Order string

// The orders of an [HTTP] destination.
const (
	OrderNone   Order = "none"
	OrderRecord Order = "record"
)

// Values lists the orders, for configuration errors.
func (Order) Values() []string { return []string{string(OrderNone), string(OrderRecord)} }

// Validate fills in the defaults and reports every fault. None shows a part of
// the URL: receivers put secrets there.
func (h *HTTP) Validate(c *config.Check) {
	if h.Timeout == 0 {
		h.Timeout = 15 * time.Second
	}
	if h.Concurrency == 0 {
		h.Concurrency = 8
	}
	u, err := url.Parse(h.URL)
	switch {
	case h.URL == "":
		c.Missing("url", "the URL of a receiver of webhooks")
	case err != nil || u.Hostname() == "" || u.Scheme != "https" && u.Scheme != "http" || u.User != nil || u.Fragment != "":
		c.Fault("url", "no such URL", "a URL such as https://hooks.example.com/tercel, without a user; credentials are headers")
	case u.Scheme == "http" && !h.AllowPrivate:
		c.Fault("url", "a URL with http", "https, or allow_private for a system on the premises")
	}
	if len(h.Secrets) == 0 {
		c.Missing("secrets", "at least one signing secret")
	}
	for i, s := range h.Secrets {
		if _, err := signature.ParseKey(signature.StandardWebhooks(), s.Reveal()); err != nil {
			c.Fault(fmt.Sprintf("secrets[%d]", i), err.Error(), "whsec_ and at least 16 bytes in base64")
		}
	}
	if h.Timeout < 0 || h.Concurrency < 0 || h.Concurrency > 1000 {
		c.Fault("concurrency", "", "concurrency of 1 to 1000 and a timeout of more than 0s")
	}
	h.validateHeaders(c)
}

func (h *HTTP) validateHeaders(c *config.Check) {
	for _, name := range slices.Sorted(maps.Keys(h.Headers)) {
		lower := strings.ToLower(name)
		switch {
		case !egress.ValidHeader(name, h.Headers[name].Reveal()):
			c.Fault("headers."+name, "", "a header that can be sent")
		case strings.HasPrefix(lower, "webhook-"), strings.HasPrefix(lower, "ce-"), strings.HasPrefix(lower, "tercel-"),
			slices.Contains([]string{"Content-Type", "Content-Length", "Host", "Connection", "Transfer-Encoding", "Trailer", "Upgrade"},
				http.CanonicalHeaderKey(name)):
			c.Fault("headers."+name, "", "a header that is not the webhook's own")
		}
	}
}
