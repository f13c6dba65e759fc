package scrub

import (
	"slices"
	"testing"

	"github.com/anvilfs/anvilfs/chain/media"
	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/ondisk"
)

// rot damages a block of a member that is mounted.
func (r *rig) rot(member int, ref ondisk.Blockref) {
	r.Helper()
	_, err := r.devs[member].WriteAt([]byte("damage"), int64(ref.Off()))
	r.must(err)
}

// roots are the super-root of a member that is mounted, and the roots below it.
func (r *rig) roots(member int) (super ondisk.Blockref, of map[string]media.PFS) {
	r.Helper()
	set, err := media.Open([]ondisk.Device{r.devs[member]})
	r.must(err)
	list, err := set.PFSs(r.ctx, set.Header())
	r.must(err)
	of = make(map[string]media.PFS)
	for i := range list {
		of[list[i].Meta.Name()] = list[i]
	}
	return media.SuperRoot(set.Header()), of
}

// Symptom: roots that rotted while their volume was open, or the super-root, were
// read from memory: a scrub found nothing, or gave the node up, and at the next mount
// the member could not be opened.
func TestScrubReadsRoots(t *testing.T) {
	r := newRig(t, 3)
	inums := r.fill(6)
	_, err := r.pool.SnapshotCreate(r.ctx, "one", false)
	r.must(err)
	r.rewrite(inums, 77)
	r.must(r.pool.Wait(r.ctx, cluster.WaitSnapshots))
	super, of := r.roots(1)
	r.rot(1, super)
	was := of["one"]
	r.rot(1, was.Ref)
	_, of = r.roots(2)
	r.rot(2, of[label].Ref)
	var said []string
	r.told(func(d cluster.Damage, path string, err error) {
		if said = append(said, d.Node+" "+path); err != nil {
			t.Errorf("%s %s: %v", d.Node, path, err)
		}
	})
	rep := r.scrub()
	slices.Sort(said)
	if want := []string{"m1 /.anvilfs/snapshots/one", "m1 the super-root", "m2 /"}; !slices.Equal(said, want) {
		t.Errorf("found %q, want %q", said, want)
	}
	if rep.Bad != 3 || rep.Repaired != 3 || rep.Unrepaired != 0 || r.end != nil {
		t.Errorf("%+v %v", rep, r.end)
	}
	_, of = r.roots(1)
	if is := of["one"]; is.Ref.Off() == was.Ref.Off() || !slices.Equal(is.Set, was.Set) {
		t.Error("the snapshot was copied, and not its root written anew")
	}
	if again := r.scrub(); again.Bad != 0 || again.Snapshots != 1 {
		t.Errorf("a second scrub: %+v", again)
	}
	r.unmount()
	for m := range 3 {
		r.has(m, "one", inums, 0)
	}
	r.mount()
	r.unmount()
}
