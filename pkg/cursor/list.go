package cursor

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/tercelhq/tercel/pkg/event"
)

// List returns every cursor of reconciliation, in the order of their keys.
func (s *Store) List(ctx context.Context) ([]Entry, error) {
	lister, err := s.kv.ListKeys(ctx)
	if err != nil {
		return nil, fmt.Errorf("list cursors: %w", err)
	}
	var keys []string
	for key := range lister.Keys() {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	var entries []Entry
	for _, text := range keys {
		key, ok := parseKey(text)
		if !ok {
			continue // the position of something else, such as the audit or a scan
		}
		e, err := s.Load(ctx, key)
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
