// Package goldentest holds tests that read every golden volume through
// chain.View and compare what a mount would show with the manifests: names,
// types, modes, owners, times, link counts, numbers, targets and content.
//
// Not here: reading the same bytes without a tree (ondisk), judging the
// volumes (chain/fsck).
package goldentest
