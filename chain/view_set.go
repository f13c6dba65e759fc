package chain

import (
	"cmp"
	"context"
	"slices"
	"sync"

	"github.com/anvilfs/anvilfs/ondisk"
)

// A set of inodes is read by so many at once where they lie apart: devices
// answer several requests in hardly more time than one.
const setReaders = 4

// InodeSet calls fn for the inodes of those numbers, which ascend, in no
// certain order, from one goroutine. Numbers without an inode are left out.
// What lies close together is read at once. Nothing of it is cached: sets are
// for those who keep what they get.
func (v *View) InodeSet(ctx context.Context, inums []uint64, fn func(*InodeRec)) error {
	var missing []ondisk.Blockref
	for _, inum := range inums {
		if inum == ondisk.InumRoot || inum >= ondisk.DirBit {
			continue
		}
		refs, err := v.reader.find(ctx, rootOwner, v.root.set, inum)
		if err != nil {
			return err
		}
		if refs == nil {
			continue
		}
		if rec := v.reader.cachedInode(rootOwner, &refs[0]); rec != nil {
			fn(rec)
			continue
		}
		missing = append(missing, refs[0])
	}
	slices.SortFunc(missing, func(a, b ondisk.Blockref) int { return cmp.Compare(a.Off(), b.Off()) })
	var mu sync.Mutex // of fn
	parts := min(setReaders, len(missing)/runMin)
	if parts < 2 {
		return v.readSet(ctx, missing, &mu, fn)
	}
	errs := make([]error, parts)
	var wg sync.WaitGroup
	for p := range parts {
		part := missing[p*len(missing)/parts : (p+1)*len(missing)/parts]
		wg.Go(func() { errs[p] = v.readSet(ctx, part, &mu, fn) })
	}
	wg.Wait()
	return cmp.Or(errs...)
}

func (v *View) readSet(ctx context.Context, refs []ondisk.Blockref, mu *sync.Mutex, fn func(*InodeRec)) error {
	err := v.reader.src.readMany(ctx, refs, func(i int, stored []byte) error {
		rec, err := judgeInode(rootOwner, &refs[i], stored)
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		fn(rec)
		return nil
	})
	return rootOwner.failRead(refs, err)
}
