package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cmd/advice"
	"github.com/anvilfs/anvilfs/ondisk"
)

// A lostRoot is a PFS of a volume whose root cannot be read.
type lostRoot struct {
	vol   *chain.Volume
	key   uint64
	stale []ondisk.UUID // state entries that are nobody's once it is gone
}

// deleteDamaged removes roots that cannot be read. Their names are in them: which are
// meant is told by their keys, which are made of the names.
func deleteDamaged(ctx context.Context, w io.Writer, words, label string) (err error) {
	vols, end, err := volumesOf(ctx, words)
	if err != nil {
		return err
	}
	defer end(&err)
	var lost []lostRoot
	for _, v := range vols {
		some, err := lostOn(ctx, v, label)
		if err != nil {
			return err
		}
		lost = append(lost, some...)
	}
	if len(lost) == 0 {
		return fmt.Errorf("no root on %s that cannot be read is that of %s: anvilfs pfs list shows what there is", words, label)
	}
	for _, l := range lost {
		if err := l.drop(ctx); err != nil {
			return err
		}
		fmt.Fprintf(advice.Lines(w), "%s: the root %016x, which cannot be read, is deleted: anvilfs bulkfree finds the space\n", l.vol.Name(), l.key)
	}
	return nil
}

// lostOn are those of a volume that a label, or a key, names.
func lostOn(ctx context.Context, v *chain.Volume, label string) (lost []lostRoot, err error) {
	infos, _ := v.PFSs(ctx) // what it could not read comes next
	keys, err := v.UnreadableRoots(ctx)
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(infos, func(p chain.PFSInfo) bool { return p.Label == label }) {
		return nil, fmt.Errorf("%s of %s can be read: delete it without --damaged", label, v.Name())
	}
	named := func(key uint64) bool { return key&^ondisk.CollisionMask == ondisk.NameHash(label) }
	if key, ok := keyOf(label); ok && slices.Contains(keys, key) {
		named = func(k uint64) bool { return k == key }
	}
	for _, key := range keys {
		if named(key) {
			lost = append(lost, lostRoot{vol: v, key: key})
		}
	}
	if len(lost) == 0 || len(lost) < len(keys) {
		return lost, nil // an entry may be that of another one
	}
	last := &lost[len(lost)-1]
	for _, s := range v.Header().States {
		if !slices.ContainsFunc(infos, func(p chain.PFSInfo) bool { return p.Fsid == s.Fsid }) {
			last.stale = append(last.stale, s.Fsid)
		}
	}
	return lost, nil
}

// keyOf is a key as errors have it.
func keyOf(word string) (key uint64, ok bool) {
	digits := strings.TrimPrefix(word, "0x")
	key, err := strconv.ParseUint(digits, 16, 64)
	return key, err == nil && len(digits) == 16
}

func (l *lostRoot) drop(ctx context.Context) error {
	t, err := l.vol.Begin(ctx)
	if err != nil {
		return err
	}
	t.UseReserve() // it gives space back
	if _, err := t.DropUnreadableRoot(ctx, l.key); err != nil {
		t.Abort()
		return err
	}
	for _, fsid := range l.stale {
		t.ClearState(fsid)
	}
	return t.Commit(ctx)
}

// rootsLost adds to an error about roots that cannot be read what can be done.
func rootsLost(ctx context.Context, v *chain.Volume, word string, damage error) error {
	keys, err := v.UnreadableRoots(ctx)
	if err != nil || len(keys) == 0 {
		return damage
	}
	return fmt.Errorf("%w: copy out what can be read of it (anvilfs recover), or mount it with members that have it; "+
		"anvilfs pfs delete --damaged %s %016x gives it up", damage, advice.Quote(word), keys[0])
}
