package fsck

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"sync"

	"github.com/anvilfs/anvilfs/chain/media"
	"github.com/anvilfs/anvilfs/ondisk"
)

// These begin the labels of what resync works on: second roots, and snapshots
// that a member missed.
const (
	shadowPrefix = ".anvilfs-shadow-"
	copyPrefix   = ".anvilfs-snapcopy-"
)

// unfinished reports whether a PFS is partly old and partly new by its label.
func unfinished(label string) bool {
	return strings.HasPrefix(label, shadowPrefix) || strings.HasPrefix(label, copyPrefix)
}

// An inodeNote is what names are compared with.
type inodeNote struct {
	inum   uint64
	parent uint64 // directories and attribute inodes
	links  uint32 // capped
	typ    ondisk.ObjType
}

// A nameNote is an entry: the inode it names and the directory it is in.
type nameNote struct {
	inum, dir uint64
	typ       ondisk.ObjType
}

// A pfsState is one PFS while it is checked.
type pfsState struct {
	label string
	ref   ondisk.Blockref
	meta  ondisk.InodeMeta
	refs  []ondisk.Blockref
	whole bool

	mu       sync.Mutex // guards what follows
	inodes   []inodeNote
	names    []nameNote
	lost     uint64 // tables and inodes that could not be read
	orphans  uint64
	attrs    uint64
	accounts accounts
	entered  media.Seen // tables and inodes
}

// snapshot reports whether p is one, which nobody changes any more.
func (p *pfsState) snapshot() bool { return p.meta.PFSSubtype != ondisk.PFSSubNone }

const remedySnapshot = "a snapshot keeps what was: this goes when it is deleted"

// remedy is what helps in p: nobody is sent to change a snapshot.
func (p *pfsState) remedy(by string) string {
	if by != "" && p.snapshot() {
		return remedySnapshot
	}
	return by
}

func (p *pfsState) place() place { return place{p: p, tree: rootTree, inum: ondisk.InumRoot} }

func (p *pfsState) lose() {
	p.mu.Lock()
	p.lost++
	p.mu.Unlock()
}

// first reports whether a table or inode is met for the first time.
func (p *pfsState) first(r *ondisk.Blockref) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.entered.Add(r)
}

func (p *pfsState) addNames(names []nameNote) {
	if len(names) == 0 {
		return
	}
	p.mu.Lock()
	p.names = append(p.names, names...)
	p.mu.Unlock()
}

func (p *pfsState) addInode(inum uint64, m *ondisk.InodeMeta) {
	n := inodeNote{inum: inum, links: uint32(min(m.Nlinks, 1<<32-1)), typ: m.Type}
	if m.Type == ondisk.ObjDir || inum&ondisk.AttrBit != 0 {
		n.parent = m.Iparent
	}
	p.mu.Lock()
	p.inodes = append(p.inodes, n)
	p.accounts.add(m)
	p.mu.Unlock()
}

func noteName(dir uint64, r *ondisk.Blockref) nameNote {
	return nameNote{inum: binary.LittleEndian.Uint64(r.Embed[:]), dir: dir, typ: ondisk.ObjType(r.Embed[10])}
}

// forget frees what only the check of this PFS needed.
func (p *pfsState) forget() {
	p.inodes, p.names, p.refs, p.entered, p.accounts = nil, nil, nil, media.Seen{}, accounts{}
}

func (p *pfsState) report() PFSReport {
	return PFSReport{
		Label: p.label, Inodes: uint64(len(p.inodes)), Entries: uint64(len(p.names)),
		Orphans: p.orphans, Attributes: p.attrs, Unreadable: p.lost,
	}
}

// tree judges the super-root of a header and collects its PFSs in c.pfss.
func (c *checker) tree(ctx context.Context, h *ondisk.VolumeHeader, newest bool) error {
	super := media.SuperRoot(h)
	w := &walk{c: c, newest: newest}
	pl := place{tree: superTree}
	if super.Type == ondisk.TypeEmpty {
		w.found(pl, &super, Error, "the volume header has no super-root", remedyTree)
		return nil
	}
	if super.MirrorTid > h.MirrorTid {
		w.found(pl, &super, Error, fmt.Sprintf("the super-root has mirror_tid %#x, above %#x of the header", uint64(super.MirrorTid), uint64(h.MirrorTid)), "")
	}
	if err := c.address(&super); err != nil {
		w.found(pl, &super, Error, fmt.Sprintf("the super-root lies %v", err), remedyTree)
		return nil
	}
	if newest {
		c.reach.mark(super.Off(), super.Size())
	} else if c.seen.add(&super) {
		return nil
	}
	c.count(&super)
	block, err := c.set.Read(&super)
	if err != nil {
		w.unreadable(pl, &super, err)
		return nil
	}
	meta, err := ondisk.DecodeInodeMeta(block)
	switch {
	case err != nil:
		w.found(pl, &super, Error, fmt.Sprintf("super-root: %v", err), remedyTree)
	case meta.Type != ondisk.ObjDir || meta.Inum != 0 || meta.PFSType != ondisk.PFSSuperRoot:
		w.found(pl, &super, Error, fmt.Sprintf("the super-root is a %v with number %d and role %v", meta.Type, meta.Inum, meta.PFSType), remedyTree)
	}
	refs, whole := w.elements(pl, &super, block[ondisk.InodeMetaSize:])
	return w.array(ctx, pl, &super, refs, whole)
}

// pfsRoot judges the root inode of a PFS and puts it on the list.
func (w *walk) pfsRoot(r *ondisk.Blockref, m *ondisk.InodeMeta, block []byte) {
	p := &pfsState{label: m.Name(), ref: *r, meta: *m}
	pl := p.place()
	if w.newest {
		w.rootInode(pl, r, m)
	}
	if m.DirectData() {
		w.found(pl, r, Error, "the root directory has inline content", remedyTree)
	} else {
		p.refs, p.whole = w.elements(pl, r, block[ondisk.InodeMetaSize:])
	}
	w.c.mu.Lock()
	w.c.pfss = append(w.c.pfss, p)
	w.c.mu.Unlock()
}

func (w *walk) rootInode(pl place, r *ondisk.Blockref, m *ondisk.InodeMeta) {
	switch {
	case m.Type != ondisk.ObjDir || m.Inum != ondisk.InumRoot:
		w.found(pl, r, Error, fmt.Sprintf("the root of the PFS is a %v with number %d", m.Type, m.Inum), remedyTree)
	case m.NameKey != r.Key || r.Key&^ondisk.CollisionMask != ondisk.NameHash(m.Name()):
		w.found(pl, r, Error, fmt.Sprintf("the label does not belong to the key %016x", r.Key), "the PFS cannot be found by its label")
	case m.OpFlags&ondisk.OpPFSRoot == 0:
		w.found(pl, r, Error, "the inode is not marked as root of a PFS", remedyTree)
	}
	if r.Flags&ondisk.FlagPFSRoot == 0 {
		w.found(pl, r, Warning, "the blockref is not marked as root of a PFS, as older kernels leave it", "the next change of the PFS sets it")
	}
	if s := m.PFSType.String(); strings.HasPrefix(s, "unknown") {
		w.found(pl, r, Warning, fmt.Sprintf("the PFS has the role %s", s), "")
	}
}

// checkPFSList judges the PFSs of the newest header against each other and
// against the state entries of the header.
func (c *checker) checkPFSList() {
	labels, fsids := map[string]bool{}, map[ondisk.UUID]string{}
	for _, p := range c.pfss {
		if labels[p.label] {
			c.add(Finding{Severity: Error, PFS: p.label, What: "there are two PFSs of this label", Remedy: "only one of them can be mounted"})
		}
		labels[p.label] = true
		if other, ok := fsids[p.meta.PFSFsid]; ok {
			c.add(Finding{Severity: Error, PFS: p.label, What: fmt.Sprintf("has the same id %v as PFS %s", p.meta.PFSFsid, other), Remedy: "a cluster refuses both"})
		}
		fsids[p.meta.PFSFsid] = p.label
		if unfinished(p.label) {
			c.add(Finding{Severity: Info, PFS: p.label, What: "left by a resync that has not ended", Remedy: "the next resync of the node goes on with it or removes it"})
		}
		c.checkState(p)
	}
	for i := range c.hdr.States {
		if e := &c.hdr.States[i]; fsids[e.Fsid] == "" {
			c.add(Finding{Severity: Info, What: fmt.Sprintf("the header has a cluster state of PFS %v, which is not on the volume", e.Fsid)})
		}
	}
}

// checkState compares a PFS with its state entry.
func (c *checker) checkState(p *pfsState) {
	e := c.hdr.State(p.meta.PFSFsid)
	if e == nil || e.T == p.ref.MirrorTid {
		return
	}
	if e.T == 0 {
		c.add(Finding{Severity: Info, PFS: p.label, What: "the PFS is a new member of its cluster, and was never in sync", Remedy: "nothing to do; it is filled when it is mounted with the others"})
		return
	}
	f := Finding{
		Severity: Warning, PFS: p.label,
		What:   fmt.Sprintf("the PFS is at tid %v, its cluster state says %v", p.ref.MirrorTid, e.T),
		Remedy: "it was changed outside of its cluster: mount it; where it has others, anvilfs node discard MNT NODE copies it anew from them",
	}
	if c.hdr.WrittenByUs() && p.ref.MirrorTid < e.T {
		f.Severity, f.Remedy = Error, "acknowledged changes are missing: resync this node"
	}
	c.add(f)
}
