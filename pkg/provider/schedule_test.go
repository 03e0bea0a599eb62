package provider_test

import (
	"strings"
	"testing"
	"time"
)

func TestSchedulesSayWhenTheNextRunIs(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		every  string
		last   string
		spread float64
		want   string
	}{
		"an interval, early":               {"1h", "2026-11-26T10:00:00Z", 0, "2026-11-26T10:54:00Z"},
		"an interval, late":                {"1h", "2026-11-26T10:00:00Z", 0.5, "2026-11-26T11:00:00Z"},
		"the default":                      {"", "2026-11-26T10:00:00Z", 0.5, "2026-11-26T11:00:00Z"},
		"cron in UTC":                      {`{cron: "15 2 * * *"}`, "2026-11-26T10:00:00Z", 0, "2026-11-27T02:15:00Z"},
		"with its jitter":                  {`{cron: "15 2 * * *"}`, "2026-11-26T10:00:00Z", 0.5, "2026-11-27T02:22:30Z"},
		"with a jitter of its own":         {`{cron: "15 2 * * *", jitter: 1h}`, "2026-11-26T10:00:00Z", 0.5, "2026-11-27T02:45:00Z"},
		"without jitter":                   {`{cron: "15 2 * * *", jitter: 0}`, "2026-11-26T10:00:00Z", 0.99, "2026-11-27T02:15:00Z"},
		"a jitter that doesn't fit":        {`{cron: "0 * * * *", jitter: 1h}`, "2026-11-26T10:00:00Z", 0.5, "2026-11-26T11:03:00Z"},
		"begun late, the same day's is it": {`{cron: "15 2 * * *"}`, "2026-11-27T02:29:59Z", 0, "2026-11-28T02:15:00Z"},
		"in a zone, winter":                {`{cron: "15 2 * * *", zone: Europe/Berlin}`, "2026-11-26T10:00:00Z", 0, "2026-11-27T01:15:00Z"},
		"in a zone, summer":                {`{cron: "15 2 * * *", zone: Europe/Berlin}`, "2026-07-01T10:00:00Z", 0, "2026-07-02T00:15:00Z"},
		"skipped by the clocks":            {`{cron: "30 2 * * *", zone: Europe/Berlin}`, "2026-03-28T12:00:00Z", 0, "2026-03-30T00:30:00Z"},
		"working days":                     {`{cron: "0 6 * * mon-fri"}`, "2026-11-27T10:00:00Z", 0, "2026-11-30T06:00:00Z"},
		"a leap day":                       {`{cron: "0 0 29 2 *", jitter: 0}`, "2026-11-27T10:00:00Z", 0, "2028-02-29T00:00:00Z"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			keys := "items: a"
			if tt.every != "" {
				keys += ", every: " + tt.every
			}
			r := mustSource(t, listed(keys)).Resources["a"].Reconcile
			last, err := time.Parse(time.RFC3339, tt.last)
			if err != nil {
				t.Fatal(err)
			}
			if got := r.Every.Next(last, tt.spread).UTC().Format(time.RFC3339); got != tt.want {
				t.Errorf("Next() = %s, want %s", got, tt.want)
			}
		})
	}
}

// What is wrong with a schedule is said at its place when the file is read.
func TestSchedulesThatCannotBeAreFaults(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ every, want string }{
		"too often":              {"0s", `every: found "0s", want at least 1s`},
		"no interval":            {"hourly", "every:"},
		"nothing":                {"{}", "every: found a mapping, want an interval"},
		"no expression":          {"{zone: UTC}", "every: found a mapping, want an interval"},
		"four fields":            {`{cron: "15 2 * *"}`, `every.cron: found "15 2 * *", want five fields`},
		"six fields":             {`{cron: "0 15 2 * * *"}`, "every.cron:"},
		"out of range":           {`{cron: "60 2 * * *"}`, "every.cron:"},
		"a step of nothing":      {`{cron: "*/0 2 * * *"}`, "every.cron:"},
		"words":                  {`{cron: "@daily"}`, "every.cron:"},
		"a zone in it":           {`{cron: "TZ=UTC 15 2 * * *"}`, "every.cron:"},
		"a zone and nothing":     {`{cron: "TZ=UTC"}`, "every.cron:"},
		"a day that never comes": {`{cron: "0 0 30 2 *"}`, "this one has none"},
		"a strange zone":         {`{cron: "15 2 * * *", zone: Europe/Berlim}`, `every.zone: found "Europe/Berlim", want a time zone`},
		"the machine's zone":     {`{cron: "15 2 * * *", zone: Local}`, "every.zone:"},
		"an empty zone":          {`{cron: "15 2 * * *", zone: ""}`, "every.zone:"},
		"less than no jitter":    {`{cron: "15 2 * * *", jitter: -1m}`, "every.jitter"},
		"an unknown key":         {`{cron: "15 2 * * *", tz: UTC}`, "tz"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := source(t, listed("every: "+tt.every))
			if err == nil || !strings.Contains(err.Error(), ":7:") || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("fault %v, want one of line 7 with %q", err, tt.want)
			}
		})
	}
}
