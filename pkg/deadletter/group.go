package deadletter

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/fault"
)

// GroupState is how far the repair of a group is.
type GroupState string

// The states, a closed set.
const (
	// GroupOpen groups have letters that nobody has dealt with.
	GroupOpen GroupState = "open"
	// GroupWatched groups have none, but have not been quiet for long yet.
	GroupWatched GroupState = "watched"
	// GroupClosed groups have none, and have been quiet for an hour.
	GroupClosed GroupState = "closed"
)

// quietAfter is how long after its last letter, replay or discard a group
// without open letters is closed.
const quietAfter = time.Hour

// Group is letters that have the same cause, as far as their texts tell: the
// same stage, source, destination and class, and the same message once ids and
// numbers are blanked.
type Group struct {
	// Fingerprint tells the group from others. It is the same in every process.
	Fingerprint string `json:"fingerprint"`
	Stage       string `json:"stage"`
	Source      string `json:"source"`
	// Destination could not be served, or is "" for another stage than deliver.
	Destination string      `json:"destination,omitzero"`
	Class       fault.Class `json:"class"`
	// Message is what went wrong with ids and numbers blanked.
	Message string `json:"message"`
	// Open of its Total letters have not been dealt with.
	Open  int `json:"open"`
	Total int `json:"total"`
	// FirstAt and LastAt are when the first and last of them were given up.
	FirstAt time.Time `json:"first_at"`
	LastAt  time.Time `json:"last_at"`
	// TouchedAt is when a letter was last replayed or discarded, or zero.
	TouchedAt time.Time `json:"touched_at,omitzero"`
	// Hourly is how many letters came in each of the last 24 hours, the oldest
	// first.
	Hourly [24]int `json:"hourly"`
	// Sample is the newest letter, without its payload.
	Sample Letter     `json:"sample"`
	State  GroupState `json:"state"`
}

// maxGroups bounds the groups that are told apart.
const maxGroups = 10_000

// Groups are letters by their cause.
type Groups struct {
	// Groups has the one with the latest letter first.
	Groups []Group
	// Ungrouped is how many letters belong to none of them, since there are more
	// than 10,000.
	Ungrouped int
}

// GroupBy groups the letters that f chooses, as they are at the time now. It
// reads the headers of all of them, about 50,000 a second.
func GroupBy(ctx context.Context, js jetstream.JetStream, f Filter, now time.Time) (Groups, error) {
	groups, result := map[string]*Group{}, Groups{}
	for l, err := range List(ctx, js, f) {
		if err != nil {
			return Groups{}, err
		}
		key := l.Fingerprint()
		g := groups[key]
		if g == nil {
			if len(groups) == maxGroups {
				result.Ungrouped++
				continue
			}
			g = &Group{
				Fingerprint: key, Stage: l.Stage, Source: l.Source(), Destination: l.Destination(),
				Class: l.Reason.Class, Message: blank(l.Reason.Message), FirstAt: l.DeadAt,
			}
			groups[key] = g
		}
		g.add(l, now)
	}
	for _, g := range groups {
		g.State = g.state(now)
		result.Groups = append(result.Groups, *g)
	}
	slices.SortFunc(result.Groups, func(a, b Group) int {
		return cmp.Or(b.LastAt.Compare(a.LastAt), cmp.Compare(a.Fingerprint, b.Fingerprint))
	})
	return result, nil
}

func (g *Group) add(l Letter, now time.Time) {
	g.Total++
	if l.State == StateOpen {
		g.Open++
	}
	if l.DeadAt.Before(g.FirstAt) {
		g.FirstAt = l.DeadAt
	}
	if !l.DeadAt.Before(g.LastAt) {
		g.LastAt, g.Sample = l.DeadAt, l
	}
	if l.Replayed != nil && l.Replayed.At.After(g.TouchedAt) {
		g.TouchedAt = l.Replayed.At
	}
	if l.Discarded != nil && l.Discarded.At.After(g.TouchedAt) {
		g.TouchedAt = l.Discarded.At
	}
	if age := now.Sub(l.DeadAt); age >= 0 && age < time.Duration(len(g.Hourly))*time.Hour {
		g.Hourly[len(g.Hourly)-1-int(age/time.Hour)]++
	}
}

func (g *Group) state(now time.Time) GroupState {
	last := g.LastAt
	if g.TouchedAt.After(last) {
		last = g.TouchedAt
	}
	switch {
	case g.Open > 0:
		return GroupOpen
	case now.Sub(last) < quietAfter:
		return GroupWatched
	default:
		return GroupClosed
	}
}

// fingerprintBytes is how much of a hash tells groups apart.
const fingerprintBytes = 6

// Fingerprint is the same for letters that have the same cause, see [Group].
func (l Letter) Fingerprint() string {
	sum := sha256.Sum256([]byte(strings.Join([]string{
		l.Stage, l.Source(), l.Destination(), string(l.Reason.Class), blank(l.Reason.Message),
	}, "\x00")))
	return hex.EncodeToString(sum[:fingerprintBytes])
}

// maxBlankBytes bounds the message of a group.
const maxBlankBytes = 300

// blank returns a message in which what differs from event to event stands as
// "#": every word with a digit, such as a number, an id or a time, and what is
// quoted. The status of an answer stays: it is a part of the cause.
func blank(message string) string {
	var b strings.Builder
	for i := 0; i < len(message) && b.Len() < maxBlankBytes; {
		c := message[i]
		switch {
		case c == '"':
			i = pastQuoted(message, i)
			b.WriteString(`"#"`)
		case wordByte(c):
			end, digit := i, false
			for end < len(message) && (wordByte(message[end]) || joins(message, end)) {
				digit = digit || message[end] >= '0' && message[end] <= '9'
				end++
			}
			if digit && !(status(message[i:end]) && strings.HasSuffix(b.String(), "status ")) {
				b.WriteByte('#')
			} else {
				b.WriteString(message[i:end])
			}
			i = end
		default:
			b.WriteByte(c)
			i++
		}
	}
	return strings.ToValidUTF8(b.String(), "")
}

// status reports whether a word can be that of an HTTP answer.
func status(word string) bool { return len(word) == 3 && strings.Trim(word, "0123456789") == "" }

// pastQuoted returns the place behind the quoted text that begins at i.
func pastQuoted(message string, i int) int {
	for end := i + 1; end < len(message); end++ {
		switch message[end] {
		case '\\':
			end++
		case '"':
			return end + 1
		}
	}
	return len(message)
}

// wordByte reports whether a byte can be part of an id.
func wordByte(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c == '-' || c >= 0x80
}

// joins reports whether the byte at i holds two parts of one word together, as
// the dots and colons of an address, a time or a fraction do.
func joins(message string, i int) bool {
	return (message[i] == '.' || message[i] == ':' || message[i] == '+') && i+1 < len(message) && wordByte(message[i+1])
}
