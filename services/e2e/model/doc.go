// Package model tests the pipeline against a model: the provider's own book.
//
// Generated histories of what a provider does, of webhooks that are lost,
// repeated, late and out of order, of services that die at any message that
// they send, of a server that is away, and of a reconciler whose clock is set,
// are played against the real services on a real server. Runs begin by hand or by
// schedule, over lists of records or of events; scans look for orphans, and
// backfills are started, paused, resumed and cancelled meanwhile. Once a history has ended and reconciliation has run
// to its end, the destination must hold what the book holds, and no report may
// have claimed what wasn't so.
//
// Time is the histories' own: windows, overlaps and settling cost no waiting.
// Each history comes of one number, and one that fails is cut down to the steps
// that it takes. Its tests are the only code here.
package model
