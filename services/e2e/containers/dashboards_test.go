//go:build containers

package containers_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const prometheus = "http://127.0.0.1:9090"

// sample is one value of a query's answer.
type sample struct {
	Metric map[string]string
	Value  [2]any // time and value
}

// query asks Prometheus.
func query(t *testing.T, expr string) (samples []sample) {
	t.Helper()
	var answer struct{ Data struct{ Result []sample } }
	get(t, prometheus+"/api/v1/query?query="+url.QueryEscape(expr), &answer)
	return answer.Data.Result
}

// scraped waits until every service is scraped.
func scraped(t *testing.T) {
	eventually(t, time.Minute, "all services are scraped", func() error {
		up := map[string]bool{}
		for _, s := range query(t, `up{job="tercel"} == 1`) {
			up[s.Metric["instance"]] = true
		}
		var missing []error
		for _, s := range services {
			if !up[s+":9464"] {
				missing = append(missing, errors.New(s))
			}
		}
		return errors.Join(missing...)
	})
}

// shows are panels that must have data by now, by dashboard. Others may have none
// because nothing of their kind has happened.
var shows = map[string][]string{
	"tercel-overview":       {"Events stored", "Refused", "Lag", "Requests by outcome", "Time to answer", "Duplicates absorbed", "Messages by stage and answer", "Events by destination", "The whole way", "API requests by outcome", "CPU", "Memory"},
	"tercel-source":         {"Requests by outcome", "Share refused", "Events stored and repeated", "Time in hand"},
	"tercel-streams":        {"Messages", "Size", "Replicas", "Pending", "Pulls that wait"},
	"tercel-reconciliation": {"Resources complete", "Greatest lag", "Records by verdict"},
	"tercel-slo":            {"Of the range shown", "Dead letters"},
}

// dashboards asks Prometheus what every panel does: none is refused, and those
// named above have an answer.
func dashboards(t *testing.T) {
	variables := strings.NewReplacer("$__rate_interval", "1m", "$__range", "5m", "$__interval", "15s", "$source", "orders",
		"$resource", ".*", "$stream", ".*", "$consumer", ".*")
	for name, want := range shows {
		text, err := os.ReadFile(filepath.Join("../../../deploy/grafana/dashboards", name+".json"))
		if err != nil {
			t.Fatal(err)
		}
		var dashboard struct {
			Panels []struct {
				Title   string
				Targets []struct{ Expr string }
			}
		}
		if err := json.Unmarshal(text, &dashboard); err != nil {
			t.Fatal(err)
		}
		data := map[string]bool{}
		eventually(t, time.Minute, "the dashboard "+name+" shows something", func() error {
			for _, p := range dashboard.Panels {
				for _, target := range p.Targets {
					if len(query(t, variables.Replace(target.Expr))) > 0 {
						data[p.Title] = true
					}
				}
			}
			var empty []error
			for _, title := range want {
				if !data[title] {
					empty = append(empty, fmt.Errorf("%q has no data", title))
				}
			}
			return errors.Join(empty...)
		})
		t.Logf("%s: %d of %d panels have data", name, len(data), len(dashboard.Panels))
	}
}
