package fault_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/fault"
)

func TestMarksSurviveWrappingAndKeepTheCause(t *testing.T) {
	t.Parallel()
	cause := errors.New("cause")
	tests := map[string]struct {
		err  error
		want fault.Class
	}{
		"unmarked is transient":    {cause, fault.Transient},
		"permanent":                {fault.Permanent(cause), fault.Fatal},
		"wrapped permanent":        {fmt.Errorf("fetch evt_1: %w", fault.Permanent(cause)), fault.Fatal},
		"delayed":                  {fault.RetryAfter(cause, time.Second), fault.Throttled},
		"postponed":                {fmt.Errorf("fetch: %w", fault.Postpone(cause, time.Second)), fault.Postponed},
		"the outer delay counts":   {fault.RetryAfter(fault.Postpone(cause, 0), time.Second), fault.Throttled},
		"permanent beats delay":    {fault.Permanent(fault.RetryAfter(cause, time.Second)), fault.Fatal},
		"joined with a plain one":  {errors.Join(errors.New("other"), fault.Permanent(cause)), fault.Fatal},
		"delay wrapped and joined": {fmt.Errorf("a: %w", fault.RetryAfter(cause, 0)), fault.Throttled},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := fault.ClassOf(tt.err); got != tt.want {
				t.Errorf("ClassOf() = %s, want %s", got, tt.want)
			}
			if !errors.Is(tt.err, cause) {
				t.Error("the cause is not reachable through Unwrap")
			}
		})
	}
}

func TestNothingToMark(t *testing.T) {
	t.Parallel()
	if fault.Permanent(nil) != nil || fault.RetryAfter(nil, time.Second) != nil ||
		fault.Postpone(nil, time.Second) != nil {
		t.Error("marking nil gave an error")
	}
}

func TestDetailStaysOutOfTheText(t *testing.T) {
	t.Parallel()
	cause := fault.Permanent(errors.New("status 422"))
	err := fmt.Errorf("deliver: %w", fault.WithDetail(cause, "no such customer"))
	if err.Error() != "deliver: status 422" || fault.Detail(err) != "no such customer" || !fault.IsPermanent(err) {
		t.Errorf("%v with detail %q, permanent %t", err, fault.Detail(err), fault.IsPermanent(err))
	}
	if fault.WithDetail(nil, "x") != nil || fault.WithDetail(cause, "") != cause || fault.Detail(cause) != "" {
		t.Error("nothing to add changed something")
	}
}

func TestDelayIsNeverNegative(t *testing.T) {
	t.Parallel()
	for _, err := range []error{fault.RetryAfter(errors.New("x"), -time.Hour), fault.Postpone(errors.New("x"), -time.Hour)} {
		if d, ok := fault.Delay(err); d != 0 || !ok {
			t.Errorf("Delay() = %s, %t, want 0s, true", d, ok)
		}
	}
}

func ExamplePermanent() {
	err := fmt.Errorf("fetch evt_1: %w", fault.Permanent(errors.New("record unreadable")))
	fmt.Println(fault.IsPermanent(err), err)
	// Output: true fetch evt_1: record unreadable
}
