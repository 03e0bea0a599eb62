package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// kinds are those that the chart makes, by their definitions in Kubernetes' API.
// The schemas of other kinds, which operators bring, are written by hand.
var kinds = map[string]string{
	"configmap-v1":                           "io.k8s.api.core.v1.ConfigMap",
	"service-v1":                             "io.k8s.api.core.v1.Service",
	"deployment-apps-v1":                     "io.k8s.api.apps.v1.Deployment",
	"job-batch-v1":                           "io.k8s.api.batch.v1.Job",
	"horizontalpodautoscaler-autoscaling-v2": "io.k8s.api.autoscaling.v2.HorizontalPodAutoscaler",
	"ingress-networking-v1":                  "io.k8s.api.networking.v1.Ingress",
	"networkpolicy-networking-v1":            "io.k8s.api.networking.v1.NetworkPolicy",
	"poddisruptionbudget-policy-v1":          "io.k8s.api.policy.v1.PodDisruptionBudget",
}

// writeSchemas makes strict JSON Schemas of the kinds from the description of
// Kubernetes' API, which its module has: api/openapi-spec/swagger.json.
func writeSchemas(swagger, dir string) error {
	text, err := os.ReadFile(swagger)
	if err != nil {
		return err
	}
	var api struct {
		Definitions map[string]any `json:"definitions"`
	}
	if err := json.Unmarshal(text, &api); err != nil {
		return err
	}
	for file, name := range kinds {
		schema, err := inline(api.Definitions, name)
		if err != nil {
			return err
		}
		text, err := json.Marshal(schema)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, file+".json"), append(text, '\n'), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// inline returns a definition with those that it refers to in their places.
func inline(definitions map[string]any, name string) (any, error) {
	d, ok := definitions[name].(map[string]any)
	switch {
	case !ok:
		return nil, fmt.Errorf("%s: no such definition", name)
	case name == "io.k8s.apimachinery.pkg.util.intstr.IntOrString":
		return map[string]any{"type": []string{"string", "integer"}}, nil
	case name == "io.k8s.apimachinery.pkg.api.resource.Quantity":
		return map[string]any{"type": []string{"string", "number"}}, nil
	}
	return strict(definitions, d)
}

// strict returns a part of a schema without prose, which refers to nothing and
// has no properties but those it names.
func strict(definitions, part map[string]any) (any, error) {
	if ref, ok := part["$ref"].(string); ok {
		return inline(definitions, strings.TrimPrefix(ref, "#/definitions/"))
	}
	out := map[string]any{}
	for _, key := range []string{"type", "enum", "required", "format"} {
		if v, ok := part[key]; ok {
			out[key] = v
		}
	}
	for _, key := range []string{"items", "additionalProperties"} {
		if sub, ok := part[key].(map[string]any); ok {
			s, err := strict(definitions, sub)
			if err != nil {
				return nil, err
			}
			out[key] = s
		}
	}
	properties, ok := part["properties"].(map[string]any)
	if !ok {
		return out, nil
	}
	of := map[string]any{}
	for name, p := range properties {
		s, err := strict(definitions, p.(map[string]any))
		if err != nil {
			return nil, err
		}
		of[name] = s
	}
	out["properties"], out["additionalProperties"] = of, false
	return out, nil
}
