package ondisk_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/golden"
)

// A tree is a golden volume, read the simplest way: everything into maps.
type tree struct {
	t      *testing.T
	dev    ondisk.Device
	header *ondisk.VolumeHeader
	pfs    map[string]*pfs
	blocks int
	bad    []string // blocks that fail their code
}

type pfs struct {
	inodes  map[uint64]*ondisk.Inode
	entries map[uint64][]ondisk.Dirent   // by directory
	data    map[uint64]map[uint64][]byte // by inode, by offset
	broken  map[uint64]bool              // inodes with a bad block
	types   map[ondisk.BlockType]int     // blocks met
	checks  map[ondisk.CheckMethod]int   // of data blocks
	comps   map[ondisk.CompMethod]int    // of data blocks
}

// readTree reads the newest good header of an image and all below it.
func readTree(t *testing.T, dev ondisk.Device) *tree {
	t.Helper()
	tr := &tree{t: t, dev: dev, pfs: map[string]*pfs{}}
	for _, off := range ondisk.SlotOffsets(uint64(dev.Size())) {
		b := make([]byte, ondisk.HeaderSize)
		if _, err := dev.ReadAt(b, off); err != nil {
			t.Fatal(err)
		}
		h, err := ondisk.DecodeVolumeHeader(b)
		if err != nil {
			continue
		}
		again := make([]byte, ondisk.HeaderSize)
		h.Encode(again)
		if !bytes.Equal(again, b) {
			t.Errorf("header at %#x changes when encoded again", off)
		}
		if tr.header == nil || h.MirrorTid > tr.header.MirrorTid {
			tr.header = h
		}
	}
	if tr.header == nil {
		t.Fatal("no good header")
	}
	for i := range tr.header.Freemap {
		tr.freemap(&tr.header.Freemap[i])
	}
	if root := &tr.header.Sroot[0]; root.Type == ondisk.TypeInode {
		ino, ok := tr.inode(root)
		if !ok {
			t.Fatal("bad super-root")
		}
		tr.walk(ino.Blockset, func(r *ondisk.Blockref) {
			if r.Type != ondisk.TypeInode {
				t.Errorf("%v under the super-root", r)
				return
			}
			if root, ok := tr.inode(r); ok {
				tr.readPFS(r, root)
			}
		}, nil)
	}
	return tr
}

// block reads and verifies what r points at; false if it is damaged.
func (tr *tree) block(r *ondisk.Blockref) ([]byte, bool) {
	b := make([]byte, r.Size())
	if _, err := tr.dev.ReadAt(b, int64(r.Off())); err != nil {
		tr.t.Fatal(err)
	}
	tr.blocks++
	if err := r.VerifyCheck(b); err != nil {
		if !errors.Is(err, ondisk.ErrCorrupt) {
			tr.t.Errorf("%v: not an ErrCorrupt", err)
		}
		tr.bad = append(tr.bad, err.Error())
		return nil, false
	}
	again := *r
	if again.SetCheck(b); again.Check != r.Check && again.CheckMethod() != ondisk.CheckNone && again.CheckMethod() != ondisk.CheckDisabled {
		tr.t.Errorf("%v: SetCheck differs beyond the code", r)
	}
	return b, true
}

// array decodes a block of blockrefs; encoding them must give it back, but
// for the order of empty elements.
func (tr *tree) array(b []byte) []ondisk.Blockref {
	refs, err := ondisk.DecodeBlockrefs(b)
	if err != nil {
		tr.t.Fatal(err)
	}
	var compact []byte
	for i := 0; i < len(b); i += ondisk.BlockrefSize {
		if b[i] != 0 {
			compact = append(compact, b[i:i+ondisk.BlockrefSize]...)
		}
	}
	compact = append(compact, make([]byte, len(b)-len(compact))...)
	again := make([]byte, len(b))
	ondisk.EncodeBlockrefs(again, refs)
	if !bytes.Equal(again, compact) {
		tr.t.Error("block array changes when encoded again")
	}
	return refs
}

func (tr *tree) inode(r *ondisk.Blockref) (*ondisk.Inode, bool) {
	b, ok := tr.block(r)
	if !ok {
		return nil, false
	}
	ino, err := ondisk.DecodeInode(b)
	if err != nil {
		tr.t.Fatalf("%v: %v", r, err)
	}
	if !ino.Meta.DirectData() {
		tr.array(b[ondisk.InodeMetaSize:])
	}
	again := make([]byte, ondisk.InodeSize)
	ino.Encode(again)
	end := ondisk.InodeSize
	if !ino.Meta.DirectData() {
		end = ondisk.InodeMetaSize // the rest was compared above
	}
	if !bytes.Equal(again[:end], b[:end]) {
		tr.t.Errorf("inode %d changes when encoded again", ino.Meta.Inum)
	}
	return &ino, true
}

func (tr *tree) freemap(r *ondisk.Blockref) {
	switch r.Type {
	case ondisk.TypeFreemapNode:
		if b, ok := tr.block(r); ok {
			for _, c := range tr.array(b) {
				tr.freemap(&c)
			}
		}
	case ondisk.TypeFreemapLeaf:
		b, ok := tr.block(r)
		if !ok {
			return
		}
		leaf, err := ondisk.DecodeFreemapLeaf(b)
		if err != nil {
			tr.t.Fatal(err)
		}
		again := make([]byte, len(b))
		if ondisk.EncodeFreemapLeaf(again, leaf); !bytes.Equal(again, b) {
			tr.t.Error("freemap leaf changes when encoded again")
		}
		for i := range leaf {
			if e := &leaf[i]; int(e.Avail) != e.FreeChunks()*ondisk.ChunkSize {
				tr.t.Errorf("segment %d: avail %#x with %d free chunks", i, e.Avail, e.FreeChunks())
			}
		}
	}
}

// walk calls leaf for everything below refs that is not INDIRECT, in order,
// and sums up the three counts of format section 13.
func (tr *tree) walk(refs []ondisk.Blockref, leaf func(*ondisk.Blockref), bad func()) (data, inodes, leaves uint64) {
	for i := range refs {
		r := &refs[i]
		data += uint64(r.Size())
		if r.Type != ondisk.TypeIndirect {
			leaves++
			if r.Type == ondisk.TypeInode {
				data, inodes = data+r.DataCount(), inodes+1+r.InodeCount()
			}
			leaf(r)
			continue
		}
		b, ok := tr.block(r)
		if !ok {
			if bad != nil {
				bad()
			}
			continue
		}
		d, n, l := tr.walk(tr.array(b), leaf, bad)
		if d != r.DataCount() || n != r.InodeCount() || min(l, 65535) != uint64(r.LeafCount) {
			tr.t.Errorf("%v: counts %d, %d, %d, want %d, %d, %d", r, r.DataCount(), r.InodeCount(), r.LeafCount, d, n, l)
		}
		data, inodes, leaves = data+d, inodes+n, leaves+l
	}
	return data, inodes, leaves
}

func (tr *tree) readPFS(ref *ondisk.Blockref, root *ondisk.Inode) {
	p := &pfs{
		inodes: map[uint64]*ondisk.Inode{1: root}, entries: map[uint64][]ondisk.Dirent{},
		data: map[uint64]map[uint64][]byte{}, broken: map[uint64]bool{},
		types: map[ondisk.BlockType]int{}, checks: map[ondisk.CheckMethod]int{}, comps: map[ondisk.CompMethod]int{},
	}
	if key := ondisk.NameHash(root.Meta.Name()); ref.Key&^ondisk.CollisionMask != key || root.Meta.NameKey != ref.Key {
		tr.t.Errorf("PFS %q has key %x, hash %x", root.Meta.Name(), ref.Key, key)
	}
	tr.pfs[root.Meta.Name()] = p
	tr.content(p, root)
}

// content reads what hangs off one inode.
func (tr *tree) content(p *pfs, ino *ondisk.Inode) {
	inum := ino.Meta.Inum
	tr.walk(ino.Blockset, func(r *ondisk.Blockref) {
		p.types[r.Type]++
		switch r.Type {
		case ondisk.TypeInode:
			child, ok := tr.inode(r)
			if !ok {
				return
			}
			if child.Meta.Inum != r.Key {
				tr.t.Errorf("inode %d at key %d", child.Meta.Inum, r.Key)
			}
			p.inodes[r.Key] = child
			tr.content(p, child)
		case ondisk.TypeDirent:
			tr.entry(p, inum, r)
		case ondisk.TypeData:
			tr.data(p, inum, r)
		default:
			tr.t.Errorf("inode %d: %v", inum, r)
		}
	}, func() { p.broken[inum] = true })
}

func (tr *tree) entry(p *pfs, dir uint64, r *ondisk.Blockref) {
	var block []byte
	if r.DataOff != 0 {
		block, _ = tr.block(r)
	}
	d, err := ondisk.DecodeDirent(r, block)
	if err != nil {
		tr.t.Fatal(err)
	}
	ref, again := d.Blockref()
	if !bytes.Equal(again, block) || ref.Embed != r.Embed || block == nil && ref.Check != r.Check {
		tr.t.Errorf("entry %q changes when encoded again", d.Name)
	}
	p.entries[dir] = append(p.entries[dir], d)
}

func (tr *tree) data(p *pfs, inum uint64, r *ondisk.Blockref) {
	p.checks[r.CheckMethod()]++
	p.comps[r.CompMethod()]++
	stored, ok := tr.block(r)
	if !ok {
		p.broken[inum] = true
		return
	}
	plain := make([]byte, ondisk.LogicalBlock)
	n, err := ondisk.DecodeData(r, stored, plain)
	if err != nil {
		tr.t.Fatal(err)
	}
	if p.data[inum] == nil {
		p.data[inum] = map[uint64][]byte{}
	}
	p.data[inum][r.Key] = plain[:n]
}

// TestGolden reads every block of every golden volume, checks codes, encodes
// everything again, and compares names, metadata and content with the
// manifests.
func TestGolden(t *testing.T) {
	for _, name := range golden.Images(t) {
		if strings.HasPrefix(name, "multivol") {
			continue // addresses span two devices; see TestGoldenHeaders
		}
		t.Run(name, func(t *testing.T) {
			tr := readTree(t, golden.Device(t, name))
			if want := map[bool]int{true: 1}[name == "damaged-data"]; len(tr.bad) != want {
				t.Errorf("%d bad blocks, want %d: %q", len(tr.bad), want, tr.bad)
			}
			if tr.pfs["LOCAL"] == nil || tr.pfs["DATA"] == nil {
				t.Fatal("LOCAL or DATA is missing")
			}
			for label, p := range tr.pfs {
				compare(t, label, p.list(1, "", nil), manifest(t, name, label), name == "damaged-data")
			}
		})
	}
}

// TestGoldenHeaders has what is special about some headers.
func TestGoldenHeaders(t *testing.T) {
	header := func(name string, slot int64) (*ondisk.VolumeHeader, error) {
		b := make([]byte, ondisk.HeaderSize)
		if _, err := golden.Device(t, name).ReadAt(b, slot*ondisk.HeaderZone); err != nil {
			t.Fatal(err)
		}
		return ondisk.DecodeVolumeHeader(b)
	}
	if _, err := header("damaged-header", 2); !errors.Is(err, ondisk.ErrCorrupt) || !strings.Contains(err.Error(), "sector 1") {
		t.Errorf("damaged slot: %v", err)
	}
	h, err := header("version1", 0)
	if err != nil || h.Version != 1 || h.Size() != 2<<30 || h.TotalSize != 0 {
		t.Errorf("version 1: %+v, %v", h, err)
	}
	h, err = header("multivol-1", 0)
	if err != nil || h.VoluID != 1 || h.NVolumes != 2 || h.VoluLoff[1] != 1<<30 || h.Sroot[0].Type != ondisk.TypeInvalid {
		t.Errorf("second volume: %+v, %v", h, err)
	}
	if _, err := header("empty", 4-1); err != nil {
		t.Errorf("fourth slot: %v", err)
	}
	b := make([]byte, ondisk.HeaderSize)
	if _, err := ondisk.DecodeVolumeHeader(b); err != ondisk.ErrNotHammer2 {
		t.Errorf("zeros: %v", err)
	}
}
