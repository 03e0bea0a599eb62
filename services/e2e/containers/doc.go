// Package containers checks the pipeline of deploy/compose while it runs: parts
// are killed as webhooks come in, and at the end the destination is held against
// the provider's own book.
//
// Its test has the build tag "containers", since it needs what scripts/containers
// starts, which also runs it.
package containers
