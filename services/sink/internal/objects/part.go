package objects

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/parquet-go/parquet-go"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/services/sink/internal/delivery"
)

// part is what one object holds of a batch.
type part struct {
	name  string
	items []delivery.Item
	keys  []key
}

// partitions are the parts of the items at the given places, in a fixed order.
func partitions(cfg pipeline.S3, items []delivery.Item, keys []key, places []int) []part {
	places = slices.Clone(places)
	slices.SortFunc(places, func(a, b int) int { return cmp.Compare(items[a].Sequence, items[b].Sequence) })
	parts, at := []part{}, map[string]int{}
	for _, i := range places {
		folder := folderOf(items[i].Event)
		n, there := at[folder]
		if !there {
			n = len(parts)
			at[folder], parts = n, append(parts, part{name: cfg.Prefix + folder})
		}
		parts[n].items, parts[n].keys = append(parts[n].items, items[i]), append(parts[n].keys, keys[i])
	}
	for n := range parts {
		p := &parts[n]
		h := sha256.New()
		for _, k := range p.keys {
			h.Write(k[:])
		}
		p.name += fmt.Sprintf("%020d-%020d-%s.%s", p.items[0].Sequence, p.items[len(p.items)-1].Sequence,
			hex.EncodeToString(h.Sum(nil)[:8]), cfg.Format)
	}
	return parts
}

func folderOf(e event.Event) string {
	day := "unknown"
	for _, t := range []time.Time{e.ReceivedAt, e.ObservedAt, e.Time} {
		if !t.IsZero() {
			day = t.UTC().Format(time.DateOnly)
			break
		}
	}
	return fmt.Sprintf("source=%s/type=%s/date=%s/", e.Source, event.TypeTokens(e.Type), day)
}

func (p part) encode(format pipeline.ObjectFormat, now string) ([]byte, error) {
	if format == pipeline.Parquet {
		return p.parquet(now)
	}
	var lines []byte
	for _, it := range p.items {
		lines = delivery.AppendLine(lines, it, now)
	}
	return lines, nil
}

// record is an event as columns; absent texts are null.
type record struct {
	EventID    string `parquet:"event_id"`
	Source     string `parquet:"source"`
	Account    string `parquet:"account"`
	Type       string `parquet:"type"`
	Resource   string `parquet:"resource,optional"`
	RecordID   string `parquet:"record_id,optional"`
	Version    string `parquet:"version,optional"`
	Origin     string `parquet:"origin"`
	Deleted    bool   `parquet:"deleted"`
	EventTime  string `parquet:"event_time,optional"`
	ReceivedAt string `parquet:"received_at,optional"`
	ObservedAt string `parquet:"observed_at,optional"`
	WrittenAt  string `parquet:"written_at"`
	Sequence   uint64 `parquet:"sequence"`
	Trigger    string `parquet:"trigger,optional"`
	Record     string `parquet:"record,optional"`
	Related    string `parquet:"related,optional"`
}

func (p part) parquet(now string) ([]byte, error) {
	rows := make([]record, len(p.items))
	for i, it := range p.items {
		e := it.Event
		rows[i] = record{
			EventID: e.ID, Source: e.Source, Account: e.Account, Type: e.Type, Resource: e.Resource, RecordID: e.RecordID,
			Version: string(e.Version), Origin: string(e.Origin), Deleted: e.Deleted, EventTime: delivery.Time(e.Time),
			ReceivedAt: delivery.Time(e.ReceivedAt), ObservedAt: delivery.Time(e.ObservedAt), WrittenAt: now, Sequence: it.Sequence,
			Trigger: string(it.Trigger), Record: string(it.Record), Related: string(it.Related),
		}
	}
	var out bytes.Buffer
	w := parquet.NewGenericWriter[record](&out, parquet.Compression(&parquet.Snappy))
	_, err := w.Write(rows)
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("encode parquet: %w", err)
	}
	return out.Bytes(), nil
}
