package redact

import (
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/topology"
)

// Set is the rules of all sources, by name.
type Set map[string]Rules

// Of returns a source's rules. Those of a source that isn't in the set show
// nothing: what its owner wants is not known.
func (s Set) Of(source string) Rules {
	if r, ok := s[source]; ok {
		return r
	}
	return Rules{unknown: true}
}

// Metadata is how a source's rules stand in the metadata of the consumer of its
// triggers, for whoever looks into a pipeline without its file. Rules without any
// path are there too.
func (r Rules) Metadata() map[string]string {
	return map[string]string{topology.MetadataRedact: strings.Join(r.Paths, " ")}
}

// FromConsumers returns the rules with which the pipeline on a server runs, as the
// enricher has left them with the consumers of TERCEL_RAW; it leaves out those of
// others. One of before there were rules has left none for its sources, and
// everything of them is shown.
func FromConsumers(infos []*jetstream.ConsumerInfo) Set {
	set := Set{}
	for _, info := range infos {
		stage, source, ok := topology.Stage(info.Name)
		if !ok || stage != topology.StageEnrich {
			continue
		}
		r, err := Parse(strings.Fields(info.Config.Metadata[topology.MetadataRedact])...)
		if err != nil { // something else wrote it, or a later version
			r = Rules{unknown: true}
		}
		set[source] = r
	}
	return set
}
