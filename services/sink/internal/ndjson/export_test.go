package ndjson

import "context"

// OpenRemembering opens a folder that remembers only the newest n events.
func OpenRemembering(ctx context.Context, cfg Config, n int) (*Folder, error) {
	return openFolder(ctx, cfg, n)
}

// Mend is what Open does to the last file.
var Mend = mend
