package grafana

func overview() Dashboard {
	return Dashboard{
		UID: "tercel-overview", Title: "Tercel / Overview", About: "The whole pipeline: what comes in, what goes out, and what is wrong.",
		Rows: []Row{
			{"Now", overviewNow()},
			{"Ingress", overviewIngress()},
			{"Stages", overviewStages()},
			{"Destinations and dead letters", overviewFarEnd()},
			{"Processes", overviewProcesses()},
		},
	}
}

func overviewNow() []Panel {
	return []Panel{
		{
			Kind: Stat, Title: "Events stored", Unit: "cps", About: "Webhook events that were new, a second.",
			Queries: q(`sum(rate(tercel_triggers_stored_total[$__rate_interval]))`, "stored"),
		},
		{
			Kind: Stat, Title: "Refused", Unit: "percentunit", Red: .2, About: "Share of requests that were refused. Some always are: whoever finds the address sends something.",
			Queries: q(`sum(rate(tercel_requests_answered_total{outcome=~"refused_.*"}[$__rate_interval])) / sum(rate(tercel_requests_answered_total[$__rate_interval]))`, "refused"),
		},
		{
			Kind: Stat, Title: "Lag", Unit: "short", Red: 1000, About: "Messages that wait for a stage of Tercel's own.",
			Queries: q(`sum(tercel_consumer_pending{stage!="downstream"})`, "waiting"),
		},
		{
			Kind: Stat, Title: "Oldest unacknowledged", Unit: "s", Red: 1800, About: "Age of the oldest event that is not where it belongs yet.",
			Queries: q(`max(tercel_consumer_oldest_seconds{stage=~"enrich|deliver"})`, "oldest"),
		},
		{
			Kind: Stat, Title: "Dead letters", Unit: "short", About: "Letters that are kept, replayed ones included. Look at whether it grows.",
			Queries: q(`max(tercel_stream_messages{stream="TERCEL_DLQ"})`, "letters"),
		},
		{
			Kind: Stat, Title: "Processes down", Unit: "short", Red: 1, About: "Processes that can't be asked for their metrics.",
			Queries: q(`count(up{job="tercel"} == 0) or vector(0)`, "down"),
		},
	}
}

func overviewIngress() []Panel {
	return []Panel{
		{
			Kind: Series, Title: "Requests by outcome", Unit: "reqps", Stack: true, About: "What senders were answered.",
			Queries: q(`sum by (outcome) (rate(tercel_requests_answered_total[$__rate_interval]))`, "{{outcome}}"),
		},
		{
			Kind: Series, Title: "Time to answer", Unit: "s", About: "From a request's header to its answer. Points are traces.",
			Queries: quantiles("tercel_requests_handled_seconds_bucket", ""),
		},
		{
			Kind: Series, Title: "Events stored by source", Unit: "cps", Stack: true, About: "Events that were new.",
			Queries: q(`sum by (source) (rate(tercel_triggers_stored_total[$__rate_interval]))`, "{{source}}"),
		},
		{
			Kind: Series, Title: "Duplicates absorbed", Unit: "cps", Stack: true, About: "Repeats by what told them: the server's window, the horizon behind it, an equal body, the source's own list, or the same request.",
			Queries: q(`sum by (line) (rate(tercel_duplicates_absorbed_total[$__rate_interval]))`, "{{line}}"),
		},
		{
			Kind: Series, Title: "Refusals by reason", Unit: "reqps", Stack: true, About: "A wrong signature after a rotation shows here.",
			Queries: q(`sum by (source, outcome) (rate(tercel_requests_answered_total{outcome=~"refused_.*|unknown_source"}[$__rate_interval]))`, "{{source}} {{outcome}}"),
		},
		{
			Kind: Heatmap, Title: "Messages committed together", Unit: "short", About: "Sizes of groups: they grow with the load, and a sync costs each message less.",
			Queries: q(`sum by (le) (increase(tercel_groups_committed_bucket[$__rate_interval]))`, "{{le}}"),
		},
		{
			Kind: Series, Title: "Time to store a group", Unit: "s", About: "Mostly the disk's sync. Points are traces.",
			Queries: quantiles("tercel_groups_stored_seconds_bucket", ""),
		},
	}
}

func overviewStages() []Panel {
	return []Panel{
		{
			Kind: Series, Title: "Messages by stage and answer", Unit: "cps", About: "Acked is done, delayed will be tried again, terminated is a dead letter.",
			Queries: q(`sum by (stage, outcome) (rate(tercel_messages_settled_total[$__rate_interval]))`, "{{stage}} {{outcome}}"),
		},
		{
			Kind: Series, Title: "Time in hand, p95", Unit: "s", About: "From taking a message to its answer.",
			Queries: q(`histogram_quantile(0.95, sum by (le, stage, name) (rate(tercel_messages_handled_seconds_bucket[$__rate_interval])))`, "{{stage}} {{name}}"),
		},
		{
			Kind: Series, Title: "Lag", Unit: "short", About: "Messages that a stage has not been given yet.",
			Queries: q(`sum by (stage, name) (tercel_consumer_pending{stage!="downstream"})`, "{{stage}} {{name}}"),
		},
		{
			Kind: Series, Title: "Oldest unacknowledged", Unit: "s", About: "Age of the oldest message of each stage.",
			Queries: q(`max by (stage, name) (tercel_consumer_oldest_seconds{stage!="downstream"})`, "{{stage}} {{name}}"),
		},
		{
			Kind: Series, Title: "Redeliveries", Unit: "cps", About: "Messages that had been delivered before: retries, and what crashed processes had in hand.",
			Queries: q(`sum by (stage, name) (rate(tercel_messages_redelivered_total[$__rate_interval]))`, "{{stage}} {{name}}"),
		},
		{
			Kind: Series, Title: "Paused", Unit: "short", About: "1 while a stage waits for an API that asked for it, or for an operator.",
			Queries: q(`max by (stage, name) (tercel_consumer_paused)`, "{{stage}} {{name}}"),
		},
		{
			Kind: Series, Title: "In hand", Unit: "short", About: "Messages that processes work on. At its most a stage can't take more: give it more workers or replicas.",
			Queries: q(`sum by (stage, name) (tercel_messages_held)`, "{{stage}} {{name}}"),
		},
		{
			Kind: Series, Title: "Time from storage to acknowledgement, p95", Unit: "s", About: "Waits and retries included.",
			Queries: q(`histogram_quantile(0.95, sum by (le, stage, name) (rate(tercel_messages_completed_seconds_bucket[$__rate_interval])))`, "{{stage}} {{name}}"),
		},
		{
			Kind: Series, Title: "Triggers dropped", Unit: "cps", About: "Triggers that the pipeline file drops.",
			Queries: q(`sum by (source) (rate(tercel_triggers_dropped_total[$__rate_interval]))`, "{{source}}"),
		},
	}
}

func overviewFarEnd() []Panel {
	return []Panel{
		{
			Kind: Series, Title: "Events by destination", Unit: "cps", About: "Duplicates were there already; filtered ones are not wanted.",
			Queries: q(`sum by (destination, outcome) (rate(tercel_events_delivered_total[$__rate_interval]))`, "{{destination}} {{outcome}}"),
		},
		{
			Kind: Series, Title: "The whole way", Unit: "s", About: "From taking a webhook in to its event's being written. Points are traces.",
			Queries: quantiles("tercel_events_aged_seconds_bucket", "destination"),
		},
		{
			Kind: Series, Title: "Outgoing webhooks", Unit: "reqps", About: "What receivers answered.",
			Queries: q(`sum by (destination, outcome) (rate(tercel_webhooks_sent_seconds_count[$__rate_interval]))`, "{{destination}} {{outcome}}"),
		},
		{
			Kind: Series, Title: "Dead letters by cause", Unit: "short", Stack: true, About: "Letters made in the interval. Permanent: it would fail again; exhausted: it was tried often enough.",
			Queries: q(`sum by (stage, name, class) (increase(tercel_dead_letters_collected_total[$__rate_interval]))`, "{{stage}} {{name}} {{class}}"),
		},
		{
			Kind: Series, Title: "API requests by outcome", Unit: "reqps", About: "Requests to sources, of enrichment and reconciliation.",
			Queries: q(`sum by (source, outcome) (rate(tercel_api_requested_seconds_count[$__rate_interval]))`, "{{source}} {{outcome}}"),
		},
		{
			Kind: Series, Title: "Admin calls", Unit: "reqps", About: "Calls of the admin API and the console.",
			Queries: q(`sum by (method, code) (rate(tercel_calls_answered_total[$__rate_interval]))`, "{{method}} {{code}}"),
		},
	}
}

func overviewProcesses() []Panel {
	return []Panel{
		{
			Kind: Series, Title: "CPU", Unit: "percentunit", About: "1 is one processor.",
			Queries: q(`rate(process_cpu_seconds_total{job="tercel"}[$__rate_interval])`, "{{instance}}"),
		},
		{
			Kind: Series, Title: "Memory", Unit: "bytes", About: "What the operating system has given.",
			Queries: q(`process_resident_memory_bytes{job="tercel"}`, "{{instance}}"),
		},
		{
			Kind: Series, Title: "Goroutines", Unit: "short", About: "One that only grows is a leak.",
			Queries: q(`go_goroutines{job="tercel"}`, "{{instance}}"),
		},
		{
			Kind: Series, Title: "Garbage collection pauses, longest", Unit: "s", About: "The longest of late.",
			Queries: q(`go_gc_duration_seconds{job="tercel", quantile=~"1(\\.0)?"}`, "{{instance}}"),
		},
		{
			Kind: Series, Title: "Open files", Unit: "short", About: "Connections are among them.",
			Queries: q(`process_open_fds{job="tercel"}`, "{{instance}}"),
		},
		{
			Kind: Table, Title: "What runs", Unit: "short", About: "Program, version and Go of each process.",
			Queries: q(`tercel_build_info`, "{{service}} {{version}}"),
		},
	}
}
