package hostile

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/cespare/xxhash/v2"
)

// maxItems bounds what is looked at in one PFS: names, inodes, blocks. No
// volume here has so many.
const maxItems = 200_000

var errTooMany = errors.New("more items than any sound volume here has")

// Explained reports whether an error says what is wrong with a volume in a
// way that a program can act upon.
func Explained(err error) bool {
	for _, known := range []error{ondisk.ErrCorrupt, ondisk.ErrNotHammer2, ondisk.ErrVersion, ondisk.ErrByteOrder,
		chain.ErrNoSpace, chain.ErrNoPFS, chain.ErrPFSExists, chain.ErrNoInode, chain.ErrBadBatch} {
		if errors.Is(err, known) {
			return true
		}
	}
	return false
}

// Contents is a digest of each PFS that could be read as a whole.
type Contents map[string]uint64

// ReadAll reads all there is on an open volume: of each PFS every inode,
// entry and block, each name looked up again. What cannot be read is left out
// of the result; it must be explained, and say where. The error is about what
// is not.
func ReadAll(ctx context.Context, v *chain.Volume) (Contents, error) {
	all := make(Contents)
	infos, err := v.PFSs(ctx)
	if err != nil && !Explained(err) {
		return all, fmt.Errorf("list of PFSs: %w", err)
	}
	for _, info := range infos {
		view, err := v.View(ctx, info.Label)
		if err == nil {
			r := &reader{ctx: ctx, view: view, sum: xxhash.New()}
			err = r.all()
			if err == nil {
				all[info.Label] = r.sum.Sum64()
			}
			view.Release()
		}
		if err != nil && !Explained(err) {
			return all, fmt.Errorf("PFS %q: %w", info.Label, err)
		}
	}
	return all, nil
}

// A reader reads one PFS.
type reader struct {
	ctx   context.Context
	view  *chain.View
	sum   *xxhash.Digest
	items int
	buf   [5 * ondisk.LogicalBlock]byte
	lost  error // the first damage
}

func (r *reader) note(v ...uint64) {
	for _, n := range v {
		r.sum.Write(binary.LittleEndian.AppendUint64(nil, n))
	}
}

// lose takes in an error, and returns it if it is one that should not be.
func (r *reader) lose(err error) error {
	if err == nil {
		return nil
	}
	if r.lost == nil {
		r.lost = err
	}
	var where *chain.NodeError
	if errors.Is(err, ondisk.ErrCorrupt) && !errors.As(err, &where) {
		return fmt.Errorf("does not say where: %v", err) // and so not explained
	}
	if !Explained(err) {
		return err
	}
	return nil
}

func (r *reader) more() error {
	if r.items++; r.items > maxItems {
		return errTooMany
	}
	return nil
}

func (r *reader) all() error {
	root, _, err := r.view.Inode(r.ctx, ondisk.InumRoot)
	if err != nil {
		return err
	}
	var bad error
	list := []*chain.InodeRec{root}
	err = r.view.Inodes(r.ctx, 0, math.MaxUint64, func(rec *chain.InodeRec) bool {
		list = append(list, rec)
		bad = r.more()
		return bad == nil
	})
	if err = errors.Join(bad, r.lose(err)); err != nil {
		return err
	}
	for _, rec := range list {
		if err := r.inode(rec); err != nil {
			return fmt.Errorf("inode %d: %w", rec.Meta.Inum, err)
		}
	}
	return r.lost
}

func (r *reader) inode(rec *chain.InodeRec) error {
	m := &rec.Meta
	inum := rec.Ref.Key
	if rec.Ref.Flags&ondisk.FlagPFSRoot != 0 || m.OpFlags&ondisk.OpPFSRoot != 0 {
		inum = m.Inum
	}
	r.note(inum, uint64(m.Type), uint64(m.Mode), m.Size, m.Nlinks, m.Mtime)
	r.sum.Write(rec.Inline)
	if m.Type == ondisk.ObjDir {
		return r.dir(inum)
	}
	return r.file(inum, m.Size)
}

func (r *reader) dir(inum uint64) error {
	var names []ondisk.Dirent
	var bad error
	err := r.view.Dirents(r.ctx, inum, 0, math.MaxUint64, func(d ondisk.Dirent, _ *ondisk.Blockref) bool {
		names = append(names, d)
		bad = r.more()
		return bad == nil
	})
	if err = errors.Join(bad, r.lose(err)); err != nil {
		return err
	}
	for _, d := range names {
		r.note(d.Inum, uint64(d.Type))
		r.sum.Write([]byte(d.Name))
		if _, _, err := r.view.Lookup(r.ctx, inum, d.Name); r.lose(err) != nil {
			return err
		}
		if _, _, err := r.view.Inode(r.ctx, d.Inum); r.lose(err) != nil {
			return err
		}
	}
	return nil
}

func (r *reader) file(inum, size uint64) error {
	var at []uint64
	var bad error
	err := r.view.DataRefs(r.ctx, inum, 0, math.MaxUint64, func(ref *ondisk.Blockref) bool {
		at = append(at, ref.Key)
		bad = r.more()
		return bad == nil
	})
	if err = errors.Join(bad, r.lose(err)); err != nil {
		return err
	}
	read := func(off uint64, p []byte) error {
		err := r.lose(r.view.ReadData(r.ctx, inum, off, p))
		r.note(off)
		r.sum.Write(p)
		return err
	}
	for _, off := range at {
		if err := read(off, r.buf[:ondisk.LogicalBlock]); err != nil {
			return err
		}
	}
	for _, off := range []uint64{0, size - min(size, 100), math.MaxUint64 - 10} {
		if err := read(off, r.buf[:1000]); err != nil {
			return err
		}
	}
	if len(at) < 2 {
		return nil
	}
	return read(77, r.buf[:]) // several blocks at once
}
