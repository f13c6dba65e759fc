package scrub

import (
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/ondisk"
	"golang.org/x/sys/unix"
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

// A mortal device gives nothing any more once it is dead, as a disk that was pulled.
type mortal struct {
	ondisk.Device
	dead *atomic.Bool
	left *atomic.Int64 // reads of data until then, while dying
}

func (d mortal) ReadAt(p []byte, off int64) (int, error) {
	if off > ondisk.ReservedSize && d.left.Load() > 0 && d.left.Add(-1) == 0 {
		d.dead.Store(true)
	}
	if d.dead.Load() {
		return 0, unix.EIO
	}
	return d.Device.ReadAt(p, off)
}

func (d mortal) WriteAt(p []byte, off int64) (int, error) {
	if d.dead.Load() {
		return 0, unix.EIO
	}
	return d.Device.WriteAt(p, off)
}

// Symptom: a disk that died while it was verified left places in files listed as bad,
// until somebody had them tried again, though nothing was wrong with any copy.
func TestDiskThatDies(t *testing.T) {
	r := newRig(t, 3)
	r.fill(80)
	r.unmount()
	var dead atomic.Bool
	var left atomic.Int64
	r.wrap = func(i int, d ondisk.Device) ondisk.Device {
		if i != 1 {
			return d
		}
		return mortal{d, &dead, &left}
	}
	r.mount()
	var bad []string
	r.told(func(d cluster.Damage, path string, err error) { bad = append(bad, d.String()) })
	left.Store(40)
	rep := r.scrub()
	if !dead.Load() {
		t.Fatal("it did not die")
	}
	if len(bad) > 0 || rep.Unrepaired > 0 {
		t.Errorf("%d told, %d counted as bad: %v", len(bad), rep.Unrepaired, bad)
	}
	i := slices.IndexFunc(rep.Lanes, func(l LaneReport) bool { return l.Node == "m1" })
	if i < 0 || rep.Lanes[i].Done || rep.Lanes[i].Err != errNotInSync.Error() && !strings.HasPrefix(rep.Lanes[i].Err, errGone.Error()+": ") {
		t.Errorf("lanes: %+v", rep.Lanes)
	}
	inSync := func() bool {
		nodes := r.pool.Status().Nodes
		i := slices.IndexFunc(nodes, func(n cluster.NodeStatus) bool { return n.Name == "m1" })
		return nodes[i].State == cluster.NodeInSync
	}
	if inSync() {
		t.Error("nobody noticed that it is gone")
	}

	// It is back in the middle of the next one, which goes on.
	dead.Store(false)
	r.must(r.pool.NodeOnline(r.ctx, "m1"))
	r.must(r.pool.Wait(r.ctx, cluster.WaitHealthy))
	left.Store(40)
	r.o.patience = time.Minute
	go func() {
		for r.ctx.Err() == nil && inSync() {
			<-time.After(time.Millisecond)
		}
		dead.Store(false)
		r.pool.NodeOnline(r.ctx, "m1")
	}()
	rep = r.scrub()
	if i := slices.IndexFunc(rep.Lanes, func(l LaneReport) bool { return l.Node == "m1" }); i < 0 || !rep.Lanes[i].Done || len(bad) > 0 {
		t.Errorf("%d told; lanes: %+v", len(bad), rep.Lanes)
	}
	r.unmount()
}
