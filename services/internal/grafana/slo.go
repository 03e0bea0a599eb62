package grafana

import "fmt"

// The objectives.
const (
	intakeObjective   = 0.999 // of well-formed requests are taken
	deliveryObjective = 0.99  // of events are delivered within half a minute
)

// Shares that an objective is about, over a window. A bucket's bound is spelled
// 30 or 30.0, depending on the format of the scrape.
const (
	intakeGood   = `(1 - sum(increase(tercel_requests_answered_total{outcome=~"unavailable|key_unavailable|failed"}[%[1]s]) or vector(0)) / sum(increase(tercel_requests_answered_total{outcome!~"refused_.*|unknown_source"}[%[1]s])))`
	deliveryGood = `(sum(increase(tercel_events_aged_seconds_bucket{le=~"30(\\.0)?"}[%[1]s])) / sum(increase(tercel_events_aged_seconds_count[%[1]s])))`
)

func slo() Dashboard {
	return Dashboard{
		UID: "tercel-slo", Title: "Tercel / SLO", About: "Whether Tercel does what it promises: takes what is sent, delivers it soon, and loses nothing.",
		Rows: []Row{
			{"Intake: 99.9 % of well-formed requests are taken", objective(intakeGood, intakeObjective)},
			{"Delivery: 99 % of events are delivered within 30 s", objective(deliveryGood, deliveryObjective)},
			{"Nothing is lost", lossPanels()},
		},
	}
}

// objective shows how a share stands, what is left of the faults that it may
// have, and how fast they are used up.
func objective(good string, want float64) []Panel {
	over := func(window string) string { return fmt.Sprintf(good, window) }
	burn := func(window string) string { return fmt.Sprintf("(1 - %s) / (1 - %v)", over(window), want) }
	return []Panel{
		{
			Kind: Stat, Title: "Of the range shown", Unit: "percentunit", Red: want, Less: true, About: "Share that was well.",
			Queries: q(over("$__range"), "well"),
		},
		{
			Kind: Stat, Title: "Budget left", Unit: "percentunit", Red: .1, Less: true, About: "Share of the faults that the objective allows and that have not happened, in the range shown.",
			Queries: q(fmt.Sprintf("1 - (1 - %s) / (1 - %v)", over("$__range"), want), "left"),
		},
		{
			Kind: Series, Title: "Share that was well", Unit: "percentunit", About: "Over an hour.",
			Queries: q(over("1h"), "well"),
		},
		{
			Kind: Series, Title: "Burn rate", Unit: "short", About: "1 uses the budget up exactly; 14 over an hour uses a month's in two days.",
			Queries: []Query{{burn("1h"), "1 h"}, {burn("6h"), "6 h"}},
		},
	}
}

func lossPanels() []Panel {
	return []Panel{
		{
			Kind: Stat, Title: "Lost inside", Unit: "short", Red: 1, About: "Triggers that were accepted and lost, in the range shown; they were sent again.",
			Queries: q(`sum(increase(tercel_triggers_recovered_total[$__range])) or vector(0)`, "lost"),
		},
		{
			Kind: Stat, Title: "Dead letters", Unit: "short", Red: 1, About: "Made in the range shown. They wait for somebody.",
			Queries: q(`sum(increase(tercel_dead_letters_collected_total[$__range])) or vector(0)`, "letters"),
		},
		{
			Kind: Series, Title: "Time of the whole way", Unit: "s", About: "From webhook to destination. Points are traces.",
			Queries: quantiles("tercel_events_aged_seconds_bucket", ""),
		},
		{
			Kind: Series, Title: "Known to be complete up to", Unit: "s", About: "Age of that time, of the resource where it is greatest.",
			Queries: q(`max(min by (source, resource) (tercel_reconciliations_lagged_seconds))`, "lag"),
		},
	}
}
