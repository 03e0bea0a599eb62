package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/tercelhq/tercel/services/internal/proof"
	"github.com/tercelhq/tercel/services/internal/simulator"
)

// table is what a run came to.
type table struct {
	Seed uint64 `json:"seed"`
	// Rate is the changes a second at the source.
	Rate float64 `json:"rate"`
	// Lasted is how long faults were played.
	Lasted  seconds   `json:"lasted_seconds"`
	Played  []played  `json:"played"`
	NotHere []notHere `json:"not_here,omitempty"`
	// Webhooks is what the provider did.
	Webhooks simulator.Counts `json:"webhooks"`
	// Failed counts the requests that were answered with an error of the server.
	Failed int64 `json:"failed"`
	// Replayed counts the dead letters that were replayed, after a storm or at the end.
	Replayed int `json:"replayed"`
	// Unsettled is what was missing when it should have been there without a replay,
	// or "".
	Unsettled string `json:"unsettled,omitempty"`
	// Verdict is how both ends compare, but for its times, of which Half and
	// Most are those that 50 and 99 of 100 webhooks needed at most. Untimed counts the
	// ones that have none, since they were replayed.
	Verdict proof.Verdict `json:"verdict"`
	Half    seconds       `json:"p50_seconds"`
	Most    seconds       `json:"p99_seconds"`
	Untimed int           `json:"untimed"`
	// Soak is what was measured over time, of a soak.
	Soak *soaked `json:"soak,omitempty"`
}

// notHere is a fault that could not be played.
type notHere struct {
	Fault string `json:"fault"`
	Why   string `json:"why"`
}

// found writes down how both ends compare.
func (t *table) found(v proof.Verdict) {
	if n := len(v.Took); n > 0 {
		t.Half, t.Most = seconds(v.Took[(n-1)/2].Seconds()), seconds(v.Took[(n-1)*99/100].Seconds())
	}
	t.Untimed = v.Delivered - len(v.Took)
	v.Took = nil // there may be a million
	t.Verdict = v
}

// err is nil if all is as promised.
func (t *table) err() error {
	var unsettled error
	if t.Unsettled != "" {
		unsettled = fmt.Errorf("not settled before the source had healed and dead letters were replayed: %s", t.Unsettled)
	}
	return errors.Join(unsettled, t.Verdict.Err(), t.Soak.err())
}

// write writes the table as Markdown.
func (t *table) write(out io.Writer) {
	fmt.Fprintf(out, "\nSeed %d; %.0f changes a second at the source; faults for %s s.\n\n", t.Seed, t.Rate, t.Lasted)
	fmt.Fprintln(out, "| fault | times | seconds of harm | seconds to recover | longest |")
	fmt.Fprintln(out, "|---|--:|---|---|--:|")
	byKind := map[string][]played{}
	for _, p := range t.Played {
		byKind[p.Kind] = append(byKind[p.Kind], p)
	}
	for _, kind := range slices.Sorted(maps.Keys(byKind)) {
		all := byKind[kind]
		fmt.Fprintf(out, "| %s | %d | %s | %s | %s |\n", kind, len(all), span(all), recovered(all), longest(all))
	}
	for _, n := range t.NotHere {
		fmt.Fprintf(out, "| %s | 0 | not here: %s | | |\n", n.Fault, n.Why)
	}
	c := t.Webhooks
	fmt.Fprintln(out, "\n| | |\n|---|--:|")
	for _, row := range []struct {
		what  string
		count int
	}{
		{"faults played", len(t.Played)},
		{"changes at the source", c.Changes},
		{"of them without a webhook", c.Dropped},
		{"webhooks sent", c.Sent},
		{"attempts to send them beside the first", c.Retries},
		{"requests answered with an error, or not", int(t.Failed)},
		{"webhooks given up by the provider", c.GaveUp},
		{"repeats taken", c.DuplicatesAccepted},
		{"of them without a second event", t.Verdict.Absorbed},
		{"forgeries sent", c.Forged},
		{"of them refused", c.ForgedRefused},
		{"dead letters replayed", t.Replayed},
	} {
		fmt.Fprintf(out, "| %s | %d |\n", row.what, row.count)
	}
	fmt.Fprintf(out, "\nFrom when a webhook was due to its row: half within %s s, 99 of 100 within %s s, without %d that were replayed.\n\n%s\n%s\n\n",
		t.Half, t.Most, t.Untimed, proof.SummaryHead, t.Verdict.Row())
	if t.Soak != nil {
		t.Soak.write(out)
	}
}

// span is how long harm lasted at least and at most.
func span(all []played) string {
	byHarm := func(a, b played) int { return cmp.Compare(a.Harm, b.Harm) }
	least, most := slices.MinFunc(all, byHarm).Harm.String(), slices.MaxFunc(all, byHarm).Harm.String()
	if least == most {
		return most
	}
	return least + " to " + most
}

// recovered shows up to twelve times to recover.
func recovered(all []played) string {
	const most = 12
	var texts []string
	for i, p := range all {
		if i == most {
			texts = append(texts, "…")
			break
		}
		if p.Error != "" {
			texts = append(texts, "failed")
			continue
		}
		texts = append(texts, p.Recovered.String())
	}
	return strings.Join(texts, " ")
}

func longest(all []played) seconds {
	var most seconds
	for _, p := range all {
		most = max(most, p.Recovered)
	}
	return most
}

func (t *table) writeJSON(file string) error {
	b, err := json.MarshalIndent(t, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(b, '\n'), 0o600)
}
