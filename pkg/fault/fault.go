// Package fault says what a failure means for the message in hand.
//
// A handler marks an error where its fate is known: [Permanent] when the same
// message will fail again, [RetryAfter] when somebody named a time to come
// back, [Postpone] when nobody could have done the work just now, whatever the
// message, [Queue] when another message comes first. An error without a mark is
// transient. Package consume alone reads the marks and turns them into one answer
// to JetStream.
package fault

import (
	"errors"
	"time"
)

// Class names an error's fate in metrics, dead letters and command output.
type Class string

// The classes of failure, a closed set.
const (
	// Transient failures are retried with a growing delay.
	Transient Class = "transient"
	// Throttled failures are retried at the time that the other side named.
	Throttled Class = "throttled"
	// Postponed failures are no attempts: the work could not be begun.
	Postponed Class = "postponed"
	// Fatal failures are dead-lettered at once.
	Fatal Class = "permanent"
	// Exhausted failures were transient until the last attempt was used up.
	Exhausted Class = "exhausted"
)

type permanent struct{ err error }

func (p *permanent) Error() string { return p.err.Error() }
func (p *permanent) Unwrap() error { return p.err }

type delayed struct {
	err       error
	after     time.Duration
	postponed bool
	queued    bool
}

func (d *delayed) Error() string { return d.err.Error() }
func (d *delayed) Unwrap() error { return d.err }

// Permanent marks err as one that every further attempt would meet again.
// It returns nil for a nil err and leaves the text unchanged.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &permanent{err}
}

// RetryAfter marks err as one that may pass once the delay is over. A
// negative delay counts as zero. It returns nil for a nil err.
func RetryAfter(err error, delay time.Duration) error {
	if err == nil {
		return nil
	}
	return &delayed{err: err, after: max(delay, 0)}
}

// Postpone marks err as one that says nothing of the message in hand: the other
// side is out, throttles, or refuses our credential, so that any message would
// have met it. It is tried again after the delay, and no attempt is counted; a
// negative delay counts as zero. It returns nil for a nil err.
func Postpone(err error, delay time.Duration) error {
	if err == nil {
		return nil
	}
	return &delayed{err: err, after: max(delay, 0), postponed: true}
}

// Queue marks err as one that only tells that another message comes first. It is
// like [Postpone], but the message isn't given up for having waited too long: its
// turn comes once the other has ended, however that ends.
func Queue(err error, delay time.Duration) error {
	if err == nil {
		return nil
	}
	return &delayed{err: err, after: max(delay, 0), postponed: true, queued: true}
}

// IsQueued reports whether the outermost delay of err was given by [Queue].
func IsQueued(err error) bool {
	var d *delayed
	return errors.As(err, &d) && d.queued
}

// IsPostponed reports whether the outermost delay of err was given by
// [Postpone] or [Queue].
func IsPostponed(err error) bool {
	var d *delayed
	return errors.As(err, &d) && d.postponed
}

// IsPermanent reports whether err, or an error that it wraps, was marked by
// [Permanent].
func IsPermanent(err error) bool {
	var p *permanent
	return errors.As(err, &p)
}

// Delay returns the delay that [RetryAfter], [Postpone] or [Queue] gave err, and
// whether it was given one.
func Delay(err error) (time.Duration, bool) {
	var d *delayed
	if !errors.As(err, &d) {
		return 0, false
	}
	return d.after, true
}

// ClassOf returns the class of a non-nil err: [Fatal], [Postponed], [Throttled]
// or [Transient]. Exhaustion is the caller's to know.
func ClassOf(err error) Class {
	if IsPermanent(err) {
		return Fatal
	}
	if IsPostponed(err) {
		return Postponed
	}
	if _, asked := Delay(err); asked {
		return Throttled
	}
	return Transient
}

type detailed struct {
	err    error
	detail string
}

func (d *detailed) Error() string { return d.err.Error() }
func (d *detailed) Unwrap() error { return d.err }

// WithDetail adds to err what helps to see why it happened but has no place in
// logs, such as what the other side wrote. It reaches the dead letter alone. It
// returns nil for a nil err.
func WithDetail(err error, detail string) error {
	if err == nil || detail == "" {
		return err
	}
	return &detailed{err, detail}
}

// Detail returns what [WithDetail] added to err, or "".
func Detail(err error) string {
	var d *detailed
	if !errors.As(err, &d) {
		return ""
	}
	return d.detail
}
