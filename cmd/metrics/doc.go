// Package metrics serves the status of a mount to Prometheus.
//
//	GET /metrics -> Collector -> one look at the status -> series
//
// A scrape reads what is counted anyway and does no I/O, so that it answers
// while the filesystem is stalled. The endpoint has no password: it listens on
// loopback unless the operator says otherwise.
//
// Not here: counting (ondisk/metered, cluster, fs).
package metrics
