package account

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"maps"
	"regexp"
	"slices"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/provider"
)

// maxEntry bounds one account's entry, in bytes.
const maxEntry = 64 << 10

// text is an account's entry as it was found.
type text struct {
	file   string // what faults call the place
	line   int    // where it begins, 0 for the first line
	data   []byte
	err    error // why it couldn't be read
	keyed  bool  // data begins with the account's name
	sealed bool
	stamp  stamp
}

// read makes the item of an account's newest entry, with the last good one of
// old, which may be nil. It returns old where nothing has changed.
func (t *Table) read(name string, e text, old *item, again bool) *item {
	next := &item{sum: maphash.Bytes(t.seed, e.data), stamp: e.stamp}
	if old != nil && old.sum == next.sum && !again && e.err == nil {
		if old.stamp == next.stamp {
			return old
		}
		same := *old
		same.stamp = e.stamp
		return &same
	}
	a := &provider.Account{}
	refs, err := t.decode(name, e, a)
	next.secrets = stamped(refs)
	if err == nil {
		a.Name = name
		next.account = a
		return next
	}
	next.fault = err
	if old != nil {
		next.account = old.account
	}
	return next
}

// decode reads an entry and makes it ready for use. It returns the references
// in it with what they stand for.
func (t *Table) decode(name string, e text, into *provider.Account) (refs map[string]config.Secret, err error) {
	switch {
	case !provider.AccountName.MatchString(name):
		return nil, fault(e, name, "a name that no account can have", "letters, digits, dots, - and _, at most 128")
	case e.err != nil:
		return nil, e.err
	case len(e.data) > maxEntry:
		return nil, fault(e, name, "an entry over 64 KiB", "a smaller one")
	}
	refs = map[string]config.Secret{}
	opts := []config.Option{config.WithReferences(func(ref string, s config.Secret) { refs[ref] = s })}
	if e.sealed {
		if e.data, err = t.box.Open(label(t.name, name), e.data); err != nil {
			return nil, fmt.Errorf("%s: %w", e.file, err)
		}
		opts = append(opts, config.WithPlain())
	}
	if e.keyed {
		err = decodeKeyed(name, e, into, opts)
	} else {
		err = config.Decode(e.file, e.data, into, opts...)
	}
	var faults config.Faults
	if errors.As(err, &faults) {
		for i := range faults {
			faults[i].Line += e.line
		}
		return refs, faults
	}
	if err == nil {
		if err = t.source.Ready(into); err != nil {
			err = fault(e, name, err.Error(), "")
		}
	}
	return refs, err
}

// decodeKeyed reads an entry that begins with the account's name.
func decodeKeyed(name string, e text, into *provider.Account, opts []config.Option) error {
	one := map[string]provider.Account{}
	if err := config.Decode(e.file, e.data, &one, opts...); err != nil {
		return err
	}
	found, ok := one[name]
	if !ok {
		return fault(text{file: e.file}, name, "another account's name", "an entry that begins with this one's")
	}
	*into = found
	return nil
}

func fault(e text, name, found, want string) error {
	return config.Faults{{File: e.file, Line: e.line + 1, Column: 1, Key: name, Found: found, Want: want}}
}

// entryStart is a line of an accounts file that begins an entry.
var entryStart = regexp.MustCompile(`^(?:"([^"\n]+)"|'([^'\n]+)'|([^\s"'#:{}\[\],&*!|>%@` + "`" + `-][^\s:]*))[ \t]*:(?:[ \t]|\r?$)`)

// split takes an accounts file apart into entries, so that each counts by
// itself: one begins where a line begins with a name and a colon, and ends
// where the next one does. Names that are there twice get none.
func split(file string, data []byte) (entries map[string]text, err error) {
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	entries = map[string]text{}
	twice := map[string]bool{}
	name, from, start, line := "", 0, 0, 0
	end := func(to int) {
		if name == "" {
			return
		}
		if _, ok := entries[name]; ok {
			twice[name] = true
		}
		entries[name] = text{file: file, line: start, data: data[from:to], keyed: true}
	}
	for at := 0; at < len(data); line++ {
		next := len(data)
		if i := bytes.IndexByte(data[at:], '\n'); i >= 0 {
			next = at + i + 1
		}
		row := bytes.TrimRight(data[at:next], "\r\n")
		if m := entryStart.FindSubmatch(row); m != nil {
			end(at)
			name, from, start = string(m[1])+string(m[2])+string(m[3]), at, line
		} else if name == "" && !blank(row) {
			return nil, fmt.Errorf("%s:%d: found text that belongs to no account, want an account's name and a colon at the begin of the line", file, line+1)
		}
		at = next
	}
	end(len(data))
	for name := range twice {
		e := entries[name]
		e.data = []byte(name + ": {this account: is there twice}\n")
		entries[name] = e
	}
	return entries, nil
}

// blank tells a line that says nothing in front of the first entry.
func blank(row []byte) bool {
	row = bytes.TrimSpace(row)
	return len(row) == 0 || row[0] == '#' || string(row) == "---"
}

// maxLogged bounds the lines about entries that one look at a place may cause.
const maxLogged = 20

// take makes changes and logs what is to be said about them.
func (t *Table) take(ctx context.Context, changes map[string]*item) {
	maps.DeleteFunc(changes, func(name string, it *item) bool { return it == t.find(name) })
	if len(changes) == 0 {
		return
	}
	left, broken := t.apply(changes), 0
	for name, it := range changes {
		if it == nil || it.fault == nil {
			continue
		}
		if broken++; broken <= maxLogged {
			t.log.LogAttrs(ctx, slog.LevelWarn, "account's entry can't be used, the last good one stays",
				slog.String("account", name), slog.Bool("had_one", it.account != nil), slog.Any("err", it.fault))
		}
	}
	if broken > maxLogged {
		t.log.LogAttrs(ctx, slog.LevelWarn, "more entries of accounts can't be used", slog.Int("entries", broken-maxLogged))
	}
	if len(left) > 0 && !slices.Equal(left, t.left) { // a folder's are found again and again
		t.left = left
		t.log.LogAttrs(ctx, slog.LevelError, "accounts left out, there are more than accounts.max",
			slog.Int("accounts", len(left)), slog.Int("max", t.source.Accounts.Max))
	}
	if len(left) == len(changes) {
		return
	}
	c := t.Count()
	t.log.LogAttrs(ctx, slog.LevelInfo, "accounts changed", slog.Int("changes", len(changes)),
		slog.Int("active", c.Active), slog.Int("disabled", c.Disabled), slog.Int("broken", c.Broken))
}
