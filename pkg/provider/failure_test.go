package provider_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/field"
	"github.com/tercelhq/tercel/pkg/provider"
)

func failures(t testing.TB) provider.Failures {
	t.Helper()
	var f provider.Failures
	text := "{code: error, classes: {no_order: gone, slow: throttled, Entity not found: gone, LIMIT: transient, NOT_FOUND: permanent}}"
	if err := config.Decode("failures.yaml", []byte(text), &f); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestFailuresAreFoundInAnswers(t *testing.T) {
	t.Parallel()
	const cost = `,"extensions":{"cost":{"requestedQueryCost":%s,"throttleStatus":{"maximumAvailable":1000.0,"currentlyAvailable":50,"restoreRate":50.0}}}}`
	tests := map[string]struct {
		answer  string
		graphQL bool
		want    provider.Failure // Class "" stands for none
	}{
		"no code":                     {`{"ok":true}`, false, provider.Failure{}},
		"a code of null":              {`{"error":null}`, false, provider.Failure{}},
		"an object is no code":        {`{"error":{"a":1}}`, false, provider.Failure{}},
		"a listed code":               {`{"error":"slow"}`, false, provider.Failure{Class: provider.FailureThrottled, Code: "slow"}},
		"another one is not repeated": {`{"error":"sk_live"}`, false, provider.Failure{Class: provider.FailurePermanent}},
		"errors, but not of GraphQL":  {`{"errors":[{"type":"NOT_FOUND"}]}`, false, provider.Failure{}},

		"no errors":                  {`{"data":{"error":"slow"}}`, true, provider.Failure{}},
		"errors of null":             {`{"data":{},"errors":null}`, true, provider.Failure{}},
		"errors of none":             {`{"data":{},"errors":[]}`, true, provider.Failure{}},
		"one error without a list":   {`{"errors":{"message":"x"}}`, true, provider.Failure{Class: provider.FailurePermanent}},
		"an error of nothing":        {`{"errors":[1]}`, true, provider.Failure{Class: provider.FailurePermanent}},
		"a text":                     {`{"errors":"slow"}`, true, provider.Failure{Class: provider.FailurePermanent}},
		"a listed code of its own":   {`{"errors":[{"type":"NOT_FOUND"}]}`, true, provider.Failure{Class: provider.FailurePermanent, Code: "NOT_FOUND"}},
		"a customary code":           {`{"errors":[{"extensions":{"code":"RATELIMITED"}}]}`, true, provider.Failure{Class: provider.FailureThrottled, Code: "RATELIMITED"}},
		"a credential":               {`{"errors":[{"extensions":{"code":"UNAUTHENTICATED"}}]}`, true, provider.Failure{Class: provider.FailureRefused, Code: "UNAUTHENTICATED"}},
		"a message up to its colon":  {`{"errors":[{"message":"Entity not found: Issue","extensions":{"code":"INPUT_ERROR"}}]}`, true, provider.Failure{Class: provider.FailureGone, Code: "Entity not found"}},
		"gone, and something else":   {`{"errors":[{"message":"Entity not found"},{"message":"odd"}]}`, true, provider.Failure{Class: provider.FailurePermanent}},
		"the one that can pass wins": {`{"errors":[{"message":"odd"},{"type":"LIMIT"}]}`, true, provider.Failure{Class: provider.FailureTransient, Code: "LIMIT"}},
		"points that come back": {
			`{"errors":[{"message":"Throttled"}]` + fmt.Sprintf(cost, "150"), true,
			provider.Failure{Class: provider.FailureThrottled, Code: "Throttled", Wait: 2 * time.Second},
		},
		"more points than come back in a minute": {
			`{"errors":[{"message":"Throttled"}]` + fmt.Sprintf(cost, "1e300"), true,
			provider.Failure{Class: provider.FailureThrottled, Code: "Throttled", Wait: time.Minute},
		},
		"points enough": {
			`{"errors":[{"message":"Throttled"}]` + fmt.Sprintf(cost, "50"), true,
			provider.Failure{Class: provider.FailureThrottled, Code: "Throttled"},
		},
		"points of no number": {
			`{"errors":[{"message":"Throttled"}]` + fmt.Sprintf(cost, `"x"`), true,
			provider.Failure{Class: provider.FailureThrottled, Code: "Throttled"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := field.Valid([]byte(tt.answer)); err != nil {
				t.Fatal(err)
			}
			got, failed := failures(t).In([]byte(tt.answer), tt.graphQL)
			if failed != (tt.want.Class != "") || got != tt.want {
				t.Errorf("In() = %+v, %t, want %+v", got, failed, tt.want)
			}
		})
	}
}

// Whatever a server writes, an answer with errors is a failure of a known class,
// whose text is not the server's.
func FuzzFailures(f *testing.F) {
	f.Add(`{"errors":[{"message":"Throttled","extensions":{"code":"THROTTLED"}}],"extensions":{"cost":{"requestedQueryCost":1e9,"throttleStatus":{"currentlyAvailable":-5,"restoreRate":0.001}}}}`)
	f.Add(`{"errors":[[],{"extensions":[]},{"extensions":{"code":{}}}],"data":null}`)
	f.Add(`{"error":"no_order"}`)
	known := map[string]bool{}
	for _, code := range []string{
		"", "no_order", "slow", "Entity not found", "LIMIT", "NOT_FOUND", "Throttled", "THROTTLED", "RATE_LIMITED", "RATELIMITED",
		"UNAUTHENTICATED", "AUTHENTICATION_ERROR", "INTERNAL_SERVER_ERROR", "INTERNAL_ERROR", "SERVICE_UNAVAILABLE", "TIMEOUT",
	} {
		known[code] = true
	}
	rules := failures(f)
	list, _ := field.ParsePath("errors")
	f.Fuzz(func(t *testing.T, answer string) {
		if field.Valid([]byte(answer)) != nil {
			return // the client takes nothing else
		}
		if wait := provider.CostWait([]byte(answer)); wait < 0 || wait > time.Minute {
			t.Errorf("CostWait() = %s", wait)
		}
		for _, graphQL := range []bool{true, false} {
			got, failed := rules.In([]byte(answer), graphQL)
			if failed != (got.Class != "") || !known[got.Code] || got.Wait < 0 || got.Wait > time.Minute {
				t.Errorf("In(%q) = %+v, %t", answer, got, failed)
			}
			v, err := list.One([]byte(answer))
			if graphQL && err == nil && v.Kind() != 'n' && string(v) != "[]" && !failed {
				if items, err := field.Elements(v); err != nil || len(items) > 0 {
					t.Errorf("In(%q) finds no failure among errors", answer)
				}
			}
		}
	})
}
