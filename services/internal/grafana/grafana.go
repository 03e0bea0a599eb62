// Package grafana describes Tercel's dashboards, in as few words as they need,
// and writes them as Grafana reads them (deploy/grafana/dashboards).
//
// Queries are in PromQL, over what package metrics declares. They are written
// for any number of replicas: what only one of them tells is taken as it is, the
// rest is added up.
package grafana

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Dashboard is one page.
type Dashboard struct {
	// UID is its name in addresses and in the file's.
	UID, Title, About string
	Variables         []Variable
	Rows              []Row
}

// Variable is a choice at the head of a dashboard: the values of one label.
type Variable struct {
	Name, About string
	// Metric and Label are whose values there are to choose from.
	Metric, Label string
	// One says that one of them is chosen, rather than any number.
	One bool
}

// Row is a part of a dashboard.
type Row struct {
	Title  string
	Panels []Panel
}

// Kind is how a panel shows its figures.
type Kind string

// The kinds of panels.
const (
	Series  Kind = "timeseries"
	Stat    Kind = "stat"
	Table   Kind = "table"
	Heatmap Kind = "heatmap"
)

// Panel is one picture.
type Panel struct {
	Kind Kind
	// Title says what is shown, About what to make of it.
	Title, About string
	// Unit is Grafana's name of the figures' unit.
	Unit    string
	Queries []Query
	// Red is the value from which a [Stat] is red; 0 stands for none. Less says
	// that it is red below it.
	Red  float64
	Less bool
	// Stack has the series stand on each other: what belongs together.
	Stack bool
}

// Query is what a panel asks for.
type Query struct {
	Expr string
	// Legend names each series, with {{label}} for what tells them apart.
	Legend string
}

// All are the dashboards, in the order of their links.
func All() []Dashboard {
	return []Dashboard{overview(), source(), streams(), reconciliation(), slo()}
}

// q is a single query.
func q(expr, legend string) []Query { return []Query{{expr, legend}} }

// quantiles are those of a histogram: half of all, nearly all, all but a few.
func quantiles(histogram, by string) []Query {
	var all []Query
	for _, p := range []string{"0.5", "0.95", "0.99"} {
		legend, labels := "p"+strings.TrimPrefix(p, "0."), "le"
		if p == "0.5" {
			legend = "p50"
		}
		if by != "" {
			labels, legend = "le, "+by, "{{"+by+"}} "+legend
		}
		all = append(all, Query{fmt.Sprintf("histogram_quantile(%s, sum by (%s) (rate(%s[$__rate_interval])))", p, labels, histogram), legend})
	}
	return all
}

// Widths and heights on Grafana's grid of 24 columns.
const (
	columns    = 24
	statWidth  = 4
	statHeight = 4
	width      = 8
	height     = 8
)

// JSON is the dashboard as Grafana imports it.
func (d Dashboard) JSON() ([]byte, error) {
	panels, y, id := []any{}, 0, 1
	for _, r := range d.Rows {
		panels = append(panels, object{
			"id": id, "type": "row", "title": r.Title, "collapsed": false, "panels": []any{},
			"gridPos": object{"x": 0, "y": y, "w": columns, "h": 1},
		})
		id++
		y++
		x, tall := 0, 0
		for _, p := range r.Panels {
			w, h := width, height
			if p.Kind == Stat {
				w, h = statWidth, statHeight
			}
			if x+w > columns {
				x, y, tall = 0, y+tall, 0
			}
			panels = append(panels, p.json(id, object{"x": x, "y": y, "w": w, "h": h}))
			id++
			x, tall = x+w, max(tall, h)
		}
		y += tall
	}
	text, err := json.MarshalIndent(object{
		"uid": d.UID, "title": d.Title, "description": d.About, "tags": []string{"tercel"}, "schemaVersion": 39, "version": 1,
		"editable": false, "graphTooltip": 1, "refresh": "30s", "timezone": "", "time": object{"from": "now-6h", "to": "now"},
		"templating": object{"list": d.variables()}, "panels": panels, "links": links(), "annotations": alerts(),
	}, "", " ")
	if err != nil {
		return nil, fmt.Errorf("dashboard %s: %w", d.UID, err)
	}
	return append(text, '\n'), nil
}

type object = map[string]any

// prometheus is the data source that the reader chose.
var prometheus = object{"type": "prometheus", "uid": "${datasource}"}

func (d Dashboard) variables() []any {
	all := []any{object{
		"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "refresh": 1, "hide": 0,
		"current": object{"text": "Prometheus", "value": "prometheus"},
	}}
	for _, v := range d.Variables {
		query := fmt.Sprintf("label_values(%s, %s)", v.Metric, v.Label)
		one := object{
			"name": v.Name, "label": v.Name, "description": v.About, "type": "query", "datasource": prometheus, "definition": query,
			"query": object{"query": query, "refId": "variable"}, "refresh": 2, "sort": 1, "hide": 0, "multi": !v.One, "includeAll": !v.One,
		}
		if !v.One {
			one["allValue"], one["current"] = ".*", object{"text": "All", "value": "$__all"}
		}
		all = append(all, one)
	}
	return all
}

func links() []any {
	return []any{object{
		"type": "dashboards", "title": "Tercel", "tags": []string{"tercel"}, "asDropdown": true, "keepTime": true, "includeVars": true,
	}}
}

// alerts mark the times at which one was firing.
func alerts() object {
	return object{"list": []any{object{
		"name": "Alerts", "enable": true, "iconColor": "red", "datasource": prometheus,
		"expr": `ALERTS{alertname=~"Tercel.*", alertstate="firing"}`, "titleFormat": "{{alertname}}", "textFormat": "{{source}}{{name}}{{stream}}",
	}}}
}

func (p Panel) json(id int, place object) object {
	targets := []any{}
	for i, query := range p.Queries {
		t := object{
			"refId": string(rune('A' + i)), "datasource": prometheus, "expr": query.Expr, "legendFormat": query.Legend,
			"range": true, "editorMode": "code", "exemplar": p.Kind == Series && strings.HasPrefix(query.Expr, "histogram_quantile"),
		}
		switch p.Kind {
		case Table:
			t["format"], t["instant"], t["range"] = "table", true, false
		case Heatmap:
			t["format"] = "heatmap"
		}
		targets = append(targets, t)
	}
	return object{
		"id": id, "type": string(p.Kind), "title": p.Title, "description": p.About, "datasource": prometheus, "gridPos": place,
		"targets": targets, "fieldConfig": object{"defaults": p.defaults(), "overrides": []any{}}, "options": p.options(),
	}
}

func (p Panel) defaults() object {
	d := object{"unit": p.Unit, "min": 0}
	switch p.Kind {
	case Stat:
		d["thresholds"] = p.thresholds()
		d["color"] = object{"mode": "thresholds"}
	case Series:
		custom := object{"lineWidth": 1, "fillOpacity": 10, "showPoints": "never", "spanNulls": false}
		if p.Stack {
			custom["stacking"], custom["fillOpacity"] = object{"mode": "normal", "group": "A"}, 40
		}
		d["custom"], d["color"] = custom, object{"mode": "palette-classic"}
	}
	return d
}

func (p Panel) thresholds() object {
	good, bad := "green", "red"
	if p.Less {
		good, bad = bad, good
	}
	steps := []any{object{"color": good, "value": nil}}
	if p.Red > 0 {
		steps = append(steps, object{"color": bad, "value": p.Red})
	}
	return object{"mode": "absolute", "steps": steps}
}

func (p Panel) options() object {
	switch p.Kind {
	case Stat:
		return object{
			"colorMode": "value", "graphMode": "area", "textMode": "auto",
			"reduceOptions": object{"calcs": []string{"lastNotNull"}, "fields": "", "values": false},
		}
	case Table:
		return object{"showHeader": true}
	case Heatmap:
		return object{"calculate": false, "yAxis": object{"unit": p.Unit}, "color": object{"mode": "scheme", "scheme": "Oranges"}}
	default:
		return object{
			"legend":  object{"displayMode": "table", "placement": "bottom", "showLegend": true, "calcs": []string{"lastNotNull", "max"}},
			"tooltip": object{"mode": "multi", "sort": "desc"},
		}
	}
}
