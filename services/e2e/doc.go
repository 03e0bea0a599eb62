// Package e2e tests the whole pipeline from outside: real processes, a real
// NATS server, real senders and real destinations. Its tests are the only code
// here.
package e2e
