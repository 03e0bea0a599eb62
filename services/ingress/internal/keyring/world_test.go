package keyring_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"sync"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/services/ingress/internal/keyring"
	"github.com/tercelhq/tercel/services/ingress/internal/nettest"
)

var now = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// rsaKeys are made once: they take time.
var rsaKeys = sync.OnceValue(func() map[int]*rsa.PrivateKey {
	keys := map[int]*rsa.PrivateKey{}
	for _, bits := range []int{1024, 2048} {
		k, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			panic(err)
		}
		keys[bits] = k
	}
	return keys
})

func strong() crypto.PublicKey { return rsaKeys()[2048].Public() }

// world is a network with a clock.
type world struct {
	*nettest.World
	t testing.TB

	mu    sync.Mutex // guards clock
	clock time.Time
}

func newWorld(t testing.TB) *world {
	t.Helper()
	return &world{World: nettest.New(t), t: t, clock: now}
}

func (w *world) asked() int { return len(w.Calls()) }

func (w *world) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.clock
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.clock = w.clock.Add(d)
}

func (w *world) deps() keyring.Deps { return keyring.Deps{Now: w.now, Roots: w.Roots(), Dial: w.Dial} }

// goodCertificate is one for SNS.
func (w *world) goodCertificate() string {
	return nettest.PEM(w.Root.Issue(w.t, strong(), nettest.ForHost("sns.amazonaws.com")))
}

// ring is one for a preset in this world.
func (w *world) ring(preset, more string) *keyring.Ring {
	w.t.Helper()
	return w.ringWith(preset, more, w.deps())
}

func (w *world) ringWith(preset, more string, deps keyring.Deps) *keyring.Ring {
	w.t.Helper()
	s := &provider.Source{}
	err := config.Decode("source.yaml", []byte("preset: "+preset+"\n"+more), s, config.WithLookupEnv(func(string) (string, bool) {
		return "a value of enough length", true
	}))
	if err != nil {
		w.t.Fatal(err)
	}
	r, err := keyring.New(keyring.Config{Source: "it", Algorithm: s.Verify.Algorithm, Keys: s.SenderKeys, API: s.API}, deps)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(r.Close)
	return r
}
