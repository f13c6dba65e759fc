// Package doctor looks at a machine and says what a mount needs there, what it
// would gain from, and how to get it.
//
//	Machine (paths below a root, a user) -> checks, in order -> []Finding, worst first
//
// A check only looks: it opens nothing for writing, starts no program and
// mounts nothing, so that it can be run on a machine in trouble. What it looks
// at lies below Machine.Root, which tests fill as they like.
//
// Not here: volumes and mounts (fsck, status).
package doctor
