// Package timeline answers "what happened to it?": it finds every message that
// speaks of an event, a provider's delivery or a record, whatever stream it is
// in, and puts what they tell in the order of time.
//
// An [Index] follows the streams and knows of each message which ids it speaks
// of. [Index.Find] returns the messages of an id, [Index.Trace] the [Timeline].
// The index is a hint and never an answer: of each id it has 32 bits of a hash,
// and every message is read before it counts. As long as it hasn't read a stream
// to its end, the answer's [Coverage] says so.
//
// It writes nothing to the servers: any number of consoles have their own.
package timeline
