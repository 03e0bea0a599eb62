package deadletter

import (
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/event"
)

// letterJSON is a letter as commands print it.
type letterJSON struct {
	Sequence         uint64              `json:"sequence"`
	State            State               `json:"state"`
	Replayed         *Replayed           `json:"replayed,omitzero"`
	Discarded        *Discarded          `json:"discarded,omitzero"`
	Edited           bool                `json:"edited,omitzero"`
	Fingerprint      string              `json:"fingerprint"`
	Stage            string              `json:"stage"`
	Name             string              `json:"name"`
	Kind             Kind                `json:"kind"`
	DeadAt           time.Time           `json:"dead_at,omitzero"`
	Reason           consume.Reason      `json:"reason"`
	Subject          string              `json:"subject,omitzero"`
	Stream           string              `json:"stream"`
	Consumer         string              `json:"consumer"`
	OriginalSequence uint64              `json:"original_sequence"`
	MsgID            string              `json:"msg_id,omitzero"`
	Event            eventJSON           `json:"event,omitzero"`
	Header           map[string][]string `json:"header,omitempty"`
	PayloadMissing   bool                `json:"payload_missing,omitzero"`
	Payload          jsontext.Value      `json:"payload,omitzero"`
	PayloadBase64    []byte              `json:"payload_base64,omitempty"`
}

type eventJSON struct {
	ID              string        `json:"id"`
	DeliveryID      string        `json:"delivery_id,omitzero"`
	Source          string        `json:"source"`
	Account         string        `json:"account"`
	Type            string        `json:"type"`
	Origin          event.Origin  `json:"origin"`
	Time            time.Time     `json:"time,omitzero"`
	ReceivedAt      time.Time     `json:"received_at,omitzero"`
	Resource        string        `json:"resource,omitzero"`
	RecordID        string        `json:"record_id,omitzero"`
	Version         event.Version `json:"version,omitzero"`
	TriggerSequence uint64        `json:"trigger_sequence,omitzero"`
}

// MarshalJSON gives l as one JSON object. A payload that is JSON stands in it
// as "payload", any other as base64 in "payload_base64".
func (l Letter) MarshalJSON() ([]byte, error) {
	e := l.Event
	out := letterJSON{
		Sequence: l.Sequence, State: l.State, Replayed: l.Replayed, Discarded: l.Discarded, Edited: l.Edited,
		Fingerprint: l.Fingerprint(), Stage: l.Stage, Name: l.Name, Kind: l.Kind,
		DeadAt: l.DeadAt, Reason: l.Reason, Subject: l.Subject, Stream: l.Stream, Consumer: l.Consumer,
		OriginalSequence: l.OriginalSequence, MsgID: l.MsgID, Header: event.Shown(l.Header), PayloadMissing: l.PayloadMissing,
		Event: eventJSON{
			ID: e.ID, DeliveryID: e.DeliveryID, Source: e.Source, Account: e.Account, Type: e.Type, Origin: e.Origin,
			Time: e.Time, ReceivedAt: e.ReceivedAt, Resource: e.Resource, RecordID: e.RecordID, Version: e.Version,
			TriggerSequence: e.TriggerSequence,
		},
	}
	if v := jsontext.Value(l.Payload); v.IsValid() {
		out.Payload = v
	} else {
		out.PayloadBase64 = l.Payload
	}
	// Whoever sent the message chose its texts; one that is no UTF-8 is shown
	// with its bad bytes replaced rather than not at all.
	return json.Marshal(out, json.Deterministic(true), jsontext.AllowInvalidUTF8(true))
}
