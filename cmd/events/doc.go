// Package events tells operators what happens to a mount: as lines of the log,
// and by a program of theirs, the hook.
//
//	pool: node states, quorum ──┐
//	status, looked at now and then:  ├─> Watcher ─> log
//	damage, space, commit errors ─┘        └─────> Hook: queue -> one program at a time
//
// Nothing here holds up the filesystem: the pool drops events that nobody
// takes, and the hook drops those that its queue has no room for. Both are
// counted and logged; the status has the truth.
//
// The hook's program gets the event in its environment (Event.Env), nothing on
// standard input, and hookLimit to end; then it and its children are killed.
//
// Not here: what to do about an event (cmd/advice).
package events
