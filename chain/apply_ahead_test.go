package chain

import (
	"testing"

	"github.com/anvilfs/anvilfs/ondisk"
)

// inodesPFS is a PFS with that many files, and a batch that deletes or changes
// all of them; nothing is cached.
func inodesPFS(t testing.TB, count uint64) (p *memPFS, change *Batch) {
	t.Helper()
	p = newMemPFS(t, newMemBlocks(), "P")
	b := &Batch{T: 100}
	change = &Batch{T: 101}
	for inum := uint64(1024); inum < 1024+count; inum++ {
		b.Changes = append(b.Changes, Change{Inum: inum, Kind: KindInode, Inode: fileMeta(inum)})
		c := Change{Inum: inum, Kind: KindInode, Delete: true}
		if inum%3 == 0 {
			c = Change{Inum: inum, Kind: KindInode, Inode: fileMeta(inum)}
			c.Inode.Mode = 0o123
		}
		change.Changes = append(change.Changes, c)
	}
	p.mustApply(t, b)
	p.cache = newTableCache(0)
	p.reads.Store(0)
	return p, change
}

// Inodes that go or change together are read together: alone are read tables.
func TestApplyReadsInodesTogether(t *testing.T) {
	const count = 2000
	p, change := inodesPFS(t, count)
	p.mustApply(t, change)
	if n := p.reads.Load(); n > count/20 {
		t.Errorf("%d blocks were read one by one for %d inodes", n, count)
	}
	p.check(t)
}

// One that is damaged can be deleted as before, with the others around it.
func TestApplyTogetherWithDamage(t *testing.T) {
	p, change := inodesPFS(t, 200)
	v := p.view(t)
	rec, ok, err := v.Inode(t.Context(), 1024+1)
	if err != nil || !ok || rec.Ref.Type != ondisk.TypeInode {
		t.Fatal(rec, ok, err)
	}
	p.blocks[rec.Ref.Off()][7] ^= 1
	p.cache = newTableCache(0)
	p.mustApply(t, change)
	p.check(t)
}

// BenchmarkApplyDeletes deletes files from a volume, 2000 at a time.
func BenchmarkApplyDeletes(b *testing.B) {
	v := benchVolume(b)
	const each = 2000
	made, tid := uint64(0), uint32(0)
	for b.Loop() {
		b.StopTimer()
		create, gone := &Batch{}, &Batch{}
		for range each {
			made++
			inum := 5000 + made
			create.Changes = append(create.Changes, Change{Inum: inum, Kind: KindInode, Inode: fileMeta(inum)})
			gone.Changes = append(gone.Changes, Change{Inum: inum, Kind: KindInode, Delete: true})
		}
		create.T, gone.T = ondisk.MakeTid(1, tid+1), ondisk.MakeTid(1, tid+2)
		tid += 2
		if err := commitBatch(v, "DATA", create); err != nil {
			b.Fatal(err)
		}
		v.cache = newTableCache(0)
		b.StartTimer()
		if err := commitBatch(v, "DATA", gone); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/each, "ns/inode")
}
