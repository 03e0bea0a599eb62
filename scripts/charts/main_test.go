package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const folder = "../../deploy/helm/tercel"

// A mistake that somebody may make in a template or in values is found.
func TestCheckFindsMistakes(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ file, old, new, want string }{
		"nothing":                        {},
		"field of a container":           {"templates/_helpers.tpl", "imagePullPolicy:", "imagePullPolice:", "imagePullPolice"},
		"field of a security context":    {"templates/_helpers.tpl", "readOnlyRootFilesystem", "readOnlyRootFileSystem", "readOnlyRootFileSystem"},
		"field of a policy":              {"templates/networkpolicies.yaml", "policyTypes", "policyType", "policyType"},
		"field of a budget":              {"templates/services.yaml", "maxUnavailable", "maxUnavailible", "maxUnavailible"},
		"field of a hook":                {"templates/setup.yaml", "activeDeadlineSeconds", "activeDeadline", "activeDeadline"},
		"field of an autoscaler":         {"templates/scaling.yaml", "averageUtilization", "utilization", "utilization"},
		"field of a ScaledObject":        {"templates/scaling.yaml", "lagThreshold", "lagTreshold", "lagTreshold"},
		"field of a ServiceMonitor":      {"templates/prometheus.yaml", "jobLabel", "joblabel", "joblabel"},
		"kind without a schema":          {"templates/services.yaml", "kind: Service\n", "kind: Servise\n", "Servise"},
		"version that has gone":          {"templates/scaling.yaml", "autoscaling/v2", "autoscaling/v2beta2", "HorizontalPodAutoscaler"},
		"field of a route":               {"templates/route.yaml", "pathType", "pathtype", "pathtype"},
		"value that the schema has not":  {"ci/production.yaml", "scale: {by: lag, max: 6}", "scales: {by: lag, max: 6}", "scales"},
		"scaling by what it can't":       {"ci/production.yaml", "scale: {by: cpu, max: 20}", "scale: {by: lag, max: 20}", "by"},
		"seed of one service missing":    {"ci/production.yaml", "    sink: tercel-nats-sink\n", "", "seeds"},
		"no sources":                     {"ci/production.yaml", "  sources:", "  source:", "sources"},
		"console that anybody could use": {"ci/production.yaml", "    tokens:\n", "    token:\n", "pipeline.console.tokens"},
		"destination on a pod's disk":    {"ci/production.yaml", "postgres: {dsn: \"file:/run/secrets/database_url\"}", "sqlite: {path: /data/x}", "warehouse"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			chart := filepath.Join(t.TempDir(), "tercel")
			if err := os.CopyFS(chart, os.DirFS(folder)); err != nil {
				t.Fatal(err)
			}
			if tt.file != "" {
				replace(t, filepath.Join(chart, tt.file), tt.old, tt.new)
			}
			_, err := check(chart, filepath.Join(chart, "ci/production.yaml"), "schemas")
			switch {
			case tt.want == "" && err != nil:
				t.Error(err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("check() = %v, want something about %s", err, tt.want)
			}
		})
	}
}

func replace(t *testing.T, file, old, with string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), old) {
		t.Fatalf("%s has no %q", file, old)
	}
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(string(text), old, with)), 0o600); err != nil {
		t.Fatal(err)
	}
}

// What was rendered before is compared, not written anew.
func TestKeepComparesWithWhatWasRendered(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "set.yaml")
	if err := keep(file, "a", true); err != nil {
		t.Fatal(err)
	}
	if err := keep(file, "a", false); err != nil {
		t.Error(err)
	}
	if err := keep(file, "b", false); err == nil {
		t.Error("another text was taken for the same")
	}
}
