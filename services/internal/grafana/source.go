package grafana

func source() Dashboard {
	return Dashboard{
		UID: "tercel-source", Title: "Tercel / One source", About: "One source: its webhooks, its enrichment, its API and its reconciliation.",
		Variables: []Variable{
			{Name: "source", About: "A source of the pipeline file.", Metric: "tercel_requests_answered_total", Label: "source", One: true},
		},
		Rows: []Row{
			{"Webhooks", sourceWebhooks()},
			{"Enrichment", sourceEnrichment()},
			{"API", sourceAPI()},
			{"Completeness", sourceCompleteness()},
		},
	}
}

func sourceWebhooks() []Panel {
	return []Panel{
		{
			Kind: Series, Title: "Requests by outcome", Unit: "reqps", Stack: true, About: "What the source was answered.",
			Queries: q(`sum by (outcome) (rate(tercel_requests_answered_total{source="$source"}[$__rate_interval]))`, "{{outcome}}"),
		},
		{
			Kind: Series, Title: "Share refused", Unit: "percentunit", About: "The reason is in the panel beside it.",
			Queries: q(`sum(rate(tercel_requests_answered_total{source="$source", outcome=~"refused_.*"}[$__rate_interval])) / sum(rate(tercel_requests_answered_total{source="$source"}[$__rate_interval]))`, "refused"),
		},
		{
			Kind: Series, Title: "Time to answer", Unit: "s", About: "From a request's header to its answer. Points are traces.",
			Queries: quantiles(`tercel_requests_handled_seconds_bucket{source="$source"}`, ""),
		},
		{
			Kind: Series, Title: "Events stored and repeated", Unit: "cps", About: "New events, and repeats by what told them.",
			Queries: []Query{
				{`sum(rate(tercel_triggers_stored_total{source="$source"}[$__rate_interval]))`, "stored"},
				{`sum by (line) (rate(tercel_duplicates_absorbed_total{source="$source"}[$__rate_interval]))`, "repeat told by {{line}}"},
			},
		},
		{
			Kind: Series, Title: "Bytes received", Unit: "Bps", About: "Of bodies.",
			Queries: q(`sum(rate(tercel_bodies_received_bytes_total{source="$source"}[$__rate_interval]))`, "received"),
		},
		{
			Kind: Series, Title: "Schemas violated and keys fetched", Unit: "short", About: "Events that don't match their schema, and the sender's keys that were asked for, in the interval.",
			Queries: []Query{
				{`sum(increase(tercel_schemas_violated_total{source="$source"}[$__rate_interval]))`, "schema violated"},
				{`sum by (outcome) (increase(tercel_keys_fetched_total{source="$source"}[$__rate_interval]))`, "key {{outcome}}"},
			},
		},
	}
}

func sourceEnrichment() []Panel {
	return []Panel{
		{
			Kind: Series, Title: "Triggers by answer", Unit: "cps", Stack: true, About: "Acked is enriched, delayed will be tried again, terminated is a dead letter.",
			Queries: q(`sum by (outcome) (rate(tercel_messages_settled_total{stage="enrich", name="$source"}[$__rate_interval]))`, "{{outcome}}"),
		},
		{
			Kind: Series, Title: "Time in hand", Unit: "s", About: "From taking a trigger to its answer. Points are traces.",
			Queries: quantiles(`tercel_messages_handled_seconds_bucket{stage="enrich", name="$source"}`, ""),
		},
		{
			Kind: Series, Title: "Lag and work in hand", Unit: "short", About: "Behind is the distance from the first that is not acknowledged to the last.",
			Queries: []Query{
				{`sum(tercel_consumer_pending{stage="enrich", name="$source"})`, "waiting"},
				{`sum(tercel_consumer_unacknowledged{stage="enrich", name="$source"})`, "in hand or delayed"},
				{`sum(tercel_consumer_behind{stage="enrich", name="$source"})`, "behind"},
			},
		},
		{
			Kind: Series, Title: "Oldest unacknowledged", Unit: "s", About: "Age of the oldest trigger that is not enriched.",
			Queries: q(`max(tercel_consumer_oldest_seconds{stage="enrich", name="$source"})`, "oldest"),
		},
		{
			Kind: Series, Title: "Redeliveries", Unit: "cps", About: "Triggers that had been delivered before.",
			Queries: q(`sum(rate(tercel_messages_redelivered_total{stage="enrich", name="$source"}[$__rate_interval]))`, "redelivered"),
		},
		{
			Kind: Series, Title: "Dead letters by cause", Unit: "short", Stack: true, About: "Letters made in the interval.",
			Queries: q(`sum by (class) (increase(tercel_dead_letters_collected_total{stage="enrich", name="$source"}[$__rate_interval]))`, "{{class}}"),
		},
	}
}

func sourceAPI() []Panel {
	return []Panel{
		{
			Kind: Series, Title: "Requests by outcome", Unit: "reqps", Stack: true, About: "Throttled is the API's own limit.",
			Queries: q(`sum by (outcome) (rate(tercel_api_requested_seconds_count{source="$source"}[$__rate_interval]))`, "{{outcome}}"),
		},
		{
			Kind: Series, Title: "Time", Unit: "s", About: "That a request took. Points are traces.",
			Queries: quantiles(`tercel_api_requested_seconds_bucket{source="$source"}`, ""),
		},
		{
			Kind: Series, Title: "Budget used", Unit: "percentunit", About: "Requests made, as a share of the configured rate of all replicas.",
			Queries: q(`sum(rate(tercel_api_requested_seconds_count{source="$source"}[$__rate_interval])) / sum(tercel_api_allowed_per_second{source="$source"})`, "used"),
		},
		{
			Kind: Series, Title: "Calls that wait", Unit: "short", About: "For the configured rate or concurrency.",
			Queries: q(`sum by (use) (tercel_api_waiting{source="$source"})`, "{{use}}"),
		},
		{
			Kind: Series, Title: "Held", Unit: "s", About: "For how long no request can be made: the API is out or has asked for a pause.",
			Queries: q(`max by (use) (tercel_api_held_seconds{source="$source"})`, "{{use}}"),
		},
		{
			Kind: Series, Title: "Accounts", Unit: "short", About: "Where they come and go; broken ones can't be used.",
			Queries: q(`max by (state) (tercel_accounts_loaded{source="$source"})`, "{{state}}"),
		},
	}
}

func sourceCompleteness() []Panel {
	return []Panel{
		{
			Kind: Series, Title: "Reconciliation lag", Unit: "s", About: "Age of the time up to which all records are known to be there.",
			Queries: q(`min by (resource) (tercel_reconciliations_lagged_seconds{source="$source"})`, "{{resource}}"),
		},
		{
			Kind: Series, Title: "Records by verdict", Unit: "short", Stack: true, About: "Records compared in the interval. Missed and stale ones are sent in again.",
			Queries: q(`sum by (verdict) (increase(tercel_records_compared_total{source="$source"}[$__rate_interval]))`, "{{verdict}}"),
		},
		{
			Kind: Series, Title: "Alarms", Unit: "short", About: "1 while the source is silent though its records change, or most of its requests are refused.",
			Queries: q(`max by (kind) (tercel_sources_alarmed{source="$source"})`, "{{kind}}"),
		},
	}
}
