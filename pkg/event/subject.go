package event

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// Subject prefixes of the streams that carry events.
const (
	PrefixRaw      = "tercel.raw"
	PrefixRequests = "tercel.requests"
	PrefixDropped  = "tercel.dropped"
	PrefixEnriched = "tercel.enriched"
	PrefixDLQ      = "tercel.dlq"
)

// Bounds of a subject. A NATS server drops a connection whose control line
// passes 4,096 bytes, so a subject must stay far below, whatever a type holds.
const (
	maxTypeTokens = 12
	maxTypeBytes  = 256
)

// RawSubject is where e's trigger is published: tercel.raw.SOURCE.ACCOUNT.TYPE.
func (e Event) RawSubject() string { return e.subject(PrefixRaw) }

// RequestSubject is where a request is stored as it was received:
// tercel.requests.SOURCE.ACCOUNT. That is done where no trigger has its bytes,
// because it held several events or was compressed. It is evidence (promise 8)
// and nobody's work; the triggers made of it name it.
func (e Event) RequestSubject() string {
	return PrefixRequests + "." + e.Source + "." + AccountToken(e.Account)
}

// DroppedSubject is where it is noted that e's trigger was dropped on purpose:
// tercel.dropped.SOURCE.ACCOUNT.TYPE, in the stream of triggers. The message has
// the trigger's attributes, names its sequence, and has no body.
func (e Event) DroppedSubject() string { return e.subject(PrefixDropped) }

// EnrichedSubject is where e's enriched event is published.
func (e Event) EnrichedSubject() string { return e.subject(PrefixEnriched) }

func (e Event) subject(prefix string) string {
	return prefix + "." + e.Source + "." + AccountToken(e.Account) + "." + TypeTokens(e.Type)
}

// AccountToken is account as a subject token. [NoAccount] stays as it is.
func AccountToken(account string) string {
	if account == "" {
		return NoAccount
	}
	return Escape(account)
}

// TypeTokens is an event type as subject tokens. Its dots separate tokens;
// everything else that a subject can't hold is escaped reversibly. A type that
// would take more than 12 tokens or 256 bytes is cut and ends in a token with
// a hash of the whole; its full spelling is in the ce-type header.
func TypeTokens(typ string) string {
	if plainType(typ) {
		return typ
	}
	parts := strings.Split(typ, ".")
	var b strings.Builder
	for i, p := range parts {
		token := Escape(p)
		if i >= maxTypeTokens-1 && len(parts) > maxTypeTokens || b.Len()+1+len(token) > maxTypeBytes {
			sum := sha256.Sum256([]byte(typ))
			if b.Len() > 0 {
				b.WriteByte('.')
			}
			b.WriteString("%~" + hex.EncodeToString(sum[:16]))
			return b.String()
		}
		if i > 0 {
			b.WriteByte('.')
		}
		b.WriteString(token)
	}
	return b.String()
}

// plainType reports whether a type is its own tokens, as most are.
func plainType(typ string) bool {
	tokens, last := 1, byte('.')
	for i := range len(typ) {
		c := typ[i]
		if c == '.' {
			if tokens++; last == '.' {
				return false // an empty token
			}
		} else if !tokenBytes[c] {
			return false
		}
		last = c
	}
	return last != '.' && tokens <= maxTypeTokens && len(typ) < maxTypeBytes
}

// TypeFromTokens undoes [TypeTokens]. It returns an error for a type that was
// cut; the ce-type header has it.
func TypeFromTokens(tokens string) (string, error) {
	parts := strings.Split(tokens, ".")
	for i, p := range parts {
		if strings.HasPrefix(p, "%~") {
			return "", fmt.Errorf("type %q was cut: read %s", tokens, HeaderType)
		}
		var err error
		if parts[i], err = Unescape(p); err != nil {
			return "", fmt.Errorf("type %q: %w", tokens, err)
		}
	}
	return strings.Join(parts, "."), nil
}

// DLQSubject is where a dead letter of stage goes whose original subject was
// subject: the part behind the stream's own prefix is kept.
func DLQSubject(stage, subject string) string {
	rest := subject
	for _, p := range []string{PrefixRaw, PrefixEnriched} {
		if r, ok := strings.CutPrefix(subject, p+"."); ok {
			rest = r
		}
	}
	return PrefixDLQ + "." + stage + "." + rest
}

// Match reports whether a pattern takes a subject or an event type. As in
// NATS, "*" stands for one part between dots and ">" at the end for one or
// more.
func Match(pattern, subject string) bool {
	p, s := strings.Split(pattern, "."), strings.Split(subject, ".")
	for i, part := range p {
		if part == ">" {
			return len(s) > i
		}
		if i >= len(s) || part != "*" && part != s[i] {
			return false
		}
	}
	return len(p) == len(s)
}
