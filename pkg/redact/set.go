package redact

import (
	"context"
	"fmt"
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

// Load returns the rules with which the pipeline on a server runs: the enricher
// has left them there. One of before there were rules has left none for its
// sources, and everything of them is shown.
func Load(ctx context.Context, js jetstream.JetStream) (Set, error) {
	stream, err := js.Stream(ctx, topology.StreamRaw)
	if err != nil {
		return nil, fmt.Errorf("redaction rules: %w", err)
	}
	var infos []*jetstream.ConsumerInfo
	list := stream.ListConsumers(ctx)
	for info := range list.Info() {
		infos = append(infos, info)
	}
	if err := list.Err(); err != nil {
		return nil, fmt.Errorf("redaction rules: %w", err)
	}
	return FromConsumers(infos), nil
}

// FromConsumers is [Load] for whoever has the consumers of TERCEL_RAW already. It
// leaves out those of others.
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
