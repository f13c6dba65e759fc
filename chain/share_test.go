package chain

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/anvilfs/anvilfs/ondisk"
)

// text is what a model says of the block.
func (s *Share) text() string { return fmt.Sprintf("%v %x", s.Comp, s.Code[:8]) }

// shares adds up to n changes to b that share blocks of v, and some that write
// one block to two places.
func (m *maker) shares(t testing.TB, v *View, b *Batch, n int) {
	t.Helper()
	taken := make(map[leafKey]bool)
	for _, c := range b.Changes {
		taken[leafKey{c.Inum, c.Kind, c.Key}] = true
	}
	gone := func(inum uint64) bool {
		return slices.ContainsFunc(b.Changes, func(c Change) bool { return c.Inum == inum && c.Kind == KindInode && c.Delete })
	}
	for range n {
		from, to := m.pick(), m.pick()
		if m.dirs[from] || m.dirs[to] || gone(to) {
			continue
		}
		if _, ok, err := v.Inode(bg, to); err != nil || !ok {
			continue
		}
		c := Change{Inum: to, Kind: KindData, Key: uint64(m.rnd.IntN(400)) * ondisk.LogicalBlock}
		if k := (leafKey{c.Inum, c.Kind, c.Key}); taken[k] {
			continue
		} else {
			taken[k] = true
		}
		if m.rnd.IntN(4) == 0 {
			c.Block, c.Twin = m.blocks[m.rnd.IntN(3)], true
			b.Changes = append(b.Changes, c)
			continue
		}
		at := uint64(m.rnd.IntN(400)) * ondisk.LogicalBlock
		err := v.DataRefs(bg, from, at, 1<<62, func(r *ondisk.Blockref) bool {
			c.Share, _ = ShareOf(from, r)
			return false
		})
		if err == nil && c.Share != nil {
			b.Changes = append(b.Changes, c)
		}
	}
	b.Sort()
}

// In memory nothing is freed that is reachable, and nothing is lost but what
// was shared.
func TestTreeWithSharedBlocks(t *testing.T) {
	for seed := range uint64(12) {
		p, m := newMemPFS(t, newMemBlocks(), "P"), newMaker(t, seed)
		total := 0
		for i := range 60 {
			b := m.batch(ondisk.Tid(100+i), 1+m.rnd.IntN(120))
			m.shares(t, p.view(t), b, m.rnd.IntN(20))
			if err := p.apply(b); err != nil {
				t.Fatalf("seed %d, batch %d: %v", seed, i, err)
			}
			for _, c := range b.Changes {
				if c.Share != nil {
					total++
				}
			}
			p.check(t)
		}
		compareView(t, p)
		if total < 50 || len(p.left) < 10 {
			t.Fatalf("seed %d: %d blocks shared, %d left: nothing was tested", seed, total, len(p.left))
		}
	}
}

// fillShared is fill with shared blocks.
func (l *life) fillShared(n int) {
	l.Helper()
	for range n {
		view, err := l.v.View(bg, "DATA")
		l.must(err)
		l.tid++
		b := l.m.batch(l.tid, 40)
		l.fit(b, l.models["DATA"])
		l.m.shares(l, view, b, 15)
		view.Release()
		l.must(commitBatch(l.v, "DATA", b))
		l.models["DATA"].apply(b)
		mustCheck(l, l.dev)
	}
}

// On a volume no chunk is reused while any place refers to it - what is freed
// is used again at once here - and after a bulkfree nothing is allocated but
// what is reachable.
func TestSharedBlocksOnAVolume(t *testing.T) {
	for seed := range uint64(6) {
		l := newLife(t, seed, 96<<20)
		for round := range 4 {
			l.fillShared(12)
			snap := fmt.Sprint("snap", round)
			switch round {
			case 1:
				l.must(l.txn(func(t *Txn) error { return l.snapshot(t, snap) }))
			case 2:
				l.must(l.txn(func(t *Txn) error { return t.DeletePFS(bg, "snap1") }))
				delete(l.models, "snap1")
			case 3:
				l.must(l.reopen())
			}
			l.fillShared(6)
			l.v.fm.alloc.at = [8]uint64{}
			for label, m := range l.models {
				checkView(t, l.v, label, m)
			}
		}
		_, err := l.v.Bulkfree(bg, BulkfreeOptions{})
		l.must(err)
		if reached := mustCheck(t, l.dev); l.used() != reached {
			t.Errorf("seed %d: used %d, reachable %d", seed, l.used(), reached)
		}
		l.must(l.v.Close())
	}
}

// A pass that runs while blocks are shared frees none of them.
func TestBulkfreeWhileSharing(t *testing.T) {
	for seed := range uint64(4) {
		l := newLife(t, seed, 128<<20)
		l.fillShared(10)
		var rep BulkfreeReport
		for pass := 1; pass <= 2; pass++ {
			b := &bulkPass{v: l.v, pass: pass, rep: &rep}
			l.must(b.begin(bg))
			l.fillShared(4)
			l.must(b.walk(bg))
			l.fillShared(4)
			l.must(b.merge(bg, 0, l.v.fm.zoneCount()))
			b.end()
		}
		l.fillShared(6)
		if rep.Rescued != 0 {
			t.Errorf("seed %d: %+v", seed, rep)
		}
		checkView(t, l.v, "DATA", l.models["DATA"])
	}
}

// big is a file of n whole blocks of its own.
func (l *life) big(inum uint64, n int) {
	l.Helper()
	l.tid++
	b := &Batch{T: l.tid, Changes: []Change{{Inum: inum, Kind: KindInode, Inode: fileMeta(inum)}}}
	for i := range uint64(n) {
		b.Changes = append(b.Changes, Change{Inum: inum, Kind: KindData, Key: i << 16, Block: encode(l, l.m.rnd, ondisk.LogicalBlock)})
	}
	l.must(commitBatch(l.v, "DATA", b))
	l.models["DATA"].apply(b)
}

// share makes the first n blocks of to those of from, in one batch with more.
func (l *life) share(from, to uint64, n int, more ...Change) *Batch {
	l.Helper()
	view, err := l.v.View(bg, "DATA")
	l.must(err)
	defer view.Release()
	l.tid++
	b := &Batch{T: l.tid, Changes: more}
	l.must(view.DataRefs(bg, from, 0, uint64(n)<<16, func(r *ondisk.Blockref) bool {
		s, ok := ShareOf(from, r)
		if !ok {
			l.Errorf("%v cannot be shared", r)
		}
		b.Changes = append(b.Changes, Change{Inum: to, Kind: KindData, Key: r.Key, Share: s})
		return true
	}))
	b.Sort()
	l.must(commitBatch(l.v, "DATA", b))
	l.models["DATA"].apply(b)
	return b
}

func (l *life) drop(inum uint64) {
	l.Helper()
	l.tid++
	b := &Batch{T: l.tid, Changes: []Change{{Inum: inum, Kind: KindInode, Delete: true}}}
	l.must(commitBatch(l.v, "DATA", b))
	l.models["DATA"].apply(b)
	l.must(l.v.DrainFrees(bg))
}

// Sharing takes no space. The blocks live as long as one place refers to them,
// are then found by a bulkfree, and what was written since is free at once.
func TestSharingIsFreeAndExact(t *testing.T) {
	const blocks = 64
	l := newLife(t, 3, 256<<20)
	l.big(5000, blocks)
	l.must(l.v.DrainFrees(bg))
	before := l.used()
	copied := Change{Inum: 5001, Kind: KindInode, Inode: fileMeta(5001)}
	l.share(5000, 5001, blocks, copied)
	l.must(l.v.DrainFrees(bg))
	if more := l.used() - before; more > 1<<20 {
		t.Errorf("a shared copy of %d blocks took %d bytes", blocks, more)
	}
	l.big(5001, blocks/2) // new content for half of it
	l.must(l.v.DrainFrees(bg))
	full := l.used()
	l.drop(5001)
	if freed := full - l.used(); freed < blocks/2<<16 || freed > blocks/2<<16+1<<20 {
		t.Errorf("%d bytes free at once, want those of the %d blocks written after the sharing", freed, blocks/2)
	}
	mustCheck(t, l.dev)
	checkView(t, l.v, "DATA", l.models["DATA"])
	full = l.used()
	l.drop(5000)
	if freed := full - min(full, l.used()); freed > 1<<20 {
		t.Errorf("%d bytes of what was shared are free without a bulkfree", freed)
	}
	_, err := l.v.Bulkfree(bg, BulkfreeOptions{})
	l.must(err)
	if l.used() != mustCheck(t, l.dev) || l.used() > before {
		t.Errorf("%d bytes used at the end, %d before the sharing", l.used(), before)
	}
	l.big(5002, blocks)
	full = l.used()
	l.drop(5002)
	if freed := full - l.used(); freed < blocks<<16 {
		t.Errorf("%d bytes of a file without shared blocks are free at once", freed)
	}
}

// A batch may take effect twice: also if it took the source away itself.
func TestSharingTwiceIsOnce(t *testing.T) {
	l := newLife(t, 5, 256<<20)
	l.big(5000, 4)
	b := l.share(5000, 5001, 4, Change{Inum: 5001, Kind: KindInode, Inode: fileMeta(5001)},
		Change{Inum: 5000, Kind: KindInode, Delete: true})
	if b.Changes[0].Kind != KindInode || !b.Changes[0].Delete {
		t.Fatal(b.Changes[0])
	}
	want := viewText(t, l.v)
	l.big(5000, 4) // other content, where the batch says its source is
	again := *b
	l.tid++
	again.T = l.tid
	l.must(commitBatch(l.v, "DATA", &again))
	if got := viewText(t, l.v); got != want {
		t.Errorf("after the second time:\n%s\nafter the first:\n%s", got, want)
	}
	mustCheck(t, l.dev)

	// Elsewhere there is no such block: nothing is made up.
	l.big(5003, 1)
	wrong := *b.Changes[len(b.Changes)-1].Share
	l.tid++
	err := commitBatch(l.v, "DATA", &Batch{T: l.tid, Changes: []Change{{Inum: 5003, Kind: KindData, Share: &wrong}}})
	if !errors.Is(err, ErrBadBatch) {
		t.Errorf("sharing what is not there: %v", err)
	}
}

func viewText(t *testing.T, v *Volume) string {
	view, err := v.View(bg, "DATA")
	if err != nil {
		t.Fatal(err)
	}
	defer view.Release()
	return fmt.Sprint(viewModel(t, view))
}

// The mark of an inode is the node's own: a record that comes from elsewhere
// leaves it alone, and it goes with the last block.
func TestSharedMark(t *testing.T) {
	l := newLife(t, 6, 256<<20)
	mark := func(inum uint64) ondisk.Tid {
		view, err := l.v.View(bg, "DATA")
		l.must(err)
		defer view.Release()
		rec, _, err := view.Inode(bg, inum)
		l.must(err)
		return rec.Meta.SharedTid
	}
	l.big(5000, 4)
	l.share(5000, 5001, 4, Change{Inum: 5001, Kind: KindInode, Inode: fileMeta(5001)})
	at := l.tid
	if src, dst, root := mark(5000), mark(5001), mark(1); src == 0 || src >= at || dst != at || root != at {
		t.Errorf("marks %v, %v and %v after sharing at %v", src, dst, root, at)
	}
	other := fileMeta(5001)
	other.SharedTid = 1 << 60
	l.tid++
	l.must(commitBatch(l.v, "DATA", &Batch{T: l.tid, Changes: []Change{{Inum: 5001, Kind: KindInode, Inode: other}}}))
	if got := mark(5001); got != at {
		t.Errorf("mark %v after a new record, want %v", got, at)
	}
	l.tid++
	l.must(commitBatch(l.v, "DATA", &Batch{T: l.tid, Changes: []Change{{Inum: 5001, Kind: KindData, Delete: true, To: 1 << 40}}}))
	if got := mark(5001); got != 0 {
		t.Errorf("mark %v without a block", got)
	}
}

// What a snapshot alone has is exact, whoever else has its blocks by now.
func TestUniqueBytesWithSharing(t *testing.T) {
	l := newLife(t, 7, 256<<20)
	unique := func() uint64 {
		t.Helper()
		return l.unique("snap", "DATA")
	}
	l.big(5000, 16)
	l.share(5000, 5001, 8, Change{Inum: 5001, Kind: KindInode, Inode: fileMeta(5001)})
	l.must(l.txn(func(t *Txn) error { return t.Snapshot(bg, "DATA", "snap", SnapSpec{}) }))
	l.models["snap"] = l.models["DATA"]
	l.share(5000, 5002, 16, Change{Inum: 5002, Kind: KindInode, Inode: fileMeta(5002)})
	l.drop(5000)
	l.drop(5001)
	if n := unique(); n > 1<<20 {
		t.Errorf("%d bytes unique while the copy has all of them", n)
	}
	l.drop(5002)
	if n := unique(); n < 16<<16 || n > 16<<16+1<<17 {
		t.Errorf("%d bytes unique, want those of 16 blocks, once", n)
	}
	full := l.used()
	l.must(l.txn(func(t *Txn) error { return t.DeletePFS(bg, "snap") }))
	_, err := l.v.Bulkfree(bg, BulkfreeOptions{})
	l.must(err)
	if freed := full - l.used(); freed < 16<<16 {
		t.Errorf("%d bytes freed with the snapshot", freed)
	}
}

// A scrub that passes over what it verified tells of every place that a bad
// block has.
func TestVerifyTellsEveryPlace(t *testing.T) {
	l := newLife(t, 8, 256<<20)
	l.big(5000, 8)
	l.share(5000, 5001, 8, Change{Inum: 5001, Kind: KindInode, Inode: fileMeta(5001)})
	view, err := l.v.ColdView(bg, "DATA")
	l.must(err)
	defer view.Release()
	l.must(view.DataRefs(bg, 5000, 3<<16, 3<<16+1, func(r *ondisk.Blockref) bool {
		_, err := l.dev.WriteAt([]byte("damage"), int64(r.Off()))
		l.must(err)
		return true
	}))
	var places []string
	_, done, stats, err := view.Verify(bg, VerifyPlace{}, 1<<40, NewVerified(), func(e *NodeError) error {
		places = append(places, fmt.Sprintf("%d %#x", e.Inum, e.Key))
		return nil
	})
	l.must(err)
	if fmt.Sprint(places) != "[5000 0x30000 5001 0x30000]" || !done || stats.Shared != 7<<16 {
		t.Errorf("bad: %v, %+v", places, stats)
	}
}

// A target shares what the source shares, over batches of any size, and has the
// same leaves.
func TestDiffKeepsSharing(t *testing.T) {
	for seed, limits := range []DiffLimits{{}, {Changes: 7}, {Bytes: 9000}, {Changes: 50}} {
		src, m := newMemPFS(t, newMemBlocks(), "SRC"), newMaker(t, uint64(seed))
		for i := range 40 {
			b := m.batch(ondisk.Tid(100+i), 40)
			m.shares(t, src.view(t), b, 12)
			src.mustApply(t, b)
		}
		count := func(p *memPFS) (leaves, blocks int) {
			places := make(map[uint64]bool)
			v := p.view(t)
			for _, inum := range m.inums {
				err := v.DataRefs(bg, inum, 0, 1<<62, func(r *ondisk.Blockref) bool {
					leaves++
					places[r.Off()] = true
					return true
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			return leaves, len(places)
		}
		leaves, blocks := count(src)
		for _, share := range []bool{true, false} {
			dst := newMemPFS(t, newMemBlocks(), "SRC")
			l := limits
			if share {
				l.Shared = NewSharedPlaces()
			}
			resync(t, src, dst, 0, src.view(t).T(), l)
			equalLeaves(t, src, dst)
			n, got := count(dst)
			if want := map[bool]int{true: blocks, false: leaves}[share]; n != leaves || got != want {
				t.Errorf("seed %d, %+v: %d leaves in %d blocks, want %d in %d", seed, limits, n, got, leaves, want)
			}
		}
		if leaves-blocks < 20 {
			t.Errorf("seed %d: %d leaves in %d blocks: nothing was tested", seed, leaves, blocks)
		}
	}
}
