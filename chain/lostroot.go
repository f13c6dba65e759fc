package chain

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/anvilfs/anvilfs/ondisk"
)

// Lost are PFSs of a volume whose roots cannot be read, and what else is theirs.
type Lost struct {
	Keys  []uint64      // of the roots, in order
	stale []ondisk.UUID // state entries that are nobody's without them
}

// Lost finds those that a word means: a label, of which keys are made, or a key as
// errors have it.
func (v *Volume) Lost(ctx context.Context, word string) (l Lost, err error) {
	infos, _ := v.PFSs(ctx) // what it could not read comes next
	all, err := v.UnreadableRoots(ctx)
	if err != nil {
		return Lost{}, err
	}
	means := func(key uint64) bool { return key&^ondisk.CollisionMask == ondisk.NameHash(word) }
	if key, ok := spelled(word); ok && slices.Contains(all, key) {
		means = func(k uint64) bool { return k == key }
	}
	for _, key := range all {
		if means(key) {
			l.Keys = append(l.Keys, key)
		}
	}
	if len(l.Keys) == 0 || len(l.Keys) < len(all) {
		return l, nil // an entry may be that of another one
	}
	for _, s := range v.Header().States {
		if !slices.ContainsFunc(infos, func(p PFSInfo) bool { return p.Fsid == s.Fsid }) {
			l.stale = append(l.stale, s.Fsid)
		}
	}
	return l, nil
}

// spelled is a key as errors have it.
func spelled(word string) (key uint64, ok bool) {
	digits := strings.TrimPrefix(word, "0x")
	key, err := strconv.ParseUint(digits, 16, 64)
	return key, err == nil && len(digits) == 16
}

// GiveUp deletes what was found to be lost, all of it in one commit. What the roots
// refer to is left to Bulkfree.
func (v *Volume) GiveUp(ctx context.Context, l Lost) error {
	t, err := v.Begin(ctx)
	if err != nil {
		return err
	}
	t.UseReserve() // it gives space back
	for _, key := range l.Keys {
		dropped, err := t.DropUnreadableRoot(ctx, key)
		if err == nil && !dropped {
			err = fmt.Errorf("%s: the root %016x can be read again: nothing was deleted", v.Name(), key)
		}
		if err != nil {
			t.Abort()
			return err
		}
	}
	for _, fsid := range l.stale {
		t.ClearState(fsid)
	}
	return t.Commit(ctx)
}
