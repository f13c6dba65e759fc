package fs

import (
	"context"
	"math"

	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/ondisk"
)

// sizeMax is the largest file: sizes are signed in kernels.
const sizeMax = math.MaxInt64

// Read fills dst from offset off and returns how many bytes the file has
// there. dst must not be read beyond them.
func (f *FS) Read(ctx context.Context, inum, off uint64, dst []byte) (int, error) {
	return f.read(ctx, inum, off, dst, false)
}

// read is Read; quiet as in lend.
func (f *FS) read(ctx context.Context, inum, off uint64, dst []byte, quiet bool) (int, error) {
	n, rec, err := f.rlock(ctx, inum)
	if err != nil {
		return 0, err
	}
	defer f.runlock(n)
	if rec.Meta.Type == ondisk.ObjDir {
		return 0, errIsDir
	}
	if !quiet {
		f.atimes.touch(n, &rec.Meta)
	}
	return f.readLocked(ctx, rec, off, dst)
}

// readLocked is Read of an inode whose lock the caller holds.
func (f *FS) readLocked(ctx context.Context, rec *Record, off uint64, dst []byte) (int, error) {
	size := rec.Meta.Size
	if off >= size {
		return 0, nil
	}
	dst = dst[:min(uint64(len(dst)), size-off)]
	if !rec.Meta.DirectData() {
		return len(dst), f.store.ReadData(ctx, rec.Meta.Inum, off, dst)
	}
	copied := 0
	if off < uint64(len(rec.Inline)) {
		copied = copy(dst, rec.Inline[off:])
	}
	clear(dst[copied:])
	return len(dst), nil
}

// Readlink returns the target of a symlink.
func (f *FS) Readlink(ctx context.Context, inum uint64) ([]byte, error) {
	n, rec, err := f.rlock(ctx, inum)
	if err != nil {
		return nil, err
	}
	defer f.runlock(n)
	if rec.Meta.Type != ondisk.ObjSymlink || rec.Meta.Size > math.MaxUint16 {
		return nil, errInvalid
	}
	target := make([]byte, rec.Meta.Size)
	_, err = f.readLocked(ctx, rec, 0, target)
	return target, err
}

// Write stores p at offset off. kill takes setuid and setgid from the file,
// as a write by anyone but a privileged caller does.
func (f *FS) Write(ctx context.Context, inum, off uint64, p []byte, kill bool) (int, error) {
	n, rec, err := f.lockFile(ctx, inum)
	if err != nil {
		return 0, err
	}
	defer f.unlock(n)
	if len(p) == 0 {
		return 0, nil
	}
	if off > sizeMax || uint64(len(p)) > sizeMax-off {
		return 0, errTooBig
	}
	if rec.Meta.UFlags&flagsAppend != 0 && off < rec.Meta.Size {
		return 0, errPerm
	}
	if err := f.writeLocked(ctx, n, off, p, kill); err != nil {
		return 0, err
	}
	return len(p), nil
}

// syncFile returns when what was written to a file is durable.
func (f *FS) syncFile(ctx context.Context, inum uint64) error {
	if err := f.store.Sync(ctx); err != nil {
		return err
	}
	return f.store.Lost(inum)
}

// lockFile locks a regular file whose content may change.
func (f *FS) lockFile(ctx context.Context, inum uint64) (*node, *Record, error) {
	n, rec, err := f.lock(ctx, inum)
	if err != nil {
		return nil, nil, err
	}
	switch {
	case rec.Meta.Type == ondisk.ObjDir:
		err = errIsDir
	case rec.Meta.Type != ondisk.ObjFile:
		err = errInvalid
	case rec.Meta.UFlags&flagsImmutable != 0:
		err = errPerm
	}
	if err != nil {
		f.unlock(n)
		return nil, nil, err
	}
	return n, rec, nil
}

// writeLocked is Write of a locked file, one transaction.
func (f *FS) writeLocked(ctx context.Context, n *node, off uint64, p []byte, kill bool) error {
	dropCaps, err := f.hasCaps(ctx, n)
	if err != nil {
		return err
	}
	rec := n.rec.Load()
	end := off + uint64(len(p))
	grant, err := f.admitWrite(ctx, rec, off, uint64(len(p)))
	if err != nil {
		return err
	}
	defer grant.end()
	cost := writeCost(len(p))
	cost.Small = max(rec.Meta.Size, end) <= cluster.SmallBlock
	cost.Later = true // syncFile asks
	t, err := f.store.Begin(ctx, cost)
	if err != nil {
		return err
	}
	defer t.End()
	grant.charge(t, 0, 0)
	r := &Record{Meta: rec.Meta}
	if rec.Meta.DirectData() && max(end, rec.Meta.Size) <= inlineMax {
		r.Inline = make([]byte, max(end, rec.Meta.Size))
		copy(r.Inline, rec.Inline)
		copy(r.Inline[off:], p)
		if rec.Meta.Size == 0 {
			grant.charge(t, ondisk.InodeSize, 0)
		}
	} else {
		if err := f.prepareTail(ctx, t, rec, off); err != nil {
			return err
		}
		if err := t.WriteData(ctx, n.inum, off, p); err != nil {
			return err
		}
		r.Meta.OpFlags &^= ondisk.OpDirectData
	}
	r.Meta.Size = max(rec.Meta.Size, end)
	f.putWritten(ctx, t, n, r, kill, dropCaps)
	return nil
}

// putWritten stores the record of a file whose content was changed by a call;
// kill and dropCaps say what rights it loses by that.
func (f *FS) putWritten(ctx context.Context, t Txn, n *node, r *Record, kill, dropCaps bool) {
	r.Meta.SetMtime(f.clock())
	r.Meta.SetCtime(f.clock())
	mode := r.Meta.Mode
	if kill {
		killPrivs(&r.Meta)
	}
	f.put(t, n, r)
	if r.Meta.Mode != mode && f.modeFell != nil {
		f.modeFell(r.Meta.Inum)
	}
	if dropCaps {
		f.removeCaps(ctx, t, n)
	}
}

// prepareTail makes the data of a file ready for a write at off or for a
// size beyond the present one: inline content moves to a block, and what lies
// behind the present end reads as zeros.
func (f *FS) prepareTail(ctx context.Context, t Txn, rec *Record, off uint64) error {
	m := &rec.Meta
	if m.DirectData() {
		content := rec.Inline[:min(uint64(len(rec.Inline)), m.Size)]
		if len(content) == 0 {
			return nil
		}
		return t.WriteData(ctx, m.Inum, 0, content)
	}
	if off > m.Size {
		return t.TruncateData(ctx, m.Inum, m.Size, off)
	}
	return nil
}

// writeCost bounds what a write of n bytes adds: its blocks, the first block
// if the file was inline, the inode, and a removed capability.
func writeCost(n int) Cost {
	blocks := n/ondisk.LogicalBlock + 2
	return Cost{Leaves: blocks + 4, Bytes: int64(n) + 2*ondisk.LogicalBlock}
}

// killPrivs takes the privileges of a file's owner and group from a file
// that somebody changes.
func killPrivs(m *ondisk.InodeMeta) {
	m.Mode &^= modeSetuid
	if m.Mode&modeGroupX != 0 {
		m.Mode &^= modeSetgid
	}
}

// setSize changes the size of a locked file within a transaction.
func (f *FS) setSize(ctx context.Context, t Txn, r *Record, size uint64) error {
	old := r.Meta.Size
	switch {
	case size == old:
		return nil
	case r.Meta.DirectData() && size <= inlineMax:
		inline := make([]byte, size)
		copy(inline, r.Inline)
		r.Inline = inline
	case r.Meta.DirectData():
		if err := f.prepareTail(ctx, t, r, size); err != nil {
			return err
		}
		r.Inline = nil
		r.Meta.OpFlags &^= ondisk.OpDirectData
	default:
		if err := t.TruncateData(ctx, r.Meta.Inum, old, size); err != nil {
			return err
		}
	}
	r.Meta.Size = size
	return nil
}
