package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/account"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/pkg/seal"
	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/internal/boot"
)

type accountsCmd struct {
	Set    accountsSetCmd    `cmd:"" help:"Add an account to a source's bucket, or replace it."`
	List   accountsListCmd   `cmd:"" help:"List a source's accounts."`
	Remove accountsRemoveCmd `cmd:"" help:"Remove an account from a source's bucket."`
}

// accountsFlags name a source with accounts, and where it is described.
type accountsFlags struct {
	pipelineFlags
	Config string `short:"c" help:"The pipeline file." default:"tercel.yaml" env:"TERCEL_CONFIG"`
	Source string `arg:"" help:"The source."`
}

// load returns the source and the box that its bucket's entries are sealed with.
func (f accountsFlags) load() (*pipeline.File, provider.Source, *seal.Box, error) {
	file, err := pipeline.Load(f.Config)
	if err != nil {
		return nil, provider.Source{}, nil, err
	}
	source, ok := file.Sources[f.Source]
	if !ok {
		return nil, source, nil, fmt.Errorf("source %s: %s has no such source; want one of %s", f.Source, f.Config,
			strings.Join(slices.Sorted(maps.Keys(file.Sources)), ", "))
	}
	box, err := seal.New(file.SealKeys)
	return file, source, box, err
}

// bucket opens the source's bucket, and makes it if it doesn't exist.
func (f accountsFlags) bucket(ctx context.Context, file *pipeline.File, source provider.Source) (*connection, jetstream.KeyValue, error) {
	if source.Accounts.Bucket == "" {
		return nil, nil, fmt.Errorf("source %s: its accounts are not in a bucket; want accounts: {bucket: NAME} in %s, or change the file or folder that it names", f.Source, f.Config)
	}
	nc, err := f.connect(f.Config, file.NATS)
	if err != nil {
		return nil, nil, err
	}
	kv, err := nc.js.KeyValue(ctx, source.Accounts.Bucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		kv, err = nc.js.CreateKeyValue(ctx, topology.AccountsBucket(file.Streams, source.Accounts.Bucket))
	}
	if err != nil {
		nc.Close()
		return nil, nil, fmt.Errorf("bucket %s: %w", source.Accounts.Bucket, err)
	}
	return nc, kv, nil
}

// accountsTimeout bounds one command.
const accountsTimeout = time.Minute

type accountsSetCmd struct {
	accountsFlags
	Account string   `arg:"" help:"The account's name, as it is in the request's path."`
	Entry   string   `help:"A file with the account's entry, YAML or JSON; - for standard input." placeholder:"FILE" xor:"entry"`
	Secret  []string `help:"A reference to its signing secret, instead of an entry; may be repeated." placeholder:"env:NAME|file:/PATH" xor:"entry" sep:"none"`
}

// Help is shown by --help.
func (accountsSetCmd) Help() string {
	return `The entry has secrets, api and disabled, all optional, as in a file of accounts. Its
references, env:NAME and file:/PATH, are resolved here. It is sealed as a whole with the
first of the pipeline file's seal_keys, and services take it over at once. It connects as the
file's nats section says, or to the tercel up that runs on --data.

Examples:
  tercel accounts set shop acct_1 --secret file:/run/secrets/acct_1
  tercel accounts set shop acct_1 --entry - < acct_1.yaml`
}

// Run runs the command.
func (c accountsSetCmd) Run(a *app) error {
	if c.Entry == "" && len(c.Secret) == 0 {
		return exitCode{boot.Usage, "want --entry or --secret"}
	}
	file, source, box, err := c.load()
	if err != nil {
		return err
	}
	name, entry, err := c.read(a)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(a.ctx, accountsTimeout)
	defer cancel()
	nc, kv, err := c.bucket(ctx, file, source)
	if err != nil {
		return err
	}
	defer nc.Close()
	value, err := account.Seal(box, c.Source, source, c.Account, name, entry)
	if err != nil {
		return err
	}
	if _, err := kv.Put(ctx, c.Source+"."+c.Account, value); err != nil {
		return fmt.Errorf("account %s: %w", c.Account, err)
	}
	fmt.Fprintf(a.err, "account %s of %s is set\n", c.Account, c.Source)
	return nil
}

// read returns the entry and what faults call it.
func (c accountsSetCmd) read(a *app) (name string, entry []byte, err error) {
	if c.Entry == "" {
		return "--secret", []byte("secrets:\n  - " + strings.Join(c.Secret, "\n  - ") + "\n"), nil
	}
	const most = 1 << 20 // far more than an entry may have
	in := a.in
	if c.Entry != "-" {
		f, err := os.Open(c.Entry)
		if err != nil {
			return "", nil, err
		}
		defer f.Close()
		in = f
	}
	entry, err = io.ReadAll(io.LimitReader(in, most))
	return c.Entry, entry, err
}

type accountsRemoveCmd struct {
	accountsFlags
	Account string `arg:"" help:"The account's name."`
}

// Help is shown by --help.
func (accountsRemoveCmd) Help() string {
	return `From then on its webhooks are answered 404, and it is not reconciled. What was taken in
before and needs its credentials becomes dead letters; "disabled: true" in its entry only
refuses webhooks.

Example:
  tercel accounts remove shop acct_1`
}

// Run runs the command.
func (c accountsRemoveCmd) Run(a *app) error {
	file, source, _, err := c.load()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(a.ctx, accountsTimeout)
	defer cancel()
	nc, kv, err := c.bucket(ctx, file, source)
	if err != nil {
		return err
	}
	defer nc.Close()
	key := c.Source + "." + c.Account
	if _, err := kv.Get(ctx, key); err != nil {
		return fmt.Errorf("account %s of %s: %w", c.Account, c.Source, err)
	}
	if err := kv.Delete(ctx, key); err != nil {
		return fmt.Errorf("account %s of %s: %w", c.Account, c.Source, err)
	}
	fmt.Fprintf(a.err, "account %s of %s is removed\n", c.Account, c.Source)
	return nil
}

type accountsListCmd struct {
	accountsFlags
	JSON bool `name:"json" help:"Print one JSON object a line."`
}

// Help is shown by --help.
func (accountsListCmd) Help() string {
	return `Shows what each account has of its own, and no secret.

Example:
  tercel accounts list shop`
}

// accountRow is one account for people and machines.
type accountRow struct {
	Account string `json:"account"`
	Secrets int    `json:"secrets"` // of its own; 0 means the source's
	API     bool   `json:"api"`     // credentials of its own
	State   string `json:"state"`   // active, disabled or broken
	Fault   string `json:"fault,omitempty"`
}

// Run runs the command.
func (c accountsListCmd) Run(a *app) error {
	file, source, box, err := c.load()
	if err != nil {
		return err
	}
	var rows []accountRow
	if source.Accounts.Bucket != "" {
		ctx, cancel := context.WithTimeout(a.ctx, accountsTimeout)
		defer cancel()
		nc, kv, err := c.bucket(ctx, file, source)
		if err != nil {
			return err
		}
		defer nc.Close()
		if rows, err = c.bucketRows(ctx, kv, source, box); err != nil {
			return err
		}
	} else if rows, err = c.fileRows(source); err != nil {
		return err
	}
	slices.SortFunc(rows, func(x, y accountRow) int { return strings.Compare(x.Account, y.Account) })
	return c.print(a, rows)
}

func (c accountsListCmd) print(a *app, rows []accountRow) error {
	t := newTable(a.out, "account", "own secrets", "own api", "state")
	for _, r := range rows {
		if c.JSON {
			if err := printLine(a.out, r); err != nil {
				return err
			}
			continue
		}
		state := r.State
		if r.Fault != "" {
			state += ": " + shorten(r.Fault, 120)
		}
		t.row(r.Account, r.Secrets, r.API, state)
	}
	if c.JSON {
		return nil
	}
	if len(rows) == 0 {
		fmt.Fprintf(a.err, "source %s has no accounts\n", c.Source)
		return nil
	}
	return t.flush()
}

func (c accountsListCmd) bucketRows(ctx context.Context, kv jetstream.KeyValue, source provider.Source, box *seal.Box) ([]accountRow, error) {
	w, err := kv.Watch(ctx, c.Source+".>", jetstream.IgnoreDeletes())
	if err != nil {
		return nil, fmt.Errorf("bucket %s: %w", source.Accounts.Bucket, err)
	}
	defer func() { _ = w.Stop() }()
	var rows []accountRow
	for {
		select {
		case e, more := <-w.Updates():
			if !more { // cut off, perhaps before the last
				return nil, fmt.Errorf("bucket %s: reading it was cut off", source.Accounts.Bucket)
			}
			if e == nil { // all have come
				return rows, nil
			}
			name := strings.TrimPrefix(e.Key(), c.Source+".")
			acc, err := account.Unseal(box, c.Source, source, name, e.Value())
			rows = append(rows, row(name, acc, err))
		case <-ctx.Done():
			return nil, fmt.Errorf("bucket %s: %w", source.Accounts.Bucket, ctx.Err())
		}
	}
}

func (c accountsListCmd) fileRows(source provider.Source) ([]accountRow, error) {
	table, _, err := account.Read(c.Source, source, nil)
	if err != nil {
		return nil, err
	}
	var rows []accountRow
	for name, acc := range table.All() {
		var fault error
		if acc == nil {
			acc, fault = &provider.Account{}, account.ErrBroken
		}
		rows = append(rows, row(name, acc, fault))
	}
	return rows, nil
}

func row(name string, acc *provider.Account, fault error) accountRow {
	r := accountRow{Account: name, Secrets: len(acc.Keys()), API: acc.API != nil, State: "active"}
	switch {
	case fault != nil:
		r.State, r.Fault = "broken", fault.Error()
	case acc.Disabled:
		r.State = "disabled"
	}
	return r
}
