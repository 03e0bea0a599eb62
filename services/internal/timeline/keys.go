package timeline

import (
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/refusal"
	"github.com/tercelhq/tercel/pkg/report"
)

// headerTexts returns what a message can be found by: the ids of its event, of
// the provider's delivery and of the record. They are known by their text alone,
// so that nobody has to know which source an id is of; the messages of others
// are left out when they are read.
func headerTexts(h nats.Header, _ []byte) []string {
	e, _ := event.FromHeader(h) // as much as can be read of it
	texts := make([]string, 0, 4)
	for _, text := range [...]string{e.ID, wholeID(e), e.DeliveryID, e.RecordID} {
		if text != "" && !slices.Contains(texts, text) {
			texts = append(texts, text)
		}
	}
	return texts
}

// wholeID is the ID of the trigger that e was made of: one that names several
// records becomes an event for each, whose ID ends in the record's.
func wholeID(e event.Event) string {
	if e.RecordID == "" {
		return e.ID
	}
	return strings.TrimSuffix(e.ID, "#"+e.RecordID)
}

// reportTexts returns the ids of the run and of the records that a report names.
func reportTexts(_ nats.Header, data []byte) []string {
	var r report.Report
	if err := json.Unmarshal(data, &r); err != nil {
		return nil // written by something else
	}
	texts := []string{r.Run}
	for _, record := range r.Records {
		if !slices.Contains(texts, record.ID) {
			texts = append(texts, record.ID)
		}
	}
	return texts
}

// refusedTexts returns the id that a refused request claims, and that of its
// answer.
func refusedTexts(h nats.Header, _ []byte) []string {
	var texts []string
	for _, name := range []string{refusal.HeaderClaimed, refusal.HeaderRequest} {
		if text, err := event.Unescape(h.Get(name)); err == nil && text != "" {
			texts = append(texts, text)
		}
	}
	return texts
}
