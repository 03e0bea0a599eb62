package ingress

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/tercelhq/tercel/pkg/provider"
)

// strays are the events of a request that don't match their schema.
type strays struct {
	n     int
	first provider.Violation
	item  *item // that has it
}

// checkSchema holds the events against the source's schemas. Where those only
// warn it refuses nothing.
func (in *inspection) checkSchema() *refusal {
	schemas := in.route.source.Request.Schemas
	if schemas.IsZero() {
		return nil
	}
	for i := range in.items {
		it := &in.items[i]
		v, violated := schemas.Check(it.event.Type, it.body)
		if !violated {
			continue
		}
		it.stray = v.Keyword + "@" + v.At
		if in.strays.n++; in.strays.n == 1 {
			in.strays.first, in.strays.item = v, it
		}
	}
	if in.strays.n == 0 || in.route.source.Request.SchemaMode != provider.SchemaEnforce {
		return nil
	}
	no := &refusal{
		status: http.StatusUnprocessableEntity, outcome: refusedSchema, text: in.strays.first.String(), reason: in.strays.first.String(),
	}
	if status := in.route.source.Reply.Refused; status != 0 {
		no.status = status
	}
	return no
}

func (in *inspection) schemaDetail() string {
	if in.strays.n == 0 {
		return "matched"
	}
	return fmt.Sprintf("%d of %d events don't match; %s; which is only a warning", in.strays.n, len(in.items), in.strays.first)
}

// noteStrays counts the events that don't match their schema. Once a minute it
// says so of those that are stored all the same.
func (s *Service) noteStrays(ctx context.Context, in *inspection, refused bool, requestID string) {
	s.meter.violatedSchemas(ctx, in.route.name, in.strays.n)
	if refused || !in.route.strayed.may(time.Now()) {
		return
	}
	v, e := in.strays.first, in.strays.item.event
	s.deps.Log.LogAttrs(ctx, slog.LevelWarn, "event doesn't match its schema, and is stored all the same",
		slog.String("source", in.route.name), slog.String("account", in.account), slog.String("event_id", e.ID), slog.String("type", e.Type),
		slog.String("pattern", v.Pattern), slog.String("at", v.At), slog.String("keyword", v.Keyword), slog.String("request_id", requestID))
}
