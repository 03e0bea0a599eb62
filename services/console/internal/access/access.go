// Package access decides who may call the console: it knows the tokens of the
// pipeline file, reads their files again when they change, bounds how often a
// wrong one is looked at, and keeps browsers from being used by other sites.
//
// Without tokens, who is on the machine itself is taken for its operator. That is
// for the all-in-one on a developer's machine, and only on a loopback address.
package access

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/services/internal/watch"
)

// ErrReplaced ends what was begun with a token that another one took the place of.
var ErrReplaced = errors.New("another token has taken the place of this one")

// Errors of [Gate.Check], which callers tell apart.
var (
	ErrUnknown = errors.New("no such token")
	ErrExpired = errors.New("the token has expired")
	ErrTooMany = errors.New("too many wrong tokens from this address; try again in a minute")
)

// Local is the name of callers without a token, in records of what they did.
const Local = "local"

// Caller is who calls.
type Caller struct {
	// Name is that of the token, or [Local].
	Name string
	// Role is what the caller may do.
	Role pipeline.Role
	// ExpiresAt is when the token ends, or zero.
	ExpiresAt time.Time
	// Address is where the call came from.
	Address string

	valid context.Context //nolint:containedctx // ends with the token; nil for who has none
}

// Replaced calls f in a goroutine of its own once another token has taken the
// place of the caller's, unless stop is called before.
func (c Caller) Replaced(f func()) (stop func() bool) {
	if c.valid == nil {
		return func() bool { return true }
	}
	return context.AfterFunc(c.valid, f)
}

// May reports whether the caller may do what wants a role.
func (c Caller) May(want pipeline.Role) bool {
	return c.Role == pipeline.Operator || c.Role == pipeline.Viewer && want == pipeline.Viewer
}

// Config is the console's section, and who runs it.
type Config struct {
	pipeline.Console
	// Open lets callers on the machine itself in without a token where there are
	// none.
	Open bool
}

// Deps are what a [Gate] borrows.
type Deps struct {
	Log *slog.Logger
	// Now tells when tokens expire. Defaults to time.Now.
	Now func() time.Time
}

// Gate is who may come in. It is safe for concurrent use.
type Gate struct {
	cfg      Config
	deps     Deps
	open     bool
	keys     atomic.Pointer[[]key]
	attempts *attempts
	files    map[string]watch.File // by the name of the token
}

// key is a token as it is compared: by its hash, so that the comparison's time
// tells nothing of it, its length included.
type key struct {
	name    string
	hash    [sha256.Size]byte
	role    pipeline.Role
	expires time.Time
	valid   context.Context //nolint:containedctx // ends when another token takes its place
	replace context.CancelFunc
}

// newKey is a token that is valid from now on.
func newKey(name string, t pipeline.Token, hash [sha256.Size]byte) key {
	valid, replace := context.WithCancel(context.Background())
	return key{name, hash, t.Role, t.ExpiresAt(), valid, replace}
}

// New returns a gate. Its error says what to do where nobody could come in, or
// anybody.
func New(cfg Config, deps Deps) (*Gate, error) {
	if deps.Now == nil {
		deps.Now = time.Now
	}
	g := &Gate{cfg: cfg, deps: deps, attempts: newAttempts(deps.Now), files: map[string]watch.File{}}
	const add = "add one, such as console.tokens.alice: {role: operator, token: file:/run/secrets/alice}"
	switch {
	case len(cfg.Tokens) > 0:
	case !cfg.Loopback():
		return nil, fmt.Errorf("console.tokens: none, but console.listen is %s, which can be reached from outside; %s, or listen on 127.0.0.1", cfg.Listen, add)
	case !cfg.Open:
		return nil, fmt.Errorf("console.tokens: none; %s (only tercel up takes calls without)", add)
	default:
		g.open = true
	}
	keys := make([]key, 0, len(cfg.Tokens))
	for _, name := range slices.Sorted(maps.Keys(cfg.Tokens)) {
		t := cfg.Tokens[name]
		if path, ok := strings.CutPrefix(t.Token.Ref(), "file:"); ok {
			f := watch.File{Path: path}
			f.Changed() // before reading: what was written since the file was decoded is read again
			g.files[name] = f
			fresh, err := reread(t.Token.Ref())
			if err != nil {
				return nil, fmt.Errorf("console.tokens.%s: %w", name, err)
			}
			t.Token = fresh
		}
		keys = append(keys, newKey(name, t, sha256.Sum256([]byte(t.Token.Reveal()))))
	}
	g.keys.Store(&keys)
	return g, nil
}

// Open reports whether callers need no token.
func (g *Gate) Open() bool { return g.open }

// Check returns who has a token, or an error: [ErrUnknown], [ErrExpired] or
// [ErrTooMany]. A token that is empty is an attempt only where it is given.
//
// A right token is taken however many wrong ones came from its address: behind a
// proxy or a NAT all people have one, and whoever shares it could keep them out.
// What keeps tokens from being guessed is their length, which is checked.
func (g *Gate) Check(token, address string) (Caller, error) {
	if g.open {
		return Caller{Name: Local, Role: pipeline.Operator, Address: address}, nil
	}
	if token == "" {
		return Caller{}, ErrUnknown
	}
	hash := sha256.Sum256([]byte(token))
	var found *key
	for _, k := range *g.keys.Load() { // all of them, whatever comes first
		if subtle.ConstantTimeCompare(k.hash[:], hash[:]) == 1 {
			found = &k
		}
	}
	if found == nil {
		if !g.attempts.wrong(address) {
			return Caller{}, ErrTooMany
		}
		g.deps.Log.Warn("call with a wrong token", slog.String("address", address))
		return Caller{}, ErrUnknown
	}
	if !found.expires.IsZero() && !g.deps.Now().Before(found.expires) {
		return Caller{}, fmt.Errorf("%w on %s", ErrExpired, found.expires.UTC().Format(time.RFC3339))
	}
	return Caller{Name: found.name, Role: found.role, ExpiresAt: found.expires, Address: address, valid: found.valid}, nil
}

// Keep reads tokens again when their files change, until ctx ends. What can't be
// read leaves the last good one in use and is tried again each time: what kept it
// from being read, such as its owner, may go without a change of the file.
func (g *Gate) Keep(ctx context.Context) {
	unread := map[string]bool{}
	watch.Every(ctx, watch.Interval, func() {
		for name, f := range g.files {
			if changed := f.Changed(); changed || unread[name] {
				unread[name] = !g.renew(ctx, name, changed)
			}
			g.files[name] = f
		}
	})
}

// renew takes a token over from its file and reports whether it could. Why not is
// told if tell is set.
func (g *Gate) renew(ctx context.Context, name string, tell bool) bool {
	fresh, err := reread(g.cfg.Tokens[name].Token.Ref())
	keys := slices.Clone(*g.keys.Load())
	hash := sha256.Sum256([]byte(fresh.Reveal()))
	for _, k := range keys {
		if err == nil && k.name != name && k.hash == hash {
			err = fmt.Errorf("it is the token of %s too", k.name)
		}
	}
	if err != nil {
		if tell {
			g.deps.Log.LogAttrs(ctx, slog.LevelWarn, "token not read, the last good one stays in use", slog.String("name", name), slog.Any("err", err))
		}
		return false
	}
	i := slices.IndexFunc(keys, func(k key) bool { return k.name == name })
	if old := keys[i]; old.hash != hash {
		keys[i] = newKey(name, g.cfg.Tokens[name], hash)
		g.keys.Store(&keys)
		old.replace() // whoever was let in with it meanwhile is ended too
	}
	g.deps.Log.LogAttrs(ctx, slog.LevelInfo, "token was read anew", slog.String("name", name))
	return true
}

// reread resolves a reference once more, by the rules of the pipeline file.
func reread(ref string) (config.Secret, error) {
	text, err := json.Marshal(map[string]string{"role": string(pipeline.Viewer), "token": ref})
	if err != nil {
		return config.Secret{}, err
	}
	var t pipeline.Token
	if err := config.Decode("token", text, &t); err != nil {
		return config.Secret{}, err
	}
	return t.Token, nil
}
