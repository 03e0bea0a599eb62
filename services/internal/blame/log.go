package blame

import (
	"bytes"
	"context"
	"log"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// linesAMinute is how many lines a server has in a minute for what strangers do.
const linesAMinute = 10

// Log returns a server's ErrorLog. net/http has a line for each connection that can't
// be encrypted, and for more that strangers can do as often as they want: ten a minute
// are told, and how many there were beside them. Of panics, which are our own
// fault, each is told.
func Log(to *slog.Logger) *log.Logger { return log.New(&complaints{to: to}, "", 0) }

// complaints are what a server writes to its log.
type complaints struct {
	to *slog.Logger

	mu           sync.Mutex // guards what follows
	from         time.Time  // when the minute began
	told, untold int        // since then
}

// Write takes one line.
func (c *complaints) Write(line []byte) (int, error) {
	ours := bytes.Contains(line, []byte("panic serving "))
	tell, untold := c.worth(time.Now())
	if untold > 0 {
		c.to.LogAttrs(context.Background(), slog.LevelWarn, "more of what the HTTP server says", slog.Int("lines", untold))
	}
	if tell || ours {
		c.to.LogAttrs(context.Background(), slog.LevelWarn, "the HTTP server says", slog.String("text", strings.TrimSpace(string(line))))
	}
	return len(line), nil
}

// worth reports whether another line is told, and how many of the minute before were
// not.
func (c *complaints) worth(now time.Time) (tell bool, untold int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if age := now.Sub(c.from); age < 0 || age >= time.Minute {
		untold = c.untold
		c.from, c.told, c.untold = now, 0, 0
	}
	if c.told == linesAMinute {
		c.untold++
		return false, untold
	}
	c.told++
	return true, untold
}
