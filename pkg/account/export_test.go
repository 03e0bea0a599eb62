package account

import (
	"context"
	"log/slog"
	"time"

	"github.com/tercelhq/tercel/pkg/provider"
)

// Looks are frequent in tests. So short a time between them still tells what is
// being written from what was.
func init() { lookEvery, secretsEvery = 20*time.Millisecond, 40*time.Millisecond }

// Following reads the accounts of a source, and returns what looks for changes
// once and takes them over at once.
func Following(name string, source provider.Source) (*Table, func() error, error) {
	t := newTable(name, source, nil, slog.New(slog.DiscardHandler))
	f := newFiles(t)
	return t, func() error { return f.look(context.Background(), nil, true) }, f.load(context.Background())
}

// Split is split, for its fuzz test.
func Split(data []byte) (map[string]string, error) {
	entries, err := split("accounts.yaml", data)
	all := map[string]string{}
	for name, e := range entries {
		all[name] = string(e.data)
	}
	return all, err
}
