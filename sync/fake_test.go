package resync

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/chain/fsck"
	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
)

var bg = context.Background()

// A world is one source and one target, without a protocol between them: the
// test decides what the source does and when.
type world struct {
	*testing.T
	rnd *rand.Rand

	src     *chain.Volume
	pos     cluster.Position
	lineage cluster.Lineage
	files   map[uint64]bool

	dev    *memdev.Device // of the target
	target *chain.Volume

	lastBytes int64 // of file data in the last txg

	known   bool             // the primary has the txgs after any position
	missed  []*chain.Batch   // these
	onPin   func()           // before a source is pinned
	pinned  cluster.Position // last one
	held    int
	joined  *cluster.Position
	reports []Report
}

const wLabel = "DATA"

func newWorld(t *testing.T, size int64) *world {
	w := &world{T: t, rnd: rand.New(rand.NewPCG(1, 2)), files: map[uint64]bool{}, known: true}
	w.lineage = *w.lineage.WithEpoch(1, cluster.Position{})
	w.src = w.format(memdev.New(4<<30), true)
	w.dev = memdev.New(size)
	w.target = w.format(w.dev, true)
	w.Cleanup(func() {
		w.src.Close()
		if w.target != nil {
			w.target.Close()
		}
	})
	return w
}

func (w *world) format(dev ondisk.Device, fresh bool) *chain.Volume {
	w.Helper()
	if fresh {
		if _, err := chain.Format(bg, []ondisk.Device{dev}, chain.FormatOptions{}); err != nil {
			w.Fatal(err)
		}
	}
	v, err := chain.Open(bg, []ondisk.Device{dev}, chain.Options{})
	if err != nil {
		w.Fatal(err)
	}
	return v
}

// txg makes a batch of the source's next txg: n files of size bytes, some of
// the old ones removed or rewritten.
func (w *world) txg(n, size int) *chain.Batch {
	w.Helper()
	b := &chain.Batch{T: w.pos.T + 1}
	if w.pos.IsZero() {
		b.T = ondisk.MakeTid(1, 1)
	}
	removed := 0
	for _, inum := range slices.Sorted(maps.Keys(w.files)) {
		if removed++; removed > n/4 {
			break
		}
		delete(w.files, inum)
		b.Changes = append(b.Changes,
			chain.Change{Inum: inum, Kind: chain.KindInode, Delete: true},
			chain.Change{Inum: 1, Kind: chain.KindDirent, Key: ondisk.NameHash(fmt.Sprint("f", inum)), Delete: true})
	}
	for range n {
		inum := uint64(b.T)<<20&0xFFFFFF00000 | w.rnd.Uint64N(1<<20) | 1<<44
		if w.files[inum] {
			continue
		}
		w.files[inum] = true
		w.file(b, inum, size)
	}
	b.Sort()
	return b
}

func (w *world) file(b *chain.Batch, inum uint64, size int) {
	meta := ondisk.NewInodeMeta(inum, ondisk.ObjFile)
	meta.Nlinks, meta.Iparent, meta.Size, meta.Mode = 1, 1, uint64(size), 0o600
	meta.CompAlgo, meta.CheckAlgo = uint8(ondisk.CompLZ4), uint8(ondisk.CheckXXHash64)
	name := fmt.Sprint("f", inum)
	key := ondisk.NameHash(name)
	b.Changes = append(b.Changes,
		chain.Change{Inum: inum, Kind: chain.KindInode, Inode: &meta},
		chain.Change{Inum: 1, Kind: chain.KindDirent, Key: key, Dirent: ondisk.Dirent{Key: key, Inum: inum, Type: ondisk.ObjFile, Name: name}})
	for off := 0; off < size; off += 65536 {
		p := make([]byte, min(65536, size-off))
		for i := 0; i+8 <= len(p); i += 8 {
			p[i], p[i+1], p[i+5] = byte(w.rnd.Uint32()), byte(w.rnd.Uint32()), byte(w.rnd.Uint32())
		}
		blk, _, err := ondisk.EncodeData(p, meta.CompAlgo, meta.CheckAlgo)
		if err != nil {
			w.Fatal(err)
		}
		b.Changes = append(b.Changes, chain.Change{Inum: inum, Kind: chain.KindData, Key: uint64(off), Block: blk})
	}
}

// commit applies a batch to a volume, which gets the position pos.
func (w *world) commit(v *chain.Volume, b *chain.Batch, pos cluster.Position) {
	w.Helper()
	txn, err := v.Begin(bg)
	if err != nil {
		w.Fatal(err)
	}
	e, _ := v.State(w.fsid(v))
	e.Fsid, e.T, e.H = w.fsid(v), pos.T, pos.H
	if err := errors.Join(txn.Apply(bg, wLabel, b), txn.SetState(e)); err != nil {
		w.Fatal(err)
	}
	if err := txn.Commit(bg); err != nil {
		w.Fatal(err)
	}
}

func (w *world) next(b *chain.Batch) cluster.Position {
	return cluster.Position{T: b.T, H: cluster.NextH(w.pos.H, b.T, 1, cluster.Manifest(b))}
}

// write makes a txg on the source; both also on the target.
func (w *world) write(n, size int, both bool) {
	w.Helper()
	b := w.txg(n, size)
	var rep Report
	rep.count(b)
	w.lastBytes = rep.BytesDone
	pos := w.next(b)
	w.commit(w.src, b, pos)
	if both {
		w.commit(w.target, b, pos)
	}
	w.pos = pos
}

func (w *world) fsid(v *chain.Volume) ondisk.UUID {
	w.Helper()
	list, err := v.PFSs(bg)
	if err != nil {
		w.Fatal(err)
	}
	for i := range list {
		if list[i].Label == wLabel {
			return list[i].Fsid
		}
	}
	w.Fatal("no PFS", wLabel)
	return ondisk.UUID{}
}

// Changed, and what follows it, is Peers.
func (w *world) Changed() <-chan struct{} { return nil }

func (w *world) ResyncWanted() []string { return []string{"target"} }

func (w *world) AcquireTarget(name string) (*cluster.ResyncTarget, func(), error) {
	e, _ := w.target.State(w.fsid(w.target))
	t := &cluster.ResyncTarget{Name: name, Volume: w.target, Label: wLabel, Resume: e, Lineage: w.lineage}
	t.Position = cluster.Position{T: e.T, H: e.H}
	return t, func() {}, nil
}

func (w *world) PinSource(ctx context.Context, not string) (cluster.Source, func(), error) {
	if w.onPin != nil {
		w.onPin()
	}
	v, err := w.src.View(bg, wLabel)
	if err != nil {
		return cluster.Source{}, nil, err
	}
	w.pinned = w.pos
	return cluster.Source{Name: "source", View: v, Position: w.pos, Lineage: w.lineage}, v.Release, nil
}

func (w *world) Hold(ctx context.Context, limit time.Duration, fn func(cluster.Position) error) error {
	w.held++
	write := w.onPin
	w.onPin = nil
	defer func() { w.onPin = write }()
	return fn(w.pos)
}

func (w *world) Join(_ *cluster.ResyncTarget, pos cluster.Position) error {
	e, _ := w.target.State(w.fsid(w.target))
	v, err := w.target.View(bg, wLabel)
	if err != nil {
		return err
	}
	defer v.Release()
	if e.T != pos.T || e.H != pos.H || v.T() != pos.T || e.ResyncGoal != 0 || e.ShadowKey != 0 {
		return fmt.Errorf("joined at %v: entry %+v, tree at %v", pos, e, v.T())
	}
	w.joined = &pos
	return nil
}

func (w *world) Retained(after cluster.Position) ([]*chain.Batch, bool) { return w.missed, w.known }

func (w *world) Admitted() uint64 { return 0 }

func (w *world) SpaceTaken() {}

func (w *world) SnapshotTargets(context.Context) []cluster.SnapshotTarget { return nil }

func (w *world) SnapshotSource(context.Context, *cluster.SnapshotEntry, ...string) (*chain.View, string, error) {
	return nil, "", errors.New("not part of the double")
}

func (w *world) SetResyncReport(name string, report any) {
	w.reports = append(w.reports, report.(Report))
}

// run steps a run to its end.
func (w *world) run(o Options) Report {
	w.Helper()
	r := NewRun(w, "target", o)
	defer r.Close()
	for range 10_000 {
		if !r.Step(bg) {
			return r.Report()
		}
	}
	w.Fatal("the run does not end")
	return Report{}
}

// same reports whether the target has exactly the leaves of the source.
func (w *world) same() bool {
	w.Helper()
	s, err := w.src.View(bg, wLabel)
	if err != nil {
		w.Fatal(err)
	}
	defer s.Release()
	d, err := w.target.View(bg, wLabel)
	if err != nil {
		w.Fatal(err)
	}
	defer d.Release()
	_, done, stats, err := chain.Diff(bg, s, d, 0, chain.Cursor{}, chain.DiffLimits{},
		func(chain.Change) error { return nil }, func(chain.Touch) error { return nil })
	if err != nil || !done {
		w.Fatal(done, err)
	}
	return stats.Changes == 0
}

// clean checks the target's volume, all of its headers.
func (w *world) clean() {
	w.Helper()
	rep, err := fsck.Check(bg, []ondisk.Device{w.dev}, fsck.Options{AllSlots: true})
	if err != nil {
		w.Fatal(err)
	}
	for _, f := range rep.Findings {
		// The names in these trees are made up.
		if f.Severity == fsck.Error {
			w.Errorf("%v", f)
		}
	}
}

func (w *world) labels() []string {
	list, err := w.target.PFSs(bg)
	if err != nil {
		w.Fatal(err)
	}
	var labels []string
	for i := range list {
		labels = append(labels, list[i].Label)
	}
	return labels
}
