package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/yannh/kubeconform/pkg/validator"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
)

// kubernetes is the version whose schemas there are.
const kubernetes = "1.36.3"

// check lints and renders the chart with a file of values, validates the objects
// and returns them as one text.
func check(chart, values, schemas string) (string, error) {
	set, err := chartutil.ReadValuesFile(values)
	if err != nil {
		return "", err
	}
	if err := lintWith(chart, set); err != nil {
		return "", err
	}
	text, err := render(chart, set)
	if err != nil {
		return "", err
	}
	return text, validate(text, schemas)
}

// lintWith is what "helm lint --strict" does.
func lintWith(chart string, values chartutil.Values) error {
	version, err := chartutil.ParseKubeVersion(kubernetes)
	if err != nil {
		return err
	}
	var errs []error
	for _, m := range lint.AllWithKubeVersion(chart, values, "tercel", version).Messages {
		if m.Severity >= support.WarningSev {
			errs = append(errs, m)
		}
	}
	return errors.Join(errs...)
}

// render is what "helm template" does: it holds values against their schema and
// returns what the templates make of them, in the order of their names.
func render(dir string, set chartutil.Values) (string, error) {
	chart, err := loader.Load(dir)
	if err != nil {
		return "", err
	}
	version, err := chartutil.ParseKubeVersion(kubernetes)
	if err != nil {
		return "", err
	}
	caps := chartutil.DefaultCapabilities.Copy()
	caps.KubeVersion = *version
	values, err := chartutil.ToRenderValues(chart, set,
		chartutil.ReleaseOptions{Name: "tercel", Namespace: "tercel", Revision: 1, IsInstall: true}, caps)
	if err != nil {
		return "", err
	}
	files, err := engine.Engine{Strict: true}.Render(chart, values)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	for _, name := range slices.Sorted(maps.Keys(files)) {
		text := strings.TrimPrefix(strings.TrimSpace(files[name]), "---")
		if path.Ext(name) == ".yaml" && strings.TrimSpace(text) != "" {
			fmt.Fprintf(&out, "---\n# %s\n%s\n", name, strings.TrimSpace(text))
		}
	}
	return out.String(), nil
}

// validate holds every object against the schema of its kind, in which no field is
// but those that there are.
func validate(text, schemas string) error {
	v, err := validator.New([]string{schemas + "/{{.ResourceKind}}{{.KindSuffix}}.json"},
		validator.Opts{KubernetesVersion: kubernetes, Strict: true})
	if err != nil {
		return err
	}
	var errs []error
	for _, r := range v.Validate("rendered", io.NopCloser(strings.NewReader(text))) {
		if r.Status == validator.Valid || r.Status == validator.Empty {
			continue
		}
		sig, err := r.Resource.Signature()
		if err != nil {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, fmt.Errorf("%s %s: %w", sig.Kind, sig.Name, r.Err))
	}
	return errors.Join(errs...)
}
