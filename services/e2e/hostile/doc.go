// Package hostile has tests alone: a corpus of malformed requests, signatures, ids
// and API answers against the services as programs, each in a process of its own,
// with a real NATS server.
//
// Each file of the corpus is a table of what a stranger sends and what has to become
// of it; see attack. What holds of all of them is checked in one place, see
// world.withstand: no answer of theirs is a fault of the server's, nothing that was
// refused is stored, every program lives on and takes no more than before, and the
// webhooks of a healthy neighbour are served meanwhile.
package hostile
