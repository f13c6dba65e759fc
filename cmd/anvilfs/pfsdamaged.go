package main

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cmd/advice"
)

// deleteDamaged removes roots that cannot be read. Their names are in them: which are
// meant is told by their keys, which are made of the names. All volumes are looked at
// before one is changed.
func deleteDamaged(ctx context.Context, w io.Writer, words, label string) (err error) {
	vols, end, err := volumesOf(ctx, words)
	if err != nil {
		return err
	}
	defer end(&err)
	lost := make(map[*chain.Volume]chain.Lost)
	for _, v := range vols {
		l, err := v.Lost(ctx, label)
		if err != nil {
			return err
		}
		infos, _ := v.PFSs(ctx) // what cannot be read is what is looked for
		if slices.ContainsFunc(infos, func(p chain.PFSInfo) bool { return p.Label == label }) {
			return fmt.Errorf("%s of %s can be read: delete it without --damaged", label, v.Name())
		}
		if len(l.Keys) > 0 {
			lost[v] = l
		}
	}
	if len(lost) == 0 {
		return fmt.Errorf("no root on %s that cannot be read is that of %s: anvilfs pfs list shows what there is", words, label)
	}
	for _, v := range vols {
		if len(lost[v].Keys) == 0 {
			continue
		}
		if err := v.GiveUp(ctx, lost[v]); err != nil {
			return err
		}
		for _, key := range lost[v].Keys {
			fmt.Fprintf(advice.Lines(w), "%s: the root %016x, which cannot be read, is deleted: anvilfs bulkfree finds the space\n", v.Name(), key)
		}
	}
	return nil
}

// rootsLost adds to an error about roots that cannot be read what can be done.
func rootsLost(word string, keys []uint64, damage error) error {
	if len(keys) == 0 {
		return damage
	}
	return fmt.Errorf("%w: copy out what can be read of it (anvilfs recover), or mount it with members that have it; "+
		"anvilfs pfs delete --damaged %s %016x gives it up", damage, advice.Quote(word), keys[0])
}
