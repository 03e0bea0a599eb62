package pipeline_test

import (
	"strings"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/pipeline"
)

const oneSource = `
sources:
  orders: {preset: hmac, secrets: [env:STRIPE_WEBHOOK_SECRET], verify: {header: X-Sig}, event: {type: body.t}}
`

// Sources are looked after without a word in the file.
func TestAlarmsAreOnByDefault(t *testing.T) {
	t.Parallel()
	f, err := decode(oneSource)
	if err != nil {
		t.Fatal(err)
	}
	s, r := f.Reconciler.Silence, f.Reconciler.Refused
	if s != (pipeline.Silence{Learn: 28 * 24 * time.Hour, Patience: 1.5, ProbeEvery: time.Hour}) || r != (pipeline.Refused{Share: 0.2, Window: 15 * time.Minute, Least: 20}) {
		t.Errorf("silence %+v, refused %+v", s, r)
	}
}

func TestAlarmsThatCannotBeAreFaults(t *testing.T) {
	t.Parallel()
	for setting, want := range map[string]string{
		"silence: {learn: 2d}":        "reconciler.silence.learn",
		"silence: {learn: 366d}":      "reconciler.silence.learn",
		"silence: {patience: 0.9}":    "reconciler.silence.patience",
		"silence: {probe_every: 59s}": "reconciler.silence.probe_every",
		"refused: {share: 1.1}":       "reconciler.refused.share",
		"refused: {share: -0.1}":      "reconciler.refused.share",
		"refused: {window: 1m}":       "reconciler.refused.window",
		"refused: {window: 25h}":      "reconciler.refused.window",
		"refused: {least: 0}":         "reconciler.refused.least",
		"refused: {shares: 1}":        `did you mean "share"?`,
	} {
		t.Run(setting, func(t *testing.T) {
			t.Parallel()
			if _, err := decode(oneSource + "reconciler: {" + setting + "}\n"); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), ":4:") {
				t.Errorf("fault %v, want one of line 4 with %q", err, want)
			}
		})
	}
}
