package pgtest

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/tercelhq/tercel/services/internal/chaos/link"
)

// Start runs a server for one test, which is skipped where PostgreSQL isn't
// installed, but fails there in CI. It doesn't sync its writes.
func Start(t testing.TB) *Server {
	t.Helper()
	s, err := Launch("fsync=off")
	need(t, err)
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// Pool is one server for all tests of a package, started by the first that
// needs it. The zero Pool is ready; its Main stops it.
type Pool struct {
	once   sync.Once
	server *Server
	err    error
}

// Main runs the package's tests and ends the process; call it in TestMain. Ends
// end what else the tests started together.
func (p *Pool) Main(m *testing.M, ends ...func()) {
	code := m.Run()
	for _, end := range ends {
		end()
	}
	if p.server != nil {
		if err := p.server.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = max(code, 1)
		}
	}
	os.Exit(code)
}

// Server returns the server; a test without one is skipped as by [Start].
func (p *Pool) Server(t testing.TB) *Server {
	t.Helper()
	p.once.Do(func() { p.server, p.err = Launch("fsync=off") })
	need(t, p.err)
	return p.server
}

// need ends a test that has no server, by whatever it takes to be noticed.
func need(t testing.TB, err error) {
	t.Helper()
	switch {
	case errors.Is(err, ErrNoPrograms) && os.Getenv("CI") == "":
		t.Skip(err)
	case err != nil:
		t.Fatal(err)
	}
}

// Name returns a name for a schema, role or database that nobody has yet.
func Name() string { return "t_" + strings.ToLower(rand.Text()) }

// Linked returns a link to s that is closed when the test ends.
func (s *Server) Linked(t testing.TB) *link.Link {
	t.Helper()
	l, err := link.Listen(s.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}
