package mapping

import (
	"context"
	"fmt"
	"time"
)

// Bounds of one evaluation. Steps are what ends an expression that never ends,
// always at the same place; time is for single steps that take long on a large
// document.
const (
	maxSteps = 1_000_000
	maxTime  = 3 * time.Second
	// lookEvery is the number of steps between two looks at the clock.
	lookEvery = 64
)

// budget ends an evaluation. The evaluator asks its context before each step
// whether it is done: that is where the steps are counted.
type budget struct {
	context.Context
	steps   int
	started time.Time
	spent   error // what has run out, or nil
}

func newBudget(ctx context.Context) *budget {
	return &budget{Context: ctx, started: time.Now()}
}

// over is what Done returns when the budget is spent.
var over = func() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// Done counts a step.
func (b *budget) Done() <-chan struct{} {
	b.steps++
	switch {
	case b.steps > maxSteps:
		b.spent = fmt.Errorf("not finished after %d steps", maxSteps)
	case b.steps%lookEvery == 0 && time.Since(b.started) > maxTime:
		b.spent = fmt.Errorf("not finished after %s", maxTime)
	}
	if b.spent != nil {
		return over
	}
	return b.Context.Done()
}

// Err is why the evaluation has to end.
func (b *budget) Err() error {
	if b.spent != nil {
		return b.spent
	}
	return b.Context.Err()
}
