// Package topology declares every JetStream stream, consumer and bucket that
// Tercel uses. It is the one place that knows their names and settings.
//
// [Ensure] creates or updates the streams and buckets and may be called by any
// number of processes at once. Services create their consumers through the
// functions of this package too, so that a durable name is spelled once.
package topology

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/event"
)

// Stream names.
const (
	StreamRaw        = "TERCEL_RAW"
	StreamEnriched   = "TERCEL_ENRICHED"
	StreamAdvisories = "TERCEL_ADVISORIES"
	StreamDLQ        = "TERCEL_DLQ"
	StreamReports    = "TERCEL_REPORTS"
	StreamSeen       = "TERCEL_SEEN"
	StreamIntake     = "TERCEL_INTAKE"
	StreamRefused    = "TERCEL_REFUSED"
	StreamOutcomes   = "TERCEL_OUTCOMES"
	StreamAudit      = "TERCEL_AUDIT"
)

// Bucket names.
const (
	BucketCursors     = "tercel_cursors"
	BucketLeases      = "tercel_leases"
	BucketLedger      = "tercel_ledger"
	BucketDeadLetters = "tercel_dead_letters" // what became of each dead letter
	BucketTokens      = "tercel_tokens"       // refresh tokens that their issuers replace, sealed
	BucketWaits       = "tercel_waits"        // deliveries that were no attempts
)

// SubjectSeen takes the marks of what was stored in TERCEL_RAW.
const SubjectSeen = "tercel.seen"

// SubjectIntake takes what became of requests, minute by minute.
const SubjectIntake = "tercel.intake"

// PrefixAudit begins the subjects of what operators do.
const PrefixAudit = "tercel.audit"

// PrefixRefused begins the subject of every refused request; its source follows.
const PrefixRefused = "tercel.refused"

// PrefixOutcomes begins the subject of every try at a message that is noted; its
// stage and source follow.
const PrefixOutcomes = "tercel.outcomes"

// PrefixReports begins the subject of every reconciliation report.
const PrefixReports = "tercel.reports"

// Durability is what a stored event survives.
type Durability string

// The durability levels.
const (
	// Synced events are on disk before they are acknowledged: they survive
	// power loss. On one node the server must run with sync_interval: always.
	Synced Durability = "synced"
	// Relaxed events are acknowledged from memory: they survive the end of the
	// server's process, but a power cut can take the last seconds or minutes.
	Relaxed Durability = "relaxed"
)

// Values lists the levels, for configuration errors.
func (Durability) Values() []string { return []string{string(Synced), string(Relaxed)} }

// Setup is who makes streams and buckets.
type Setup string

// The ways of setting up.
const (
	// ByServices has each service make what is missing and change what differs.
	ByServices Setup = "services"
	// ByCommand leaves all of it to "tercel setup". Services wait for what is
	// missing, and their users need no right to make, change or remove a stream.
	ByCommand Setup = "command"
)

// Values lists the ways, for configuration errors.
func (Setup) Values() []string { return []string{string(ByServices), string(ByCommand)} }

// Limits bound one stream.
type Limits struct {
	// MaxAge is how long messages are kept. 0 means for ever, and what is noted of
	// each message is kept for as long then, without a bound.
	MaxAge time.Duration `yaml:"max_age"`
	// MaxBytes is the most disk space that the stream takes, per replica. A
	// full stream refuses new messages rather than drop old ones; those of
	// advisories and of reports drop their oldest. 0 means no limit but the disk.
	MaxBytes config.Bytes `yaml:"max_bytes"`
}

// Config is how streams and buckets are set up: the streams section of the
// pipeline file.
type Config struct {
	// Setup is who makes streams and buckets: the services as they start, or the
	// command "tercel setup". Defaults to services.
	Setup Setup `yaml:"setup"`
	// Replicas is how many servers keep each message: 1, 3 or 5. Defaults to 1.
	Replicas int `yaml:"replicas"`
	// Durability is what an accepted event survives. Defaults to synced.
	Durability Durability `yaml:"durability"`
	// DedupWindow is how long the server absorbs repeats of a message id. Each
	// id takes about 200 bytes of server memory meanwhile. Defaults to 30m.
	DedupWindow time.Duration `yaml:"dedup_window"`
	// Raw limits TERCEL_RAW. MaxAge defaults to 7d.
	Raw Limits `yaml:"raw"`
	// Enriched limits TERCEL_ENRICHED. MaxAge defaults to 7d.
	Enriched Limits `yaml:"enriched"`
	// DeadLetters limits TERCEL_DLQ. MaxAge defaults to 30d.
	DeadLetters Limits `yaml:"dead_letters"`
	// Reports limits TERCEL_REPORTS. MaxAge defaults to 90d.
	Reports Limits `yaml:"reports"`
	// Audit limits TERCEL_AUDIT, which keeps what operators did. When it is full
	// they can do nothing more, rather than do it without a record. MaxAge
	// defaults to 400d.
	Audit Limits `yaml:"audit"`
}

// DefaultConfig returns the documented defaults.
func DefaultConfig() Config {
	const day = 24 * time.Hour
	return Config{
		Setup: ByServices, Replicas: 1, Durability: Synced, DedupWindow: 30 * time.Minute,
		Raw: Limits{MaxAge: 7 * day}, Enriched: Limits{MaxAge: 7 * day},
		DeadLetters: Limits{MaxAge: 30 * day}, Reports: Limits{MaxAge: 90 * day},
		Audit: Limits{MaxAge: 400 * day},
	}
}

// Grouped reports whether messages are worth storing in groups: on one node that
// syncs each of them. The servers of a replicated stream group by themselves.
func (c Config) Grouped() bool { return c.Durability == Synced && c.Replicas == 1 }

// Streams returns the wanted streams in the order in which they must be made:
// the advisories first, since an advisory that no stream takes is gone.
func Streams(c Config) []jetstream.StreamConfig {
	var advisories []string
	for _, worked := range []string{StreamRaw, StreamEnriched} { // a wildcard can't stand for a part of a token
		advisories = append(advisories, "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES."+worked+".>",
			"$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED."+worked+".>")
	}
	// A mark is of use as long as its message is there. Losing some, or hearing
	// of them late from a replica, only means that a late repeat is stored.
	seen := rolling(c.stream(StreamSeen, "Where messages are stored, by hash of their id.", Limits{MaxAge: c.Raw.MaxAge}, SubjectSeen))
	seen.AllowDirect, seen.AllowAtomicPublish = true, false
	// As long as reports, which it explains.
	intake := rolling(c.stream(StreamIntake, "What became of requests, minute by minute.", Limits{MaxAge: c.Reports.MaxAge}, SubjectIntake))
	intake.MaxMsgs = intakeMessages
	// For the debugging of signatures. One source's don't push out another's.
	refused := rolling(c.stream(StreamRefused, "Requests that were refused, with as much of each as its source keeps.", Limits{MaxAge: c.Raw.MaxAge, MaxBytes: refusedBytes},
		PrefixRefused+".*"))
	refused.MaxMsgsPerSubject = refusedMessages
	// Of use as long as what was tried is there.
	outcomes := rolling(c.stream(StreamOutcomes, "Tries at messages that failed, and what followed.",
		Limits{MaxAge: max(c.Raw.MaxAge, c.Enriched.MaxAge), MaxBytes: outcomesBytes}, PrefixOutcomes+".*.*"))
	return []jetstream.StreamConfig{
		rolling(c.stream(StreamAdvisories, "Failed deliveries, told by the server.", c.DeadLetters, advisories...)),
		c.stream(StreamDLQ, "Dead letters with their full context.", c.DeadLetters, event.PrefixDLQ+".>"),
		rolling(c.stream(StreamReports, "One report per reconciliation run.", c.Reports, PrefixReports+".>")),
		seen, intake, refused, outcomes,
		c.stream(StreamAudit, "What operators did.", c.Audit, PrefixAudit+".>"),
		c.stream(StreamEnriched, "Enriched events.", c.Enriched, event.PrefixEnriched+".>"),
		c.stream(StreamRaw, "Verified webhooks as received.", c.Raw, event.PrefixRaw+".>", event.PrefixRequests+".>",
			event.PrefixDropped+".>"),
	}
}

// stream has the settings that all streams share. Retention is by limits
// everywhere: work-queue streams forget their dedup ids and their dead letters.
func (c Config) stream(name, about string, l Limits, subjects ...string) jetstream.StreamConfig {
	window := c.DedupWindow
	if l.MaxAge > 0 && window > l.MaxAge {
		window = l.MaxAge
	}
	maxBytes := int64(l.MaxBytes)
	if maxBytes <= 0 {
		maxBytes = -1
	}
	return jetstream.StreamConfig{
		Name: name, Description: about, Subjects: subjects,
		Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardNew, Storage: jetstream.FileStorage,
		Replicas: c.Replicas, MaxAge: l.MaxAge, MaxBytes: maxBytes, Duplicates: window,
		MaxMsgs: -1, MaxMsgSize: -1, MaxConsumers: maxConsumers, MaxMsgsPerSubject: -1,
		// A message is read from the stream's leader. A replica that is a moment
		// behind would say that what was acknowledged is not there.
		AllowDirect: false, AllowAtomicPublish: true,
	}
}

// maxConsumers bounds the consumers of a stream: one for each source, destination
// or team, and one for each scan. Without a number of its own a stream has no
// more than the server's default, a thousand.
const maxConsumers = 10_000

// intakeMessages bounds TERCEL_INTAKE: five months of one replica, or ten days
// of fifteen, in less than 100 MB.
const intakeMessages = 220_000

// Bounds of TERCEL_REFUSED: of all sources together, and of each.
const (
	refusedBytes    = 64 << 20
	refusedMessages = 2000
)

// outcomesBytes bounds TERCEL_OUTCOMES to some 100,000 tries.
const outcomesBytes = 64 << 20

// rolling makes a full stream drop its oldest messages. The server tells an
// advisory once: refused, it is gone, and its dead letter too (promise 3),
// while the oldest ones have been worked on. A report that is refused would
// keep its window from ever being finished.
func rolling(s jetstream.StreamConfig) jetstream.StreamConfig {
	s.Discard = jetstream.DiscardOld
	return s
}

// Buckets returns the wanted key-value buckets, without those of
// [AccountsBucket].
func Buckets(c Config) []jetstream.KeyValueConfig {
	leases := c.bucket(BucketLeases, "Who runs what, for a while.")
	leases.LimitMarkerTTL = time.Second // makes per-key TTLs possible
	dead := c.bucket(BucketDeadLetters, "What became of each dead letter.")
	dead.TTL = c.DeadLetters.MaxAge
	waits := c.bucket(BucketWaits, "Deliveries that were no attempts, by consumer and message.")
	if c.Raw.MaxAge > 0 && c.Enriched.MaxAge > 0 { // as long as the message can be there
		waits.TTL = max(c.Raw.MaxAge, c.Enriched.MaxAge)
	}
	return []jetstream.KeyValueConfig{
		c.bucket(BucketCursors, "How far reconciliation has come."), leases,
		c.bucket(BucketLedger, "Which versions of which records were seen."), dead,
		c.bucket(BucketTokens, "Refresh tokens that their issuers replace, sealed."), waits,
	}
}

// AccountsBucket returns the bucket of that name with entries of accounts. It
// exists where a source's accounts are in one, and is made by whoever needs it
// first.
func AccountsBucket(c Config, name string) jetstream.KeyValueConfig {
	return c.bucket(name, aboutAccounts)
}

// aboutAccounts is the description of a bucket of accounts, by which
// [AccountsBuckets] tells it from others.
const aboutAccounts = "Accounts of sources, their secrets sealed."

// AccountsBuckets lists the names of the server's buckets of accounts.
func AccountsBuckets(ctx context.Context, js jetstream.JetStream) ([]string, error) {
	var names []string
	list := js.KeyValueStores(ctx)
	for status := range list.Status() {
		if status.Config().Description == aboutAccounts {
			names = append(names, status.Bucket())
		}
	}
	if err := list.Error(); err != nil {
		return nil, fmt.Errorf("list buckets: %w", err)
	}
	slices.Sort(names)
	return names, nil
}

func (c Config) bucket(name, about string) jetstream.KeyValueConfig {
	return jetstream.KeyValueConfig{
		Bucket: name, Description: about, History: 1, Storage: jetstream.FileStorage, Replicas: c.Replicas,
	}
}
