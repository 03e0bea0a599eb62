// Package watch finds out that files have changed, by looking at them again and
// again. A notice of the operating system's would be faster, and doesn't come on
// every file system that secrets are mounted from.
package watch

import (
	"context"
	"io/fs"
	"os"
	"time"
)

// Interval is how often files are looked at.
const Interval = 2 * time.Second

// Every calls do each time that d has gone by, until ctx ends.
func Every(ctx context.Context, d time.Duration, do func()) {
	tick := time.NewTicker(d)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			do()
		case <-ctx.Done():
			return
		}
	}
}

// File is a file or folder that may change. It is for one goroutine.
type File struct {
	Path string
	last fs.FileInfo // nil when it wasn't there
}

// Changed reports whether the file is another one than at the last call, or was
// written to since.
func (f *File) Changed() bool {
	now, err := os.Stat(f.Path)
	if err != nil {
		now = nil
	}
	last := f.last
	f.last = now
	if now == nil || last == nil {
		return (now == nil) != (last == nil)
	}
	return !os.SameFile(now, last) || !now.ModTime().Equal(last.ModTime()) || now.Size() != last.Size()
}

// Files are several, of which one is as good as another.
type Files []File

// Changed reports whether one of the files did, and notes all of them.
func (f Files) Changed() bool {
	some := false
	for i := range f {
		some = f[i].Changed() || some
	}
	return some
}
