package provider

import (
	"errors"
	"fmt"
	"regexp"
	"slices"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/signature"
)

// Accounts says which tenants of the provider a source has: a list of names, or
// where their entries come from, which are then followed while services run.
// The zero Accounts is none.
//
// A signature covers the body and not the path. Where accounts share the
// source's secrets, whoever has captured a request of one account can send it
// to the path of another; secrets of each account's own, or
// [Identity].Account, keep that out.
type Accounts struct {
	// Names are the accounts, where they are written out as a list. They have
	// the source's secrets and credentials.
	Names []string `yaml:"-"`
	// File is a YAML file with an entry for each account: its name at the begin
	// of a line, what [Account] has below it. The file is read again when it
	// changes.
	File string `yaml:"file"`
	// Dir is a folder with a YAML file for each account, NAME.yaml.
	Dir string `yaml:"dir"`
	// Bucket is a NATS key-value bucket with a value for each account under
	// SOURCE.NAME, as "tercel accounts set" writes it: an entry that is sealed as
	// a whole with one of seal_keys. It is made if it doesn't exist.
	Bucket string `yaml:"bucket"`
	// Max is the most accounts taken. Defaults to 100000.
	Max int `yaml:"max"`
}

// IsZero reports whether the source has no accounts.
func (a Accounts) IsZero() bool { return len(a.Names) == 0 && !a.Live() }

// Live reports whether accounts come and go while services run.
func (a Accounts) Live() bool { return a.File != "" || a.Dir != "" || a.Bucket != "" }

const defaultMaxAccounts = 100_000

var bucketName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// Forms lists what DecodeNode takes, for the schema of files.
func (Accounts) Forms() []any { return []any{[]string{}, Accounts{}} }

// DecodeNode reads the list or the mapping.
func (a *Accounts) DecodeNode(n config.Node) {
	*a = Accounts{Max: defaultMaxAccounts}
	if n.Kind() == config.Sequence {
		n.Decode(&a.Names)
		return
	}
	if n.Kind() == config.Scalar {
		n.Fault("a list of names, or a mapping with file, dir or bucket")
		return
	}
	n.Decode(a)
	from := slices.DeleteFunc([]string{a.File, a.Dir, a.Bucket}, func(place string) bool { return place == "" })
	if len(from) != 1 {
		n.Fault("one of file, dir and bucket")
	}
}

// Validate reports every fault of the section.
func (a *Accounts) Validate(c *config.Check) {
	for i, name := range a.Names {
		if !AccountName.MatchString(name) {
			c.Fault(fmt.Sprintf("[%d]", i), "", "letters, digits, dots, - and _, at most 128")
		}
		if slices.Contains(a.Names[:i], name) {
			c.Fault(fmt.Sprintf("[%d]", i), "", "each account once")
		}
	}
	if a.Bucket != "" && !bucketName.MatchString(a.Bucket) {
		c.Fault("bucket", "", "a name of letters, digits, - and _, at most 64")
	}
	if a.Max < 1 || a.Max > 1_000_000 {
		c.Fault("max", "", "1 to 1000000")
	}
}

// AccountName is what names of accounts look like.
var AccountName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)

// Account is one tenant of the provider: an entry of [Accounts].
type Account struct {
	// Name is the account's name in the request's path and in events.
	Name string `yaml:"-"`
	// Secrets verify its webhooks, and only they do. Defaults to the source's.
	Secrets []config.Secret `yaml:"secrets"`
	// API is what requests in its name prove themselves with. Defaults to the
	// source's.
	API *Auth `yaml:"api"`
	// Disabled refuses its webhooks and pauses its reconciliation, as if it
	// wasn't there; what was taken in before is still enriched. Defaults to
	// false.
	Disabled bool `yaml:"disabled"`

	keys []signature.Key
}

// Keys returns the account's own keys; none means that the source's count.
func (a *Account) Keys() []signature.Key { return a.keys }

// Ready makes an account that was decoded ready for use as one of s. The error
// names what is wrong with it and quotes no secret.
func (s *Source) Ready(a *Account) error {
	if s.Verify.Algorithm == signature.None && len(a.Secrets) > 0 {
		return errors.New("secrets: want none with scheme none, which looks at no secret")
	}
	keys := make([]signature.Key, len(a.Secrets))
	for i, secret := range a.Secrets {
		var err error
		if keys[i], err = signature.ParseKey(s.Verify, secret.Reveal()); err != nil {
			return fmt.Errorf("secrets[%d]: %w", i, err)
		}
	}
	// Without a key nothing could be told genuine.
	if len(keys) == 0 && len(s.keys) == 0 && s.Verify.Algorithm != signature.None {
		return errors.New("secrets: missing, and the source has none")
	}
	a.keys = keys
	return nil
}

// AccountNames lists the accounts that the pipeline file has, or
// [event.NoAccount] for a source without any. Those of a file, a folder or a
// bucket are not among them.
func (s *Source) AccountNames() []string {
	if s.Accounts.IsZero() {
		return []string{event.NoAccount}
	}
	return s.Accounts.Names
}
