package embednats

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
)

// said takes what the server says and passes errors and warnings on.
type said struct {
	log *slog.Logger

	mu    sync.Mutex // guards what follows
	worst string     // the last error or warning
	fatal string     // why the server can't go on
}

// end returns why the server can't go on, or nil.
func (s *said) end() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fatal == "" {
		return nil
	}
	return errors.New(s.fatal)
}

// last is the last error or warning, to be put behind a sentence, or "".
func (s *said) last() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.worst == "" {
		return ""
	}
	return " It says: " + s.worst
}

func (s *said) note(level slog.Level, format string, values []any) string {
	text := fmt.Sprintf(format, values...)
	s.log.LogAttrs(context.Background(), level, "embedded nats server", slog.String("said", text))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.worst = text
	return text
}

// Warnf passes a warning on.
func (s *said) Warnf(format string, v ...any) { s.note(slog.LevelWarn, format, v) }

// Errorf passes an error on.
func (s *said) Errorf(format string, v ...any) { s.note(slog.LevelError, format, v) }

// Fatalf passes on why the server can't go on. It returns, and so does the server.
func (s *said) Fatalf(format string, v ...any) {
	text := s.note(slog.LevelError, format, v)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fatal = text
}

// Noticef, Debugf and Tracef are of no interest here.
func (*said) Noticef(string, ...any) {}

func (*said) Debugf(string, ...any) {}

func (*said) Tracef(string, ...any) {}
