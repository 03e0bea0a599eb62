package metrics

// Ingress.
var (
	RequestsAnswered = declare(Metric{
		Name: "tercel.requests.answered", Kind: Counter, Observed: true, Unit: "{request}", Labels: labels(source, answer),
		About: "Webhook requests answered, by source and outcome.",
	})
	RequestsHandled = declare(Metric{
		Name: "tercel.requests.handled", Kind: Histogram, Unit: "s", Labels: labels(source, answer), Bounds: quick,
		About: "Time from a request's header to its answer, by source and outcome.",
	})
	BodiesReceived = declare(Metric{
		Name: "tercel.bodies.received", Kind: Counter, Observed: true, Unit: "By", Labels: labels(source),
		About: "Bytes of webhook bodies read, by source.",
	})
	TriggersStored = declare(Metric{
		Name: "tercel.triggers.stored", Kind: Counter, Observed: true, Unit: "{event}", Labels: labels(source),
		About: "Webhook events stored for the first time, by source. A request can hold several.",
	})
	DuplicatesAbsorbed = declare(Metric{
		Name: "tercel.duplicates.absorbed", Kind: Counter, Unit: "{event}",
		Labels: labels(source, one("line", "What told that it was a repeat.", "window", "horizon", "body", "listed", "request")),
		About:  "Repeats of stored events, by source and the line that told them: the server's dedup window, the horizon behind it, an equal body, the source's list of events, or the same request.",
	})
	SchemasViolated = declare(Metric{
		Name: "tercel.schemas.violated", Kind: Counter, Unit: "{event}", Labels: labels(source),
		About: "Webhook events that don't match their JSON Schema, by source, whether they are stored or refused.",
	})
	KeysFetched = declare(Metric{
		Name: "tercel.keys.fetched", Kind: Counter, Unit: "{fetch}",
		Labels: labels(source, one("outcome", "What the fetch brought.", "good", "unknown", "unavailable")),
		About:  "Senders' keys asked for, by source and outcome.",
	})
	AccountsLoaded = declare(Metric{
		Name: "tercel.accounts.loaded", Kind: Gauge, Unit: "{account}",
		Labels: labels(source, one("state", "Broken is one whose newest entry can't be used.", "active", "disabled", "broken")),
		About:  "Accounts that a process knows, by source and state.",
	})
	GroupsCommitted = declare(Metric{
		Name: "tercel.groups.committed", Kind: Histogram, Unit: "{message}", Bounds: []float64{1, 2, 4, 8, 16, 32, 64, 128, 256, 512},
		About: "Messages that a publisher commits together; a lone one is a group of one. Only on a single synced server, whose syncs they share.",
	})
	GroupsStored = declare(Metric{
		Name: "tercel.groups.stored", Kind: Histogram, Unit: "s", Bounds: quick,
		About: "Time that a group took from being sent to its last answer.",
	})
)

// Stages.
var (
	MessagesSettled = declare(Metric{
		Name: "tercel.messages.settled", Kind: Counter, Unit: "{message}", Labels: labels(stage, name, settled),
		About: "Messages answered, by stage, source or destination, and outcome.",
	})
	MessagesHandled = declare(Metric{
		Name: "tercel.messages.handled", Kind: Histogram, Unit: "s", Labels: labels(stage, name, settled), Bounds: work,
		About: "Time from taking a message in hand to its answer, by stage, source or destination, and outcome.",
	})
	MessagesCompleted = declare(Metric{
		Name: "tercel.messages.completed", Kind: Histogram, Unit: "s", Labels: labels(stage, name), Bounds: age,
		About: "Time from the storing of a message to its acknowledgement by a stage, waits and retries included.",
	})
	MessagesHeld = declare(Metric{
		Name: "tercel.messages.held", Kind: UpDownCounter, Unit: "{message}", Labels: labels(stage, name),
		About: "Messages in hand, by stage and source or destination: at most twice workers times batch.",
	})
	MessagesRedelivered = declare(Metric{
		Name: "tercel.messages.redelivered", Kind: Counter, Unit: "{message}", Labels: labels(stage, name),
		About: "Deliveries of messages that had been delivered before, by stage and source or destination.",
	})
	TriggersDropped = declare(Metric{
		Name: "tercel.triggers.dropped", Kind: Counter, Unit: "{message}", Labels: labels(source),
		About: "Triggers that the pipeline file drops, by source.",
	})
	EventsDelivered = declare(Metric{
		Name: "tercel.events.delivered", Kind: Counter, Unit: "{event}",
		Labels: labels(destination, one("outcome", "Filtered is what the destination doesn't want.", "written", "duplicate", "filtered")),
		About:  "Events that a destination is through with, by destination and whether they were new to it.",
	})
	EventsAged = declare(Metric{
		Name: "tercel.events.aged", Kind: Histogram, Unit: "s", Labels: labels(destination), Bounds: age,
		About: "Time from taking a webhook in to its event's being written by a destination: the whole way. Replayed and backfilled events are left out.",
	})
	WebhooksSent = declare(Metric{
		Name: "tercel.webhooks.sent", Kind: Histogram, Unit: "s", Bounds: calls,
		Labels: labels(destination, one("outcome", "What the receiver did.", "taken", "refused", "doubtful", "outage", "gone", "unsent")),
		About:  "Time that an outgoing webhook took, by destination and outcome.",
	})
	DeadLettersCollected = declare(Metric{
		Name: "tercel.dead_letters.collected", Kind: Counter, Unit: "{message}", Labels: labels(stage, name, class),
		About: "Dead letters made, by stage, source or destination, and class of failure.",
	})
)

// APIs of sources.
var (
	APIRequested = declare(Metric{
		Name: "tercel.api.requested", Kind: Histogram, Unit: "s", Bounds: calls,
		Labels: labels(source, one("outcome", "How the request ended.", "answered", "absent", "throttled", "refused", "failed")),
		About:  "Time that a request to a source's API took, by source and outcome.",
	})
	APIAllowed = declare(Metric{
		Name: "tercel.api.allowed", Kind: Gauge, Unit: "{request}/s", Labels: labels(source, use),
		About: "Requests a second that the process may make of a source's API: its part of the configured rate. Absent where none is configured.",
	})
	APIWaiting = declare(Metric{
		Name: "tercel.api.waiting", Kind: Gauge, Unit: "{call}", Labels: labels(source, use),
		About: "Calls of a source's API that wait for the configured rate or concurrency.",
	})
	APIHeld = declare(Metric{
		Name: "tercel.api.held", Kind: Gauge, Unit: "s", Labels: labels(source, use),
		About: "Time for which no request can be made of a source's API with any credential, since it is out or has asked for a pause; else 0.",
	})
)

// Reconciliation and what looks after sources.
var (
	RecordsCompared = declare(Metric{
		Name: "tercel.records.compared", Kind: Counter, Unit: "{record}",
		Labels: labels(source, resource, one("verdict", "What was found.", "matched", "missed", "stale", "ahead", "orphaned",
			"unreadable")),
		About: "Listed records compared with what was seen, by source, resource and verdict.",
	})
	ReconciliationsEnded = declare(Metric{
		Name: "tercel.reconciliations.ended", Kind: Counter, Unit: "{run}",
		Labels: labels(source, resource, one("outcome", "Unfinished had its share of pages; abandoned was stopped or taken over.",
			"complete", "unfinished", "failed", "abandoned")),
		About: "Reconciliation runs ended, by source, resource and outcome.",
	})
	ReconciliationsLasted = declare(Metric{
		Name: "tercel.reconciliations.lasted", Kind: Histogram, Unit: "s", Labels: labels(source, resource), Bounds: runs,
		About: "Time that a reconciliation run took, by source and resource.",
	})
	RecordsExplained = declare(Metric{
		Name: "tercel.records.explained", Kind: Counter, Unit: "{record}",
		Labels: labels(source, resource, one("cause", "Why; lost_inside is a fault of Tercel's.", "never_sent", "refused", "down", "silent",
			"late", "pending", "given_up", "lost_inside", "unknown")),
		About: "Records that were missed or stale, by source, resource and cause.",
	})
	DeletionsStopped = declare(Metric{
		Name: "tercel.deletions.stopped", Kind: Counter, Unit: "{run}", Labels: labels(source, resource),
		About: "Scans for orphans that found so many records unlisted that they asked for none, by source and resource.",
	})
	ReconciliationsLagged = declare(Metric{
		Name: "tercel.reconciliations.lagged", Kind: Gauge, Unit: "s", Labels: labels(source, resource),
		About: "Age of the time up to which a resource is known to be complete, in its worst account.",
	})
	ReconciliationsSucceeded = declare(Metric{
		Name: "tercel.reconciliations.succeeded", Kind: Gauge, Unit: "s", Labels: labels(source, resource),
		About: "Unix time at which a window of a resource was last finished, in its worst account.",
	})
	ReconciliationsOverdue = declare(Metric{
		Name: "tercel.reconciliations.overdue", Kind: Gauge, Unit: "s", Labels: labels(source, resource),
		About: "Time since a run of a resource was due that has not ended, in its worst account; 0 while none is. Paused ones are left out.",
	})
	ReconciliationsIncomplete = declare(Metric{
		Name: "tercel.reconciliations.incomplete", Kind: Gauge, Unit: "{account}", Labels: labels(source, resource),
		About: "Accounts whose last run of a resource failed or left records uncompared.",
	})
	ReconciliationsPaused = declare(Metric{
		Name: "tercel.reconciliations.paused", Kind: Gauge, Unit: "{account}", Labels: labels(source, resource),
		About: "Accounts in which a resource is not reconciled until somebody resumes it.",
	})
	TriggersRecovered = declare(Metric{
		Name: "tercel.triggers.recovered", Kind: Counter, Unit: "{message}", Labels: labels(source),
		About: "Triggers that were accepted, lost inside and sent again, by source.",
	})
	ConsumersRepaired = declare(Metric{
		Name: "tercel.consumers.repaired", Kind: Counter, Unit: "{consumer}", Labels: labels(stage, name),
		About: "Consumers that stood still and were set going again, by stage and source or destination.",
	})
	FaultsFound = declare(Metric{
		Name: "tercel.faults.found", Kind: Counter, Unit: "{fault}",
		Labels: labels(one("kind", "What is wrong.", "triggers_lost", "records_lost_inside", "consumer_deleted", "consumer_stalled",
			"stream_removed", "stream_recreated", "stream_truncated", "stream_purged", "bucket_removed"),
			one("repaired", "Whether it was put right.", "true", "false")),
		About: "Faults that the audit found inside the pipeline, by kind and whether they were repaired.",
	})
	SourcesProbed = declare(Metric{
		Name: "tercel.sources.probed", Kind: Counter, Unit: "{probe}", Labels: labels(source),
		About: "Probes of sources that were silent for longer than usual, by source.",
	})
	SourcesAlarmed = declare(Metric{
		Name: "tercel.sources.alarmed", Kind: Gauge, Unit: "{source}",
		Labels: labels(source, one("kind", "What is wrong with it.", "silence", "refused")),
		About:  "1 while there is an alarm, by source and kind, told by the replica that looks after it.",
	})
	CallsAnswered = declare(Metric{
		Name: "tercel.calls.answered", Kind: Counter, Unit: "{call}", Labels: labels(method, code),
		About: "Calls of the admin API, by method and code.",
	})
)

// What the server holds. One reconciler of all tells it, so nothing is counted
// twice.
var (
	StreamMessages = declare(Metric{
		Name: "tercel.stream.messages", Kind: Gauge, Unit: "{message}", Labels: labels(stream),
		About: "Messages in a stream.",
	})
	StreamSize = declare(Metric{
		Name: "tercel.stream.size", Kind: Gauge, Unit: "By", Labels: labels(stream),
		About: "Disk space that a stream takes, on each replica.",
	})
	StreamLimit = declare(Metric{
		Name: "tercel.stream.limit", Kind: Gauge, Unit: "By", Labels: labels(stream),
		About: "Most disk space that a stream may take, on each replica. Absent where it has no limit of its own.",
	})
	StreamSequence = declare(Metric{
		Name: "tercel.stream.sequence", Kind: Gauge, Unit: "{message}", Labels: labels(stream),
		About: "Sequence of a stream's last message: its rate is that of messages stored.",
	})
	StreamAge = declare(Metric{
		Name: "tercel.stream.age", Kind: Gauge, Unit: "s", Labels: labels(stream),
		About: "Age of a stream's oldest message, 0 while it is empty.",
	})
	StreamReplicas = declare(Metric{
		Name: "tercel.stream.replicas", Kind: Gauge, Unit: "{replica}", Labels: labels(stream),
		About: "Replicas that a stream is to have.",
	})
	StreamReplicasBehind = declare(Metric{
		Name: "tercel.stream.replicas.behind", Kind: Gauge, Unit: "{replica}", Labels: labels(stream),
		About: "Replicas of a stream that are offline, have not caught up, or are missing; all of them while it has no leader.",
	})
	ConsumerPending = declare(Metric{
		Name: "tercel.consumer.pending", Kind: Gauge, Unit: "{message}", Labels: labels(stream, consumerStage, name),
		About: "Messages that a consumer has not been given yet: its lag.",
	})
	ConsumerUnacknowledged = declare(Metric{
		Name: "tercel.consumer.unacknowledged", Kind: Gauge, Unit: "{message}", Labels: labels(stream, consumerStage, name),
		About: "Messages of a consumer that are in hand or wait for their next attempt.",
	})
	ConsumerRedelivered = declare(Metric{
		Name: "tercel.consumer.redelivered", Kind: Gauge, Unit: "{message}", Labels: labels(stream, consumerStage, name),
		About: "Messages of a consumer that were delivered more than once and are not acknowledged.",
	})
	ConsumerBehind = declare(Metric{
		Name: "tercel.consumer.behind", Kind: Gauge, Unit: "{message}", Labels: labels(stream, consumerStage, name),
		About: "Sequences from a consumer's ack floor to the last message that it should take: it shows one that stands still although nothing is pending.",
	})
	ConsumerFloor = declare(Metric{
		Name: "tercel.consumer.floor", Kind: Gauge, Unit: "{message}", Labels: labels(stream, consumerStage, name),
		About: "Ack floor of a consumer: the sequence up to which all that it takes is acknowledged.",
	})
	ConsumerOldest = declare(Metric{
		Name: "tercel.consumer.oldest", Kind: Gauge, Unit: "s", Labels: labels(stream, consumerStage, name),
		About: "Age of the oldest message that a consumer has not acknowledged, 0 if there is none.",
	})
	ConsumerPaused = declare(Metric{
		Name: "tercel.consumer.paused", Kind: Gauge, Unit: "{consumer}", Labels: labels(stream, consumerStage, name),
		About: "1 while a consumer is paused, else 0.",
	})
	ConsumerPulls = declare(Metric{
		Name: "tercel.consumer.pulls", Kind: Gauge, Unit: "{pull}", Labels: labels(stream, consumerStage, name),
		About: "Pulls that wait at a consumer. Without any for a while, nobody works for it.",
	})
	ConsumersUntold = declare(Metric{
		Name: "tercel.consumers.untold", Kind: Gauge, Unit: "{consumer}",
		About: "Consumers of other teams beyond the most that are told one by one.",
	})
	StoreSize = declare(Metric{
		Name: "tercel.store.size", Kind: Gauge, Unit: "By",
		About: "Disk space that all streams of the account take.",
	})
	StoreLimit = declare(Metric{
		Name: "tercel.store.limit", Kind: Gauge, Unit: "By",
		About: "Disk space that the account may take. Absent where it has no limit of its own.",
	})
	StateRead = declare(Metric{
		Name: "tercel.state.read", Kind: Gauge, Unit: "s",
		About: "Unix time at which the state of streams and consumers was last read, told by the one replica that does.",
	})
)

// ServersLeft tells of NATS servers that are cut off from the others.
var ServersLeft = declare(Metric{
	Name: "tercel.servers.left", Kind: Counter, Unit: "{server}",
	About: "NATS servers that a process left for another one, since JetStream gave no answer over them.",
})

// BuildInfo says what runs.
var BuildInfo = declare(Metric{
	Name: "tercel.build.info", Kind: Gauge, Labels: labels(service, version, goVersion),
	About: "1, with what the process was built from.",
})
