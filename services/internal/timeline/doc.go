// Package timeline answers "what happened to it?": it finds every message that
// speaks of an event, a provider's delivery or a record, whatever stream it is
// in, and puts what they tell in the order of time.
//
// An [Index] follows the streams and knows of each message which ids it speaks
// of. [Index.Find] returns the messages of an id, [Index.Trace] the [Timeline].
// The index is a hint and never an answer: of each id it has 32 bits of a hash,
// and every message is read before it counts. As long as it hasn't read a stream
// to its end, the answer's [Coverage] says so. What leaves a stream leaves the
// index with it.
//
// It writes nothing to the servers: any number of consoles may each have their
// own. A folder belongs to one process at a time.
//
// # What it costs
//
// Eight bytes for each id that a message speaks of, in sorted files that are
// searched where they are, so that the process's memory doesn't grow with the
// streams. scripts/bench timeline measures it: two messages for each event, with
// ids of their own for event, delivery and record, nats-server 2.15.2 on the same
// two processors, which others kept busy (load 30).
//
//	events stored   first start   next start   memory    folder    p50, p99, max of a timeline
//	10,000          0.6 s         10 ms        0.4 MiB   0         2 ms,   5 ms,   8 ms
//	1,000,000       64 s          20 ms        2.4 MiB   36 MiB    8 ms, 203 ms, 446 ms
//
// That is 38 bytes of disk and 64 µs for each event, of which nearly all is the
// server's reading it from its disk; nothing is added to an event's own way. The
// time of a timeline is that of reading its messages, of which the server loads a
// block of megabytes for each.
//
// Compared with, for a million events of three ids, the part of the index alone:
//
//	                       for each event     memory     disk      asking for three ids
//	sorted files           0.9 µs             3 MiB      21 MiB    0.5 ms
//	the same in memory     0.7 µs             24 MiB     0         0.3 ms
//	a hash table           1.0 µs             64 MiB     0         less, and 64 s at each start
//	SQLite                 33.5 µs            its cache  52 MiB    0.07 ms
//
// A hash table forgets with its process, and grows with the streams. SQLite takes
// as long for an event as the server does for reading it, and has to delete row by
// row what leaves the streams, where here a file is removed.
//
// What entries tell is recorded when it happens, or derived, and they say which.
// Derived is above all what succeeded at once: that a destination has an event is
// told by its consumer's ack floor, which passes over what it didn't take then, and
// holds only where no stream that the index has yet to read may say otherwise.
// Tries that fail, and those that follow, are in TERCEL_OUTCOMES (package outcome),
// how records were got and how long a webhook's checks took in headers (package
// event), refused requests in TERCEL_REFUSED (package refusal). A trigger that isn't
// enriched yet doesn't say of which record it speaks, and is found by its own ids
// alone.
package timeline
