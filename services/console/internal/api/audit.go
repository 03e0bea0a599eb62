package api

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"unicode/utf8"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
	"github.com/tercelhq/tercel/services/console/internal/access"
	"github.com/tercelhq/tercel/services/internal/auditlog"
)

// maxRecordBytes bounds each text of an audit record.
const maxRecordBytes = 4096

// action is an operator's action whose record was begun.
type action = auditlog.Action

// begin records that an operator acts. Without the record nothing is done.
func (a *API) begin(ctx context.Context, m method, msg proto.Message, reason string) (*action, error) {
	caller, err := access.From(ctx)
	if err != nil {
		return nil, err
	}
	begun, err := auditlog.Begin(ctx, a.js, auditlog.Record{
		Who: caller.Name, Address: caller.Address, Method: m.name, Request: recorded(msg), Reason: reason,
	})
	if err != nil {
		return nil, fail(connect.CodeUnavailable, adminv1.Reason_REASON_NOT_RECORDED, "nothing was done: %w", err)
	}
	return begun, nil
}

// leave records how the action ended. That it can't be is no reason to tell the
// caller that it failed.
func (a *API) leave(ctx context.Context, begun *action, answer proto.Message, err error) {
	if begun == nil {
		return
	}
	outcome, result := auditlog.Done, recorded(answer)
	if err != nil {
		outcome = auditlog.Failed
		result = strings.TrimSpace(cut(err.Error()) + " " + result)
	}
	if err := begun.End(ctx, outcome, result); err != nil {
		a.deps.Log.LogAttrs(ctx, slog.LevelError, "the end of an operator's action is not recorded", slog.String("action", begun.ID), slog.Any("err", err))
	}
}

// recorded is a message as an audit record has it: without contents of events,
// and bounded.
func recorded(msg proto.Message) string {
	if msg == nil {
		return ""
	}
	msg = proto.Clone(msg)
	dropContent(msg.ProtoReflect())
	text, err := protojson.Marshal(msg)
	if err != nil {
		return ""
	}
	var compact bytes.Buffer // protojson's own spaces differ from build to build
	if err := json.Compact(&compact, text); err != nil {
		return ""
	}
	return cut(compact.String())
}

// dropContent clears the fields that the contract marks as contents (promise 9).
func dropContent(m protoreflect.Message) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		isMessage := f.Kind() == protoreflect.MessageKind
		switch {
		case proto.GetExtension(f.Options(), adminv1.E_Content).(bool):
			m.Clear(f)
		case isMessage && f.IsList():
			for i := range v.List().Len() {
				dropContent(v.List().Get(i).Message())
			}
		case isMessage && !f.IsMap():
			dropContent(v.Message())
		}
		return true
	})
}

// cut is a text as an audit record has it.
func cut(text string) string { return shortened(text, maxRecordBytes) }

// shortened is a text of about so many bytes. What isn't UTF-8 is replaced: it
// could not be stored, and nowhere in it may begin a character to cut before.
func shortened(text string, limit int) string {
	if text = utf8s(text); len(text) <= limit {
		return text
	}
	for !utf8.RuneStart(text[limit]) {
		limit--
	}
	return text[:limit] + " … (cut)"
}
