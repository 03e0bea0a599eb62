package event

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/nats-io/nuid"
)

// maxIDBytes bounds an id inside Nats-Msg-Id, which the server keeps in memory
// for the dedup window.
const maxIDBytes = 200

// Identity derives an event's ID from the provider's delivery id and the raw
// body. A delivery id that the signature covers is the ID. One that it doesn't
// cover gets a part of the body's hash appended, so that nobody can claim an
// honest event's id with a captured body. Without a delivery id the ID is the
// body's hash.
func Identity(deliveryID string, signed bool, body []byte) string {
	if deliveryID != "" && signed {
		return deliveryID
	}
	return Unsigned(deliveryID, sha256.Sum256(body))
}

// Unsigned is [Identity] for a delivery id that the signature doesn't cover, or
// none, where the body's SHA-256 is known already.
func Unsigned(deliveryID string, sum [sha256.Size]byte) string {
	if deliveryID == "" {
		return "sha256:" + hex.EncodeToString(sum[:])
	}
	return deliveryID + "~" + hex.EncodeToString(sum[:8])
}

// MsgID is the Nats-Msg-Id of e's first publication: source, account and ID,
// because a stream's dedup window knows nothing but this text. It is bounded
// and free of what the server would trim or misread.
func (e Event) MsgID() string {
	return e.Source + ":" + AccountToken(e.Account) + ":" + boundID(escapeBytes(e.ID, headerBytes))
}

// ListedMsgID is the Nats-Msg-Id of an event that its source's own list of events
// named, where nothing signs the delivery id of its webhook: only what an API
// said may stand under it. A webhook that comes later is known by it.
func (e Event) ListedMsgID() string {
	return e.Source + ":" + AccountToken(e.Account) + ":listed:" + boundID(escapeBytes(e.DeliveryID, headerBytes))
}

// AgainID is a fresh Nats-Msg-Id for sending again what was once published
// under msgID: inside the dedup window the old one would be swallowed. Sending
// again what was sent again does not make it longer.
func AgainID(msgID string, why Origin) string {
	mark := ":" + string(why) + ":"
	if i := strings.LastIndex(msgID, mark); i >= 0 && len(msgID)-i-len(mark) == nuidBytes {
		msgID = msgID[:i]
	}
	return msgID + mark + nuid.Next()
}

// AgainMark returns what only the messages have in their ids that follow from one
// which was sent again, or "" if none was.
func AgainMark(msgID string, why Origin) string {
	mark := ":" + string(why) + ":"
	i := strings.LastIndex(msgID, mark)
	if i < 0 || len(msgID)-i-len(mark) < nuidBytes {
		return ""
	}
	return msgID[i+len(mark):][:nuidBytes]
}

// nuidBytes is the length of what nuid.Next returns.
const nuidBytes = 22

func boundID(id string) string {
	if len(id) <= maxIDBytes {
		return id
	}
	sum := sha256.Sum256([]byte(id))
	return "sha256:" + hex.EncodeToString(sum[:])
}
