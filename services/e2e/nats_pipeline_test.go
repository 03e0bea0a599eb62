package e2e_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/nats-io/nats.go"

	"github.com/tercelhq/tercel/pkg/topology"
	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
	"github.com/tercelhq/tercel/services/internal/adminv1connect"
	"github.com/tercelhq/tercel/services/internal/proof"
)

const consoleToken = "the operator's token of a test, long enough"

// bearer adds the operator's token to requests.
type bearer struct{}

func (bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+consoleToken)
	return http.DefaultTransport.RoundTrip(r)
}

// securely runs the five services, each as its own user, on the servers of url.
func securely(t *testing.T, f *natsFolder, url, text, in, console string, env []string) map[string]*process {
	t.Helper()
	f.setUp(url, text, env)
	parts := map[string]*process{}
	for _, name := range append(slices.Clone(stages), "console") {
		file, health := filepath.Join(f.dir, name+".yaml"), freeAddr(t)
		write(t, file, text+f.section(name))
		parts[name] = &process{
			t: t, name: program(t, name), ready: answers("http://" + health + "/readyz"), env: env,
			args: []string{"--config", file, "--nats", url, "--health", health},
		}
		parts[name].start()
	}
	return parts
}

// secureOrders is orderConfig with a console that takes calls.
func secureOrders(t *testing.T, api, dir string) (text, db, in, console string, env []string) {
	t.Helper()
	db, in, console = filepath.Join(dir, "orders.db"), freeAddr(t), freeAddr(t)
	text = fmt.Sprintf(orderConfig, api, db, filepath.Join(dir, "archive"), in, "127.0.0.1:0")
	text = strings.Replace(text, `console: {listen: "127.0.0.1:0"}`,
		fmt.Sprintf("console: {listen: %q, tokens: {olivia: {role: operator, token: env:CONSOLE_TOKEN}}}", console), 1)
	return text, db, in, console, []string{"ORDERS_SECRET=" + orderSecret, "ORDERS_TOKEN=" + orderToken, "CONSOLE_TOKEN=" + consoleToken}
}

// Every service works as its own user without being refused anything: webhooks to
// the destination, dead letters and their replays, reconciliation, and what
// operators do. Meanwhile the servers' certificate and their users are changed,
// which loses nothing. What is stored is encrypted. (Promises 1, 3 and 6.)
func TestThePipelineRunsOnAProductionServer(t *testing.T) {
	t.Parallel()
	_ = os.RemoveAll(logDir(t)) // left by a run that failed; logs are read here
	provider, api := startProviderOf(t, 300)
	f := newNATSFolder(t)
	srv, url := f.single()
	f.syncs()
	text, db, in, console, env := secureOrders(t, api, t.TempDir())
	parts := securely(t, f, url, text, in, console, env)
	ran := make(chan error, 1)
	go func() { ran <- provider.Run(t.Context(), "http://"+in+"/v1/orders") }()
	f.reloads(srv, url)
	if err := <-ran; err != nil {
		t.Fatal(err)
	}
	destination, err := proof.Open(db, "orders", "order")
	if err != nil {
		t.Fatal(err)
	}
	defer destination.Close()
	eventually(t, 3*time.Minute, "everything but what can't be fetched is delivered", func() error {
		return complete(t.Context(), provider, destination, false)
	})
	provider.Heal()
	operate(t, "http://"+console)
	eventually(t, 3*time.Minute, "what could not be fetched is delivered after a replay", func() error {
		if err := replayByAPI(t.Context(), "http://"+console); err != nil {
			return err
		}
		return complete(t.Context(), provider, destination, true)
	})
	if v := verdict(t, provider, destination); len(v.Doubled) > 0 || len(v.Refused) > 0 {
		t.Errorf("doubled %v, forged %v; want none", v.Doubled, v.Refused)
	}
	for name, p := range parts {
		p.stop()
		if text, err := os.ReadFile(p.log); err != nil || bytes.Contains(bytes.ToLower(text), []byte("violation")) {
			t.Errorf("%s was refused something (%v):\n%s", name, err, p.output())
		}
	}
	refused := slices.DeleteFunc(srv.violations(), func(line string) bool { return strings.Contains(line, "not.for.guests") })
	if len(refused) > 0 {
		t.Errorf("the server refused\n%s", strings.Join(refused, "\n"))
	}
	f.encrypted(srv, url)
	f.restored(srv, url, parts)
	if v := verdict(t, provider, destination); len(v.Doubled) > 0 {
		t.Errorf("doubled after the restore: %v", v.Doubled)
	}
}

// restored puts a copy of a stopped server's store in its place and has the
// services go on with it: repeats are known, positions are kept.
func (f *natsFolder) restored(srv *process, url string, parts map[string]*process) {
	f.t.Helper()
	before := f.messages(url)
	srv.stop()
	store, backup := strings.TrimPrefix(srv.env[0], "TERCEL_STORE="), f.t.TempDir()
	if err := errors.Join(os.CopyFS(backup, os.DirFS(store)), os.RemoveAll(store), os.CopyFS(store, os.DirFS(backup))); err != nil {
		f.t.Fatal(err)
	}
	srv.start()
	eventually(f.t, time.Minute, "the streams are there as they were", func() error {
		if now := f.messages(url); now != before {
			return fmt.Errorf("%s, had %s", now, before)
		}
		return nil
	})
	js := f.connect("admin", url).js
	raw, err := js.Stream(f.t.Context(), topology.StreamRaw)
	if err != nil {
		f.t.Fatal(err)
	}
	first, err := raw.GetMsg(f.t.Context(), raw.CachedInfo().State.FirstSeq)
	if err != nil {
		f.t.Fatal(err)
	}
	ack, err := js.PublishMsg(f.t.Context(), &nats.Msg{Subject: first.Subject, Header: first.Header, Data: first.Data})
	if err != nil || !ack.Duplicate {
		f.t.Errorf("a repeat was acknowledged as %+v, %v; want a duplicate", ack, err)
	}
	reports, err := js.Stream(f.t.Context(), topology.StreamReports)
	if err != nil {
		f.t.Fatal(err)
	}
	had := reports.CachedInfo().State.LastSeq
	for _, p := range parts {
		p.start()
	}
	eventually(f.t, 2*time.Minute, "the services go on where they were", func() error {
		if info, err := reports.Info(f.t.Context()); err != nil || info.State.LastSeq <= had {
			return errors.Join(err, errors.New("no reconciliation yet"))
		}
		for stream, durable := range map[string]string{topology.StreamRaw: topology.EnrichDurable("orders"), topology.StreamEnriched: topology.DeliverDurable("database")} {
			cons, err := js.Consumer(f.t.Context(), stream, durable)
			if err != nil {
				return err
			}
			if info := cons.CachedInfo(); info.NumPending > 0 || info.NumAckPending > 0 {
				return fmt.Errorf("%s has %d pending, %d in hand", durable, info.NumPending, info.NumAckPending)
			}
		}
		return nil
	})
	if now := f.messages(url); now != before {
		f.t.Errorf("after the restore %s, had %s: something was done again", now, before)
	}
	for _, p := range parts {
		p.stop()
	}
}

// reloads changes the certificate and the users while messages are under way.
func (f *natsFolder) reloads(srv *process, url string) {
	f.t.Helper()
	users := filepath.Join(f.dir, "users.conf")
	text, err := os.ReadFile(users)
	if err != nil {
		f.t.Fatal(err)
	}
	f.keys("guest")
	guest := strings.Replace(string(text), `{include "secrets/users/admin.conf"}`,
		`{include "secrets/users/admin.conf"}`+"\n"+`{include "secrets/users/guest.conf", permissions: {publish: ["guest.>"], subscribe: ["_INBOX.guest.>"]}}`, 1)
	write(f.t, users, guest)
	f.clients.issue(filepath.Join(f.dir, "tls", "clients"), 77)
	if err := srv.run.Signal(syscall.SIGHUP); err != nil {
		f.t.Fatal(err)
	}
	eventually(f.t, time.Minute, "new connections see the new certificate", func() error {
		serial, err := f.shown(url)
		if err == nil && serial != "77" {
			err = fmt.Errorf("serial %s", serial)
		}
		return err
	})
	u := f.connect("guest", url)
	for subject, want := range map[string]bool{"guest.x": true, "not.for.guests": false} {
		if got, err := u.may("publish", subject); err != nil || got != want {
			f.t.Errorf("the new user may publish %s: %t, %v; want %t", subject, got, err, want)
		}
	}
	u.Close()
	// Gone again; what it was refused is its own fault.
	write(f.t, users, string(text))
	if err := srv.run.Signal(syscall.SIGHUP); err != nil {
		f.t.Fatal(err)
	}
	eventually(f.t, time.Minute, "the removed user can't connect", func() error {
		c, err := f.dial("guest", url)
		if err != nil {
			return nil
		}
		c.Close()
		return errors.New("it can")
	})
}

// shown is the serial number of the certificate that a server shows.
func (f *natsFolder) shown(url string) (serial string, err error) {
	pool := x509.NewCertPool()
	pool.AddCert(f.clients.cert)
	nc, err := f.dial("admin", url)
	if err != nil {
		return "", err
	}
	defer nc.Close()
	state, err := nc.TLSConnectionState()
	if err != nil {
		return "", err
	}
	_, err = state.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: pool})
	return state.PeerCertificates[0].SerialNumber.String(), err
}

// encrypted holds what a server has stored against what it was given, and starts
// it with another key and with its own.
func (f *natsFolder) encrypted(srv *process, url string) {
	f.t.Helper()
	before := f.messages(url)
	srv.stop()
	store := strings.TrimPrefix(srv.env[0], "TERCEL_STORE=")
	files := 0
	err := filepath.WalkDir(store, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(name)
		files++
		for _, marker := range []string{"tercel.raw.orders", "customer_id", "X-Delivery", "Nats-Msg-Id"} {
			if bytes.Contains(text, []byte(marker)) {
				f.t.Errorf("%s has %q", name, marker)
			}
		}
		return err
	})
	if err != nil || files < 20 {
		f.t.Errorf("%d files were looked into, %v", files, err)
	}
	key := filepath.Join(f.dir, "secrets", "store.conf")
	right, err := os.ReadFile(key)
	if err != nil {
		f.t.Fatal(err)
	}
	write(f.t, key, `key: "another key, from which nothing can be read"`)
	srv.ready = func() error { _, err := f.shown(url); return err }
	srv.start()
	if js := f.connect("admin", url).js; js != nil {
		if _, err := js.Stream(f.t.Context(), topology.StreamRaw); err == nil {
			f.t.Error("a server with another key has the streams")
		}
	}
	srv.stop()
	write(f.t, key, string(right))
	srv.start()
	eventually(f.t, time.Minute, "the streams are there with the right key", func() error {
		if now := f.messages(url); now != before {
			return fmt.Errorf("%s, had %s", now, before)
		}
		return nil
	})
}

// messages tells how many messages the streams have that only grow.
func (f *natsFolder) messages(url string) string {
	admin := f.connect("admin", url)
	defer admin.Close()
	var all []string
	for _, name := range []string{topology.StreamRaw, topology.StreamEnriched, topology.StreamDLQ, topology.StreamAudit} {
		s, err := admin.js.Stream(f.t.Context(), name)
		if err != nil {
			all = append(all, name+": "+err.Error())
			continue
		}
		all = append(all, fmt.Sprintf("%s: %d", name, s.CachedInfo().State.Msgs))
	}
	return strings.Join(all, ", ")
}

// operate has an operator look at everything and change something everywhere.
func operate(t *testing.T, url string) {
	t.Helper()
	c, ctx, why := &http.Client{Transport: bearer{}}, t.Context(), "a test"
	pipe, sources := adminv1connect.NewPipelineServiceClient(c, url), adminv1connect.NewSourceServiceClient(c, url)
	events, reconcile := adminv1connect.NewEventServiceClient(c, url), adminv1connect.NewReconciliationServiceClient(c, url)
	order := &adminv1.Resource{Source: "orders", Resource: "order"}
	for what, try := range map[string]func() error{
		"status": func() error {
			_, err := pipe.GetPipelineStatus(ctx, connect.NewRequest(&adminv1.GetPipelineStatusRequest{}))
			return err
		},
		"audit": func() error {
			_, err := pipe.ListAuditRecords(ctx, connect.NewRequest(&adminv1.ListAuditRecordsRequest{}))
			return err
		},
		"sources": func() error {
			_, err := sources.ListSources(ctx, connect.NewRequest(&adminv1.ListSourcesRequest{}))
			return err
		},
		"refusals": func() error {
			_, err := sources.ListRefusals(ctx, connect.NewRequest(&adminv1.ListRefusalsRequest{Source: "orders"}))
			return err
		},
		"pause": func() error {
			_, err := sources.PauseSource(ctx, connect.NewRequest(&adminv1.PauseSourceRequest{Source: "orders", Reason: why}))
			_, again := sources.ResumeSource(ctx, connect.NewRequest(&adminv1.ResumeSourceRequest{Source: "orders", Reason: why}))
			return errors.Join(err, again)
		},
		"events": func() error {
			res, err := events.ListEvents(ctx, connect.NewRequest(&adminv1.ListEventsRequest{}))
			if err != nil || len(res.Msg.GetEvents()) == 0 {
				return errors.Join(err, errors.New("no events"))
			}
			_, err = events.TraceEvent(ctx, connect.NewRequest(&adminv1.TraceEventRequest{Id: res.Msg.GetEvents()[0].GetAttributes().GetId()}))
			return err
		},
		"reports": func() error {
			_, err := reconcile.ListReconciliationReports(ctx, connect.NewRequest(&adminv1.ListReconciliationReportsRequest{}))
			_, state := reconcile.GetReconciliationStatus(ctx, connect.NewRequest(&adminv1.GetReconciliationStatusRequest{}))
			return errors.Join(err, state)
		},
		"reconcile": func() error {
			_, err := reconcile.RunReconciliation(ctx, connect.NewRequest(&adminv1.RunReconciliationRequest{Resource: order, DryRun: true, Reason: why}))
			if connect.CodeOf(err) == connect.CodeFailedPrecondition || connect.CodeOf(err) == connect.CodeAborted { // it runs already
				err = nil
			}
			return err
		},
	} {
		if err := try(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// replayByAPI replays all dead letters that are open.
func replayByAPI(ctx context.Context, url string) error {
	dead := adminv1connect.NewDeadLetterServiceClient(&http.Client{Transport: bearer{}}, url)
	plan, err := dead.PlanDeadLetterReplay(ctx, connect.NewRequest(&adminv1.PlanDeadLetterReplayRequest{}))
	if err != nil {
		return err
	}
	sent, err := dead.ReplayDeadLetters(ctx, connect.NewRequest(&adminv1.ReplayDeadLettersRequest{PlanToken: plan.Msg.GetPlan().GetPlanToken(), Rate: 1000, Reason: "a test"}))
	if err != nil {
		return err
	}
	defer func() { _ = sent.Close() }()
	for sent.Receive() {
		continue
	}
	return sent.Err()
}
