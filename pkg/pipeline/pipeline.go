// Package pipeline is the pipeline file, tercel.yaml, as Go values: sources,
// destinations and how each service works. Every service of one deployment
// reads the same file.
package pipeline

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/pkg/redact"
	"github.com/tercelhq/tercel/pkg/seal"
	"github.com/tercelhq/tercel/pkg/topology"
)

// File is the whole pipeline file.
type File struct {
	// Sources are the systems that send webhooks, by name. Required.
	Sources map[string]provider.Source `yaml:"sources"`
	// Destinations take enriched events, by name. Without any, tercel up
	// writes to a SQLite file in its data folder.
	Destinations map[string]Destination `yaml:"destinations"`
	// Teams read enriched events by themselves, by name: "tercel setup" makes the
	// consumer team_NAME for each.
	Teams map[string]Team `yaml:"teams"`
	// SealKeys are references to the keys that seal what is secret and must be
	// stored, such as refresh tokens that their issuer replaces. The first
	// seals, all of them open: put a new one in front, and leave the older ones
	// until what they sealed has changed. Make one with "openssl rand -base64 32".
	SealKeys []config.Secret `yaml:"seal_keys"`
	// NATS is how services connect. tercel up runs a server of its own.
	NATS NATS `yaml:"nats"`
	// Streams is how events are kept.
	Streams topology.Config `yaml:"streams"`
	// Ingress is how webhooks are taken in.
	Ingress Ingress `yaml:"ingress"`
	// Enricher is how triggers are worked through.
	Enricher consume.Config `yaml:"enricher"`
	// Sink is how enriched events are delivered.
	Sink consume.Config `yaml:"sink"`
	// Reconciler is how gaps are found.
	Reconciler Reconciler `yaml:"reconciler"`
	// Console is how operators look into the pipeline and act on it.
	Console Console `yaml:"console"`
	// Telemetry is what the services tell about themselves.
	Telemetry Telemetry `yaml:"telemetry"`
}

// Reconciler is how gaps are found.
type Reconciler struct {
	// LeaseTTL is how long a runner that has gone keeps others out. Defaults
	// to 15s; whole seconds.
	LeaseTTL time.Duration `yaml:"lease_ttl"`
	// CatchUp bounds waiting until what was sent before a window's end has
	// been enriched; the report says when it was not. Defaults to 30s.
	CatchUp time.Duration `yaml:"catch_up"`
	// RepairRate is the most records a second sent again. Defaults to 200.
	RepairRate int `yaml:"repair_rate"`
	// Backfill is how backfills work that don't say otherwise.
	Backfill Backfill `yaml:"backfill"`
	// AuditEvery is the time between two audits of the pipeline itself.
	// Defaults to 5m.
	AuditEvery time.Duration `yaml:"audit_every"`
	// AuditSettle is how old a trigger without any outcome must be before it
	// is sent again. It must exceed the time that all attempts of the enricher
	// may take. Defaults to 1h.
	AuditSettle time.Duration `yaml:"audit_settle"`
	// Silence is when a source counts as silent.
	Silence Silence `yaml:"silence"`
	// Refused is when refused requests of a source are an alarm.
	Refused Refused `yaml:"refused"`
	// Collect is how dead letters are collected.
	Collect consume.Config `yaml:"collect"`
}

// Backfill is how backfills work.
type Backfill struct {
	// Rate is the most records a second that one compares, in all accounts
	// together. Of the API's budget it gets what nobody else wants. Defaults to
	// 1000.
	Rate int `yaml:"rate"`
	// Slices is how many parts of the time it lists at once, where the list can
	// be filtered by time. Defaults to 4.
	Slices int `yaml:"slices"`
}

// Telemetry is what services tell about themselves.
type Telemetry struct {
	// Listen is the address of /livez, /readyz and /metrics. Defaults to
	// 127.0.0.1:9464.
	Listen string `yaml:"listen"`
	// OTLP is the endpoint that traces and metrics are sent to, such as
	// http://127.0.0.1:4318. Defaults to none.
	OTLP string `yaml:"otlp"`
	// Sample is the share of traces that is recorded, 0 to 1. Defaults to 1.
	Sample float64 `yaml:"sample"`
	// LogLevel is debug, info, warn or error. Defaults to info.
	LogLevel LogLevel `yaml:"log_level"`
}

// LogLevel is how much is logged.
type LogLevel string

// Values lists the levels, for configuration errors.
func (LogLevel) Values() []string { return []string{"debug", "info", "warn", "error"} }

// Default returns the documented defaults.
func Default() *File {
	sink := consume.DefaultConfig()
	sink.Workers, sink.Batch = 1, 500
	collect := consume.DefaultConfig()
	collect.Workers, collect.MaxAttempts = 4, 100
	return &File{
		NATS:     NATS{URL: "nats://127.0.0.1:4222"},
		Streams:  topology.DefaultConfig(),
		Enricher: consume.DefaultConfig(),
		Sink:     sink,
		Ingress:  defaultIngress(),
		Reconciler: Reconciler{
			LeaseTTL: 15 * time.Second, CatchUp: 30 * time.Second, RepairRate: 200,
			Backfill:   Backfill{Rate: 1000, Slices: 4},
			AuditEvery: 5 * time.Minute, AuditSettle: time.Hour, Collect: collect,
			Silence: defaultSilence(), Refused: defaultRefused(),
		},
		Console:   Console{Listen: "127.0.0.1:8089"},
		Telemetry: Telemetry{Listen: "127.0.0.1:9464", Sample: 1, LogLevel: "info"},
	}
}

// Load reads a pipeline file over the defaults. The error lists every fault,
// each with its place; see [config.Faults].
func Load(path string, opts ...config.Option) (*File, error) {
	f := Default()
	if err := config.Load(path, f, opts...); err != nil {
		return nil, err
	}
	return f, nil
}

// Decode is Load for a file's content; name stands for it in faults.
func Decode(name string, data []byte, opts ...config.Option) (*File, error) {
	f := Default()
	if err := config.Decode(name, data, f, opts...); err != nil {
		return nil, err
	}
	return f, nil
}

// Redactions returns the redaction rules of all sources.
func (f *File) Redactions() redact.Set {
	set := make(redact.Set, len(f.Sources))
	for name, source := range f.Sources {
		set[name] = source.Redact
	}
	return set
}

// Validate reports the faults that no single section can see.
func (f *File) Validate(c *config.Check) {
	if len(f.Sources) == 0 {
		c.Missing("sources", "at least one source")
	}
	for name, source := range f.Sources {
		if !provider.Name.MatchString(name) {
			c.Fault("sources."+name, "", "a name of lower-case letters, digits, - and _, at most 63")
		}
		if source.Accounts.Bucket != "" && len(f.SealKeys) == 0 {
			c.Missing("seal_keys", "a key for the accounts in bucket "+source.Accounts.Bucket+", such as [env:TERCEL_SEAL_KEY]")
		}
	}
	for name := range f.Destinations {
		if !provider.Name.MatchString(name) {
			c.Fault("destinations."+name, "", "a name of lower-case letters, digits, - and _, at most 63")
		}
	}
	for name := range f.Teams {
		if !provider.Name.MatchString(name) {
			c.Fault("teams."+name, "", "a name of lower-case letters, digits, - and _, at most 63")
		}
	}
	for i, key := range f.SealKeys {
		if n := len(key.Reveal()); n > 0 && n < seal.MinKeyBytes {
			c.Fault(fmt.Sprintf("seal_keys[%d]", i), fmt.Sprintf("%d characters", n), fmt.Sprintf("at least %d", seal.MinKeyBytes))
		}
	}
	for section, problems := range map[string]map[string]string{
		"enricher": f.Enricher.Problems(), "sink": f.Sink.Problems(), "reconciler.collect": f.Reconciler.Collect.Problems(),
	} {
		for _, key := range slices.Sorted(maps.Keys(problems)) {
			c.Fault(section+"."+key, "", problems[key])
		}
	}
	if f.Enricher.Batch != 1 {
		c.Fault("enricher.batch", "", "1: every trigger is worked on by itself")
	}
	f.validateStreams(c)
	f.validateServices(c)
	f.validateAgainst(c)
	f.validateTables(c)
}

// Dead letters of events that wait longer than sink.give_up_after for a destination
// that can't be opened come late by one part in OverduePart of it. The sink looks
// for them every sink.retry_max, and after a start OverdueLooks of those before the
// stream lets go of them.
const (
	OverduePart  = 16
	OverdueLooks = 2
)

func (f *File) validateStreams(c *config.Check) {
	// A message that its stream drops while it waits is gone without a word.
	if age := f.Streams.Raw.MaxAge; age > 0 && f.Enricher.GiveUpAfter >= age {
		c.Fault("enricher.give_up_after", "", "less than streams.raw.max_age")
	}
	late := f.Sink.GiveUpAfter/OverduePart + OverdueLooks*f.Sink.RetryMax
	if age := f.Streams.Enriched.MaxAge; age > 0 && f.Sink.GiveUpAfter >= age-late {
		c.Fault("sink.give_up_after", "", "so much that it, a sixteenth more, and twice sink.retry_max are less than streams.enriched.max_age")
	}
	if r := f.Streams.Replicas; r != 1 && r != 3 && r != 5 {
		c.Fault("streams.replicas", "", "1, 3 or 5")
	}
	if w := f.Streams.DedupWindow; w < 100*time.Millisecond || w > 24*time.Hour {
		c.Fault("streams.dedup_window", "", "100ms to 24h: the server keeps every id of it in memory")
	}
}

func (f *File) validateServices(c *config.Check) {
	r := f.Reconciler
	if r.LeaseTTL < time.Second || r.LeaseTTL%time.Second != 0 {
		c.Fault("reconciler.lease_ttl", "", "whole seconds, at least 1s")
	}
	if r.Backfill.Rate < 1 {
		c.Fault("reconciler.backfill.rate", "", "at least 1")
	}
	if n := r.Backfill.Slices; n < 1 || n > 64 {
		c.Fault("reconciler.backfill.slices", "", "1 to 64")
	}
	if r.RepairRate < 1 {
		c.Fault("reconciler.repair_rate", "", "at least 1 a second")
	}
	if r.AuditEvery < time.Second || r.AuditSettle < time.Second {
		c.Fault("reconciler.audit_every", "", "audit_every and audit_settle of at least 1s")
	}
	if s := f.Telemetry.Sample; s < 0 || s > 1 {
		c.Fault("telemetry.sample", "", "0 to 1")
	}
	f.validateAddresses(c)
}

// validateAddresses doesn't quote what it finds: a password may be part of it.
func (f *File) validateAddresses(c *config.Check) {
	for address := range strings.SplitSeq(f.NATS.URL, ",") {
		if address = strings.TrimSpace(address); !strings.Contains(address, "://") {
			address = "nats://" + address
		}
		if u, err := url.Parse(address); err != nil || u.Hostname() == "" {
			c.Fault("nats.url", "no address of a server",
				"nats://HOST:PORT, several separated by commas, with %XX for special characters in a user, password or token")
			break
		}
	}
	if f.Telemetry.OTLP == "" {
		return
	}
	u, err := url.Parse(f.Telemetry.OTLP)
	switch {
	case err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https":
		c.Fault("telemetry.otlp", "no URL", "a URL such as http://127.0.0.1:4318")
	case u.User != nil:
		c.Fault("telemetry.otlp", "a URL with a user", "the URL alone; credentials are headers, in OTEL_EXPORTER_OTLP_HEADERS")
	}
}
