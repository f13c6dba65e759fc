package chain

import "fmt"

// A limit is what a transaction must leave free, and how it is counted.
type limit struct {
	room uint64
	kept func() bool // whether snapshots keep what was dropped
	net  int64       // bytes taken and not given back, by the transaction; what it may share counts as kept
	held int64       // of what was given back, what snapshots may keep
}

// Leave has Commit refuse, with ErrNoSpace, what makes the volume fuller than it
// is and leaves less than room bytes: a node that others do not ask before they
// write must not get so full that nothing can be removed from it any more. What
// makes it emptier may take all that is free. kept says whether snapshots keep
// what is dropped; it is asked only if that matters.
func (t *Txn) Leave(room uint64, kept func() bool) { t.limit.room, t.limit.kept = room, kept }

// crowds returns why the transaction takes more than it may.
func (t *Txn) crowds() error {
	l := &t.limit
	if t.v.fm.usable >= l.room || l.net+l.held <= 0 || l.net <= 0 && !l.kept() {
		return nil
	}
	return fmt.Errorf("%s: %d bytes would be left: %w", t.v.Name(), t.v.fm.usable, ErrNoSpace)
}
