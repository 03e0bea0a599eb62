package pipeline

import (
	"strings"

	"github.com/tercelhq/tercel/pkg/config"
)

// NATS is how a service connects. Files are read again for every connection, so
// that a new certificate counts from the next one on.
type NATS struct {
	// URL is one server or several, separated by commas. Defaults to
	// nats://127.0.0.1:4222.
	URL string `yaml:"url"`
	// NKey is the path of a file with the seed of the user's nkey. Each service
	// may have another file at the same path. Defaults to none.
	NKey string `yaml:"nkey"`
	// Credentials is the path of a .creds file. Defaults to none.
	Credentials string `yaml:"credentials"`
	// User is the name of a user with a password. Defaults to none.
	User string `yaml:"user"`
	// Password is a reference to the user's password.
	Password config.Secret `yaml:"password"`
	// CA is the path of a PEM file with the servers' authority. Defaults to
	// the system's authorities.
	CA string `yaml:"ca"`
	// Cert is the path of a PEM file with the certificate that is shown to
	// servers that ask for one. Defaults to none.
	Cert string `yaml:"cert"`
	// Key is the path of a PEM file with the certificate's key.
	Key string `yaml:"key"`
	// Inbox begins the subjects that answers come to; a user needs to subscribe
	// to what is below it and to nothing else. Defaults to _INBOX.SERVICE, such
	// as _INBOX.ingress.
	Inbox string `yaml:"inbox"`
}

// Validate reports every fault of the section but those of addresses.
func (n *NATS) Validate(c *config.Check) {
	ways := 0
	for _, way := range []string{n.NKey, n.Credentials, n.User} {
		if way != "" {
			ways++
		}
	}
	if ways > 1 {
		c.Fault("nkey", "", "one of nkey, credentials, and user with password")
	}
	if n.User == "" != n.Password.IsZero() {
		c.Fault("user", "", "user and password together")
	}
	if n.Cert == "" != (n.Key == "") {
		c.Fault("cert", "", "cert and key together")
	}
	if n.Inbox != "" && (!validPattern(n.Inbox) || strings.ContainsAny(n.Inbox, "*>")) {
		c.Fault("inbox", n.Inbox, "a subject without wildcards, such as _INBOX.ingress")
	}
}
