package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"connectrpc.com/connect"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/cursor"
	"github.com/tercelhq/tercel/pkg/deadletter"
	"github.com/tercelhq/tercel/pkg/refusal"
	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
	"github.com/tercelhq/tercel/services/internal/control"
)

// fail makes an error as callers get it.
func fail(code connect.Code, reason adminv1.Reason, format string, args ...any) *connect.Error {
	return withInfo(connect.NewError(code, fmt.Errorf(format, args...)), &adminv1.ErrorInfo{Reason: reason})
}

// invalid says what a field of the request should be.
func invalid(field, want string) *connect.Error {
	return withInfo(connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("%s: want %s", field, want)),
		&adminv1.ErrorInfo{Reason: adminv1.Reason_REASON_INVALID_FIELD, Field: field, Want: want})
}

// notFound says that something isn't there.
func notFound(format string, args ...any) *connect.Error {
	return fail(connect.CodeNotFound, adminv1.Reason_REASON_NOT_FOUND, format, args...)
}

func withInfo(e *connect.Error, info *adminv1.ErrorInfo) *connect.Error {
	if d, err := connect.NewErrorDetail(info); err == nil { // it can always be encoded
		e.AddDetail(d)
	}
	return e
}

// known are the errors of other packages that callers are told apart.
var known = []struct {
	err    error
	code   connect.Code
	reason adminv1.Reason
}{
	{deadletter.ErrNotFound, connect.CodeNotFound, adminv1.Reason_REASON_NOT_FOUND},
	{deadletter.ErrReplayed, connect.CodeFailedPrecondition, adminv1.Reason_REASON_ALREADY_DONE},
	{deadletter.ErrDiscarded, connect.CodeFailedPrecondition, adminv1.Reason_REASON_ALREADY_DONE},
	{deadletter.ErrPayloadMissing, connect.CodeFailedPrecondition, adminv1.Reason_REASON_PAYLOAD_MISSING},
	{deadletter.ErrStage, connect.CodeFailedPrecondition, adminv1.Reason_REASON_INVALID_FIELD},
	{deadletter.ErrPatch, connect.CodeInvalidArgument, adminv1.Reason_REASON_INVALID_FIELD},
	{cursor.ErrForward, connect.CodeFailedPrecondition, adminv1.Reason_REASON_INVALID_FIELD},
	{cursor.ErrBackfillOver, connect.CodeFailedPrecondition, adminv1.Reason_REASON_ALREADY_DONE},
	{cursor.ErrNoBackfill, connect.CodeNotFound, adminv1.Reason_REASON_NOT_FOUND},
	{refusal.ErrNotFound, connect.CodeNotFound, adminv1.Reason_REASON_NOT_FOUND},
	{control.ErrRange, connect.CodeInvalidArgument, adminv1.Reason_REASON_INVALID_FIELD},
	{control.ErrPaused, connect.CodeFailedPrecondition, adminv1.Reason_REASON_PAUSED},
	{control.ErrNobody, connect.CodeUnavailable, adminv1.Reason_REASON_NOBODY_ANSWERS},
	{control.ErrNoIngress, connect.CodeUnavailable, adminv1.Reason_REASON_NOBODY_ANSWERS},
	{control.ErrUnknown, connect.CodeNotFound, adminv1.Reason_REASON_NOT_FOUND},
	{control.ErrRunning, connect.CodeAborted, adminv1.Reason_REASON_RUNNING},
	{context.Canceled, connect.CodeCanceled, adminv1.Reason_REASON_UNSPECIFIED},
	{context.DeadlineExceeded, connect.CodeDeadlineExceeded, adminv1.Reason_REASON_PIPELINE_UNAVAILABLE},
	{nats.ErrTimeout, connect.CodeUnavailable, adminv1.Reason_REASON_PIPELINE_UNAVAILABLE},
	{nats.ErrNoResponders, connect.CodeUnavailable, adminv1.Reason_REASON_PIPELINE_UNAVAILABLE},
	{nats.ErrConnectionClosed, connect.CodeUnavailable, adminv1.Reason_REASON_PIPELINE_UNAVAILABLE},
	{nats.ErrDisconnected, connect.CodeUnavailable, adminv1.Reason_REASON_PIPELINE_UNAVAILABLE},
	{jetstream.ErrStreamNotFound, connect.CodeUnavailable, adminv1.Reason_REASON_PIPELINE_UNAVAILABLE},
	{jetstream.ErrBucketNotFound, connect.CodeUnavailable, adminv1.Reason_REASON_PIPELINE_UNAVAILABLE},
}

// told is an error as the caller gets it: with a code and a detail, whatever it
// was. What is nobody's fault but the program's is also logged. Errors name no
// secrets and no payloads anywhere in the project, so that their texts may be
// told (promise 9).
func (a *API) told(ctx context.Context, m method, err error) error {
	if err == nil {
		return nil
	}
	var e *connect.Error
	if errors.As(err, &e) {
		return e
	}
	for _, k := range known {
		if errors.Is(err, k.err) {
			return fail(k.code, k.reason, "%w", err)
		}
	}
	a.deps.Log.LogAttrs(ctx, slog.LevelError, "admin call failed", slog.String("method", m.name), slog.Any("err", err))
	return fail(connect.CodeInternal, adminv1.Reason_REASON_INTERNAL, "%w", err)
}

// recovered answers for a method that panicked, which must not end the process.
func (a *API) recovered(ctx context.Context, spec connect.Spec, _ http.Header, v any) error {
	a.deps.Log.LogAttrs(ctx, slog.LevelError, "admin call panicked", slog.String("method", a.methods[spec.Procedure].name), slog.Any("panic", v))
	return fail(connect.CodeInternal, adminv1.Reason_REASON_INTERNAL, "the call broke off; the log of the console tells more")
}
