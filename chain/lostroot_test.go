package chain

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/anvilfs/anvilfs/ondisk"
)

// Two roots of three cannot be read. State entries that are nobody's go with the last
// of them, since until then nobody knows whose they are; those of others stay.
func TestGiveUpLostRoots(t *testing.T) {
	l := newLife(t, 7, 256<<20)
	l.fill(3)
	ids := make(map[string]ondisk.UUID)
	l.must(l.txn(func(tx *Txn) error {
		return errors.Join(tx.CreatePFS(bg, PFSSpec{Label: "ONE"}), tx.CreatePFS(bg, PFSSpec{Label: "TWO"}))
	}))
	infos, err := l.v.PFSs(bg)
	l.must(err)
	keys := make(map[string]uint64)
	for i, p := range infos {
		if ids[p.Label], keys[p.Label] = p.Fsid, p.Key; p.Label == "LOCAL" {
			continue
		}
		l.must(l.txn(func(tx *Txn) error {
			return tx.SetState(ondisk.StateEntry{Fsid: p.Fsid, T: p.T, PromisedEpoch: uint32(i + 1), ConfigVersion: 1})
		}))
	}
	l.loseRoot("ONE")
	l.loseRoot("TWO")
	l.must(l.v.Close())
	l.dev.Reopen()
	l.v = openImage(t, l.dev, Options{})
	lost := func(word string, want ...string) Lost {
		t.Helper()
		found, err := l.v.Lost(bg, word)
		l.must(err)
		var list []uint64
		for _, label := range want {
			list = append(list, keys[label])
		}
		if !slices.Equal(found.Keys, list) {
			t.Errorf("by %q %x are lost, want %x", word, found.Keys, list)
		}
		return found
	}
	states := func(want ...string) {
		t.Helper()
		var got, ours []ondisk.UUID
		for _, s := range l.v.Header().States {
			got = append(got, s.Fsid)
		}
		for _, label := range want {
			ours = append(ours, ids[label])
		}
		if len(got) != len(ours) || slices.ContainsFunc(ours, func(u ondisk.UUID) bool { return !slices.Contains(got, u) }) {
			t.Errorf("there are entries of %v, want those of %q", got, want)
		}
	}
	for _, word := range []string{"DATA", "THREE", fmt.Sprintf("%016x", keys["DATA"]), fmt.Sprintf("%x", keys["ONE"]>>8)} {
		lost(word)
	}
	lost("TWO", "TWO")
	states("DATA", "ONE", "TWO")
	l.must(l.v.GiveUp(bg, lost(fmt.Sprintf("0x%016x", keys["ONE"]), "ONE")))
	states("DATA", "ONE", "TWO")
	l.must(l.v.GiveUp(bg, lost("TWO", "TWO")))
	states("DATA")
	lost("ONE")
	checkView(t, l.v, "DATA", l.models["DATA"])
	if _, err := l.v.Bulkfree(bg, BulkfreeOptions{}); err != nil {
		t.Errorf("space is not looked for: %v", err)
	}
	mustCheck(t, l.dev)
	l.must(l.v.Close())
}

// What can be read again is not deleted, and nothing else with it.
func TestGiveUpReadableRoot(t *testing.T) {
	l := newLife(t, 7, 256<<20)
	view, err := l.v.View(bg, "LOCAL")
	l.must(err)
	view.Release()
	entry := ondisk.StateEntry{Fsid: ondisk.NewUUID(), T: 1, ConfigVersion: 1}
	l.must(l.txn(func(tx *Txn) error { return tx.SetState(entry) }))
	if err := l.v.GiveUp(bg, Lost{Keys: []uint64{view.Root().Key}, stale: []ondisk.UUID{entry.Fsid}}); err == nil {
		t.Error("a root that can be read was given up")
	}
	if _, there := l.v.State(entry.Fsid); !there {
		t.Error("an entry went although nothing was given up")
	}
	l.must(l.v.Close())
}

// loseRoot damages the root of a PFS.
func (l *life) loseRoot(label string) {
	l.Helper()
	view, err := l.v.View(bg, label)
	l.must(err)
	root := view.Root()
	view.Release()
	_, err = l.dev.WriteAt([]byte("damage"), int64(root.Off()))
	l.must(err)
}
