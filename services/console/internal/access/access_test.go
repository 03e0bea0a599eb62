package access_test

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/services/console/internal/access"
)

const token = "a token of enough length"

// gate has one operator, and a clock that is moved.
func gate(t *testing.T, expires string, now *time.Time) *access.Gate {
	t.Helper()
	g, err := access.New(access.Config{Console: pipeline.Console{Listen: "127.0.0.1:0", Tokens: map[string]pipeline.Token{
		"olivia": {Role: pipeline.Operator, Token: config.NewSecret(token), Expires: expires},
		"victor": {Role: pipeline.Viewer, Token: config.NewSecret(token + "2")},
	}}}, access.Deps{Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return *now }})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestATokenEndsAtItsExpiry(t *testing.T) {
	t.Parallel()
	at := time.Date(2027, 3, 1, 0, 0, 0, 0, time.UTC)
	now := at.Add(-time.Nanosecond)
	g := gate(t, "2027-03-01", &now)
	if c, err := g.Check(token, "192.0.2.1"); err != nil || c.Name != "olivia" || c.Role != pipeline.Operator || !c.ExpiresAt.Equal(at) || c.Address != "192.0.2.1" {
		t.Errorf("Check() just before = %+v, %v", c, err)
	}
	now = at
	if _, err := g.Check(token, "192.0.2.1"); !errors.Is(err, access.ErrExpired) || !strings.Contains(err.Error(), "2027-03-01") {
		t.Errorf("Check() at the expiry = %v, want ErrExpired with its time", err)
	}
	for range 30 { // it is no guess, and no reason to keep its address out
		if _, err := g.Check(token, "192.0.2.1"); !errors.Is(err, access.ErrExpired) {
			t.Fatalf("Check() = %v, want ErrExpired", err)
		}
	}
}

func TestARoleMayWhatItMay(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		has, wants pipeline.Role
		may        bool
	}{
		{pipeline.Operator, pipeline.Operator, true},
		{pipeline.Operator, pipeline.Viewer, true},
		{pipeline.Viewer, pipeline.Viewer, true},
		{pipeline.Viewer, pipeline.Operator, false},
		{"", pipeline.Viewer, false},
		{"", "", false},
	} {
		if got := (access.Caller{Role: tt.has}).May(tt.wants); got != tt.may {
			t.Errorf("%q may what wants %q: %t", tt.has, tt.wants, got)
		}
	}
}

// Guessing is bounded for each network, elsewhere and later it goes on; a right
// token is taken all the while, for its holder may share the guesser's address.
func TestGuessingIsBounded(t *testing.T) {
	t.Parallel()
	now := time.Date(2027, 3, 1, 0, 0, 0, 0, time.UTC)
	for name, tt := range map[string]struct{ from, same, other string }{
		"IPv4":               {"192.0.2.1", "192.0.2.1", "192.0.2.2"},
		"IPv6, by its /64":   {"2001:db8::1", "2001:db8::ffff", "2001:db8:0:1::1"},
		"IPv4 in IPv6":       {"::ffff:192.0.2.1", "192.0.2.1", "::ffff:192.0.2.2"},
		"without an address": {"@", "@", "192.0.2.2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			now := now
			g := gate(t, "", &now)
			for i := range 10 {
				if _, err := g.Check(fmt.Sprint("guess ", i), tt.from); !errors.Is(err, access.ErrUnknown) {
					t.Fatalf("guess %d = %v, want ErrUnknown", i, err)
				}
			}
			if _, err := g.Check("guess 11", tt.same); !errors.Is(err, access.ErrTooMany) {
				t.Errorf("the eleventh guess = %v, want ErrTooMany", err)
			}
			for range 30 {
				if c, err := g.Check(token, tt.same); err != nil || c.Name != "olivia" {
					t.Fatalf("the right token from there = %+v, %v", c, err)
				}
			}
			if _, err := g.Check("guess 12", tt.other); !errors.Is(err, access.ErrUnknown) {
				t.Errorf("a guess from elsewhere = %v, want ErrUnknown", err)
			}
			now = now.Add(6 * time.Second)
			if _, err := g.Check("guess 13", tt.same); !errors.Is(err, access.ErrUnknown) {
				t.Errorf("a guess six seconds later = %v, want ErrUnknown", err)
			}
		})
	}
}

// However many networks guess at once, memory is bounded and so are their
// guesses.
func TestGuessingFromEverywhereIsBounded(t *testing.T) {
	t.Parallel()
	now := time.Date(2027, 3, 1, 0, 0, 0, 0, time.UTC)
	g := gate(t, "", &now)
	looked := 0
	for i := range 6000 {
		_, err := g.Check("a guess", fmt.Sprintf("2001:db8:%x::1", i))
		if errors.Is(err, access.ErrUnknown) {
			looked++
		} else if !errors.Is(err, access.ErrTooMany) {
			t.Fatal(err)
		}
	}
	if looked > 4096+10 {
		t.Errorf("%d guesses were looked at, want one of each of 4096 networks and ten of all others", looked)
	}
	now = now.Add(time.Hour)
	for i := range 11 {
		if _, err := g.Check("a guess", fmt.Sprintf("2001:db8:fffe:%x::1", i)); !errors.Is(err, access.ErrUnknown) {
			t.Errorf("a guess from elsewhere an hour later = %v, want that there is room for it", err)
		}
	}
}

func TestNoTokenIsNoGuess(t *testing.T) {
	t.Parallel()
	now := time.Now()
	g := gate(t, "", &now)
	for range 30 {
		if _, err := g.Check("", "192.0.2.1"); !errors.Is(err, access.ErrUnknown) {
			t.Fatalf("Check() without a token = %v", err)
		}
	}
	if _, err := g.Check(token, "192.0.2.1"); err != nil {
		t.Errorf("the right token afterwards = %v", err)
	}
}

func TestBearer(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{
		"": "", "Bearer abc": "abc", "bearer  abc ": "abc", "Basic abc": "", "Bearer": "", "abc": "", "BEARER a b": "a b",
	} {
		if got := access.Bearer(http.Header{"Authorization": {value}}); got != want {
			t.Errorf("Bearer(%q) = %q, want %q", value, got, want)
		}
	}
}
