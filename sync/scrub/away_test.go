package scrub

import (
	"errors"
	"strings"
	"testing"

	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/ondisk"
)

// A clone and a snapshot have damaged tables on a member that is away: the one stays
// of another filesystem, and nobody is told to delete the other.
func TestDamageOnAMemberThatIsAway(t *testing.T) {
	r := newRig(t, 3)
	inums := r.fill(6)
	_, err := r.pool.SnapshotCreate(r.ctx, "one", false)
	r.must(err)
	r.must(r.pool.Wait(r.ctx, cluster.WaitSnapshots))
	r.must(r.pool.SnapshotClone(r.ctx, "one", "WORK", false))
	r.rewrite(inums, 77)
	r.unmount()
	r.flip(1, r.inodeRef(1, "one", inums[3])) // the clone shares it
	r.mount()
	damage := func(label string) cluster.Damage {
		return cluster.Damage{Node: "m1", Label: label, Leaf: cluster.Leaf{Inum: ondisk.InumRoot, Key: inums[3], Kind: ondisk.TypeInode}}
	}
	look := func(when string, snapshot error) {
		t.Helper()
		if err := r.peers.Repair(r.ctx, damage("WORK")); !errors.Is(err, cluster.ErrElsewhere) {
			t.Errorf("%s, of the clone: %v", when, err)
		}
		if err := r.peers.Repair(r.ctx, damage("one")); !errors.Is(err, snapshot) || err != nil && strings.Contains(err.Error(), "delete") {
			t.Errorf("%s, of the snapshot: %v, want %v", when, err, snapshot)
		}
	}
	r.must(r.pool.NodeOffline(r.ctx, "m1"))
	look("away", cluster.ErrNotInSync)
	r.must(r.pool.NodeOnline(r.ctx, "m1"))
	r.must(r.pool.Wait(r.ctx, cluster.WaitHealthy))
	look("back", nil)
	r.unmount()
}

// Symptom: what was bad in a file that was removed before it could be repaired stayed
// listed, and was tried again for ever.
func TestDamageOfWhatIsGone(t *testing.T) {
	r := newRig(t, 3)
	inum := r.fill(1)[0]
	_, err := r.pool.SnapshotCreate(r.ctx, "one", false)
	r.must(err)
	tx, err := r.pool.Begin(r.ctx, cluster.Cost{Leaves: 10})
	r.must(err)
	r.must(tx.RemoveDirent(ondisk.InumRoot, "f0"))
	tx.DeleteInode(inum)
	tx.End()
	_, err = r.pool.SnapshotCreate(r.ctx, "two", false)
	r.must(err)
	r.must(r.pool.Wait(r.ctx, cluster.WaitSnapshots))
	for _, pfs := range []string{label, "two"} {
		for _, l := range []cluster.Leaf{{Inum: inum, Key: 1 << 16, Kind: ondisk.TypeData}, {Inum: inum, Key: 1 << 63, Kind: ondisk.TypeDirent}} {
			if err := r.peers.Repair(r.ctx, cluster.Damage{Node: "m1", Label: pfs, Leaf: l}); err != nil {
				t.Error(err)
			}
		}
	}
	r.unmount()
}
