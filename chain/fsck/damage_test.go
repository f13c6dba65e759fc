package fsck

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/chain/media"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
)

var bg = context.Background()

// A maker builds a volume of our own, so that it can be wrong in one point.
type maker struct {
	*testing.T
	dev   *memdev.Device
	batch chain.Batch
}

func newMaker(t *testing.T, size int64) *maker {
	m := &maker{T: t, dev: memdev.New(size)}
	if _, err := chain.Format(bg, []ondisk.Device{m.dev}, chain.FormatOptions{}); err != nil {
		t.Fatal(err)
	}
	return m
}

func (m *maker) inode(inum uint64, typ ondisk.ObjType, edit func(*ondisk.InodeMeta)) {
	meta := ondisk.NewInodeMeta(inum, typ)
	meta.Mode, meta.Nlinks, meta.Iparent = 0o644, 1, ondisk.InumRoot
	meta.CompAlgo, meta.CheckAlgo = uint8(ondisk.CompLZ4), uint8(ondisk.CheckXXHash64)
	if edit != nil {
		edit(&meta)
	}
	m.batch.Changes = append(m.batch.Changes, chain.Change{Inum: inum, Kind: chain.KindInode, Inode: &meta})
}

func (m *maker) entry(dir uint64, name string, inum uint64, typ ondisk.ObjType) {
	key := ondisk.NameHash(name)
	m.batch.Changes = append(m.batch.Changes, chain.Change{Inum: dir, Kind: chain.KindDirent, Key: key,
		Dirent: ondisk.Dirent{Key: key, Inum: inum, Type: typ, Name: name}})
}

func (m *maker) data(inum, off uint64, p []byte) {
	blk, _, err := ondisk.EncodeData(p, uint8(ondisk.CompNone), uint8(ondisk.CheckXXHash64))
	if err != nil {
		m.Fatal(err)
	}
	m.batch.Changes = append(m.batch.Changes, chain.Change{Inum: inum, Kind: chain.KindData, Key: off, Block: blk})
}

// commit writes the changes so far, and what more does.
func (m *maker) commit(tid ondisk.Tid, more func(*chain.Txn) error) {
	m.Helper()
	v, err := chain.Open(bg, []ondisk.Device{m.dev}, chain.Options{})
	if err != nil {
		m.Fatal(err)
	}
	txn, err := v.Begin(bg)
	if err != nil {
		m.Fatal(err)
	}
	m.batch.T = tid
	m.batch.Sort()
	err = txn.Apply(bg, "DATA", &m.batch)
	if err == nil && more != nil {
		err = more(txn)
	}
	if err == nil {
		err = txn.Commit(bg)
	}
	if err != nil {
		m.Fatal(err)
	}
	m.batch = chain.Batch{}
	if err := v.Close(); err != nil {
		m.Fatal(err)
	}
	m.dev.Reopen()
}

// tree makes directories and files that are all right.
func (m *maker) tree() {
	m.inode(1024, ondisk.ObjDir, nil)
	m.entry(ondisk.InumRoot, "dir", 1024, ondisk.ObjDir)
	for i := range uint64(300) {
		name := fmt.Sprint("file", i)
		m.inode(2000+i, ondisk.ObjFile, func(meta *ondisk.InodeMeta) { meta.Size, meta.Iparent = 70000, 1024 })
		m.entry(1024, name, 2000+i, ondisk.ObjFile)
		block := make([]byte, 65536)
		copy(block, name)
		m.data(2000+i, 0, block)
		m.data(2000+i, 65536, []byte(name))
	}
	attrs, err := ondisk.EncodeXattrs([]ondisk.Xattr{{Name: "user.x", Value: []byte("y")}})
	if err != nil {
		m.Fatal(err)
	}
	m.inode(ondisk.AttrBit|2000, ondisk.ObjFile, func(meta *ondisk.InodeMeta) {
		meta.OpFlags, meta.Size, meta.Iparent = ondisk.OpDirectData, uint64(len(attrs)), 2000
	})
	m.batch.Changes[len(m.batch.Changes)-1].Inline = attrs
	m.inode(ondisk.InumCluster, ondisk.ObjFile, func(meta *ondisk.InodeMeta) { meta.OpFlags = ondisk.OpDirectData })
}

func TestOwnVolumesAreClean(t *testing.T) {
	for _, size := range []int64{1 << 30, 9 << 30} {
		m := newMaker(t, size)
		if rep := check(t, Options{AllSlots: true}, m.dev); !rep.Clean() || rep.Foreign {
			t.Fatalf("fresh: %v", rep.Findings)
		}
		m.tree()
		m.commit(ondisk.MakeTid(1, 1), nil)
		m.commit(ondisk.MakeTid(1, 2), func(txn *chain.Txn) error { return txn.Snapshot(bg, "DATA", "SNAP", chain.SnapSpec{}) })
		m.batch.Changes = []chain.Change{{Inum: 2007, Kind: chain.KindData, Key: 0, Delete: true}}
		m.commit(ondisk.MakeTid(1, 3), nil)
		rep := check(t, Options{AllSlots: true}, m.dev)
		if !rep.Clean() {
			t.Errorf("with files and a snapshot: %v", rep.Findings)
		}
		for _, p := range rep.PFSs {
			if p.Label != "LOCAL" && (p.Inodes != 303 || p.Entries != 301 || p.Attributes != 1) {
				t.Errorf("%+v", p)
			}
		}
	}
}

// Rules between inodes and names, each broken once.
func TestNames(t *testing.T) {
	free := func(*ondisk.InodeMeta) {}
	for _, c := range []struct {
		name     string
		breakIt  func(m *maker)
		severity Severity
		want     []string
	}{
		{"dangling entry", func(m *maker) { m.entry(1024, "lost", 1999, ondisk.ObjFile) }, Error, []string{"/dir/lost", "does not exist"}},
		{"unnamed", func(m *maker) { m.inode(3000, ondisk.ObjFile, free) }, Error, []string{"inode 3000", "no entry names"}},
		{"orphan", func(m *maker) { m.inode(3000, ondisk.ObjFile, func(i *ondisk.InodeMeta) { i.Nlinks = 0 }) }, Info, []string{"inode 3000", "orphan"}},
		{"link count", func(m *maker) { m.entry(1, "second", 2005, ondisk.ObjFile) }, Error, []string{"inode 2005", "2 entries name it"}},
		{"type copy", func(m *maker) {
			m.inode(3000, ondisk.ObjFIFO, free)
			m.entry(1, "pipe", 3000, ondisk.ObjSocket)
		}, Error, []string{"/pipe", "says socket, the inode fifo"}},
		{"two parents", func(m *maker) { m.entry(1, "again", 1024, ondisk.ObjDir) }, Error, []string{"inode 1024", "2 entries name this directory"}},
		{"parent", func(m *maker) {
			m.inode(3000, ondisk.ObjDir, func(i *ondisk.InodeMeta) { i.Iparent = 2 })
			m.entry(1024, "sub", 3000, ondisk.ObjDir)
		}, Warning, []string{"/dir/sub", "says its parent is directory 2"}},
		{"loop", func(m *maker) {
			m.inode(3000, ondisk.ObjDir, func(i *ondisk.InodeMeta) { i.Iparent = 3001 })
			m.inode(3001, ondisk.ObjDir, func(i *ondisk.InodeMeta) { i.Iparent = 3000 })
			m.entry(3000, "b", 3001, ondisk.ObjDir)
			m.entry(3001, "a", 3000, ondisk.ObjDir)
		}, Error, []string{"inside of itself"}},
		{"attributes of nobody", func(m *maker) {
			m.inode(ondisk.AttrBit|1999, ondisk.ObjFile, func(i *ondisk.InodeMeta) { i.Iparent, i.OpFlags, i.Size = 1999, ondisk.OpDirectData, 16 })
			m.batch.Changes[len(m.batch.Changes)-1].Inline = append([]byte("ANVXATR1"), make([]byte, 8)...)
		}, Warning, []string{"attributes of inode 1999, which is gone"}},
		{"bad attributes", func(m *maker) {
			m.inode(ondisk.AttrBit|2001, ondisk.ObjFile, func(i *ondisk.InodeMeta) { i.Iparent, i.OpFlags, i.Size = 2001, ondisk.OpDirectData, 16 })
			m.batch.Changes[len(m.batch.Changes)-1].Inline = []byte("junk")
		}, Error, []string{"/dir/file1 ", "extended attributes"}},
		{"named cluster inode", func(m *maker) { m.entry(1, "cluster", 2, ondisk.ObjFile) }, Error, []string{"an inode of the filesystem's own has a name"}},
		{"one name twice", func(m *maker) {
			m.entry(1, "dir", 2000, ondisk.ObjFile)
			c := &m.batch.Changes[len(m.batch.Changes)-1]
			c.Key++
			c.Dirent.Key++
		}, Error, []string{`"dir" is there twice`}},
		{"data behind the end", func(m *maker) { m.data(2003, 1<<20, []byte("x")) }, Warning, []string{"/dir/file3", "behind the end"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMaker(t, 1<<30)
			m.tree()
			c.breakIt(m)
			m.commit(ondisk.MakeTid(1, 1), nil)
			rep := check(t, Options{}, m.dev)
			if !has(rep, c.severity, c.want...) {
				t.Errorf("no %v with %q in %v", c.severity, c.want, rep.Findings)
			}
		})
	}
}

// find returns the blockref of an inode of DATA, or of its first child of a type.
func (m *maker) find(inum uint64, typ ondisk.BlockType) ondisk.Blockref {
	m.Helper()
	set, err := media.Open([]ondisk.Device{m.dev})
	if err != nil {
		m.Fatal(err)
	}
	list, err := set.PFSs(bg, set.Header())
	if err != nil {
		m.Fatal(err)
	}
	for i := range list {
		if list[i].Label() != "DATA" {
			continue
		}
		ref, refs := list[i].Ref, list[i].Set
		if inum != ondisk.InumRoot {
			if ref, err = set.Find(bg, list[i].Set, inum); err != nil {
				m.Fatal(err)
			}
			_, _, refs, _ = set.Inode(&ref)
		}
		if typ == ondisk.TypeInode {
			return ref
		}
		for k := range refs {
			if refs[k].Type == typ {
				return refs[k]
			}
		}
	}
	m.Fatalf("no %v below inode %d", typ, inum)
	return ondisk.Blockref{}
}

// Every kind of block, flipped.
func TestFlippedBlocks(t *testing.T) {
	for _, c := range []struct {
		name string
		inum uint64
		typ  ondisk.BlockType
		want []string
	}{
		{"data", 2007, ondisk.TypeData, []string{"/dir/file7 ", "bytes from 0 on", "damaged"}},
		{"inode", 2007, ondisk.TypeInode, []string{"inode 2007", "damaged"}},
		{"directory table", 1024, ondisk.TypeIndirect, []string{"/dir ", "damaged"}},
		{"index table", 1, ondisk.TypeIndirect, []string{"DATA", "damaged"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMaker(t, 1<<30)
			m.tree()
			m.commit(ondisk.MakeTid(1, 1), nil)
			ref := m.find(c.inum, c.typ)
			if _, err := m.dev.WriteAt([]byte{0xA5}, int64(ref.Off())+int64(ref.Size())-1); err != nil {
				t.Fatal(err)
			}
			if rep := check(t, Options{}, m.dev); !has(rep, Error, c.want...) {
				t.Errorf("no error with %q in %v", c.want, rep.Findings)
			}
		})
	}
}

// edit changes the newest header and gives it good codes.
func (m *maker) edit(fn func(h *ondisk.VolumeHeader)) {
	set, err := media.Open([]ondisk.Device{m.dev})
	if err != nil {
		m.Fatal(err)
	}
	h := set.Header().Clone()
	fn(h)
	b := make([]byte, ondisk.HeaderSize)
	h.Encode(b)
	if _, err := m.dev.WriteAt(b, set.Best.Off); err != nil {
		m.Fatal(err)
	}
}

// editLeaf changes the first freemap leaf and gives it good codes.
func (m *maker) editLeaf(fn func(leaf *[ondisk.FreemapRefs]ondisk.FreemapEntry)) {
	m.edit(func(h *ondisk.VolumeHeader) {
		r := &h.Freemap[0]
		b := make([]byte, ondisk.FreemapBlockSize)
		if _, err := m.dev.ReadAt(b, int64(r.Off())); err != nil {
			m.Fatal(err)
		}
		leaf, err := ondisk.DecodeFreemapLeaf(b)
		if err != nil {
			m.Fatal(err)
		}
		fn(leaf)
		ondisk.EncodeFreemapLeaf(b, leaf)
		if _, err := m.dev.WriteAt(b, int64(r.Off())); err != nil {
			m.Fatal(err)
		}
		r.SetCheck(b)
	})
}

// A damage is one way to be wrong, and what is to be said of it.
type damage struct {
	name     string
	breakIt  func(m *maker)
	severity Severity
	want     []string
}

// freemapDamages are wrong freemaps and headers.
func freemapDamages() []damage {
	return []damage{
		{"used but free", func(m *maker) {
			ref := m.find(2007, ondisk.TypeData)
			m.editLeaf(func(leaf *[ondisk.FreemapRefs]ondisk.FreemapEntry) {
				leaf[ref.Off()/ondisk.SegmentSize].SetState(int(ref.Off()%ondisk.SegmentSize/ondisk.ChunkSize), ondisk.ChunkFree)
			})
		}, Error, []string{"1 chunks in use are not marked"}},
		{"leak", func(m *maker) {
			m.editLeaf(func(leaf *[ondisk.FreemapRefs]ondisk.FreemapEntry) { leaf[200].SetState(3, ondisk.ChunkAllocated) })
		}, Info, []string{"16384 bytes are allocated, but nothing reaches"}},
		{"sum", func(m *maker) {
			m.editLeaf(func(leaf *[ondisk.FreemapRefs]ondisk.FreemapEntry) { leaf[200].Avail = 0 })
		}, Warning, []string{"counts 0 bytes free"}},
		{"reserved", func(m *maker) {
			m.editLeaf(func(leaf *[ondisk.FreemapRefs]ondisk.FreemapEntry) { leaf[0].SetState(9, ondisk.ChunkFree) })
		}, Error, []string{"where no block may be"}},
		{"no leaf", func(m *maker) {
			m.edit(func(h *ondisk.VolumeHeader) { h.Freemap = [4]ondisk.Blockref{} })
		}, Error, []string{"not marked as allocated"}},
		{"free sum", func(m *maker) {
			m.edit(func(h *ondisk.VolumeHeader) { h.AllocatorFree -= 16384 })
		}, Warning, []string{"bytes are free, the freemap"}},
		{"freemap tid", func(m *maker) {
			m.edit(func(h *ondisk.VolumeHeader) { h.FreemapTid = 1 })
		}, Error, []string{"newer than freemap_tid"}},
		{"header tid", func(m *maker) {
			m.edit(func(h *ondisk.VolumeHeader) { h.MirrorTid, h.FreemapTid = 20, 20 })
		}, Error, []string{"super-root has mirror_tid"}},
		{"no header", func(m *maker) {
			if _, err := m.dev.WriteAt(make([]byte, ondisk.MaxBlock), 0); err != nil {
				m.Fatal(err)
			}
		}, Warning, []string{"header slot 0", "empty"}},
	}
}

func TestFreemapAndHeader(t *testing.T) {
	for _, c := range freemapDamages() {
		t.Run(c.name, func(t *testing.T) {
			m := newMaker(t, 1<<30)
			m.tree()
			m.commit(ondisk.MakeTid(1, 1), nil)
			c.breakIt(m)
			rep := check(t, Options{}, m.dev)
			if !has(rep, c.severity, c.want...) {
				t.Errorf("no %v with %q in %v", c.severity, c.want, rep.Findings)
			}
		})
	}
}

// deepen puts a node between the header and the leaves of the freemap, as a
// volume has it of which more than four GiB were used.
func (m *maker) deepen() {
	m.edit(func(h *ondisk.VolumeHeader) {
		node := ondisk.Blockref{
			Type: ondisk.TypeFreemapNode, KeyBits: ondisk.ZoneRadix + 8, DataOff: ondisk.MakeDataOff(2*ondisk.MaxBlock, ondisk.FreemapBlockRadix),
			MirrorTid: h.FreemapTid, ModifyTid: h.FreemapTid,
		}
		node.SetMethods(ondisk.CheckFreemap, ondisk.CompNone)
		b := make([]byte, ondisk.FreemapBlockSize)
		ondisk.EncodeBlockrefs(b, h.Freemap[:1])
		if _, err := m.dev.WriteAt(b, int64(node.Off())); err != nil {
			m.Fatal(err)
		}
		node.SetCheck(b)
		h.Freemap[0] = node
	})
	if rep := check(m.T, Options{}, m.dev); !rep.Clean() {
		m.Fatalf("deepened: %v", rep.Findings)
	}
}

// freemapRef is the first freemap block of a level.
func (m *maker) freemapRef(level int) (ref ondisk.Blockref, set *media.Set) {
	m.Helper()
	set, err := media.Open([]ondisk.Device{m.dev})
	if err != nil {
		m.Fatal(err)
	}
	ref = set.Header().Freemap[0]
	for (int(ref.KeyBits)-ondisk.ZoneRadix)/8+1 > level {
		block, err := set.Read(&ref)
		if err != nil {
			m.Fatal(err)
		}
		refs, err := ondisk.DecodeBlockrefs(block)
		if err != nil {
			m.Fatal(err)
		}
		ref = refs[0]
	}
	return ref, set
}

// flipFreemap damages the first freemap block of a level.
func (m *maker) flipFreemap(level int) {
	m.Helper()
	ref, _ := m.freemapRef(level)
	if _, err := m.dev.WriteAt([]byte{0xA5}, int64(ref.Off())+4711); err != nil {
		m.Fatal(err)
	}
}

// A freemap that is wrong, or gone in part, is made up from the tree.
func TestFreemapRepair(t *testing.T) {
	cases := append(freemapDamages(),
		damage{name: "leaf unreadable", breakIt: func(m *maker) { m.flipFreemap(1) }},
		damage{name: "leaf below a node unreadable", breakIt: func(m *maker) { m.deepen(); m.flipFreemap(1) }},
		damage{name: "node unreadable", breakIt: func(m *maker) { m.deepen(); m.flipFreemap(2) }})
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			m := newMaker(t, 9<<30)
			m.tree()
			m.commit(ondisk.MakeTid(1, 1), nil)
			c.breakIt(m)
			ctx := context.Background()
			v, err := chain.Open(ctx, []ondisk.Device{m.dev}, chain.Options{DoubtFreemap: true})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := v.Bulkfree(ctx, chain.BulkfreeOptions{}); err != nil {
				t.Error(err)
			}
			if err := v.Close(); err != nil {
				t.Error(err)
			}
			m.dev.Reopen()
			rep := check(t, Options{}, m.dev)
			for _, f := range rep.Findings {
				if strings.Contains(f.What, "header slot") {
					continue // of headers, not of the freemap
				}
				t.Errorf("left: %v", f)
			}
			m.data(2003, 1<<20, []byte("it can be written"))
			m.commit(ondisk.MakeTid(2, 1), nil)
		})
	}
}

// What a power cut leaves is told, and is nothing wrong: a boot that checks
// before it mounts must go on.
func TestCutOffHeader(t *testing.T) {
	const spare = 63 * ondisk.MaxBlock
	for _, c := range []struct {
		what string
		size int64
		off  int64 // of the header that is torn
	}{
		{"the spare copy", 1 << 30, spare},
		{"the only slot", 1 << 30, 0},
		{"the slot due next", 3 << 30, ondisk.ZoneSize},
	} {
		m := newMaker(t, c.size)
		m.tree()
		for i := uint32(1); i < 4; i++ {
			m.commit(ondisk.MakeTid(1, i), nil)
		}
		off := c.off
		if c.size > 2<<30 { // whichever is not in use
			if off = 0; check(t, Options{}, m.dev).Headers[0].InUse {
				off = ondisk.ZoneSize
			}
		}
		if _, err := m.dev.WriteAt([]byte("junk"), off+0x4000); err != nil {
			t.Fatal(err)
		}
		rep := check(t, Options{}, m.dev)
		if !has(rep, Info, "header") {
			t.Errorf("%s: nothing is told: %v", c.what, rep.Findings)
		}
		for _, f := range rep.Findings {
			if f.Severity > Info {
				t.Errorf("%s: %v", c.what, f)
			}
		}
	}
}

func TestCancelled(t *testing.T) {
	m := newMaker(t, 1<<30)
	ctx, cancel := context.WithCancel(bg)
	cancel()
	if _, err := Check(ctx, []ondisk.Device{m.dev}, Options{}); err == nil {
		t.Error("a cancelled check gives a report")
	}
	if _, err := Check(bg, []ondisk.Device{memdev.New(1 << 30)}, Options{}); err == nil {
		t.Error("an empty device gives a report")
	}
}

// What a tree that cannot be read reaches is not called free when the freemap
// is made up from what can be read.
func TestFreemapRepairSparesUnreadable(t *testing.T) {
	m := newMaker(t, 9<<30)
	m.tree()
	m.commit(ondisk.MakeTid(1, 1), nil)
	m.deepen()
	data, table := m.find(2007, ondisk.TypeData), m.find(ondisk.InumRoot, ondisk.TypeIndirect)
	if _, err := m.dev.WriteAt([]byte{0xA5}, int64(table.Off())+int64(table.Size())-1); err != nil {
		t.Fatal(err)
	}
	m.flipFreemap(2)
	v, err := chain.Open(bg, []ondisk.Device{m.dev}, chain.Options{DoubtFreemap: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Bulkfree(bg, chain.BulkfreeOptions{}); err == nil {
		t.Error("space is looked for in a tree that cannot be read")
	}
	if err := v.RewriteHeaders(bg); err != nil {
		t.Error(err)
	}
	if err := v.Close(); err != nil {
		t.Error(err)
	}
	m.dev.Reopen()
	ref, set := m.freemapRef(1)
	block, err := set.Read(&ref)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := ondisk.DecodeFreemapLeaf(block)
	if err != nil {
		t.Fatal(err)
	}
	if s := leaf[data.Off()/ondisk.SegmentSize].State(int(data.Off() % ondisk.SegmentSize / ondisk.ChunkSize)); s != ondisk.ChunkAllocated {
		t.Errorf("a block of a file that nothing leads to any more is in state %v", s)
	}
}

// A snapshot that a member missed is copied in several commits: cut off, it is
// no damage, and is said to be unfinished, as a second root is.
func TestUnfinishedCopies(t *testing.T) {
	for _, prefix := range []string{shadowPrefix, copyPrefix} {
		m := newMaker(t, 64<<20)
		m.tree()
		m.commit(17, func(txn *chain.Txn) error {
			label := prefix + "00000001"
			if err := txn.Snapshot(bg, "DATA", label, chain.SnapSpec{Shadow: true}); err != nil {
				return err
			}
			meta := ondisk.NewInodeMeta(5000, ondisk.ObjFile) // its entry follows in a later commit
			meta.Nlinks, meta.Iparent = 1, ondisk.InumRoot
			return txn.Apply(bg, label, &chain.Batch{T: 18, Changes: []chain.Change{{Inum: 5000, Kind: chain.KindInode, Inode: &meta}}})
		})
		rep, err := Check(bg, []ondisk.Device{m.dev}, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if len(rep.Findings) != 1 || rep.Findings[0].Severity != Info || !strings.Contains(rep.Findings[0].What, "not ended") {
			t.Errorf("%s: %v", prefix, rep.Findings)
		}
	}
}
