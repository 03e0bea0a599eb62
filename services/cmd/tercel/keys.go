package main

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	"github.com/nats-io/nkeys"
)

// natsUsers are the users that deploy/nats/users.conf names.
var natsUsers = []string{"ingress", "enricher", "sink", "reconciler", "console", "admin", "system"}

type keysCmd struct {
	Dir  string   `arg:"" help:"The folder, made if it doesn't exist."`
	Name []string `arg:"" optional:"" help:"The users. Defaults to those of deploy/nats/users.conf."`
}

// Help is shown by --help.
func (keysCmd) Help() string {
	return `Makes what the server configurations in deploy/nats include. For each user DIR/seeds/NAME.nk, the
secret that the service connects with (nats.nkey), and DIR/users/NAME.conf, the public key for the
servers; and DIR/store.conf, the secret key that the servers encrypt their streams with: keep a
copy of it, without it no stream can be read again. What exists is left as it is.

Example:
  tercel keys secrets
  tercel keys secrets billing        the key of a team`
}

var natsUser = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`)

// Run runs the command.
func (c keysCmd) Run(a *app) error {
	if len(c.Name) == 0 {
		c.Name = natsUsers
	}
	for _, name := range c.Name {
		if !natsUser.MatchString(name) {
			return fmt.Errorf("user %q: want lower-case letters, digits, - and _", name)
		}
	}
	for _, dir := range []string{"seeds", "users"} {
		if err := os.MkdirAll(filepath.Join(c.Dir, dir), 0o700); err != nil {
			return err
		}
	}
	secret := make([]byte, 32)
	_, _ = rand.Read(secret) // never fails
	made, err := writeNew(filepath.Join(c.Dir, "store.conf"), fmt.Appendf(nil, "key: %q\n", base64.StdEncoding.EncodeToString(secret)))
	if err != nil {
		return err
	}
	if made {
		fmt.Fprintln(a.out, "store.conf: made")
	}
	for _, name := range c.Name {
		public, made, err := c.make(name)
		if err != nil {
			return err
		}
		state := "kept"
		if made {
			state = "made"
		}
		fmt.Fprintf(a.out, "%s: %s, %s\n", name, state, public)
	}
	return nil
}

// make makes a user's seed, if there is none, and writes its public key.
func (c keysCmd) make(name string) (public string, made bool, err error) {
	file := filepath.Join(c.Dir, "seeds", name+".nk")
	pair, err := nkeys.CreateUser()
	if err != nil {
		return "", false, fmt.Errorf("key of %s: %w", name, err)
	}
	seed, err := pair.Seed()
	if err != nil {
		return "", false, fmt.Errorf("key of %s: %w", name, err)
	}
	if made, err = writeNew(file, append(seed, '\n')); err != nil {
		return "", false, err
	}
	if !made {
		if pair, err = readSeed(file); err != nil {
			return "", false, err
		}
	}
	if public, err = pair.PublicKey(); err != nil {
		return "", false, fmt.Errorf("key of %s: %w", name, err)
	}
	return public, made, os.WriteFile(filepath.Join(c.Dir, "users", name+".conf"), fmt.Appendf(nil, "nkey: %q\n", public), 0o644)
}

func readSeed(file string) (nkeys.KeyPair, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pair, err := nkeys.ParseDecoratedNKey(text)
	if err != nil {
		return nil, fmt.Errorf("%s: not the seed of an nkey", file)
	}
	return pair, nil
}

// writeNew writes a file that nobody else may read, unless it exists.
func writeNew(name string, text []byte) (made bool, err error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	_, err = f.Write(text)
	return true, errors.Join(err, f.Sync(), f.Close())
}
