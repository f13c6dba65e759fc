package chain

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/anvilfs/anvilfs/ondisk"
)

// blocks are all blocks of a PFS, by a walk that knows nothing of others.
func (l *life) blocks(label string) map[uint64]uint64 {
	l.Helper()
	v, err := l.v.View(bg, label)
	l.must(err)
	defer v.Release()
	sizes := make(map[uint64]uint64)
	s := &treeScan{v: l.v, visit: func(r *ondisk.Blockref) { sizes[r.Off()] = uint64(r.Size()) }}
	l.must(s.run(bg, v.Root()))
	l.must(s.damage())
	return sizes
}

// naiveUnique is what UniqueBytes has to say.
func (l *life) naiveUnique(labels []string, of []int, groups int) []uint64 {
	l.Helper()
	who, sizes := make(map[uint64]int), make(map[uint64]uint64)
	for i, label := range labels {
		for off, size := range l.blocks(label) {
			if g, known := who[off]; known && g != of[i] {
				who[off] = ofOthers
			} else {
				who[off], sizes[off] = of[i], size
			}
		}
	}
	counts := make([]uint64, groups)
	for off, g := range who {
		if g != ofOthers {
			counts[g] += sizes[off]
		}
	}
	return counts
}

// What is unique to a snapshot, and to several together, is what a comparison
// of all blocks of all PFSs says, whatever they went through and share.
func TestUniqueBytesOfRandomPFSs(t *testing.T) {
	for seed := range uint64(8) {
		l := newLife(t, seed, 160<<20)
		rnd := rand.New(rand.NewPCG(seed, 1))
		if seed%2 == 1 {
			l.fillShared(8)
		} else {
			l.fill(10)
		}
		for i := range 30 {
			if op := 3 + l.m.rnd.IntN(12); op != 4 || seed%2 == 0 {
				l.must(l.step(op, i))
			} else {
				l.fillShared(2)
			}
		}
		var labels []string
		for label := range l.models {
			labels = append(labels, label)
		}
		if len(labels) < 4 {
			t.Fatalf("seed %d: %d PFSs: nothing is tested", seed, len(labels))
		}
		for groups := range len(labels) + 1 {
			of := make([]int, len(labels))
			for i := range of {
				if of[i] = i; groups < len(labels) {
					of[i] = rnd.IntN(groups+1) - 1
				}
			}
			got, want := l.uniques(labels, of, groups), l.naiveUnique(labels, of, groups)
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("seed %d, %v in groups %v: %d, want %d", seed, labels, of, got, want)
			}
		}
		l.must(l.v.Close())
	}
}

// What one of two has twice, and the other once, at a place where both have it, is
// unique to neither, whichever is looked through first.
func TestUniqueBytesOfLent(t *testing.T) {
	const blocks = 64
	l := newLife(t, 8, 256<<20)
	l.big(5000, blocks)
	l.big(6000, blocks)
	clid := l.snapOp("old")
	l.must(commitBatch(l.v, "DATA", l.restore("old", clid, 6000, 6001, blocks)))
	l.snapOp("new")
	l.drop(6001)
	l.must(commitBatch(l.v, "DATA", l.restore("old", clid, 5000, 5001, blocks)))
	labels := []string{"DATA", "new", "old"}
	for _, of := range [][]int{{0, 1, 2}, {1, 0, 2}, {2, 1, 0}, {0, 1, 0}, {0, 1, ofOthers}, {0, ofOthers, ofOthers}} {
		groups := slices.Max(of) + 1
		got, want := l.uniques(labels, of, groups), l.naiveUnique(labels, of, groups)
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("in groups %v: %d, want %d", of, got, want)
		}
	}
}

// countingSource counts reads, which no cache saves.
type countingSource struct {
	blockSource
	reads int
}

func (c *countingSource) readRaw(ctx context.Context, ref *ondisk.Blockref) ([]byte, error) {
	c.reads++
	return c.blockSource.readRaw(ctx, ref)
}

// A hundred snapshots are counted by reading what differs in each once, and not
// once for each other.
func TestUniqueBytesOfManySnapshots(t *testing.T) {
	const snaps = 100
	l := newLife(t, 3, 256<<20)
	l.fill(10)
	for i := range snaps {
		l.tid++
		l.must(commitBatch(l.v, "DATA", &Batch{T: l.tid, Changes: []Change{{Inum: 9000, Kind: KindInode, Inode: fileMeta(9000)}}}))
		l.snapOp(fmt.Sprint("s", i))
	}
	src := &countingSource{blockSource: l.v}
	var views []*View
	var of []int
	for i := range snaps {
		at, err := l.v.View(bg, fmt.Sprint("s", i))
		l.must(err)
		defer at.Release()
		v, err := newView(bg, src, newTableCache(1), at.Root(), nil)
		l.must(err)
		views, of = append(views, v), append(of, i)
	}
	src.reads = 0
	counts, err := UniqueBytes(bg, views, of, snaps)
	l.must(err)
	if src.reads > 10*snaps {
		t.Errorf("%d blocks read for %d snapshots", src.reads, snaps)
	}
	for i := range counts {
		if counts[i].Err != nil || counts[i].Bytes < ondisk.InodeSize {
			t.Errorf("snapshot %d: %+v", i, counts[i])
		}
	}
}

// Where a table cannot be read, what snapshots have that differ there is not
// known; of others it is.
func TestUniqueBytesOfDamaged(t *testing.T) {
	l := newLife(t, 4, 256<<20)
	l.big(5000, 4)
	l.snapOp("a")
	l.big(5000, 5)
	l.snapOp("b")
	l.big(5000, 6)
	labels, of := []string{"DATA", "LOCAL", "a", "b"}, []int{0, 1, 2, 3}
	var views []*View
	for _, label := range labels {
		v, err := l.v.View(bg, label)
		l.must(err)
		defer v.Release()
		views = append(views, v)
	}
	rec, ok, err := views[2].Inode(bg, 5000)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	src := &oneBad{l.v, rec.Ref.Off()}
	for i, v := range views {
		var err error
		views[i], err = newView(bg, src, newTableCache(1), v.Root(), nil)
		l.must(err)
	}
	counts, err := UniqueBytes(bg, views, of, len(labels))
	l.must(err)
	for i, c := range counts {
		if bad := labels[i] != "LOCAL"; bad != (c.Err != nil) {
			t.Errorf("%s: %+v", labels[i], c)
		}
	}
}

// oneBad has one block that cannot be read.
type oneBad struct {
	blockSource
	off uint64
}

func (o *oneBad) readRaw(ctx context.Context, ref *ondisk.Blockref) ([]byte, error) {
	if ref.Off() == o.off {
		return nil, ondisk.ErrCorrupt
	}
	return o.blockSource.readRaw(ctx, ref)
}
