package provider_test

import (
	"strings"
	"testing"
	"time"
)

func TestDeletesHaveDefaults(t *testing.T) {
	t.Parallel()
	if d := mustSource(t, listed("items: a")).Resources["a"].Reconcile.Deletes; d != nil {
		t.Errorf("deletes without the key: %+v", d)
	}
	d := mustSource(t, listed("items: a, deletes: {}")).Resources["a"].Reconcile.Deletes
	if d == nil || d.Every.Interval != 7*24*time.Hour || d.Tombstone || d.MaxShare != 0.05 || d.Allow != 10 {
		t.Errorf("deletes %+v, want the defaults, which delete nothing", d)
	}
	d = mustSource(t, listed(`items: a, deletes: {every: {cron: "0 3 * * sun"}, tombstone: true, max_share: 0, allow: 0}`)).Resources["a"].Reconcile.Deletes
	if d.Every.Cron == "" || !d.Tombstone || d.MaxShare != 0 || d.Allow != 0 {
		t.Errorf("deletes %+v, want what the file says", d)
	}
}

// The limit is a share of what is held; of few records it is half of them, up to
// what is allowed.
func TestLimitOfDeletes(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		deletes    string
		held, want int
	}{
		"nothing is held":            {"{}", 0, 0},
		"a single one":               {"{}", 1, 0},
		"two":                        {"{}", 2, 1},
		"a few":                      {"{}", 15, 7},
		"more":                       {"{}", 100, 10},
		"the share is more":          {"{}", 1000, 50},
		"none at all":                {"{max_share: 0, allow: 0}", 1000, 0},
		"all of it":                  {"{max_share: 1}", 1000, 1000},
		"no more than half of a few": {"{allow: 1000}", 100, 50},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := mustSource(t, listed("items: a, deletes: "+tt.deletes)).Resources["a"].Reconcile.Deletes
			if got := d.Limit(tt.held); got != tt.want {
				t.Errorf("Limit(%d) = %d, want %d", tt.held, got, tt.want)
			}
		})
	}
}

func TestDeletesThatCannotBeAreFaults(t *testing.T) {
	t.Parallel()
	const slices = "items: a, since: from, until: to, start: 1h, slice: 24h, "
	tests := map[string]struct{ keys, want string }{
		"a share over one":            {"items: a, deletes: {max_share: 1.5}", "deletes.max_share: found 1.5, want 0 to 1"},
		"a share below zero":          {"items: a, deletes: {max_share: -0.1}", "deletes.max_share:"},
		"fewer than none":             {"items: a, deletes: {allow: -1}", "deletes.allow:"},
		"too often":                   {"items: a, deletes: {every: 0s}", "deletes.every:"},
		"no day":                      {slices + "deletes: {since: yesterday}", "want a day such as 2019-05-01"},
		"slices without a beginning":  {slices + "deletes: {}", "deletes.since is missing"},
		"a beginning without slices":  {"items: a, deletes: {since: 2019-05-01}", "deletes.since is only for lists in slices"},
		"a key that nobody knows":     {"items: a, deletes: {tombstones: true}", "tombstones"},
		"a get that needs a trigger":  {"items: a, deletes: {}", "get looks into the trigger's body"},
		"slices with their beginning": {slices + "deletes: {since: 2019-05-01}", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := listed(tt.keys)
			if strings.HasPrefix(tt.want, "get looks") {
				text = strings.Replace(text, "get: \"/a/{id}\"", "get: \"/a/{body.id}\"", 1)
			}
			_, err := source(t, text)
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("faults %v, want %q", err, tt.want)
			}
		})
	}
}
