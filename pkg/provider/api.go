package provider

import (
	"net/url"
	"time"

	"github.com/tercelhq/tercel/pkg/config"
)

// API is how to call a source's HTTP API.
type API struct {
	// Base is the URL that paths are appended to. Required to get or list.
	Base string `yaml:"base"`
	// Auth is what a request proves itself with.
	Auth `yaml:",inline"`
	// Rate bounds the requests of one process. Defaults to no limit.
	Rate Rate `yaml:"rate"`
	// Concurrency bounds requests in flight. Defaults to 8.
	Concurrency int `yaml:"concurrency"`
	// Timeout bounds one request. Defaults to 20s.
	Timeout time.Duration `yaml:"timeout"`
	// MaxBody bounds an answer. Defaults to 4MiB.
	MaxBody config.Bytes `yaml:"max_body"`
	// AllowPrivate permits plain http and addresses on loopback and private
	// networks, for systems on the premises. Defaults to false.
	AllowPrivate bool `yaml:"allow_private"`
}

// Auth is what requests to an API prove themselves with.
type Auth struct {
	// Token is sent as a bearer token.
	Token config.Secret `yaml:"token"`
	// Basic is sent as HTTP basic authentication.
	Basic *Basic `yaml:"basic"`
	// Headers are sent with every request, such as X-Api-Key.
	Headers map[string]config.Secret `yaml:"headers"`
}

// Basic is a user and password.
type Basic struct {
	// User is the user name. Required.
	User string `yaml:"user"`
	// Password is a reference such as env:NAME. Required.
	Password config.Secret `yaml:"password"`
}

// Validate reports every fault of the credentials.
func (a *Auth) Validate(c *config.Check) {
	if a.Basic != nil && (a.Basic.User == "" || a.Basic.Password.IsZero()) {
		c.Fault("basic", "", "{user: NAME, password: env:NAME}")
	}
	if a.Basic != nil && !a.Token.IsZero() {
		c.Fault("basic", "basic beside token", "one of them: both are sent in the same header")
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
	if a.Concurrency < 1 || a.Concurrency > 4096 {
		c.Fault("api.concurrency", "", "1 to 4096")
	}
	if a.Timeout <= 0 {
		c.Fault("api.timeout", "", "more than 0s")
	}
}
