// Package event is what travels through Tercel: the event, its identity, its
// subjects and its headers.
//
// A message is a CloudEvent in the binary mode of the CloudEvents NATS
// binding: attributes are headers ("ce-id", "ce-type", …), the body is the
// payload. What Tercel adds is in "tercel-" headers. The body of a trigger is
// the provider's bytes untouched; the body of an enriched event is JSON, see
// [Body].
//
// The promises that the whole pipeline makes. Code that upholds one cites its
// number, and a test is named for it.
//
//  1. Stored before answered. A 2xx means that JetStream acknowledged the
//     trigger at the configured durability.
//  2. Nothing unverified gets in. What fails a check is answered 4xx, or as
//     its source wants it (reply.refused), counted, and never stored.
//  3. One outcome each. A stored trigger ends delivered to every matching
//     destination, as a dead letter or noted as dropped by the pipeline file,
//     or it is visibly pending.
//  4. Duplicates have no second effect.
//  5. Acknowledge last. A message is acknowledged only after its result was.
//  6. Complete. A window is called reconciled only when every page of it was
//     compared and every gap re-injected.
//  7. Newest wins. An older version of a record never overwrites a newer one.
//  8. Evidence. The bytes as received are kept; any event can be traced.
//  9. Secrets never leave: not in logs, errors, traces, metrics, dead letters.
//  10. Bounded. Every queue, wait, body, page and retry has a limit.
package event
