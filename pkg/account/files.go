package account

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/tercelhq/tercel/pkg/config"
)

// How files are looked at. A notice of the operating system's would be faster,
// and doesn't come on every file system that secrets are mounted from.
var (
	lookEvery    = 2 * time.Second
	secretsEvery = 30 * time.Second
)

// lookShare is the inverse of the share of a CPU that looks may take.
const lookShare = 50

// maxFile bounds an accounts file, in bytes: 100,000 entries of 600.
const maxFile = 64 << 20

// stamp tells two states of a file apart.
type stamp struct {
	modified int64 // Unix nanoseconds
	size     int64
}

func stampOf(path string) (stamp, error) {
	info, err := os.Stat(path)
	if err != nil {
		return stamp{}, err
	}
	if !info.Mode().IsRegular() { // reading a pipe could wait for ever
		return stamp{}, fmt.Errorf("%s: not a regular file", path)
	}
	return stamp{info.ModTime().UnixNano(), info.Size()}, nil
}

// fresh tells whether the file was written just now.
func (s stamp) fresh(now time.Time) bool {
	age := now.Sub(time.Unix(0, s.modified))
	return age >= 0 && age < lookEvery
}

// secretFile is a file that a secret was read from.
type secretFile struct {
	path  string
	stamp stamp // zero if it wasn't there
}

// stamped notes how the files are now that references name. One that was just
// written may have been read before: it counts as changed at the next look.
func stamped(refs map[string]config.Secret) []secretFile {
	var all []secretFile
	for ref := range refs {
		if path, ok := strings.CutPrefix(ref, "file:"); ok {
			s, _ := stampOf(path) // one that isn't there is another one when it comes
			if s.fresh(time.Now()) {
				s = stamp{}
			}
			all = append(all, secretFile{path, s})
		}
	}
	return all
}

// files follows the entries in a file or folder. It is used by one goroutine.
type files struct {
	table   *Table
	folder  string // "" for a file
	path    string // of the file
	done    stamp  // of the file as it was read
	pending map[string]stamp
	torn    bool   // some file was written while the last look read it
	said    string // the last complaint
	secrets time.Time
}

func newFiles(t *Table) *files {
	return &files{table: t, folder: t.source.Accounts.Dir, path: t.source.Accounts.File, secrets: time.Now()}
}

// maxFirst bounds the first looks, of which one must see every file whole.
const maxFirst = 10

// load reads everything for the first time. While files are being written, those
// that aren't whole yet would seem to be no accounts.
func (f *files) load(ctx context.Context) error {
	for range maxFirst {
		if err := f.look(ctx, nil, true); err != nil {
			return err
		}
		if !f.torn {
			f.table.ready()
			return nil
		}
		select {
		case <-time.After(lookEvery):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return errTorn
}

var errTorn = errors.New("files are being written all the time")

// errNone keeps the accounts that are known when all are gone at once: that is
// what a folder looks like whose volume isn't mounted.
var errNone = errors.New("there is no account any more, which is taken for a mistake")

// follow looks for changes until ctx ends.
func (f *files) follow(ctx context.Context) {
	wait := time.NewTimer(lookEvery)
	defer wait.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-wait.C:
		}
		began := time.Now()
		err := f.look(ctx, f.stale(began), false)
		switch {
		case err == nil:
			f.said = ""
		case err.Error() != f.said:
			f.said = err.Error()
			f.table.log.LogAttrs(ctx, slog.LevelWarn, "accounts not read, those that are known stay", slog.Any("err", err))
		}
		wait.Reset(max(lookEvery, lookShare*time.Since(began)))
	}
}

// stale returns the accounts whose secrets' files have changed, now and again.
func (f *files) stale(now time.Time) map[string]bool {
	if now.Sub(f.secrets) < secretsEvery {
		return nil
	}
	f.secrets = now
	var names map[string]bool
	for name, it := range f.table.all() {
		for _, s := range it.secrets {
			is, _ := stampOf(s.path)
			if is == s.stamp || is.fresh(now) { // it may be being written
				continue
			}
			if names == nil {
				names = map[string]bool{}
			}
			names[name] = true
		}
	}
	return names
}

// look takes over what has changed. At first everything counts at once; later,
// what was the same at two looks. Entries of stale accounts are read in any case.
func (f *files) look(ctx context.Context, stale map[string]bool, first bool) error {
	var found map[string]text // nil when there is nothing to do
	var err error
	f.torn = false
	if f.folder != "" {
		found, err = f.lookFolder(stale, first)
	} else {
		found, err = f.lookFile(len(stale) > 0 || first)
	}
	if err != nil || found == nil {
		return err
	}
	t, changes := f.table, map[string]*item{}
	for name := range t.all() {
		if _, ok := found[name]; !ok {
			changes[name] = nil
		}
	}
	if len(found) == 0 && len(changes) > 0 {
		return errNone
	}
	for name, e := range found {
		if e.data == nil && e.err == nil {
			continue // nothing new, or not yet
		}
		old := t.find(name)
		if it := t.read(name, e, old, stale[name]); it != old {
			changes[name] = it
		}
	}
	t.take(ctx, changes)
	return nil
}

// lookFile returns the entries of the file if it has changed or must be read.
func (f *files) lookFile(must bool) (map[string]text, error) {
	now, err := stampOf(f.path)
	if err != nil {
		return nil, err
	}
	if !must && (now == f.done || f.pending[""] != now) {
		f.pending = map[string]stamp{"": now}
		return nil, nil
	}
	if now.size > maxFile {
		return nil, fmt.Errorf("%s: more than %d bytes", f.path, maxFile)
	}
	data, err := readFile(f.path, maxFile)
	if err != nil {
		return nil, err
	}
	if after, err := stampOf(f.path); err != nil || after != now {
		f.torn = true
		return nil, err // the next look reads it
	}
	f.done = now
	return split(f.path, data)
}

// lookFolder returns the files of the folder. Only the new and the changed ones
// among them have data.
func (f *files) lookFolder(stale map[string]bool, first bool) (map[string]text, error) {
	listed, err := os.ReadDir(f.folder)
	if err != nil {
		return nil, err
	}
	found, pending := make(map[string]text, len(listed)), map[string]stamp{}
	for _, file := range listed {
		name, ok := strings.CutSuffix(file.Name(), ".yaml")
		if !ok || strings.HasPrefix(name, ".") {
			continue
		}
		path := filepath.Join(f.folder, file.Name())
		now, err := stampOf(path)
		if err != nil {
			continue // it has gone meanwhile, or is a folder
		}
		e := text{file: path, stamp: now}
		it := f.table.find(name)
		switch {
		case it != nil && it.stamp == now && !stale[name]:
		case first || stale[name] || f.pending[name] == now:
			e.data, e.err = readFile(path, maxEntry)
			if after, err := stampOf(path); err != nil || after != now {
				e.data, e.err, pending[name], f.torn = nil, nil, after, true
			}
		default:
			pending[name] = now
		}
		found[name] = e
	}
	f.pending = pending
	return found, nil
}

// readFile reads at most most bytes.
func readFile(path string, most int64) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	data, err := io.ReadAll(io.LimitReader(file, most+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if int64(len(data)) > most {
		return nil, fmt.Errorf("read %s: more than %d bytes", path, most)
	}
	return data, nil
}
