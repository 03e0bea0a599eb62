package sink_test

import (
	"context"
	"fmt"
	"os/signal"
	"syscall"

	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/services/sink"
)

// fillUp writes, keeps files from growing, which fails in the middle of a write
// as a full disk does, and writes when they may grow again.
func fillUp(w sink.Writer) error {
	signal.Ignore(syscall.SIGXFSZ) // writes past the limit fail instead
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	unlimited := limit
	ctx := context.Background()
	for i, r := range w.Write(ctx, items(numbered(0, 10)...)) {
		if r.Err != nil {
			return fmt.Errorf("item %d before the limit: %w", i, r.Err)
		}
	}
	limit.Cur = 6000 // less than the next events need
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	for i, r := range w.Write(ctx, items(numbered(10, 100)...)) {
		if r.Err == nil || fault.IsPermanent(r.Err) {
			return fmt.Errorf("item %d past the limit: %v, want a transient error", i, r.Err)
		}
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &unlimited); err != nil {
		return err
	}
	for i, r := range w.Write(ctx, items(numbered(0, 100)...)) {
		if r.Err != nil {
			return fmt.Errorf("item %d after the limit: %w", i, r.Err)
		}
	}
	return w.Close()
}
