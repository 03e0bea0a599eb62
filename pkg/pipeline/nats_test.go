package pipeline_test

import (
	"strings"
	"testing"
	"time"
)

const plainSource = `
sources:
  orders: {verify: {scheme: none, insecure: true}, event: {id: body.id, type: body.kind}}
`

func TestConnectionsToNATSAreChecked(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ section, want string }{
		"two ways to be known":  {"nats: {nkey: a.nk, credentials: a.creds}", "one of nkey, credentials"},
		"user without password": {"nats: {user: ingress}", "user and password together"},
		"password without user": {"nats: {password: env:ORDERS_SECRET}", "user and password together"},
		"half a certificate":    {"nats: {cert: a.crt}", "cert and key together"},
		"an inbox of all":       {`nats: {inbox: "_INBOX.>"}`, "without wildcards"},
		"relay, half known":     {`destinations: {d: {nats: {url: "nats://h:1", prefix: a.b, user: x}}}`, "user and password together"},
		"team without patterns": {"teams: {billing: {}}", "teams.billing.subscribe: missing"},
		"team, wrong pattern":   {`teams: {billing: {subscribe: ["orders.>.x"]}}`, "subscribe[0]"},
		"team, wrong name":      {`teams: {Billing: {subscribe: [">"]}}`, "lower-case"},
		"team, no wait":         {`teams: {billing: {subscribe: [">"], ack_wait: 1ms}}`, "at least 1s"},
		"who sets up":           {"streams: {setup: nobody}", "services"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := decode(plainSource + tt.section)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Decode() = %v, want an error with %q", err, tt.want)
			}
		})
	}
}

func TestTeamsReadEnrichedSubjects(t *testing.T) {
	t.Parallel()
	f, err := decode(plainSource + `teams: {billing: {subscribe: ["orders.>", "users.*.user.>"]}}`)
	if err != nil {
		t.Fatal(err)
	}
	team := f.Teams["billing"]
	if got, want := strings.Join(team.Subjects(), " "), "tercel.enriched.orders.> tercel.enriched.users.*.user.>"; got != want || team.AckWait != 30*time.Second {
		t.Errorf("subjects %q and an ack wait of %s, want %q and 30s", got, team.AckWait, want)
	}
}
