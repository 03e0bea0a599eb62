package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// serveBare is the yardstick of the ingress: the smallest honest handler, which
// checks an HMAC and awaits one acknowledgement for each event.
func serveBare(ctx context.Context, p part) error {
	nc, err := nats.Connect(p.NATS)
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(4096))
	if err != nil {
		return err
	}
	srv := &http.Server{Addr: p.Listen, ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(
		func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(handle(js, r)) })}
	context.AfterFunc(ctx, func() { _ = srv.Close() })
	if err := srv.ListenAndServe(); err != http.ErrServerClosed {
		return err
	}
	return nil
}

func handle(js jetstream.JetStream, r *http.Request) int {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil || !genuine(r.Header, body) {
		return http.StatusUnauthorized
	}
	msg := nats.NewMsg("tercel.raw.yard._.event")
	msg.Header.Set(jetstream.MsgIDHeader, "yard:_:"+r.Header.Get("X-Id"))
	msg.Data = body
	future, err := js.PublishMsgAsync(msg, jetstream.WithStallWait(5*time.Second))
	if err != nil {
		return http.StatusServiceUnavailable
	}
	select {
	case <-future.Ok():
		return http.StatusOK
	case <-future.Err():
	case <-time.After(5 * time.Second):
	}
	return http.StatusServiceUnavailable
}

func genuine(h http.Header, body []byte) bool {
	mac := hmac.New(sha256.New, []byte(secret))
	got, prefix := h.Get("X-Hub-Signature-256"), "sha256="
	if s := h.Get("Stripe-Signature"); s != "" {
		t, rest, _ := strings.Cut(strings.TrimPrefix(s, "t="), ",")
		fmt.Fprintf(mac, "%s.", t)
		got, prefix = rest, "v1="
	}
	mac.Write(body)
	want, err := hex.DecodeString(strings.TrimPrefix(got, prefix))
	return err == nil && hmac.Equal(mac.Sum(nil), want)
}
