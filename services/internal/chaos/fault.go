package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// fault is one way to harm the world.
type fault struct {
	// name is unique, such as "kill of ingress-1", and has no "/".
	name string
	// kind is what the table has it under, with others that do the same to something
	// else, or "" if there are none: then its name.
	kind string
	// possible is nil where the fault can be played, or else says why it can't be
	// here. A fault without it can be played everywhere.
	possible func(*world) error
	// clocks says that it needs programs whose clock can be set.
	clocks bool
	// harm does harm and undoes it: it returns when nothing hinders the pipeline
	// any more. What it chooses, it chooses by r. An error is the suite's own: that
	// the harm could not be done or undone.
	harm func(ctx context.Context, w *world, r *rand.Rand) error
	// replays says that an operator then replays the dead letters that have come since
	// it began, which is a part of the recovery.
	replays bool
}

// faults are all there are. Each family has a file.
func faults() []fault {
	return slices.Concat(
		kills(), pauses(), restarts(), upgrades(), networkFaults(), clockFaults(),
		leaders(), outages(), fullStreams(), deletions(), refusals(), failures(),
		powerCuts(), fullStores(), databases(),
	)
}

// aMember is what the table calls a node or a service.
func aMember(name string) string {
	if isNode(name) {
		return "a node"
	}
	return "a service"
}

// patterns are the parts of what --only was given.
func patterns(only string) []string { return strings.Split(only, "|") }

// between waits for a time that r chooses, from least to most.
func between(ctx context.Context, r *rand.Rand, least, most time.Duration) error {
	return wait(ctx, least+time.Duration(r.Int64N(int64(most-least)+1)))
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// played is one fault that was played, as the table has it.
type played struct {
	Fault string `json:"fault"`
	Kind  string `json:"kind"`
	// At is when it began, since the load began.
	At seconds `json:"at_seconds"`
	// Harm is how long the harm lasted.
	Harm seconds `json:"harm_seconds"`
	// Recovered is how long it then took until all was well.
	Recovered seconds `json:"recovered_seconds"`
	// Error is what went wrong, or "".
	Error string `json:"error,omitempty"`
}

// seconds is a duration that is told as such.
type seconds float64

func since(t time.Time) seconds { return seconds(time.Since(t).Seconds()) }

func (s seconds) String() string { return fmt.Sprintf("%.1f", float64(s)) }
