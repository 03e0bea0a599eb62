package provider

import (
	"net/url"
	"strings"
	"time"

	"github.com/tercelhq/tercel/pkg/config"
)

// API is how to call a source's HTTP API.
type API struct {
	// Base is the URL that paths are appended to. Required to get or list.
	Base string `yaml:"base"`
	// Auth is what a request proves itself with.
	Auth `yaml:",inline"`
	// Rate bounds the requests with each credential: of the source, or of an
	// account that has its own. All replicas share it; see package sourceapi for
	// how exactly. Defaults to no limit.
	Rate Rate `yaml:"rate"`
	// Concurrency bounds the requests in flight with each credential, of all
	// replicas together, though each may have one. Defaults to 8.
	Concurrency int `yaml:"concurrency"`
	// Timeout bounds one request. Defaults to 20s.
	Timeout time.Duration `yaml:"timeout"`
	// MaxBody bounds an answer. Defaults to 4MiB.
	MaxBody config.Bytes `yaml:"max_body"`
	// Limits tell where the API's answers have what is left of its limits,
	// beside the headers that many use: Retry-After, RateLimit, and Remaining and
	// Reset after X-RateLimit-, RateLimit- and X-Rate-Limit-. From the preset, or
	// none.
	Limits []Limit `yaml:"limits"`
	// Failures say how the API tells of failures in answers with the status of a
	// success. From the preset; defaults to no more than the errors of GraphQL.
	Failures Failures `yaml:"failures"`
	// CacheSize bounds the answers that are kept in memory, to ask only whether
	// they have changed. 0B keeps none. Defaults to 8MiB.
	CacheSize config.Bytes `yaml:"cache_size"`
	// AllowPrivate permits plain http and addresses on loopback and private
	// networks, for systems on the premises. Defaults to false.
	AllowPrivate bool `yaml:"allow_private"`
}

// Limit is where an API's answers have what is left of one of its limits.
type Limit struct {
	// Remaining is the header with the number of requests that are left.
	Remaining string `yaml:"remaining"`
	// Used is the header with the number of requests made and that of those
	// allowed, as in 32/40. Excludes Remaining.
	Used string `yaml:"used"`
	// Reset is the header with when the limit is lifted: seconds or milliseconds
	// since 1970, or seconds from now.
	Reset string `yaml:"reset"`
	// Wait is how long to wait where nothing is left and no Reset says so. Defaults
	// to 1s.
	Wait time.Duration `yaml:"wait"`
}

// Validate reports every fault of the limit.
func (l *Limit) Validate(c *config.Check) {
	if (l.Remaining == "") == (l.Used == "") {
		c.Fault("", "", "one of remaining and used: the name of a header")
	}
	if l.Wait == 0 {
		l.Wait = time.Second
	}
	if l.Wait < 0 || l.Wait > time.Hour {
		c.Fault("wait", "", "0s to 1h")
	}
}

func (s *Source) validateAPI(c *config.Check) {
	a := s.API
	if a.Base != "" {
		u, err := url.Parse(a.Base)
		switch {
		case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
			c.Fault("api.base", "no URL", "a URL such as https://api.example.com") // a password may be part of it
		case u.User != nil || u.RawQuery != "" || u.Fragment != "":
			c.Fault("api.base", "a URL with more than host and path", "credentials under token, basic or headers")
		case u.Scheme == "http" && !a.AllowPrivate:
			c.Fault("api.base", "", "https, or allow_private: true for a system on the premises")
		}
	}
	if o := a.OAuth; o != nil && strings.HasPrefix(o.TokenURL, "http:") && !a.AllowPrivate {
		c.Fault("api.oauth.token_url", "", "https, or allow_private: true for a system on the premises")
	}
	if a.Concurrency < 1 || a.Concurrency > 4096 {
		c.Fault("api.concurrency", "", "1 to 4096")
	}
	if a.Timeout <= 0 {
		c.Fault("api.timeout", "", "more than 0s")
	}
}
