package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/topology"
)

// may asks the server whether a user may publish to a subject, or subscribe.
func (u *user) may(verb, subject string) (bool, error) {
	var err error
	switch verb {
	case "publish":
		err = u.Publish(subject, nil)
	case "subscribe":
		var sub *nats.Subscription
		if sub, err = u.SubscribeSync(subject); err == nil {
			defer func() { _ = sub.Unsubscribe() }()
		}
	}
	if err = errors.Join(err, u.FlushTimeout(time.Minute)); err != nil {
		return false, err
	}
	// The server's refusal comes before its answer to the flush.
	last := u.LastError()
	return last == nil || !strings.Contains(last.Error(), `"`+subject+`"`), nil
}

// nobodysSubjects are what no service may publish to.
var nobodysSubjects = []string{
	"$JS.API.STREAM.CREATE.TERCEL_RAW", "$JS.API.STREAM.UPDATE.TERCEL_RAW", "$JS.API.STREAM.DELETE.TERCEL_RAW",
	"$JS.API.STREAM.PURGE.TERCEL_RAW", "$JS.API.STREAM.MSG.DELETE.TERCEL_RAW", "$JS.API.STREAM.SNAPSHOT.TERCEL_RAW",
	"$JS.API.STREAM.RESTORE.TERCEL_RAW", "$JS.API.STREAM.CREATE.OTHER", "$JS.API.STREAM.PURGE.KV_tercel_cursors",
	"$JS.API.STREAM.DELETE.TERCEL_AUDIT", "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.TERCEL_RAW.enrich_orders",
	"$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.TERCEL_ENRICHED.deliver_crm", "$SYS.REQ.SERVER.PING", "tercel.other", "other",
	"_INBOX.other.x",
}

// nobodysReads are what no service may subscribe to.
var nobodysReads = []string{">", "tercel.>", "tercel.raw.>", "tercel.enriched.>", "$JS.>", "$JS.API.>", "$KV.>", "$SYS.>", "_INBOX.>"}

// may is what a user may do among what is asked of all of them.
type may struct{ publish, subscribe []string }

var usersMay = map[string]may{
	"ingress": {
		publish: []string{
			"tercel.raw.orders._.order.paid", "tercel.requests.orders._", "tercel.refused.orders", "tercel.seen", "tercel.intake",
			"$JS.API.STREAM.INFO.TERCEL_RAW", "$JS.API.STREAM.MSG.GET.TERCEL_RAW", "$JS.API.CONSUMER.CREATE.TERCEL_SEEN.x",
			"$JS.API.CONSUMER.CREATE.KV_tercel_accounts.x.$KV.tercel_accounts.orders.>",
		},
		subscribe: []string{"tercel.control.ingress.verify"},
	},
	"enricher": {
		publish: []string{
			"tercel.enriched.orders._.order.paid", "tercel.dropped.orders._.order.paid", "tercel.dlq.enrich.orders._.order.paid",
			"tercel.outcomes.enrich.orders", "$JS.API.STREAM.INFO.TERCEL_RAW",
			"$JS.API.CONSUMER.CREATE.TERCEL_RAW.enrich_orders.tercel.raw.orders.>", "$JS.API.CONSUMER.MSG.NEXT.TERCEL_RAW.enrich_orders",
			"$JS.API.CONSUMER.PAUSE.TERCEL_RAW.enrich_orders", "$JS.ACK.TERCEL_RAW.enrich_orders.1.1.1.1.0",
			"$KV.tercel_waits.x", "$KV.tercel_leases.x", "$KV.tercel_tokens.x", "$JS.API.DIRECT.GET.KV_tercel_tokens.$KV.tercel_tokens.x",
			"$JS.API.CONSUMER.CREATE.KV_tercel_accounts.x.$KV.tercel_accounts.orders.>",
		},
	},
	"sink": {
		publish: []string{
			"tercel.dlq.deliver.orders._.order.paid", "tercel.outcomes.deliver.orders", "$JS.API.STREAM.INFO.TERCEL_RAW",
			"$JS.API.CONSUMER.CREATE.TERCEL_ENRICHED.deliver_crm.tercel.enriched.>", "$JS.API.CONSUMER.MSG.NEXT.TERCEL_ENRICHED.deliver_crm",
			"$JS.API.CONSUMER.PAUSE.TERCEL_ENRICHED.deliver_crm", "$JS.ACK.TERCEL_ENRICHED.deliver_crm.1.1.1.1.0", "$KV.tercel_waits.x",
			"$JS.API.STREAM.MSG.GET.TERCEL_ENRICHED",
			"$JS.ACK.TERCEL_ENRICHED.team_billing.1.1.1.1.0", // a wildcard can't stand for a part of a name
		},
	},
	"reconciler": {
		publish: []string{
			"$JS.API.INFO",
			"tercel.raw.orders._.order.paid", "tercel.seen", "tercel.dlq.enrich.orders._.order.paid", "tercel.dlq.deliver.orders._.order.paid",
			"tercel.reports.orders.order", "$JS.API.STREAM.INFO.TERCEL_RAW", "$JS.API.STREAM.MSG.GET.TERCEL_RAW", "$JS.API.STREAM.MSG.GET.TERCEL_ENRICHED",
			"$JS.API.CONSUMER.CREATE.TERCEL_RAW.enrich_orders.tercel.raw.orders.>", "$JS.API.CONSUMER.MSG.NEXT.TERCEL_RAW.enrich_orders",
			"$JS.API.CONSUMER.CREATE.TERCEL_ENRICHED.deliver_crm.tercel.enriched.>", "$JS.API.CONSUMER.MSG.NEXT.TERCEL_ENRICHED.deliver_crm",
			"$JS.API.CONSUMER.RESET.TERCEL_RAW.enrich_orders", "$JS.ACK.TERCEL_ADVISORIES.collect_dead_letters.1.1.1.1.0",
			"$KV.tercel_waits.x", "$KV.tercel_leases.x", "$KV.tercel_tokens.x", "$KV.tercel_cursors.x", "$KV.tercel_ledger.x",
			"$JS.API.DIRECT.GET.KV_tercel_tokens.$KV.tercel_tokens.x",
			"$JS.API.CONSUMER.CREATE.KV_tercel_accounts.x.$KV.tercel_accounts.orders.>",
		},
		subscribe: []string{"tercel.control.reconcile.run"},
	},
	"console": {
		publish: []string{
			"tercel.raw.orders._.order.paid", "tercel.enriched.orders._.order.paid", "tercel.audit.begun.x", "tercel.control.reconcile.run", "tercel.control.ingress.verify",
			"$JS.API.STREAM.INFO.TERCEL_RAW", "$JS.API.STREAM.MSG.GET.TERCEL_RAW", "$JS.API.STREAM.MSG.GET.TERCEL_ENRICHED",
			"$JS.API.CONSUMER.PAUSE.TERCEL_RAW.enrich_orders",
			"$JS.API.CONSUMER.PAUSE.TERCEL_ENRICHED.deliver_crm", "$JS.API.CONSUMER.MSG.NEXT.TERCEL_RAW.enrich_orders",
			"$JS.API.CONSUMER.CREATE.TERCEL_RAW.enrich_orders.tercel.raw.orders.>",
			"$JS.API.CONSUMER.CREATE.TERCEL_ENRICHED.deliver_crm.tercel.enriched.>", "$JS.API.CONSUMER.MSG.NEXT.TERCEL_ENRICHED.deliver_crm",
			"$KV.tercel_dead_letters.x", "$KV.tercel_cursors.x",
			"$JS.API.CONSUMER.CREATE.KV_tercel_accounts.x.$KV.tercel_accounts.orders.>",
		},
	},
	"billing": { // in an account of its own, where inboxes are its own too
		subscribe: []string{"_INBOX.>", "_INBOX.ingress.x", "_INBOX.enricher.x", "_INBOX.sink.x", "_INBOX.reconciler.x", "_INBOX.console.x"},
		publish: []string{
			"$JS.tercel.API.CONSUMER.INFO.TERCEL_ENRICHED.team_billing", "$JS.tercel.API.CONSUMER.MSG.NEXT.TERCEL_ENRICHED.team_billing",
			"$JS.ACK.TERCEL_ENRICHED.team_billing.1.1.1.1.0",
		},
	},
}

// Each user may do what its service does and nothing that another's does; what
// nobody needs, nobody may.
func TestUsersMayDoWhatTheirServicesDo(t *testing.T) {
	t.Parallel()
	f := newNATSFolder(t)
	_, url := f.single()
	var all may
	for name, m := range usersMay {
		all.publish = append(all.publish, m.publish...)
		all.subscribe = append(append(all.subscribe, m.subscribe...), "_INBOX."+name+".x")
	}
	all.publish = append(all.publish, nobodysSubjects...)
	all.subscribe = append(all.subscribe, nobodysReads...)
	for name, m := range usersMay {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := f.connect(name, url)
			m.subscribe = append(slices.Clone(m.subscribe), "_INBOX."+name+".x")
			for verb, subjects := range map[string][2][]string{"publish": {all.publish, m.publish}, "subscribe": {all.subscribe, m.subscribe}} {
				for _, subject := range subjects[0] {
					got, err := u.may(verb, subject)
					if err != nil {
						t.Fatal(err)
					}
					if want := slices.Contains(subjects[1], subject); got != want {
						t.Errorf("%s may %s %s: %t, want %t", name, verb, subject, got, want)
					}
				}
			}
		})
	}
}

const teamPipeline = `
sources:
  orders: {verify: {scheme: none, insecure: true}, event: {id: body.id, type: body.kind}}
  users: {verify: {scheme: none, insecure: true}, event: {id: body.id, type: body.kind}}
teams:
  billing: {subscribe: ["orders.>"]}
  support: {subscribe: ["users.>"]}
`

// A team reads the events that it subscribes to, with its own consumer, and
// reaches nothing else in the pipeline, by no way that leads to JetStream.
func TestATeamReadsItsEventsAndNothingElse(t *testing.T) {
	t.Parallel()
	f := newNATSFolder(t)
	_, url := f.single()
	f.setUp(url, teamPipeline, nil)
	admin := f.connect("admin", url)
	for i := range 20 {
		for _, source := range []string{"orders", "users"} {
			if _, err := admin.js.Publish(t.Context(), fmt.Sprintf("tercel.enriched.%s._.made", source), fmt.Appendf(nil, "%s %d", source, i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	team := f.connect("billing", url, nats.CustomInboxPrefix("_INBOX"))
	inboxes, err := team.SubscribeSync("_INBOX.>")
	if err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.NewWithDomain(team.Conn, "tercel")
	if err != nil {
		t.Fatal(err)
	}
	cons, err := js.Consumer(t.Context(), topology.StreamEnriched, topology.TeamDurable("billing"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		m, err := cons.Next(jetstream.FetchMaxWait(time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		if got, want := string(m.Data()), fmt.Sprintf("orders %d", i); got != want {
			t.Fatalf("read %q, want %q", got, want)
		}
		if err := m.DoubleAck(t.Context()); err != nil {
			t.Fatalf("acknowledge %d: %v", i, err)
		}
	}
	// Nothing comes to its inboxes that it did not ask for.
	if err := admin.Publish("_INBOX.billing.x", []byte("another's answer")); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(admin.Flush(), team.Flush()); err != nil {
		t.Fatal(err)
	}
	for m, err := inboxes.NextMsg(time.Millisecond); err == nil; m, err = inboxes.NextMsg(time.Millisecond) {
		if string(m.Data) == "another's answer" {
			t.Errorf("it was told %q on %s", m.Data, m.Subject)
		}
	}
	info, err := cons.Info(t.Context())
	if err != nil || info.AckFloor.Consumer != 20 || info.NumPending != 0 {
		t.Errorf("consumer at %+v, %v; want all 20 acknowledged and none left", info, err)
	}
	for what, try := range map[string]func(context.Context) error{
		"another team's consumer": func(ctx context.Context) error {
			_, err := js.Consumer(ctx, topology.StreamEnriched, topology.TeamDurable("support"))
			return err
		},
		"another consumer": func(ctx context.Context) error {
			_, err := js.CreateConsumer(ctx, topology.StreamEnriched, jetstream.ConsumerConfig{Name: "mine", FilterSubject: "tercel.enriched.orders.>"})
			return err
		},
		"a change of its consumer": func(ctx context.Context) error {
			_, err := js.UpdateConsumer(ctx, topology.StreamEnriched, topology.TeamConsumer("billing", []string{"tercel.enriched.>"}, time.Minute))
			return err
		},
		"the removal of its consumer": func(ctx context.Context) error {
			return js.DeleteConsumer(ctx, topology.StreamEnriched, topology.TeamDurable("billing"))
		},
		"the stream": func(ctx context.Context) error {
			_, err := js.Stream(ctx, topology.StreamEnriched)
			return err
		},
		"a trigger": func(ctx context.Context) error {
			_, err := js.Publish(ctx, "tercel.raw.orders._.made", nil)
			return err
		},
		"an event": func(ctx context.Context) error {
			_, err := js.Publish(ctx, "tercel.enriched.orders._.made", nil)
			return err
		},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		if err := try(ctx); err == nil {
			t.Errorf("%s was had", what)
		}
		cancel()
	}
	// Messages can be asked for to any subject. In its own account none leads anywhere.
	for _, reply := range []string{"tercel.raw.orders._.injected", "$JS.API.STREAM.PURGE.TERCEL_RAW", "$KV.tercel_cursors.x"} {
		if _, err := admin.js.Publish(t.Context(), "tercel.enriched.orders._.made", nil); err != nil {
			t.Fatal(err)
		}
		if err := team.PublishRequest("$JS.tercel.API.CONSUMER.MSG.NEXT.TERCEL_ENRICHED.team_billing", reply, []byte(`{"batch":1,"expires":60000000000}`)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, time.Minute, "the messages are handed out", func() error { // behind those that were asked for
		batch, err := cons.Fetch(3, jetstream.FetchMaxWait(time.Second))
		if err != nil {
			return err
		}
		for range batch.Messages() {
			continue
		}
		info, err := cons.Info(t.Context())
		if err == nil && info.NumPending > 0 {
			err = fmt.Errorf("%d pending", info.NumPending)
		}
		return err
	})
	for stream, want := range map[string]uint64{topology.StreamEnriched: 43, topology.StreamRaw: 0, "KV_" + topology.BucketCursors: 0} {
		s, err := admin.js.Stream(t.Context(), stream)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.CachedInfo().State; got.Msgs != want {
			t.Errorf("%s has %d messages, want %d", stream, got.Msgs, want)
		}
	}
}
