package dashboards_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

const deploy = "../../../deploy/prometheus"

// tool returns where a program of Prometheus is, or skips the test.
func tool(t *testing.T, name string) string {
	t.Helper()
	at, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not on the PATH (Debian: package prometheus)", name)
	}
	return at
}

// server is a running Prometheus.
type server struct{ url string }

// startPrometheus runs the real one with our configuration, which is changed
// where it must be for a test of a minute: the target, and all times.
func startPrometheus(t *testing.T, target string) server {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "rules"), 0o700); err != nil {
		t.Fatal(err)
	}
	rules := slurp(t, deploy+"/rules/tercel.yml")
	rules = regexp.MustCompile(`(\[|offset )\d+[mh]`).ReplaceAllString(rules, "${1}15s")
	rules = regexp.MustCompile(`for: \d+[mh]`).ReplaceAllString(rules, "for: 2s")
	write(t, filepath.Join(dir, "rules/tercel.yml"), rules)
	text := slurp(t, deploy+"/prometheus.yml")
	text = strings.ReplaceAll(text, "_interval: 15s", "_interval: 1s")
	text = regexp.MustCompile(`targets: \[.*\]`).ReplaceAllString(text, fmt.Sprintf("targets: [%q]", target))
	write(t, filepath.Join(dir, "prometheus.yml"), text)
	listen, output := freeAddr(t), &bytes.Buffer{}
	cmd := exec.Command(tool(t, "prometheus"), "--config.file="+filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+listen, "--enable-feature=exemplar-storage")
	cmd.Stdout, cmd.Stderr = output, output
	run(t, cmd, output, "http://"+listen+"/-/ready")
	return server{"http://" + listen}
}

func slurp(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// series is one of a query's answer.
type series struct {
	Metric map[string]string
	Values [][2]any // time and value, which is text
	Value  [2]any   // of an instant query
}

// get asks the API and reads its data.
func (s server) get(path string, query url.Values, data any) error {
	resp, err := http.Get(s.url + path + "?" + query.Encode())
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	var answer struct {
		Status, Error string
		Data          json.RawMessage
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return err
	}
	if answer.Status != "success" {
		return errors.New(answer.Error)
	}
	return json.Unmarshal(answer.Data, data)
}

// errNoFigure is what a panel would call "No data".
var errNoFigure = errors.New("no figure")

// figures evaluates an expression over the last half minute, and returns an error
// unless there is a figure.
func (s server) figures(expr string) error {
	now := time.Now()
	var data struct{ Result []series }
	err := s.get("/api/v1/query_range", url.Values{
		"query": {expr}, "start": {stamp(now.Add(-30 * time.Second))}, "end": {stamp(now)}, "step": {"2"},
	}, &data)
	if err != nil {
		return err
	}
	for _, r := range data.Result {
		for _, v := range r.Values {
			text, _ := v[1].(string)
			if f, err := strconv.ParseFloat(text, 64); err == nil && !math.IsNaN(f) && !math.IsInf(f, 0) {
				return nil
			}
		}
	}
	return fmt.Errorf("%w among %d series", errNoFigure, len(data.Result))
}

func stamp(at time.Time) string { return strconv.FormatFloat(float64(at.UnixMilli())/1000, 'f', 3, 64) }

// values are those of a label, as a dashboard's variable has them.
func (s server) values(metric, label string) ([]string, error) {
	var values []string
	err := s.get("/api/v1/label/"+label+"/values", url.Values{"match[]": {metric}}, &values)
	return values, err
}

// firing returns the labels and texts of a firing alert.
func (s server) firing(alert string) (map[string]string, bool, error) {
	var data struct {
		Alerts []struct {
			Labels, Annotations map[string]string
			State               string
		}
	}
	if err := s.get("/api/v1/alerts", nil, &data); err != nil {
		return nil, false, err
	}
	for _, a := range data.Alerts {
		if a.Labels["alertname"] == alert && a.State == "firing" {
			for name, text := range a.Annotations {
				a.Labels[name] = text
			}
			return a.Labels, true, nil
		}
	}
	return nil, false, nil
}

// exemplars counts the traces behind a histogram.
func (s server) exemplars(metric string) (int, error) {
	now := time.Now()
	var data []struct {
		Exemplars []struct{ Labels map[string]string }
	}
	err := s.get("/api/v1/query_exemplars", url.Values{"query": {metric}, "start": {stamp(now.Add(-time.Minute))}, "end": {stamp(now)}}, &data)
	n := 0
	for _, d := range data {
		for _, e := range d.Exemplars {
			if len(e.Labels["trace_id"]) == 32 {
				n++
			}
		}
	}
	return n, err
}
