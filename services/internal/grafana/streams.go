package grafana

func streams() Dashboard {
	return Dashboard{
		UID: "tercel-streams", Title: "Tercel / Streams and consumers", About: "What JetStream holds, and how far those are who read it. One reconciler tells it for the whole cluster.",
		Variables: []Variable{
			{Name: "stream", About: "A stream or a bucket.", Metric: "tercel_stream_messages", Label: "stream"},
			{Name: "consumer", About: "A consumer, by the source, destination or team that it serves.", Metric: "tercel_consumer_pending", Label: "name"},
		},
		Rows: []Row{
			{"Store", storePanels()},
			{"Streams", streamPanels()},
			{"Consumers", consumerPanels()},
		},
	}
}

func storePanels() []Panel {
	return []Panel{
		{
			Kind: Stat, Title: "Disk taken", Unit: "bytes", About: "By all streams of the account.",
			Queries: q(`max(tercel_store_size_bytes)`, "taken"),
		},
		{
			Kind: Stat, Title: "Account's limit", Unit: "bytes", About: "The account's own; without one there is the disk.",
			Queries: q(`max(tercel_store_limit_bytes)`, "limit"),
		},
		{
			Kind: Stat, Title: "Fullest stream", Unit: "percentunit", Red: .8, About: "Of those that refuse what is new when they are full.",
			Queries: q(`max(tercel_stream_size_bytes{stream=~"TERCEL_(RAW|ENRICHED|DLQ|AUDIT)"} / tercel_stream_limit_bytes)`, "full"),
		},
		{
			Kind: Stat, Title: "Replicas behind", Unit: "short", Red: 1, About: "Of all streams.",
			Queries: q(`sum(tercel_stream_replicas_behind)`, "behind"),
		},
		{
			Kind: Stat, Title: "State read", Unit: "s", Red: 60, About: "How old these figures are.",
			Queries: q(`time() - max(tercel_state_read_seconds)`, "ago"),
		},
		{
			Kind: Stat, Title: "Consumers not told", Unit: "short", Red: 1, About: "Consumers of other teams beyond the first hundred.",
			Queries: q(`max(tercel_consumers_untold)`, "not told"),
		},
	}
}

func streamPanels() []Panel {
	return []Panel{
		{
			Kind: Series, Title: "Messages", Unit: "short", About: "That are kept.",
			Queries: q(`max by (stream) (tercel_stream_messages{stream=~"$stream"})`, "{{stream}}"),
		},
		{
			Kind: Series, Title: "Size", Unit: "bytes", About: "On each replica.",
			Queries: q(`max by (stream) (tercel_stream_size_bytes{stream=~"$stream"})`, "{{stream}}"),
		},
		{
			Kind: Series, Title: "Share of its limit", Unit: "percentunit", About: "A full stream of events refuses new ones, so that none is lost; others drop their oldest.",
			Queries: q(`max by (stream) (tercel_stream_size_bytes{stream=~"$stream"} / tercel_stream_limit_bytes)`, "{{stream}}"),
		},
		{
			Kind: Series, Title: "Messages stored", Unit: "cps", About: "By the growth of the last sequence.",
			Queries: q(`max by (stream) (rate(tercel_stream_sequence{stream=~"$stream"}[$__rate_interval]))`, "{{stream}}"),
		},
		{
			Kind: Series, Title: "Age of the oldest message", Unit: "s", About: "It stops at the stream's max_age.",
			Queries: q(`max by (stream) (tercel_stream_age_seconds{stream=~"$stream"})`, "{{stream}}"),
		},
		{
			Kind: Series, Title: "Replicas", Unit: "short", About: "Those that a stream is to have, and those of them that are behind.",
			Queries: []Query{
				{`max by (stream) (tercel_stream_replicas{stream=~"$stream"})`, "{{stream}}"},
				{`max by (stream) (tercel_stream_replicas_behind{stream=~"$stream"})`, "{{stream}} behind"},
			},
		},
		{
			Kind: Series, Title: "Servers left", Unit: "short", About: "By processes that got no answer of JetStream there: a server is cut off from the others, or none has a majority.",
			Queries: q(`sum(increase(tercel_servers_left_total[$__rate_interval]))`, "left"),
		},
	}
}

func consumerPanels() []Panel {
	of := func(metric string) []Query {
		return q(`max by (stage, name) (`+metric+`{stream=~"$stream", name=~"$consumer"})`, "{{stage}} {{name}}")
	}
	return []Panel{
		{Kind: Series, Title: "Pending", Unit: "short", About: "Not delivered yet: the lag.", Queries: of("tercel_consumer_pending")},
		{Kind: Series, Title: "Unacknowledged", Unit: "short", About: "In hand, or waiting for the next attempt.", Queries: of("tercel_consumer_unacknowledged")},
		{Kind: Series, Title: "Redelivered", Unit: "short", About: "Delivered more than once and not acknowledged.", Queries: of("tercel_consumer_redelivered")},
		{Kind: Series, Title: "Behind", Unit: "short", About: "Sequences from the ack floor to the last message. It grows though nothing is pending: the consumer stands still.", Queries: of("tercel_consumer_behind")},
		{Kind: Series, Title: "Oldest unacknowledged", Unit: "s", About: "Age of the first message behind the ack floor.", Queries: of("tercel_consumer_oldest_seconds")},
		{Kind: Series, Title: "Pulls that wait", Unit: "short", About: "None for a while: nobody works.", Queries: of("tercel_consumer_pulls")},
		{
			Kind: Series, Title: "Ack floor", Unit: "cps", About: "How fast it moves.",
			Queries: q(`max by (stage, name) (rate(tercel_consumer_floor{stream=~"$stream", name=~"$consumer"}[$__rate_interval]))`, "{{stage}} {{name}}"),
		},
		{Kind: Series, Title: "Paused", Unit: "short", About: "1 while it is.", Queries: of("tercel_consumer_paused")},
	}
}
