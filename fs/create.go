package fs

import (
	"context"

	"github.com/anvilfs/anvilfs/ondisk"
)

// A NewNode says what to create.
type NewNode struct {
	Type         ondisk.ObjType
	Mode         uint32 // permission bits including 07000, before the umask
	Umask        uint32 // applied unless the directory has a default ACL
	UID, GID     uint32
	Major, Minor uint32 // of devices
	Target       string // of symlinks
}

const (
	modeSetuid = 0o4000
	modeSetgid = 0o2000
	modeGroupX = 0o010
	modeBits   = 0o7777
	inlineMax  = ondisk.InlineMax
	pathMax    = 4095 // longest symlink target
)

// Create makes a file of any type under name in dir and counts a reference.
func (f *FS) Create(ctx context.Context, dir uint64, name string, what NewNode) (*Record, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	if what.Type == ondisk.ObjSymlink && (len(what.Target) == 0 || len(what.Target) > pathMax) {
		return nil, errTooLong
	}
	d, drec, err := f.lockDir(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer f.unlock(d)
	if _, ok, err := f.store.Lookup(ctx, dir, name); err != nil || ok {
		return nil, firstError(err, errExist)
	}
	made, err := f.newRecord(ctx, d, drec, what)
	if err != nil {
		return nil, err
	}
	grant, err := f.quotas.admit(ctx, made.rec.Meta.Account, growth{bytes: made.bytes(), inodes: 1})
	if err != nil {
		return nil, err
	}
	defer grant.end()
	t, err := f.store.Begin(ctx, made.cost())
	if err != nil {
		return nil, err
	}
	defer t.End()
	grant.charge(t, made.bytes(), 1)
	made.number(t.NewInum())
	if err := t.AddDirent(dir, name, made.rec.Meta.Inum, what.Type); err != nil {
		return nil, err
	}
	if err := made.store(ctx, t); err != nil {
		return nil, firstError(t.RemoveDirent(dir, name), err)
	}
	f.update(t, d, func(m *ondisk.InodeMeta) {
		m.SetMtime(f.clock())
		m.SetCtime(f.clock())
		countSubdir(m, what.Type, 1)
	})
	f.adopt(made)
	return made.rec, nil
}

// CreateUnnamed makes a regular file without a name, for O_TMPFILE. Link
// gives it one; otherwise it goes with its last reference.
func (f *FS) CreateUnnamed(ctx context.Context, dir uint64, what NewNode) (*Record, error) {
	d, drec, err := f.lockDir(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer f.unlock(d)
	made, err := f.newRecord(ctx, d, drec, what)
	if err != nil {
		return nil, err
	}
	grant, err := f.quotas.admit(ctx, made.rec.Meta.Account, growth{inodes: 1})
	if err != nil {
		return nil, err
	}
	defer grant.end()
	t, err := f.store.Begin(ctx, made.cost())
	if err != nil {
		return nil, err
	}
	defer t.End()
	grant.charge(t, 0, 1)
	made.number(t.NewInum())
	made.rec.Meta.Nlinks = 0
	if err := made.store(ctx, t); err != nil {
		return nil, err
	}
	f.adopt(made)
	f.table.lost(made.rec.Meta.Inum)
	return made.rec, nil
}

// lockDir locks a directory that names can be added to.
func (f *FS) lockDir(ctx context.Context, dir uint64) (*node, *Record, error) {
	d, rec, err := f.lock(ctx, dir)
	if err != nil {
		return nil, nil, err
	}
	if err := checkDir(&rec.Meta); err != nil {
		f.unlock(d)
		return nil, nil, err
	}
	return d, rec, nil
}

// checkDir refuses to change what is no directory, or one that was removed,
// or one whose flags forbid it.
func checkDir(m *ondisk.InodeMeta) error {
	switch {
	case m.Type != ondisk.ObjDir:
		return errNotDir
	case m.Nlinks == 0:
		return errNoEntry
	case m.UFlags&flagsImmutable != 0:
		return errPerm
	}
	return nil
}

// A newborn is an inode being created, with what comes along.
type newborn struct {
	rec    *Record
	target string         // of a symlink too long to be inline
	attrs  []ondisk.Xattr // inherited ACLs
}

// newRecord prepares the inode of a file made in directory d, which gives it
// group, compression, check codes and ACLs.
func (f *FS) newRecord(ctx context.Context, d *node, drec *Record, what NewNode) (*newborn, error) {
	m := ondisk.NewInodeMeta(0, what.Type)
	m.UID, m.GID = what.UID, what.GID
	m.CompAlgo, m.CheckAlgo = drec.Meta.CompAlgo, drec.Meta.CheckAlgo
	m.RMajor, m.RMinor = what.Major, what.Minor
	m.Iparent, m.Nlinks = drec.Meta.Inum, 1
	if f.quotas.any.Load() {
		f.quotas.stamp(&m, f.quotas.of(&drec.Meta))
	}
	sec, nsec := f.clock() // one instant: nothing is changed before it is born
	m.SetMtime(sec, nsec)
	m.SetCtime(sec, nsec)
	m.SetBtime(sec, nsec)
	m.SetAtime(sec, nsec) // left out, it would go on with mtime
	mode := what.Mode & modeBits
	if drec.Meta.Mode&modeSetgid != 0 {
		m.GID = drec.Meta.GID
		if what.Type == ondisk.ObjDir {
			mode |= modeSetgid
		}
	}
	b := &newborn{}
	var err error
	m.Mode, b.attrs, err = f.inheritACL(ctx, d, what, mode)
	if err != nil {
		return nil, err
	}
	var inline []byte
	switch what.Type {
	case ondisk.ObjFile:
		m.OpFlags |= ondisk.OpDirectData
	case ondisk.ObjSymlink:
		m.Size = uint64(len(what.Target))
		if len(what.Target) <= inlineMax {
			m.OpFlags |= ondisk.OpDirectData
			inline = []byte(what.Target)
		} else {
			b.target = what.Target
		}
	}
	b.rec = &Record{Meta: m, Inline: inline}
	return b, nil
}

// bytes is what an account is charged for it at most.
func (b *newborn) bytes() uint64 {
	if b.target != "" {
		return mediaMax(uint64(len(b.target)))
	}
	return b.rec.Meta.InlineCharge()
}

func (b *newborn) cost() Cost {
	c := Cost{Leaves: 3, Bytes: int64(len(b.target))}
	if b.target != "" {
		c.Leaves++
	}
	for _, a := range b.attrs {
		c.Leaves += 2
		c.Bytes += int64(len(a.Value))
	}
	return c
}

// number gives the inode its number, and the name that follows from it.
func (b *newborn) number(inum uint64) {
	m := ondisk.NewInodeMeta(inum, b.rec.Meta.Type)
	b.rec.Meta.Inum, b.rec.Meta.NameKey = inum, m.NameKey
	b.rec.Meta.Filename, b.rec.Meta.NameLen = m.Filename, m.NameLen
}

// store writes everything but the directory entry. What can fail comes first.
func (b *newborn) store(ctx context.Context, t Txn) error {
	inum := b.rec.Meta.Inum
	if b.target != "" {
		if err := t.WriteData(ctx, inum, 0, []byte(b.target)); err != nil {
			return err
		}
	}
	if len(b.attrs) > 0 {
		if err := storeAttrs(ctx, t, &b.rec.Meta, nil, b.attrs); err != nil {
			return err
		}
	}
	t.PutInode(b.rec)
	return nil
}

// adopt puts a stored newborn into the table, with one reference.
func (f *FS) adopt(b *newborn) {
	n := f.table.pin(b.rec.Meta.Inum)
	n.rec.Store(b.rec)
	n.attrs.Store(&attrSet{list: b.attrs, exists: len(b.attrs) > 0})
	f.table.ref(n.inum, b.rec.Meta.Type)
	f.table.unpin(n)
}

// countSubdir keeps the link count of a directory that counts subdirectories;
// ours have 1 whatever is in them.
func countSubdir(m *ondisk.InodeMeta, t ondisk.ObjType, by int) {
	if t == ondisk.ObjDir && m.Nlinks > 1 {
		m.Nlinks = max(m.Nlinks+uint64(by), 2)
	}
}

// firstError returns err, or otherwise instead if err is nil.
func firstError(err, otherwise error) error {
	if err != nil {
		return err
	}
	return otherwise
}
