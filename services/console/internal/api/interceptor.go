package api

import (
	"context"
	"errors"
	"strings"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
	"github.com/tercelhq/tercel/services/console/internal/access"
)

// maxReasonBytes bounds why somebody did something.
const maxReasonBytes = 1000

// interceptor stands around every method.
type interceptor struct{ *API }

// WrapUnary bounds a call, checks its message, records what it does and gives its
// error a form.
func (i interceptor) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		ctx, cancel := context.WithTimeout(ctx, unaryTimeout)
		defer cancel()
		m := i.methods[req.Spec().Procedure]
		resp, err := i.unary(ctx, m, req, next)
		err = i.told(ctx, m, err)
		i.calls.answered(ctx, m, err)
		return resp, err
	}
}

func (i interceptor) unary(ctx context.Context, m method, req connect.AnyRequest, next connect.UnaryFunc) (connect.AnyResponse, error) {
	msg, _ := req.Any().(proto.Message) // connect's handlers have no other
	action, err := i.enter(ctx, m, msg)
	if err != nil {
		return nil, err
	}
	resp, err := next(ctx, req)
	var answer proto.Message
	if err == nil {
		answer, _ = resp.Any().(proto.Message)
	}
	i.leave(ctx, action, answer, err)
	return resp, err
}

// WrapStreamingHandler does the same for streams, which have no bound in time but
// one in number.
func (i interceptor) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error {
		m := i.methods[conn.Spec().Procedure]
		err := i.told(ctx, m, i.stream(ctx, m, conn, next))
		i.calls.answered(ctx, m, err)
		return err
	}
}

func (i interceptor) stream(ctx context.Context, m method, conn connect.StreamingHandlerConn, next connect.StreamingHandlerFunc) error {
	select {
	case i.streams <- struct{}{}:
		defer func() { <-i.streams }()
	default:
		return fail(connect.CodeResourceExhausted, adminv1.Reason_REASON_TOO_MANY_STREAMS, "%d streams are open, and no more may be", maxStreams)
	}
	caller, err := access.From(ctx)
	if err != nil {
		return err
	}
	w := &watched{StreamingHandlerConn: conn, entered: func(msg proto.Message) (*action, error) { return i.enter(ctx, m, msg) }}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(i.ending, func() { cancel(errEnding) })()
	defer caller.Replaced(func() { cancel(access.ErrReplaced) })() // a stream must not outlive its token
	err = next(ctx, w)
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errEnding):
		err = fail(connect.CodeUnavailable, adminv1.Reason_REASON_NOBODY_ANSWERS, "%w", errEnding)
	case err != nil && errors.Is(cause, access.ErrReplaced):
		err = fail(connect.CodeUnauthenticated, adminv1.Reason_REASON_UNAUTHENTICATED, "%w", cause)
	}
	i.leave(ctx, w.action, w.last, err)
	return err
}

// errEnding ends streams when the console stops.
var errEnding = errors.New("the console stops; begin again")

// WrapStreamingClient is for clients, which this is not.
func (i interceptor) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

// watched is a stream of answers to one message, which is checked and recorded as
// it is read.
type watched struct {
	connect.StreamingHandlerConn
	entered func(proto.Message) (*action, error)
	action  *action
	last    proto.Message
}

// Receive reads the request.
func (w *watched) Receive(v any) error {
	if err := w.StreamingHandlerConn.Receive(v); err != nil {
		return err
	}
	msg, _ := v.(proto.Message)
	var err error
	if w.action == nil {
		w.action, err = w.entered(msg)
	}
	return err
}

// Send sends an answer, the last of which is what came of the call.
func (w *watched) Send(v any) error {
	w.last, _ = v.(proto.Message)
	return w.StreamingHandlerConn.Send(v)
}

// enter checks a message and begins the record of an operator's action, which is
// nil for a viewer's call.
func (i interceptor) enter(ctx context.Context, m method, msg proto.Message) (*action, error) {
	if field := unknownField(msg.ProtoReflect(), ""); field != "" {
		return nil, invalid(field, "only fields that this version knows: what it doesn't know it can't heed")
	}
	if !m.operator {
		return nil, nil
	}
	reason := strings.TrimSpace(reasonOf(msg))
	if reason == "" || len(reason) > maxReasonBytes {
		return nil, invalid("reason", "why this is done, at most 1,000 bytes")
	}
	return i.begin(ctx, m, msg, reason)
}

// reasonOf is why an operator calls.
func reasonOf(msg proto.Message) string {
	r := msg.ProtoReflect()
	field := r.Descriptor().Fields().ByName("reason")
	if field == nil {
		return ""
	}
	return r.Get(field).String()
}

// unknownField finds a field that isn't in the contract, in a message and those
// in it: a newer caller's filter that was heeded by half would choose too much.
func unknownField(m protoreflect.Message, path string) string {
	if len(m.GetUnknown()) > 0 {
		return path + "?"
	}
	found := ""
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if f.Kind() == protoreflect.MessageKind && !f.IsMap() && !f.IsList() {
			found = unknownField(v.Message(), path+string(f.Name())+".")
		}
		return found == ""
	})
	return found
}

// strictJSON is JSON whose fields must be known. What is misspelled in a filter
// would otherwise choose everything.
type strictJSON struct{ name string }

// Name is the codec's name in content types.
func (c strictJSON) Name() string { return c.name }

// Marshal writes a message.
func (strictJSON) Marshal(v any) ([]byte, error) {
	msg, ok := v.(proto.Message)
	if !ok {
		return nil, errors.New("not a message")
	}
	return protojson.Marshal(msg)
}

// Unmarshal reads a message.
func (strictJSON) Unmarshal(data []byte, v any) error {
	msg, ok := v.(proto.Message)
	if !ok {
		return errors.New("not a message")
	}
	if len(data) == 0 {
		return errors.New("want a JSON object")
	}
	return protojson.Unmarshal(data, msg)
}
