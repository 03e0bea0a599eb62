package cursor

import (
	"context"
	"fmt"
	"strings"

	"github.com/tercelhq/tercel/pkg/event"
)

// List returns every cursor of reconciliation of one source or, with "", of all,
// in the order of their keys.
func (s *Store) List(ctx context.Context, source string) ([]Entry, error) {
	of := "*"
	if source != "" {
		of = event.Escape(source) // a name that no source can have chooses nothing
	}
	names, err := s.keys(ctx, of+".*.*")
	if err != nil {
		return nil, fmt.Errorf("list cursors: %w", err)
	}
	keys := map[string]Key{}
	var chosen, patterns []string
	for _, name := range names {
		key, ok := parseKey(name)
		if !ok {
			continue // of something else, such as a backfill, which may be large
		}
		keys[name], chosen = key, append(chosen, name)
		if n := len(patterns); n == 0 || patterns[n-1] != key.Source+".*.*" { // names are in order
			patterns = append(patterns, key.Source+".*.*")
		}
	}
	stored, err := s.read(ctx, chosen, patterns...)
	if err != nil {
		return nil, fmt.Errorf("list cursors: %w", err)
	}
	var entries []Entry
	for _, cursor := range stored {
		e, err := decodeCursor(keys[cursor.Key()], cursor)
		if err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// parseKey undoes [Key.String].
func parseKey(text string) (Key, bool) {
	parts := strings.Split(text, ".")
	if len(parts) != 3 || strings.HasPrefix(text, "_") {
		return Key{}, false
	}
	account, err := event.Unescape(strings.ReplaceAll(parts[1], "=", "%"))
	return Key{Source: parts[0], Account: account, Resource: parts[2]}, err == nil
}
