package sourceapi

import (
	"math/rand/v2"
	"time"
)

const (
	// outageMin and outageMax bound the growing time between two tries of an API
	// that is out and names no time itself.
	outageMin, outageMax = time.Second, time.Minute
	// refusedMin and refusedMax bound that between two tries with a credential
	// that was refused: only its owner can mend it.
	refusedMin, refusedMax = 30 * time.Second, 5 * time.Minute
	// enough failures in a row, of whatever requests, are no accident of one
	// record: nothing gets through.
	enough = 3
)

// breaker says whether requests with one credential may be made: none while it
// is open, one when that time is over, and then more with each that succeeds.
// Its gate's mutex guards it.
type breaker struct {
	failures int    // in a row, since the last request that was answered
	address  string // of the first of them
	several  bool   // they were of more than one address
	opened   int    // times in a row without a full recovery, which the wait grows with

	until   time.Time // no request is made before; zero while closed
	allowed int       // requests in flight while it recovers; 0 stands for no bound
	cause   string
}

// held is the time still to wait at now.
func (b *breaker) held(now time.Time) time.Duration { return max(b.until.Sub(now), 0) }

// probing says that a single request finds out whether the API is back.
func (b *breaker) probing() bool { return b.allowed == 1 }

// answered notes a request that the API dealt with, whatever it said: it is
// there. Limit is how many requests may be in flight when it is well. An answer
// to what was sent before the breaker opened doesn't close it.
func (b *breaker) answered(now time.Time, limit int) {
	b.failures, b.address, b.several = 0, "", false
	if b.held(now) > 0 {
		return
	}
	if b.allowed *= 2; b.allowed == 0 || b.allowed >= limit {
		*b = breaker{}
	}
}

// failed notes a request that found the API out. It returns for how long, or 0
// if this may have been an accident of that one request. While nothing else
// succeeds an accident is not one: then the wait is for the request's own
// message, and others are held only if several failed, or if total says that
// no request could succeed.
func (b *breaker) failed(now time.Time, address, cause string, total bool) time.Duration {
	b.failures++
	if b.address == "" {
		b.address = address
	}
	b.several = b.several || b.address != address
	switch {
	case b.held(now) > 0: // others failed at the same time
		return b.held(now)
	case !total && b.failures < enough && b.allowed == 0:
		return 0
	}
	wait := grow(outageMin, outageMax, b.opened)
	b.opened++
	if total || b.several || b.allowed > 0 {
		b.open(now, wait, cause)
	}
	return wait
}

// refused notes that the credential was.
func (b *breaker) refused(now time.Time, cause string) time.Duration {
	if b.held(now) == 0 {
		b.open(now, grow(refusedMin, refusedMax, b.opened), cause)
		b.opened++
	}
	return b.held(now)
}

// throttled notes that the API wants to be left alone, for as long as it says
// or, without such a word (a negative wait), for a growing time.
func (b *breaker) throttled(now time.Time, wait time.Duration, cause string) time.Duration {
	if wait < 0 {
		if b.held(now) > 0 {
			return b.held(now)
		}
		wait = grow(outageMin, outageMax, b.opened)
		b.opened++
	}
	wait = max(wait, outageMin) // also where it names a time that has passed
	b.open(now, wait, cause)
	return wait
}

// open holds all requests for wait from now, unless they are held longer.
func (b *breaker) open(now time.Time, wait time.Duration, cause string) {
	if until := now.Add(wait); until.After(b.until) {
		b.until, b.cause = until, cause
	}
	b.allowed = 1
}

// grow doubles from least to most with n, and adds up to a tenth so that
// replicas don't come back in step.
func grow(least, most time.Duration, n int) time.Duration {
	wait := min(least<<min(n, 20), most)
	return wait + rand.N(wait/10)
}
