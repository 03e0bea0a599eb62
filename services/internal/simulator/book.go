package simulator

import "time"

// Book is everything that a provider did, in the order in which it was written
// down. Nothing in it is ever changed.
type Book struct {
	// Changes are the changes of records.
	Changes []Change
	// Deliveries are the attempts to deliver a webhook, as they ended.
	Deliveries []Delivery
}

// Change is one change of one record.
type Change struct {
	// RecordID is the record that was changed.
	RecordID string
	// Version counts the record's changes from 1.
	Version int
	// At is the record's updated_at, which no two changes share.
	At time.Time
	// Deleted says that the change was the record's end.
	Deleted bool
	// Poisoned says that the record can't be fetched before [Provider.Heal].
	Poisoned bool
	// DeliveryID is the id of the change's webhook.
	DeliveryID string
	// Dropped says that this webhook was never sent.
	Dropped bool
}

// Kind is what a webhook was.
type Kind string

// The kinds of webhooks.
const (
	// Genuine webhooks tell of a change for the first time.
	Genuine Kind = "genuine"
	// Duplicate webhooks repeat a genuine one that was taken: same id, same
	// body, signed anew.
	Duplicate Kind = "duplicate"
	// Forged webhooks are none of the provider's: a receiver must refuse them.
	Forged Kind = "forged"
)

// Delivery is one attempt to deliver a webhook.
type Delivery struct {
	// Kind is what the webhook was.
	Kind Kind
	// ID is the delivery id. That of a forged webhook begins with [ForgedPrefix].
	ID string
	// RecordID is the record that it speaks of.
	RecordID string
	// Attempt counts the attempts of this webhook from 1.
	Attempt int
	// Status is the answer's, or 0 when there was none.
	Status int
	// DueAt is when the webhook was to be sent, however long it then waited for its
	// turn or was sent again.
	DueAt time.Time
	// SentAt and AnsweredAt are when the attempt began and ended.
	SentAt, AnsweredAt time.Time
	// GaveUp says that the webhook was not taken and is not sent again.
	GaveUp bool
}

// Taken reports whether the receiver answered 2xx, and so took responsibility.
func (d Delivery) Taken() bool { return d.Status >= 200 && d.Status < 300 }

// Counts sums a book up.
type Counts struct {
	// Changes is the number of changes, Dropped of those without a webhook.
	Changes, Dropped int
	// Sent is the number of genuine webhooks that were sent at least once,
	// Accepted of those that were taken, GaveUp of those that never were.
	Sent, Accepted, GaveUp int
	// Retries is the number of attempts beside the first.
	Retries int
	// DuplicatesSent is the number of repeats, DuplicatesAccepted of those
	// that were answered 2xx.
	DuplicatesSent, DuplicatesAccepted int
	// Forged is the number of forged webhooks. ForgedRefused were answered
	// 4xx, ForgedAccepted 2xx.
	Forged, ForgedRefused, ForgedAccepted int
}

// Counts sums b up.
func (b Book) Counts() Counts {
	c := Counts{Changes: len(b.Changes)}
	for _, change := range b.Changes {
		if change.Dropped {
			c.Dropped++
		}
	}
	for _, d := range b.Deliveries {
		c.add(d)
	}
	return c
}

func (c *Counts) add(d Delivery) {
	count := func(n *int, when bool) {
		if when {
			*n++
		}
	}
	first := d.Attempt == 1
	count(&c.Retries, !first)
	switch d.Kind {
	case Genuine:
		count(&c.Sent, first)
		count(&c.Accepted, d.Taken())
		count(&c.GaveUp, d.GaveUp)
	case Duplicate:
		count(&c.DuplicatesSent, first)
		count(&c.DuplicatesAccepted, d.Taken())
	case Forged:
		count(&c.Forged, first)
		count(&c.ForgedRefused, d.Status >= 400 && d.Status < 500 && d.Status != 429)
		count(&c.ForgedAccepted, d.Taken())
	}
}
