// Package dashboards has the tests that hold dashboards and alerts against the
// real pipeline and a real Prometheus: "tercel up" runs against a simulated
// provider, Prometheus scrapes it, and every query of every dashboard must have
// an answer.
//
// They need prometheus and promtool on the PATH (Debian's package prometheus),
// and are skipped without; `.ci/run` gets them and doesn't let them be skipped.
package dashboards
