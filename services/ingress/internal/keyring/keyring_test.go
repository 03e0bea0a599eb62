package keyring_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/signature"
	"github.com/tercelhq/tercel/services/ingress/internal/keyring"
)

func wantKey(t *testing.T, r *keyring.Ring, name string, want error) {
	t.Helper()
	key, err := r.Key(t.Context(), name)
	if !errors.Is(err, want) || (key == signature.SenderKey{}) != (err != nil) {
		t.Errorf("Key(%s) = %v, %v, want %v", name, key, err, want)
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not within 30s: %s", what)
		}
	}
}

func named(i int) string { return fmt.Sprintf("https://sns.us-east-1.amazonaws.com/%d.pem", i) }

// However many requests name one key at once, it is asked for once.
func TestOneKeyIsFetchedOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	entered, release := make(chan struct{}), make(chan struct{})
	body := w.goodCertificate()
	w.Serve(func(rw http.ResponseWriter, _ *http.Request) {
		close(entered) // panics if there is a second
		<-release
		_, _ = rw.Write([]byte(body))
	})
	r := w.ring("aws-sns", topic)
	var waiting sync.WaitGroup
	for range 100 {
		waiting.Go(func() { wantKey(t, r, certURL, nil) })
	}
	<-entered
	close(release)
	waiting.Wait()
	wantKey(t, r, certURL, nil)
	if w.asked() != 1 {
		t.Errorf("asked %d times", w.asked())
	}
}

// The request that was first may go away; those that wait with it don't.
func TestAFetchOutlivesTheRequestThatBeganIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	entered, release := make(chan struct{}), make(chan struct{})
	body := w.goodCertificate()
	w.Serve(func(rw http.ResponseWriter, _ *http.Request) {
		close(entered)
		<-release
		_, _ = rw.Write([]byte(body))
	})
	r := w.ring("aws-sns", topic)
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() {
		_, err := r.Key(ctx, certURL)
		first <- err
	}()
	<-entered
	cancel()
	if err := <-first; !errors.Is(err, keyring.ErrUnavailable) {
		t.Errorf("Key() of a request that ended = %v", err)
	}
	close(release)
	wantKey(t, r, certURL, nil)
}

// Forged requests cost no more than so many fetches a minute, and whatever they
// name, the keys that are known stay.
func TestAStormOfForgedNames(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Answer(200, w.goodCertificate())
	r := w.ring("aws-sns", topic)
	wantKey(t, r, certURL, nil)
	w.Answer(404, "")
	for minute := range 10 {
		for i := range 100 {
			_, err := r.Key(t.Context(), named(100*minute+i))
			if !errors.Is(err, keyring.ErrUnknown) && !errors.Is(err, keyring.ErrUnavailable) {
				t.Fatalf("Key() = %v", err)
			}
		}
		w.pass(time.Minute)
	}
	if most := 11 * keyring.FetchesPerMinute; w.asked() > most {
		t.Errorf("asked %d times in 10 minutes, want at most %d", w.asked(), most)
	}
	asked := w.asked()
	wantKey(t, r, certURL, nil)
	if w.asked() != asked {
		t.Error("a key that was known was asked for again")
	}
}

// A key that is due for its refresh is asked for again although forged names use up
// all that may be asked for, in number and at once.
func TestForgedNamesDontHoldUpARefresh(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	body := w.goodCertificate()
	forged, refreshed := make(chan struct{}, 100), make(chan struct{}, 100)
	held := make(chan struct{})
	w.Serve(func(rw http.ResponseWriter, req *http.Request) {
		if !strings.HasSuffix(certURL, req.URL.Path) {
			forged <- struct{}{}
			<-held
			rw.WriteHeader(http.StatusNotFound)
			return
		}
		refreshed <- struct{}{}
		_, _ = rw.Write([]byte(body))
	})
	r := w.ring("aws-sns", topic)
	wantKey(t, r, certURL, nil)
	<-refreshed
	w.pass(25 * time.Hour)
	var waiting sync.WaitGroup
	for i := range 50 {
		waiting.Go(func() {
			if _, err := r.Key(t.Context(), named(i)); err == nil {
				t.Error("a forged name has a key")
			}
		})
	}
	for range 4 {
		<-forged
	}
	wantKey(t, r, certURL, nil)
	select {
	case <-refreshed:
	case <-time.After(time.Minute):
		t.Error("the key is not asked for again")
	}
	close(held)
	waiting.Wait()
}

// So many different names that their refusals don't fit push each other out, and
// nothing else.
func TestWhatIsRememberedIsBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Answer(200, w.goodCertificate())
	r := w.ring("aws-sns", topic)
	wantKey(t, r, certURL, nil)
	w.Answer(404, "")
	for i := range 300 {
		wantKey(t, r, named(i), keyring.ErrUnknown)
		w.pass(2 * time.Second) // one more turn
	}
	w.Answer(200, w.goodCertificate())
	for i := range 100 {
		wantKey(t, r, named(1000+i), nil)
		wantKey(t, r, certURL, nil) // in use
		w.pass(2 * time.Second)
	}
	keys, refused := r.Sizes()
	if keys > 64 || refused > 256 {
		t.Errorf("%d keys and %d refusals are kept", keys, refused)
	}
	if n := strings.Count(strings.Join(w.Calls(), " "), "Service-0a.pem"); n != 1 {
		t.Errorf("the key in use was asked for %d times", n)
	}
}

// What the sender hasn't isn't asked for again at once, but later it may have it.
func TestRefusalsAreRemembered(t *testing.T) {
	t.Parallel()
	for status, tt := range map[int]struct {
		want error
		kept time.Duration
	}{404: {keyring.ErrUnknown, 5 * time.Minute}, 500: {keyring.ErrUnavailable, 15 * time.Second}} {
		w := newWorld(t)
		w.Answer(status, "")
		r := w.ring("aws-sns", topic)
		wantKey(t, r, certURL, tt.want)
		w.Answer(200, w.goodCertificate())
		w.pass(tt.kept - time.Second)
		wantKey(t, r, certURL, tt.want)
		if w.asked() != 1 {
			t.Errorf("%d: asked %d times within %s", status, w.asked(), tt.kept)
		}
		w.pass(time.Second)
		wantKey(t, r, certURL, nil)
	}
}

// A key that can't be asked for again stays until its own end, and no longer.
func TestTheLastGoodKeyIsKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Answer(200, w.goodCertificate())
	r := w.ring("aws-sns", topic)
	wantKey(t, r, certURL, nil)
	w.Answer(500, "")
	w.pass(25 * time.Hour)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Key(ended, certURL); err != nil { // without waiting for the answer
		t.Errorf("Key() while it is asked for again = %v", err)
	}
	eventually(t, "asked again, and refused", func() bool { _, refused := r.Sizes(); return refused == 1 })
	wantKey(t, r, certURL, nil)
	if w.asked() != 2 {
		t.Errorf("asked %d times, want twice", w.asked())
	}
	w.pass(time.Hour)
	wantKey(t, r, certURL, nil)
	w.pass(21 * 365 * 24 * time.Hour)
	w.Answer(404, "")
	wantKey(t, r, certURL, keyring.ErrUnknown)
}

// A key that the sender has taken back is good no more.
func TestAKeyThatIsTakenBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Answer(200, w.goodCertificate())
	r := w.ring("aws-sns", topic)
	wantKey(t, r, certURL, nil)
	w.Answer(410, "")
	w.pass(25 * time.Hour)
	eventually(t, "refused", func() bool {
		_, err := r.Key(t.Context(), certURL)
		return errors.Is(err, keyring.ErrUnknown)
	})
}

// A server that doesn't answer is waited for as long as is bearable, by no more
// than a few fetches at once.
func TestASlowServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	released := make(chan struct{})
	t.Cleanup(func() { close(released) })
	w.Serve(func(rw http.ResponseWriter, r *http.Request) {
		rw.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(rw).Flush()
		select {
		case <-released:
		case <-r.Context().Done():
		}
	})
	r := w.ring("aws-sns", topic)
	began := time.Now()
	var waiting sync.WaitGroup
	for i := range 8 {
		waiting.Go(func() { wantKey(t, r, named(i), keyring.ErrUnavailable) })
	}
	waiting.Wait()
	if took := time.Since(began); took < 4*time.Second || took > 30*time.Second {
		t.Errorf("gave up after %s, want about 5s", took)
	}
	if w.asked() != 4 {
		t.Errorf("%d fetches at once, want 4", w.asked())
	}
}

// Close ends what is being fetched, and nothing begins after it.
func TestClose(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	entered := make(chan struct{})
	w.Serve(func(_ http.ResponseWriter, r *http.Request) {
		close(entered)
		<-r.Context().Done()
	})
	r := w.ring("aws-sns", topic)
	ended := make(chan error, 1)
	go func() {
		_, err := r.Key(context.WithoutCancel(t.Context()), certURL)
		ended <- err
	}()
	<-entered
	r.Close()
	if err := <-ended; !errors.Is(err, keyring.ErrUnavailable) {
		t.Errorf("Key() = %v", err)
	}
	wantKey(t, r, named(1), keyring.ErrUnavailable)
	if w.asked() != 1 {
		t.Errorf("asked %d times", w.asked())
	}
}
