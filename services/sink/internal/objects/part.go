package objects

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/parquet-go/parquet-go"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/services/sink/internal/delivery"
)

// part is what one object holds of a batch.
type part struct {
	*object
	items []delivery.Item
}

// batch is items with their keys.
type batch struct {
	items []delivery.Item
	keys  []delivery.Key
}

// partitions are the parts of the items at the given places, in the order of
// their sequences, and are noted in e. Events that were to be in an object that
// isn't there take its name, so that it can't come to be there later.
func (b *Bucket) partitions(e *entry, all batch, places []int) []part {
	places = slices.Clone(places)
	slices.SortFunc(places, func(a, b int) int { return cmp.Compare(all.items[a].Sequence, all.items[b].Sequence) })
	var parts []part
	at := map[string]int{} // by name, or by folder for a name to be
	for _, i := range places {
		name := b.cfg.Prefix + folderOf(all.items[i].Event)
		if o := b.journal.known[all.keys[i]]; o != nil {
			name = o.Name
		}
		n, there := at[name]
		if !there {
			n = len(parts)
			at[name], parts = n, append(parts, part{object: &object{Name: name, mark: e.mark()}})
		}
		parts[n].items, parts[n].Events = append(parts[n].items, all.items[i]), append(parts[n].Events, all.keys[i][:]...)
	}
	unique := sha256.Sum256([]byte(e.mark()))
	for _, p := range parts {
		if strings.HasSuffix(p.Name, "/") {
			p.Name += fmt.Sprintf("%020d-%020d-%x.%s", p.items[0].Sequence, p.items[len(p.items)-1].Sequence, unique[:8], b.cfg.Format)
		}
		e.Objects = append(e.Objects, p.object)
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
	typ := event.TypeTokens(e.Type)
	if len(typ) > maxFolder {
		unique := sha256.Sum256([]byte(typ))
		typ = fmt.Sprintf("%s~%x", typ[:maxFolder-17], unique[:8])
	}
	return fmt.Sprintf("source=%s/type=%s/date=%s/", e.Source, typ, day)
}

// maxFolder bounds an event type in a folder's name, in bytes: stores that keep
// objects as files take 255 of a name between two slashes.
const maxFolder = 240

// encode returns the object's content, in the format that its name tells: that
// may be an older one than the configuration's.
func (p part) encode(now string) (content []byte, format pipeline.ObjectFormat, err error) {
	if strings.HasSuffix(p.Name, "."+string(pipeline.Parquet)) {
		content, err = p.parquet(now)
		return content, pipeline.Parquet, err
	}
	for _, it := range p.items {
		content = delivery.AppendLine(content, it, now)
	}
	return content, pipeline.NDJSON, nil
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
