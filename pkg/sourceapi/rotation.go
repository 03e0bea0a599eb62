package sourceapi

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/tercelhq/tercel/pkg/seal"
	"github.com/tercelhq/tercel/pkg/topology"
)

// rotation gets access tokens with a refresh token that its issuer may replace
// at each use. The one that counts, and the access token, are kept in a bucket,
// sealed, so that they outlive the process and all replicas have the same.
//
// A replica claims the refresh token by a compare-and-set before it uses it: to
// use one twice can make the issuer revoke the whole authorization. One that
// dies between the issuer's answer and storing it takes the new refresh token
// with it: then the authorization has to be given again, unless the issuer
// takes the old one once more.
type rotation struct {
	oauth   *oauth
	js      jetstream.JetStream
	seal    *seal.Box
	key     string
	timeout time.Duration // of one token request
}

// grantState is what the bucket has, sealed.
type grantState struct {
	Refresh string    `json:"refresh"`
	Access  string    `json:"access,omitzero"`
	Expires time.Time `json:"expires,omitzero"`
	Lives   int64     `json:"lives,omitzero"` // seconds
	// Seed is the hash of the configured refresh token that all of this comes
	// from, Older those of the ones before it: a replica that still has an older
	// configuration must not go back to its own.
	Seed  string   `json:"seed"`
	Older []string `json:"older,omitempty"`
	// Claim is who uses the refresh token now, and Until when nobody does any
	// longer.
	Claim string    `json:"claim,omitzero"`
	Until time.Time `json:"until,omitzero"`
}

// maxOlder bounds the seeds that are remembered.
const maxOlder = 16

// claimTimeouts is how long a claim holds, in timeouts of a token request. To ask
// and to store take two of them; the others are for clocks that differ.
const claimTimeouts = 4

// claimPoll is how often somebody else's claim is looked at.
const claimPoll = 100 * time.Millisecond

// token returns the shared access token, or refreshes it. The refused one is no
// answer.
func (r *rotation) token(ctx context.Context, refused string) (token, error) {
	kv, err := r.js.KeyValue(ctx, topology.BucketTokens)
	if err != nil {
		return token{}, &tokenError{text: "bucket " + topology.BucketTokens + ": " + err.Error(), cause: err}
	}
	for {
		state, revision, err := r.load(ctx, kv)
		if err != nil {
			return token{}, err
		}
		shared := token{value: state.Access, expires: state.Expires, lives: time.Duration(state.Lives) * time.Second}
		if shared.fresh(r.oauth.now()) && shared.value != refused {
			return shared, nil
		}
		if time.Now().After(state.Until) {
			got, err := r.refresh(ctx, kv, state, revision)
			if !errors.Is(err, errClaimed) {
				return got, err
			}
		}
		select {
		case <-time.After(claimPoll):
		case <-ctx.Done():
			return token{}, &tokenError{text: "another replica is getting it", cause: ctx.Err()}
		}
	}
}

// load returns what is stored; anew where nothing is, or where the
// configuration has a refresh token that was never seen.
func (r *rotation) load(ctx context.Context, kv jetstream.KeyValue) (state grantState, revision uint64, err error) {
	sum := sha256.Sum256([]byte(r.oauth.cfg.RefreshToken.Reveal()))
	seed := hex.EncodeToString(sum[:16])
	entry, err := kv.Get(ctx, r.key)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		return grantState{Refresh: r.oauth.cfg.RefreshToken.Reveal(), Seed: seed}, 0, nil
	case err != nil:
		return grantState{}, 0, &tokenError{text: "stored refresh token: " + err.Error(), cause: err}
	}
	plain, err := r.seal.Open(r.label(), entry.Value())
	if err == nil {
		err = json.Unmarshal(plain, &state)
	}
	if err != nil {
		return grantState{}, 0, &tokenError{text: "stored refresh token: it can't be unsealed with seal_keys", refused: true, cause: seal.ErrSealed}
	}
	if state.Seed != seed && !slices.Contains(state.Older, seed) {
		older := append(state.Older, state.Seed)
		state = grantState{
			Refresh: r.oauth.cfg.RefreshToken.Reveal(), Seed: seed, Older: older[max(0, len(older)-maxOlder):],
		}
	}
	return state, entry.Revision(), nil
}

var errClaimed = errors.New("claimed by another replica")

// refresh claims the refresh token, uses it and stores what came of it.
func (r *rotation) refresh(ctx context.Context, kv jetstream.KeyValue, state grantState, revision uint64) (token, error) {
	state.Claim, state.Until = nuid.Next(), time.Now().Add(claimTimeouts*r.timeout)
	revision, err := r.store(ctx, kv, state, revision)
	if err != nil {
		return token{}, err
	}
	asking, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	got, next, err := r.oauth.grant(asking, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {state.Refresh}})
	state.Claim, state.Until = "", time.Time{}
	if err == nil {
		state.Access, state.Expires, state.Lives = got.value, got.expires, int64(got.lives/time.Second)
		if next != "" {
			state.Refresh = next
		}
	}
	if _, storeErr := r.keep(ctx, kv, state, revision); storeErr != nil && err == nil {
		return token{}, storeErr
	}
	return got, err
}

// keep stores what the issuer gave, with some patience: it is the only copy.
func (r *rotation) keep(ctx context.Context, kv jetstream.KeyValue, state grantState, revision uint64) (uint64, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.timeout)
	defer cancel()
	for {
		stored, err := r.store(ctx, kv, state, revision)
		if err == nil || errors.Is(err, errClaimed) {
			return stored, err
		}
		select {
		case <-time.After(claimPoll):
		case <-ctx.Done():
			return 0, err
		}
	}
}

// store returns errClaimed when the stored state is no longer that of revision.
func (r *rotation) store(ctx context.Context, kv jetstream.KeyValue, state grantState, revision uint64) (uint64, error) {
	plain, err := json.Marshal(state)
	if err != nil {
		return 0, &tokenError{text: "stored refresh token: " + err.Error(), cause: err}
	}
	sealed, err := r.seal.Seal(r.label(), plain)
	if err != nil {
		return 0, &tokenError{text: "stored refresh token: " + err.Error(), cause: err}
	}
	revision, err = topology.Put(ctx, kv, r.key, sealed, revision)
	switch {
	case topology.Conflict(err):
		return 0, errClaimed
	case err != nil:
		return 0, &tokenError{text: "stored refresh token: " + err.Error(), cause: err}
	}
	return revision, nil
}

// label binds a sealed state to its place.
func (r *rotation) label() string { return fmt.Sprintf("%s/%s", topology.BucketTokens, r.key) }
