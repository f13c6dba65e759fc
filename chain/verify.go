package chain

import (
	"context"
	"errors"
	"fmt"

	"github.com/anvilfs/anvilfs/ondisk"
)

// verifyBatch is how many blocks are read at once; of data it is 4 MiB.
const verifyBatch = 64

// A VerifyPlace is how far a Verify came: Index is a key of the PFS root's
// tree, so an inode number or the key of an entry of the root directory, and
// Key one of that inode's own tree. Zero is the beginning.
type VerifyPlace struct{ Index, Key uint64 }

// VerifyStats counts what a Verify read.
type VerifyStats struct {
	Blocks int64
	Bytes  int64
	Shared int64 // bytes passed over: in seen already
	Bad    int64 // blocks
}

// Verified is the data blocks that were verified already, for PFSs that share
// some. It takes 8 KiB for each GiB with blocks in it, on any volume.
type Verified struct{ chunks chunkSet }

// NewVerified returns an empty set.
func NewVerified() *Verified { return &Verified{make(chunkSet)} }

// ColdView is View without a cache: what it returns was read from the device
// and verified just then.
func (v *Volume) ColdView(ctx context.Context, label string) (*View, error) {
	warm, err := v.View(ctx, label)
	if err != nil {
		return nil, err
	}
	cold, err := newView(ctx, v, newTableCache(0), warm.root.Ref, warm.Release)
	if err != nil {
		warm.Release()
		return nil, err
	}
	return cold, nil
}

// VerifySuper reads the super-root and the tables below it from the device, with
// the roots of all PFSs, whatever memory has of them. A root that is damaged is
// passed to bad, with its key; the error is about what leads to the roots.
func (v *Volume) VerifySuper(ctx context.Context, bad func(key uint64)) error {
	v.mu.Lock()
	p := v.pinLocked(sroot(v.hdr))
	v.mu.Unlock()
	defer v.unpin(p)
	err := scanRoots(ctx, v, newTableCache(0), p.root, 0, ^uint64(0), func(*InodeRec) bool { return true }, func(err error) {
		var where *NodeError
		if errors.As(err, &where) {
			bad(where.Ref.Key)
		}
	})
	if err != nil {
		return fmt.Errorf("%s: %w", v.Name(), err)
	}
	return nil
}

// ForgetTables has what is read from now on come from the device, also what was
// read or written before.
func (v *Volume) ForgetTables() { v.cache.forget() }

// Verify reads every block of the view from a place on, and calls bad for each
// that cannot be read, has a wrong check code, or cannot be what refers to it
// says; what lies below a bad table is not reached. It ends after about limit
// bytes; the next call goes on at next. seen may be nil.
//
// An error of bad ends the walk and is returned.
func (v *View) Verify(ctx context.Context, from VerifyPlace, limit int64, seen *Verified,
	bad func(*NodeError) error) (next VerifyPlace, done bool, stats VerifyStats, err error) {
	w := &verifier{view: v, from: from, limit: limit, seen: seen, bad: bad}
	more, err := w.tree(ctx, rootOwner, v.root.set, from.Index, w.index, 0)
	return w.next, more && err == nil, w.stats, err
}

type verifier struct {
	view  *View
	from  VerifyPlace
	limit int64
	seen  *Verified
	bad   func(*NodeError) error
	stats VerifyStats
	next  VerifyPlace
	inode uint64 // whose tree is walked
}

// full reports whether the limit is reached, and remembers where.
func (w *verifier) full(at VerifyPlace) bool {
	if w.stats.Bytes+w.stats.Shared < w.limit {
		return false
	}
	w.next = at
	return true
}

// report hands damage on; other errors end the walk.
func (w *verifier) report(ctx context.Context, err error) error {
	var node *NodeError
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if !errors.As(err, &node) || errors.Is(err, ErrClosed) {
		return err
	}
	w.stats.Bad++
	return w.bad(node)
}

// tree walks an array from key lo on: tables are entered, and leaves that
// follow each other are handed to leaves. more is false if the limit ended it.
func (w *verifier) tree(ctx context.Context, o owner, refs []ondisk.Blockref, lo uint64,
	leaves func(context.Context, owner, []ondisk.Blockref) (bool, error), depth int) (more bool, err error) {
	refs = refs[search(refs, lo):]
	for len(refs) > 0 {
		n := 0
		for n < len(refs) && n < verifyBatch && refs[n].Type != ondisk.TypeIndirect {
			n++
		}
		if n > 0 {
			if more, err := leaves(ctx, o, refs[:n]); !more || err != nil {
				return false, err
			}
			refs = refs[n:]
			continue
		}
		ref := &refs[0]
		refs = refs[1:]
		if depth == maxDepth {
			return true, w.report(ctx, o.fail(ref, errTooDeep))
		}
		inner, err := w.view.reader.table(ctx, o, ref)
		if err != nil {
			if err := w.report(ctx, err); err != nil {
				return false, err
			}
			continue
		}
		w.count(ref)
		if more, err := w.tree(ctx, o, inner, lo, leaves, depth+1); !more || err != nil {
			return false, err
		}
	}
	return true, nil
}

func (w *verifier) count(ref *ondisk.Blockref) {
	w.stats.Blocks++
	w.stats.Bytes += int64(ref.Size())
}

// index takes leaves of the root's tree: inodes with all below them, then the
// root directory's entries.
func (w *verifier) index(ctx context.Context, o owner, refs []ondisk.Blockref) (more bool, err error) {
	recs := w.inodes(ctx, o, refs)
	for i := range refs {
		ref := &refs[i]
		at := VerifyPlace{Index: ref.Key}
		if ref.Key == w.from.Index {
			at = w.from
		}
		if w.full(at) {
			return false, nil
		}
		if ref.Type != ondisk.TypeInode {
			if err := w.entry(ctx, o, ref); err != nil {
				return false, err
			}
			continue
		}
		rec := recs[i]
		if rec == nil {
			var err error
			if rec, err = w.view.reader.inode(ctx, o, ref); err != nil {
				if err := w.report(ctx, err); err != nil {
					return false, err
				}
				continue
			}
		}
		w.count(ref)
		if rec.Meta.DirectData() {
			continue
		}
		w.inode = ref.Key
		if more, err := w.tree(ctx, rec.owner(o), rec.set, at.Key, w.content, 0); !more || err != nil {
			return false, err
		}
	}
	return true, nil
}

// inodes reads those of refs that are inodes, together where they lie
// together. What is missing in the result has to be read alone.
func (w *verifier) inodes(ctx context.Context, o owner, refs []ondisk.Blockref) []*InodeRec {
	recs := make([]*InodeRec, len(refs))
	n := 0
	for n < len(refs) && refs[n].Type == ondisk.TypeInode {
		n++
	}
	_ = w.view.reader.src.readMany(ctx, refs[:n], func(i int, stored []byte) (err error) {
		recs[i], err = w.view.reader.decodeInode(o, &refs[i], stored)
		return err
	})
	return recs
}

// entry verifies a directory entry, which may have a block for its name.
func (w *verifier) entry(ctx context.Context, o owner, ref *ondisk.Blockref) error {
	if _, err := w.view.reader.dirent(ctx, o, ref); err != nil {
		return w.report(ctx, err)
	}
	if ref.DataOff != 0 {
		w.count(ref)
	}
	return nil
}

// content takes leaves of an inode's tree: data blocks or entries.
func (w *verifier) content(ctx context.Context, o owner, refs []ondisk.Blockref) (more bool, err error) {
	if w.full(VerifyPlace{w.inode, refs[0].Key}) {
		return false, nil
	}
	var data []ondisk.Blockref
	for i := range refs {
		switch {
		case refs[i].Type != ondisk.TypeData:
			if err := w.entry(ctx, o, &refs[i]); err != nil {
				return false, err
			}
		case w.known(&refs[i]):
			w.stats.Shared += int64(refs[i].Size())
		default:
			data = append(data, refs[i])
		}
	}
	return true, w.data(ctx, o, data)
}

// known reports whether a data block was verified before, and notes that it is now.
func (w *verifier) known(ref *ondisk.Blockref) bool {
	if w.seen == nil || ref.Radix() < ondisk.ChunkRadix {
		return false
	}
	if w.seen.chunks.has(ref.Off()) {
		return true
	}
	w.seen.chunks.add(ref.Off())
	return false
}

// data reads blocks together where they lie together. Where that fails, one
// by one, since the first bad one ends it.
func (w *verifier) data(ctx context.Context, o owner, refs []ondisk.Blockref) error {
	good := 0
	err := w.view.reader.src.readMany(ctx, refs, func(i int, _ []byte) error {
		w.count(&refs[i])
		good = i + 1
		return nil
	})
	if err == nil {
		return nil
	}
	for i := range refs[good:] {
		ref := &refs[good+i]
		if _, err := w.view.reader.src.readRaw(ctx, ref); err != nil {
			if w.seen != nil { // the next PFS that shares it has to be told, too
				w.seen.chunks.remove(ref.Off())
			}
			if err := w.report(ctx, o.fail(ref, err)); err != nil {
				return err
			}
			continue
		}
		w.count(ref)
	}
	return nil
}
