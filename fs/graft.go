package fs

import (
	"context"
	"slices"

	"github.com/anvilfs/anvilfs/ondisk"
)

// A Graft changes files on behalf of a merge, which is no system call: records
// as they are, several at once, under the locks that calls take. What it reads
// is as calls have left it. The kernel's caches are its user's to care for.
type Graft struct {
	f *FS
	s *lockset
	t Txn // of the step under way
}

// Graft locks inodes, of which some may not exist, and runs fn.
func (f *FS) Graft(ctx context.Context, inums []uint64, fn func(g *Graft) error) error {
	inums = slices.Clone(inums)
	slices.Sort(inums)
	s := f.lockset()
	defer s.unlock()
	s.cover(inums...) // in order: nothing is let go on the way
	return fn(&Graft{f: f, s: s})
}

// Step runs fn as one transaction that adds at most cost. If fn fails, what it
// did by then stays: it must read before it changes.
func (g *Graft) Step(ctx context.Context, cost Cost, fn func() error) error {
	t, err := g.f.store.Begin(ctx, cost)
	if err != nil {
		return err
	}
	defer t.End()
	g.t = t
	defer func() { g.t = nil }()
	return fn()
}

// Inode returns the record of a locked inode; ok is false if there is none.
func (g *Graft) Inode(ctx context.Context, inum uint64) (r *Record, ok bool, err error) {
	r, err = g.s.record(ctx, inum)
	if err == errStale {
		return nil, false, nil
	}
	return r, err == nil, err
}

// Attrs returns the attributes of a locked inode; they must not be changed.
func (g *Graft) Attrs(ctx context.Context, inum uint64) ([]ondisk.Xattr, error) {
	set, err := g.f.loadAttrs(ctx, g.s.node(inum))
	if err != nil {
		return nil, err
	}
	return set.list, nil
}

// Lookup finds a name in a locked directory.
func (g *Graft) Lookup(ctx context.Context, dir uint64, name string) (ondisk.Dirent, bool, error) {
	return g.f.store.Lookup(ctx, dir, name)
}

// Empty reports whether a locked directory has no entries.
func (g *Graft) Empty(ctx context.Context, dir uint64) (bool, error) {
	err := g.f.checkEmpty(ctx, dir)
	if err == errNotEmpty {
		return false, nil
	}
	return err == nil, err
}

// Read fills dst from offset off of a locked inode; behind its end are zeros.
func (g *Graft) Read(ctx context.Context, inum, off uint64, dst []byte) error {
	r, err := g.s.record(ctx, inum)
	if err != nil {
		return err
	}
	n, err := g.f.readLocked(ctx, r, off, dst)
	clear(dst[n:])
	return err
}

// What follows is for use within a step, on locked inodes.

// NewInum returns a number that no inode ever had.
func (g *Graft) NewInum() uint64 { return g.t.NewInum() }

// Touch writes a record again as it is: the root's, that the highest number
// handed out becomes durable with the step.
func (g *Graft) Touch(inum uint64) {
	g.f.update(g.t, g.s.node(inum), func(*ondisk.InodeMeta) {})
}

// Put makes r the record of its inode, which may be new. Inline content takes
// the place of all data.
func (g *Graft) Put(r *Record) {
	n := g.s.node(r.Meta.Inum)
	if n.rec.Load() == nil {
		n.attrs.Store(&attrSet{})
	}
	g.f.put(g.t, n, r)
}

// Update changes a record by a function of its copy.
func (g *Graft) Update(inum uint64, change func(m *ondisk.InodeMeta)) {
	g.f.update(g.t, g.s.node(inum), change)
}

// SetAttrs replaces all attributes of an inode by list, which is kept.
func (g *Graft) SetAttrs(ctx context.Context, inum uint64, list []ondisk.Xattr) error {
	n := g.s.node(inum)
	old, err := g.f.loadAttrs(ctx, n)
	if err != nil {
		return err
	}
	return g.f.replaceAttrs(ctx, g.t, n, old, list)
}

// Write stores p at offset off of an inode whose content lies in blocks. The
// record is Put by the caller, in the same step.
func (g *Graft) Write(ctx context.Context, inum, off uint64, p []byte) error {
	return g.t.WriteData(ctx, inum, off, p)
}

// Zero makes [from, to) of the data zero.
func (g *Graft) Zero(ctx context.Context, inum, from, to uint64) error {
	return g.t.ZeroData(ctx, inum, from, to)
}

// Resize makes the data fit a new size, as Write does not.
func (g *Graft) Resize(ctx context.Context, inum, from, to uint64) error {
	return g.t.TruncateData(ctx, inum, from, to)
}

// Link makes name in dir lead to inum, in place of what replaced says, which
// may be nothing. The link count, the parent and the account follow.
func (g *Graft) Link(dir uint64, name string, inum uint64, replaced ondisk.Dirent) error {
	typ, err := g.enter(dir, name, inum, replaced)
	if err != nil {
		return err
	}
	g.f.update(g.t, g.s.node(inum), func(m *ondisk.InodeMeta) {
		if m.Nlinks == 0 {
			g.charge(m, dir) // where it has its first name
		}
		if m.Type != ondisk.ObjDir || m.Nlinks == 0 {
			m.Nlinks += 1
		}
		m.Iparent = dir
		m.SetCtime(g.f.clock())
	})
	g.f.table.found(inum)
	g.entered(dir, typ, replaced)
	return nil
}

// Move makes name in dir lead to what oldName in oldDir leads to, which goes.
// FS.BeforeMove comes before the step.
func (g *Graft) Move(oldDir uint64, oldName string, dir uint64, name string, inum uint64, replaced ondisk.Dirent) error {
	typ, err := g.enter(dir, name, inum, replaced)
	if err == nil {
		err = g.t.RemoveDirent(oldDir, oldName)
	}
	if err != nil {
		return err
	}
	g.f.update(g.t, g.s.node(inum), func(m *ondisk.InodeMeta) {
		m.Iparent = dir
		m.SetCtime(g.f.clock())
		if m.Nlinks < 2 || m.Type == ondisk.ObjDir {
			g.charge(m, dir)
		}
	})
	g.f.touchDir(g.t, g.s.node(oldDir), typ, -1)
	g.entered(dir, typ, replaced)
	return nil
}

// enter makes name in dir lead to inum.
func (g *Graft) enter(dir uint64, name string, inum uint64, replaced ondisk.Dirent) (ondisk.ObjType, error) {
	typ := g.s.node(inum).rec.Load().Meta.Type
	if replaced.Inum == 0 {
		return typ, g.t.AddDirent(dir, name, inum, typ)
	}
	return typ, g.t.ReplaceDirent(dir, name, inum, typ)
}

// entered notes that dir has one more entry, and lost what it replaced.
func (g *Graft) entered(dir uint64, typ ondisk.ObjType, replaced ondisk.Dirent) {
	g.f.touchDir(g.t, g.s.node(dir), typ, 1)
	if replaced.Inum != 0 {
		g.f.touchDir(g.t, g.s.node(dir), replaced.Type, -1)
		g.f.dropLink(g.t, g.s.node(replaced.Inum))
	}
}

// charge has an inode charged to the account of a locked directory. Nobody is
// asked: a merge is not held up by limits.
func (g *Graft) charge(m *ondisk.InodeMeta, dir uint64) {
	q := g.f.quotas
	if !q.any.Load() {
		return
	}
	c := &crossing{q: q, to: q.of(&g.s.node(dir).rec.Load().Meta), relink: m.OwnsAccount(), look: m.Type == ondisk.ObjDir}
	c.apply(g.t, m)
}

// BeforeMove is to be called before a step that moves inum from a directory to
// another one, without locks. What is below a directory that comes into another
// account cannot be charged there in the same step: the accounts are counted
// anew then, which goes on after a crash.
func (f *FS) BeforeMove(ctx context.Context, inum, from, to uint64) error {
	if !f.quotas.any.Load() || from == to {
		return nil
	}
	rec, err := f.peek(ctx, inum)
	if err == errStale || err == nil && (rec.Meta.Type != ondisk.ObjDir || rec.Meta.OwnsAccount()) {
		return nil
	}
	var dirs [2]*Record
	for i, dir := range []uint64{from, to} {
		if err == nil {
			dirs[i], err = f.peek(ctx, dir)
		}
	}
	switch {
	case err == errStale:
		return nil // the step will find that
	case err != nil:
		return err
	case f.quotas.of(&dirs[0].Meta) == f.quotas.of(&dirs[1].Meta):
		return nil
	}
	return f.RecountQuotas(ctx)
}

// Unlink takes a name away. What has none left goes with its last user.
func (g *Graft) Unlink(dir uint64, entry ondisk.Dirent) error {
	if err := g.t.RemoveDirent(dir, entry.Name); err != nil {
		return err
	}
	g.f.touchDir(g.t, g.s.node(dir), entry.Type, -1)
	g.f.dropLink(g.t, g.s.node(entry.Inum))
	return nil
}

// Keep stores content, of at most what fits inline or 64 KiB, under a number
// that no entry names. None: it is removed.
func (g *Graft) Keep(ctx context.Context, id uint64, content []byte) error {
	if !ondisk.Unnamed(id) {
		panic("fs: not a number for what has no name")
	}
	n := g.s.node(id)
	old := n.rec.Load()
	if len(content) == 0 {
		if old != nil {
			g.t.DeleteInode(id)
			n.rec.Store(nil)
		}
		return nil
	}
	r := &Record{Meta: ondisk.NewInodeMeta(id, ondisk.ObjFile)}
	r.Meta.Mode, r.Meta.Nlinks, r.Meta.Iparent, r.Meta.Size = 0o600, 1, ondisk.InumRoot, uint64(len(content))
	r.Meta.CompAlgo, r.Meta.CheckAlgo = uint8(ondisk.CompLZ4), uint8(ondisk.CheckXXHash64)
	if len(content) <= inlineMax {
		r.Meta.OpFlags |= ondisk.OpDirectData
		r.Inline = slices.Clone(content)
		g.f.put(g.t, n, r)
		return nil
	}
	if old != nil && old.Meta.Size > r.Meta.Size && !old.Meta.DirectData() {
		if err := g.t.TruncateData(ctx, id, old.Meta.Size, r.Meta.Size); err != nil {
			return err
		}
	}
	if err := g.t.WriteData(ctx, id, 0, content); err != nil {
		return err
	}
	g.f.put(g.t, n, r)
	return nil
}

// Current returns the record of an inode as it is now, and Find what a name leads
// to: to know what to lock.
func (f *FS) Current(ctx context.Context, inum uint64) (r *Record, ok bool, err error) {
	r, err = f.peek(ctx, inum)
	if err == errStale {
		return nil, false, nil
	}
	return r, err == nil, err
}

// Find returns what a name leads to now, without a reference.
func (f *FS) Find(ctx context.Context, dir uint64, name string) (ondisk.Dirent, bool, error) {
	return f.store.Lookup(ctx, dir, name)
}

// List calls fn for the entries of a directory until it returns false.
func (f *FS) List(ctx context.Context, dir uint64, fn func(ondisk.Dirent) bool) error {
	return f.store.ReadDir(ctx, dir, ondisk.DirBit, fn)
}

// Load returns the content of an inode that no entry names, nil if it has none.
func (f *FS) Load(ctx context.Context, inum uint64) ([]byte, error) {
	n, r, err := f.rlock(ctx, inum)
	if err == errStale {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.runlock(n)
	b := make([]byte, min(r.Meta.Size, keptMax))
	_, err = f.readLocked(ctx, r, 0, b)
	return b, err
}

// keptMax bounds what is read of an inode without a name.
const keptMax = 16 << 20
