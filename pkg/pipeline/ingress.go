package pipeline

import (
	"time"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/provider"
)

// Ingress is how webhooks are taken in.
type Ingress struct {
	// Listen is the address for webhooks. Defaults to 127.0.0.1:8080; to take
	// them from outside, set TLS or put a TLS proxy in front.
	Listen string `yaml:"listen"`
	// TLS encrypts connections. Defaults to plain HTTP.
	TLS TLS `yaml:"tls"`
	// TrustedProxies are the networks of proxies in front, whose word about
	// where a request came from counts: each must add to X-Forwarded-For or
	// Forwarded. Defaults to none: who connects is the sender.
	TrustedProxies []provider.Network `yaml:"trusted_proxies"`
	// MaxInFlight bounds requests being handled; more are answered 503.
	// Defaults to 1024.
	MaxInFlight int `yaml:"max_in_flight"`
	// BodyBudget bounds the memory for bodies being handled; what doesn't fit is
	// answered 503. Of it and of MaxInFlight no source has more than half, unless
	// it is the only one. Defaults to 64MiB.
	BodyBudget config.Bytes `yaml:"body_budget"`
	// ReadTimeout bounds reading one request. Defaults to 10s.
	ReadTimeout time.Duration `yaml:"read_timeout"`
	// StoreTimeout bounds waiting for JetStream; then the answer is 503.
	// Defaults to 5s.
	StoreTimeout time.Duration `yaml:"store_timeout"`
	// DrainGrace is for how long webhooks are still taken in after /readyz has
	// said that the service stops, so that load balancers have gone elsewhere
	// before it closes its door. It should exceed their check's interval times
	// its threshold. Defaults to 5s.
	DrainGrace time.Duration `yaml:"drain_grace"`
	// DrainTimeout bounds finishing requests at the end, after DrainGrace.
	// Defaults to 20s.
	DrainTimeout time.Duration `yaml:"drain_timeout"`
	// DedupMemory bounds the table of stored ids by which late repeats are
	// told: about 11 bytes for each id within the sources' dedup.horizon, at
	// least 2MiB. When it is full, the oldest are forgotten early, which is
	// logged. Defaults to 32MiB, for 3 million ids.
	DedupMemory config.Bytes `yaml:"dedup_memory"`
}

// TLS is how connections are encrypted, with TLS 1.2 at least. Files are read
// again when they change; what can't be used leaves the last good ones in use.
type TLS struct {
	// Cert is the path of a PEM file with the certificate and its chain.
	Cert string `yaml:"cert"`
	// Key is the path of a PEM file with the certificate's key.
	Key string `yaml:"key"`
	// ClientCA is the path of a PEM file with authorities. With it, only clients
	// with a certificate of theirs may connect. Defaults to any client.
	ClientCA string `yaml:"client_ca"`
}

// Validate reports every fault of the section.
func (t *TLS) Validate(c *config.Check) {
	if t.Cert == "" {
		c.Missing("cert", "the path of a PEM file with the certificate and its chain")
	}
	if t.Key == "" {
		c.Missing("key", "the path of a PEM file with the certificate's key")
	}
}

func defaultIngress() Ingress {
	return Ingress{
		Listen: "127.0.0.1:8080", MaxInFlight: 1024, BodyBudget: 64 << 20, ReadTimeout: 10 * time.Second, StoreTimeout: 5 * time.Second,
		DrainGrace: 5 * time.Second, DrainTimeout: 20 * time.Second, DedupMemory: 32 << 20,
	}
}

// Validate reports every fault of the section.
func (in *Ingress) Validate(c *config.Check) {
	if in.MaxInFlight < 1 {
		c.Fault("max_in_flight", "", "at least 1")
	}
	for key, d := range map[string]time.Duration{
		"read_timeout": in.ReadTimeout, "store_timeout": in.StoreTimeout, "drain_timeout": in.DrainTimeout,
	} {
		if d <= 0 {
			c.Fault(key, "", "more than 0s")
		}
	}
	if in.DrainGrace < 0 {
		c.Fault("drain_grace", "", "0s or more")
	}
	if in.BodyBudget < 1<<20 {
		c.Fault("body_budget", "", "at least 1MiB")
	}
	if in.DedupMemory < 2<<20 {
		c.Fault("dedup_memory", "", "at least 2MiB")
	}
}
