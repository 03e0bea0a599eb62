package console_test

import (
	"fmt"
	"html"
	"net/url"
	"strings"
	"testing"

	"github.com/tercelhq/tercel/pkg/topology"
	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
)

// Providers number the events of each account for themselves. The page of one shows
// nothing of another account's of the same id, and every link leads to the one that
// it stands beside.
func TestAnEventIsThatOfItsAccount(t *testing.T) {
	t.Parallel()
	p := setupPipe(setup(t))
	p.sick.Store("archive", "no space left")
	accounts := map[string]string{"north": "south", "south": "north"}
	for account := range accounts {
		e := trigger("evt-1", "order.paid")
		e.Account = account
		p.store(e, fmt.Sprintf(`{"of":"a tenant in the %s"}`, account))
	}
	until(t, "both have their letters", func() bool { return p.messages(topology.StreamDLQ) == 2 })
	letter := map[string]string{}
	for account := range accounts {
		for _, seq := range []uint64{1, 2} {
			if p.letter(seq).GetDeadLetter().GetAttributes().GetAccount() == account {
				letter[account] = fmt.Sprintf(`"/dead-letters/%d"`, seq)
			}
		}
	}
	r := p.reader()
	r.signIn(viewerToken)
	for account, other := range accounts {
		link := "/events/one?" + url.Values{"source": {"orders"}, "account": {account}, "id": {"evt-1"}}.Encode()
		for _, path := range []string{"/events", "/dead-letters/all", strings.Trim(letter[account], `"`)} {
			if text := r.get(path).text; !strings.Contains(text, html.EscapeString(link)) {
				t.Errorf("%s has no link to the event of %s, %s:\n%.3000s", path, account, link, text)
			}
		}
		text := ""
		for _, want := range []string{"a tenant in the " + account, "tercel.raw.orders." + account, letter[account]} {
			until(t, "the event of "+account+" shows "+want, func() bool { text = r.get(link).text; return strings.Contains(text, want) })
		}
		for _, bad := range []string{"a tenant in the " + other, "tercel.raw.orders." + other, letter[other]} {
			if strings.Contains(text, bad) {
				t.Errorf("the event of %s shows %q, which is of %s", account, bad, other)
			}
		}
		if got := p.listLetters(&adminv1.DeadLetterFilter{EventId: "evt-1", Account: account}, 0); len(got) != 1 {
			t.Errorf("letters of the event of %s: %v, want its own", account, got)
		}
	}
}
