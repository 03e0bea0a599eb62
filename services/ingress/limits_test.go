package ingress_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/services/ingress"
)

// Promise 10: the limiters of accounts that send no more, such as those that
// were removed, are forgotten. One that has used up its rate is not, or it would
// have it again at once.
func TestLimitersOfAccountsAreForgotten(t *testing.T) {
	t.Parallel()
	l := ingress.NewAccountLimits(provider.Rate{Requests: 2, Per: time.Hour})
	const accounts = 10_000
	for i := range accounts {
		if !l.Take(at, fmt.Sprint("acct_", i)) {
			t.Fatalf("account %d has no request", i)
		}
	}
	if n := l.Known(); n != accounts {
		t.Fatalf("%d limiters, want %d", n, accounts)
	}
	late := at.Add(59 * time.Minute)
	for range 2 {
		if !l.Take(late, "busy") {
			t.Fatal("the busy account has less than its rate")
		}
	}
	later := at.Add(61 * time.Minute)
	if l.Take(later, "busy") {
		t.Error("the busy account has a third request within its hour")
	}
	muchLater := at.Add(123 * time.Minute)
	if !l.Take(muchLater, "acct_1") {
		t.Error("an account that was forgotten has no request")
	}
	if n := l.Known(); n != 2 {
		t.Errorf("%d limiters, want those of the busy account and of the one that has come again", n)
	}
}

const splitTenants = `
sources:
  shop:
    verify: {scheme: hmac-sha256, header: X-Signature, signed: "{timestamp}.{body}", timestamp: X-Timestamp}
    secrets: [env:PLAIN]
    event: {split: body.events, id: item.id, type: item.kind, account: body.account}
    accounts: {file: %s}
`

// Promises 2 and 4: all events of a request are the account's that the request
// is of, whatever they say themselves, and none is stored of a request that is
// refused. The same ids in another account are other events.
func TestEventsOfARequestAreItsAccounts(t *testing.T) {
	t.Parallel()
	ts := newTenants(t, "", "", "north: {}", "south: {secrets: [SECRET/south]}", "east: {}")
	split := &tenants{folder: ts.folder, path: ts.path}
	split.fixture = setup(t, reading(t, fmt.Sprintf(splitTenants, ts.path)))
	const events = `"events":[{"id":"1","kind":"paid","account":"east"},{"id":"2","kind":"sold"}]}`
	want := 0
	for i, tt := range []struct {
		about, path, secret, account string
		of                           string // whose the events are; "" for nobody's
		status                       int
	}{
		{"the path's", "/north", ofSource, `"account":"north",`, "north", http.StatusOK},
		{"the body's", "", ofSource, `"account":"east",`, "east", http.StatusOK},
		{"its own secret's", "/south", ofSouth, "", "south", http.StatusOK},
		{"again", "/north", ofSource, `"account":"north",`, "", http.StatusOK},
		{"another's in the body", "/north", ofSource, `"account":"east",`, "", http.StatusForbidden},
		{"only in an event", "", ofSource, "", "", http.StatusBadRequest},
		{"its own secret's, by the body", "", ofSource, `"account":"south",`, "", http.StatusForbidden},
	} {
		d := split.from(tt.path, tt.secret, "{"+tt.account+events)
		ex, err := ingress.Explain("shop", split.sources["shop"], d.raw(), at)
		if err != nil || ex.Status != tt.status {
			t.Errorf("%s: Explain() = %+v, %v", tt.about, ex, err)
		}
		split.want(tt.status, d, tt.about)
		msgs := split.all()
		if tt.of == "" {
			if len(msgs) != want {
				t.Errorf("%s: %d messages stored, want none more than %d", tt.about, len(msgs), want)
			}
			continue
		}
		fresh := msgs[want:]
		want += 3 // two events, and the request that they came in
		if len(msgs) != want {
			t.Fatalf("case %d, %s: %d messages stored, want %d", i, tt.about, len(msgs), want)
		}
		for _, m := range fresh {
			e, err := event.FromHeader(m.Header)
			if err != nil || e.Account != tt.of || !strings.Contains(m.Subject, ".shop."+tt.of) {
				t.Errorf("%s: stored as of %q at %s, %v, want %s", tt.about, e.Account, m.Subject, err, tt.of)
			}
		}
		for _, m := range ex.Events {
			if !strings.Contains(m.Subject, ".shop."+tt.of+".") {
				t.Errorf("%s: Explain() says %s", tt.about, m.Subject)
			}
		}
	}
}
