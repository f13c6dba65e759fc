package chain

import (
	"context"

	"github.com/anvilfs/anvilfs/ondisk"
)

// Inodes that were made together lie in one chunk, sixteen of them, and who
// asks for one often asks for the next. A read of the whole chunk takes hardly
// longer than that of one inode.

// A scan reads so many inodes at first, and twice as many each time after.
const runMin, runMax = 8, 128

// inodeAndNext reads the inode at refs[0], which is not cached, and with it
// those of refs that follow it in the same chunk.
func (r *treeReader) inodeAndNext(ctx context.Context, refs []ondisk.Blockref) (*InodeRec, error) {
	n := 1
	for n < len(refs) && refs[n].Type == ondisk.TypeInode && refs[n].Off() > refs[n-1].Off() &&
		refs[n].Off()/ondisk.ChunkSize == refs[0].Off()/ondisk.ChunkSize {
		n++
	}
	if n == 1 {
		return r.inode(ctx, rootOwner, &refs[0])
	}
	var first *InodeRec
	// An error counts only if it is in the way of the one that is wanted:
	// then reading it alone meets it again.
	_ = r.src.readMany(ctx, refs[:n], func(i int, stored []byte) error {
		rec, err := r.decodeInode(rootOwner, &refs[i], stored)
		if i == 0 {
			first = rec
		}
		return err
	})
	if first == nil {
		return r.inode(ctx, rootOwner, &refs[0])
	}
	return first, nil
}

// An inodeRun is a part of a scan that is read at once.
type inodeRun struct {
	refs    []ondisk.Blockref
	size    int  // of the run
	stopped bool // fn returned false
}

// flush calls fn for the inodes of the run and empties it.
func (run *inodeRun) flush(ctx context.Context, r *treeReader, fn func(*InodeRec) bool) (more bool, err error) {
	recs := make([]*InodeRec, len(run.refs))
	var missing []ondisk.Blockref
	var places []int
	for i := range run.refs {
		if recs[i] = r.cachedInode(rootOwner, &run.refs[i]); recs[i] == nil {
			missing, places = append(missing, run.refs[i]), append(places, i)
		}
	}
	if len(missing) > 1 {
		// As above: inodes before a damaged one are to be had.
		_ = r.src.readMany(ctx, missing, func(i int, stored []byte) (err error) {
			recs[places[i]], err = r.decodeInode(rootOwner, &missing[i], stored)
			return err
		})
	}
	for i := range recs {
		if recs[i] == nil {
			if recs[i], err = r.inode(ctx, rootOwner, &run.refs[i]); err != nil {
				return false, err
			}
		}
		if !fn(recs[i]) {
			run.stopped = true
			return false, nil
		}
	}
	run.refs, run.size = run.refs[:0], min(2*run.size, runMax)
	return true, nil
}
