// Package histogram counts durations by size, cheaply enough for every request.
//
//	Add(3 ms) -> the bucket of (2.5 ms, 5 ms], and the sum
//
// There are no locks: a Snapshot taken while others add may have a sum that is
// one duration ahead of its buckets, or behind.
//
// Not here: what is measured (ondisk/metered, cluster, fs) and how it is shown.
package histogram
