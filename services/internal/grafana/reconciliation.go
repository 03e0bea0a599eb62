package grafana

func reconciliation() Dashboard {
	return Dashboard{
		UID: "tercel-reconciliation", Title: "Tercel / Reconciliation", About: "Whether everything that changed at the sources is there.",
		Variables: []Variable{
			{Name: "source", About: "A source of the pipeline file.", Metric: "tercel_reconciliations_overdue_seconds", Label: "source"},
			{Name: "resource", About: "A resource of it.", Metric: "tercel_reconciliations_overdue_seconds", Label: "resource"},
		},
		Rows: []Row{
			{"Now", reconciledNow()},
			{"Runs", reconciledRuns()},
			{"Records", reconciledRecords()},
			{"The inside", reconciledInside()},
		},
	}
}

const reconciled = `{source=~"$source", resource=~"$resource"}`

func reconciledNow() []Panel {
	return []Panel{
		{
			Kind: Stat, Title: "Resources complete", Unit: "percentunit", Red: 1, Less: true, About: "Share of resources whose last runs compared every record, in all accounts.",
			Queries: q(`avg(min by (source, resource) (tercel_reconciliations_incomplete`+reconciled+`) == bool 0)`, "complete"),
		},
		{
			Kind: Stat, Title: "Greatest lag", Unit: "s", About: "Age of the time up to which everything is known to be there.",
			Queries: q(`max(min by (source, resource) (tercel_reconciliations_lagged_seconds`+reconciled+`))`, "lag"),
		},
		{
			Kind: Stat, Title: "Longest overdue", Unit: "s", Red: 3600, About: "Since a run was due that has not ended.",
			Queries: q(`max(min by (source, resource) (tercel_reconciliations_overdue_seconds`+reconciled+`))`, "overdue"),
		},
		{
			Kind: Stat, Title: "Paused", Unit: "short", About: "Accounts in which a resource is not reconciled until somebody resumes it.",
			Queries: q(`sum(max by (source, resource) (tercel_reconciliations_paused`+reconciled+`))`, "paused"),
		},
		{
			Kind: Stat, Title: "Missed", Unit: "percentunit", Red: .01, About: "Share of compared records that had never come. Their cause is below.",
			Queries: q(`sum(increase(tercel_records_compared_total{source=~"$source", resource=~"$resource", verdict="missed"}[$__range])) / sum(increase(tercel_records_compared_total`+reconciled+`[$__range]))`, "missed"),
		},
		{
			Kind: Stat, Title: "Since the last success", Unit: "s", About: "Of the resource for which it is longest.",
			Queries: q(`time() - min(max by (source, resource) (tercel_reconciliations_succeeded_seconds`+reconciled+`))`, "ago"),
		},
	}
}

func reconciledRuns() []Panel {
	return []Panel{
		{
			Kind: Series, Title: "Lag", Unit: "s", About: "It falls to the settle time with each run.",
			Queries: q(`min by (source, resource) (tercel_reconciliations_lagged_seconds`+reconciled+`)`, "{{source}} {{resource}}"),
		},
		{
			Kind: Series, Title: "Runs by outcome", Unit: "short", Stack: true, About: "Ended in the interval. Unfinished ones had their share of pages.",
			Queries: q(`sum by (source, resource, outcome) (increase(tercel_reconciliations_ended_total`+reconciled+`[$__rate_interval]))`, "{{source}} {{resource}} {{outcome}}"),
		},
		{
			Kind: Series, Title: "Time of a run, p95", Unit: "s", About: "Mostly the source's API.",
			Queries: q(`histogram_quantile(0.95, sum by (le, source, resource) (rate(tercel_reconciliations_lasted_seconds_bucket`+reconciled+`[$__rate_interval])))`, "{{source}} {{resource}}"),
		},
		{
			Kind: Series, Title: "Overdue", Unit: "s", About: "Since a run was due that has not ended.",
			Queries: q(`min by (source, resource) (tercel_reconciliations_overdue_seconds`+reconciled+`)`, "{{source}} {{resource}}"),
		},
		{
			Kind: Series, Title: "Incomplete", Unit: "short", About: "Accounts whose last run failed or left records uncompared.",
			Queries: q(`min by (source, resource) (tercel_reconciliations_incomplete`+reconciled+`)`, "{{source}} {{resource}}"),
		},
		{
			Kind: Series, Title: "Probes and stopped deletions", Unit: "short", About: "Runs because a source was silent, and scans for orphans that found too many.",
			Queries: []Query{
				{`sum by (source) (increase(tercel_sources_probed_total{source=~"$source"}[$__rate_interval]))`, "{{source}} probed"},
				{`sum by (source, resource) (increase(tercel_deletions_stopped_total` + reconciled + `[$__rate_interval]))`, "{{source}} {{resource}} stopped"},
			},
		},
	}
}

func reconciledRecords() []Panel {
	return []Panel{
		{
			Kind: Series, Title: "Records listed", Unit: "short", About: "Compared in the interval.",
			Queries: q(`sum by (source, resource) (increase(tercel_records_compared_total`+reconciled+`[$__rate_interval]))`, "{{source}} {{resource}}"),
		},
		{
			Kind: Series, Title: "Records by verdict", Unit: "short", Stack: true, About: "Missed and stale ones are sent in again.",
			Queries: q(`sum by (verdict) (increase(tercel_records_compared_total`+reconciled+`[$__rate_interval]))`, "{{verdict}}"),
		},
		{
			Kind: Series, Title: "Gaps by cause", Unit: "short", Stack: true, About: "Why records were missed or stale. Lost inside must be none.",
			Queries: q(`sum by (source, cause) (increase(tercel_records_explained_total`+reconciled+`[$__rate_interval]))`, "{{source}} {{cause}}"),
		},
	}
}

func reconciledInside() []Panel {
	return []Panel{
		{
			Kind: Series, Title: "Accepted but lost", Unit: "short", About: "Triggers without an outcome that were sent again. There must be none.",
			Queries: q(`sum by (source) (increase(tercel_triggers_recovered_total{source=~"$source"}[$__rate_interval]))`, "{{source}}"),
		},
		{
			Kind: Series, Title: "Faults found", Unit: "short", About: "By the audit: streams, buckets and consumers that were removed, cut or stood still.",
			Queries: q(`sum by (kind, repaired) (increase(tercel_faults_found_total[$__rate_interval]))`, "{{kind}}, repaired {{repaired}}"),
		},
		{
			Kind: Series, Title: "Consumers set going again", Unit: "short", About: "They stood still without a word.",
			Queries: q(`sum by (stage, name) (increase(tercel_consumers_repaired_total[$__rate_interval]))`, "{{stage}} {{name}}"),
		},
	}
}
