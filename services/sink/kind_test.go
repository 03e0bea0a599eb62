package sink_test

import (
	"cmp"
	"context"
	"maps"
	"os"
	"slices"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/services/sink"
)

// kinds are all kinds of destination, as the conformance suite needs to know
// them: a new kind is a row here and passes the suite.
var kinds = map[string]kind{
	"postgres": {place: postgresPlace},
	"sqlite":   {place: sqlitePlace},
	"files":    {place: filesPlace, cannot: filesCannot},
	"http":     {place: httpPlace, cannot: httpCannot},
	"nats":     {place: natsPlace, cannot: natsCannot},
	"s3":       {place: s3Place, cannot: s3Cannot},
}

// kind is one kind of destination.
type kind struct {
	// place makes an empty place for a destination.
	place func(t *testing.T) *place
	// cannot are tests of the suite that this kind can't pass by its nature,
	// by name, each with the reason, which the documentation tells.
	cannot map[string]string
}

// place is somewhere that a destination writes to, seen from outside.
type place struct {
	// yaml is the destination there, as it stands in a pipeline file; env are
	// the variables that it refers to.
	yaml string
	env  map[string]string
	// rows are all events there, in the order of their sequences, and a
	// duplicate twice if the kind doesn't absorb it.
	rows func(t *testing.T) []row
	// records are the records there by id; nil for a kind that keeps none.
	records func(t *testing.T) map[string]record
	// breakIt makes the place refuse all writes, whether it is open or to be
	// opened, until heal is called.
	breakIt func(t *testing.T) (heal func())
	// hang makes the place take writes without an answer until wake is called.
	hang func(t *testing.T) (wake func())
	// fill makes the place full until empty is called. It is nil for one that
	// is full when a file can't grow.
	fill func(t *testing.T) (empty func())
	// refuse makes the place refuse the event with the given id for good.
	refuse func(t *testing.T, eventID string)
}

// row is an event as destinations store it. Absent texts are "".
type row struct {
	EventID    string         `json:"event_id"`
	Source     string         `json:"source"`
	Account    string         `json:"account"`
	Type       string         `json:"type"`
	Resource   string         `json:"resource"`
	RecordID   string         `json:"record_id"`
	Version    string         `json:"version"`
	Origin     string         `json:"origin"`
	Deleted    bool           `json:"deleted"`
	EventTime  string         `json:"event_time"`
	ReceivedAt string         `json:"received_at"`
	ObservedAt string         `json:"observed_at"`
	WrittenAt  string         `json:"written_at"`
	Sequence   uint64         `json:"sequence"`
	Trigger    jsontext.Value `json:"trigger"`
	Record     jsontext.Value `json:"record"`
	Related    jsontext.Value `json:"related"`
}

// record is a record's state.
type record struct{ version, observedAt, deletedAt, eventID, record string }

func (r record) deleted() bool { return r.deletedAt > r.observedAt }

// absorbs reports whether a repeated event has no second effect at this kind.
// Where it has, its receivers tell repeats by their id, and so does the suite.
func (k kind) absorbs() bool { return k.cannot[duplicatesChangeNothing] == "" }

// events are the rows at a place, each event once, as a receiver sees them who
// tells repeats by their id.
func (k kind) events(t *testing.T, p *place) []row {
	t.Helper()
	rows := p.rows(t)
	if k.absorbs() {
		return rows
	}
	type identity struct{ source, account, id string }
	seen := map[identity]bool{}
	return slices.DeleteFunc(rows, func(r row) bool {
		id := identity{r.Source, r.Account, r.EventID}
		repeated := seen[id]
		seen[id] = true
		return repeated
	})
}

// destination is the place as the services see it.
func (p *place) destination(t testing.TB) pipeline.Destination {
	t.Helper()
	d, err := p.decode()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func (p *place) decode() (d pipeline.Destination, err error) {
	err = config.Decode("destination", []byte(p.yaml), &d, config.WithLookupEnv(func(name string) (string, bool) {
		v, ok := p.env[name]
		if !ok {
			v, ok = os.LookupEnv(name)
		}
		return v, ok
	}))
	return d, err
}

// open opens the place as a service does.
func (p *place) open(ctx context.Context) (sink.Writer, error) {
	d, err := p.decode()
	if err != nil {
		return nil, err
	}
	return sink.OpenWriter(ctx, "out", d, quiet)
}

func sequence(a, b row) int { return cmp.Compare(a.Sequence, b.Sequence) }

// Every kind that a pipeline file may name can be opened and is in the suite.
func TestEveryKindIsThere(t *testing.T) {
	t.Parallel()
	want := slices.Sorted(slices.Values(pipeline.Kinds()))
	if got := sink.KindNames(); !slices.Equal(got, want) {
		t.Errorf("the sink knows %v, want %v", got, want)
	}
	if got := slices.Sorted(maps.Keys(kinds)); !slices.Equal(got, want) {
		t.Errorf("the suite has %v, want %v", got, want)
	}
	for name, k := range kinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := k.place(t)
			d := p.destination(t)
			if kind, err := d.Kind(); kind != name || err != nil {
				t.Errorf("its place is of kind %s, %v", kind, err)
			}
			for what := range k.cannot {
				if !slices.ContainsFunc(suite, func(c conformance) bool { return c.name == what }) {
					t.Errorf("it can't %q, which is no test", what)
				}
			}
		})
	}
}
