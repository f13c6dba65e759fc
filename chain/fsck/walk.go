package fsck

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/anvilfs/anvilfs/chain/media"
	"github.com/anvilfs/anvilfs/ondisk"
)

// A treeKind says what may be in a tree.
type treeKind uint8

const (
	superTree treeKind = iota // PFS roots
	rootTree                  // inodes and the entries of the root directory
	dirTree                   // entries
	fileTree                  // data
	noTree                    // nothing: devices, FIFOs, sockets
)

var treeNames = []string{"the super-root", "a PFS root", "a directory", "a file", "an inode without content"}

// A place says where in the volume an array is.
type place struct {
	p     *pfsState // nil in the super-root
	tree  treeKind
	inum  uint64 // whose tree it is
	size  uint64 // of a file
	depth int    // tables entered on the way from the inode
	again bool   // judged before, in another PFS: only collect names
}

// A walk goes through a tree. newest says that the freemap and the names are
// to be compared with it.
type walk struct {
	c      *checker
	newest bool
}

const (
	maxRun = 1 << 20 // bytes of one read
	runGap = 16 << 10
)

var runPool = sync.Pool{New: func() any {
	b := ondisk.AlignedBuffer(maxRun)
	return &b
}}

var dataPool = sync.Pool{New: func() any { return new([ondisk.LogicalBlock]byte) }}

// A child is an array found in a block that was read.
type child struct {
	pl    place
	ref   ondisk.Blockref
	refs  []ondisk.Blockref
	whole bool
}

// array judges the elements of the array that parent's block holds, then what
// is below them. whole says that no element is missing from refs. Errors are
// the context's.
func (w *walk) array(ctx context.Context, pl place, parent *ondisk.Blockref, refs []ondisk.Blockref, whole bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if pl.depth > media.MaxDepth {
		w.found(pl, parent, Error, "tables are nested deeper than any key range allows", "")
		return nil
	}
	if whole && !pl.again && pl.tree != superTree {
		w.sums(pl, parent, refs)
	}
	var names []nameNote
	var blocks []ondisk.Blockref
	for i := range refs {
		r := &refs[i]
		if pl.again && media.Fits(parent, nil, r) != nil || !pl.again && !w.element(pl, parent, r) {
			if pl.p != nil && (r.Type == ondisk.TypeInode || r.Type == ondisk.TypeIndirect) {
				pl.p.lose()
			}
			continue
		}
		if r.Type == ondisk.TypeDirent {
			names = append(names, noteName(pl.inum, r))
		}
		if r.DataOff != 0 && w.wanted(pl, r) {
			blocks = append(blocks, *r)
		}
	}
	if !pl.again && len(names) > 1 {
		w.doubles(pl, refs)
	}
	if pl.p != nil && w.newest {
		pl.p.addNames(names)
	}
	slices.SortFunc(blocks, func(a, b ondisk.Blockref) int { return cmp.Compare(a.Off(), b.Off()) })
	for len(blocks) > 0 {
		n := runOf(blocks)
		below := w.run(ctx, pl, blocks[:n])
		blocks = blocks[n:]
		if err := w.descend(ctx, below); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// wanted reports whether the block of r has to be read.
func (w *walk) wanted(pl place, r *ondisk.Blockref) bool {
	table := r.Type == ondisk.TypeInode || r.Type == ondisk.TypeIndirect
	switch {
	case w.newest && table && pl.tree != fileTree:
		return true // whether it was seen is found out when it is read
	case pl.again, w.c.opts.SkipData && r.Type == ondisk.TypeData:
		return false
	}
	return !w.c.seen.add(r)
}

// descend goes on with the arrays found, in other goroutines while there are
// tokens, and waits for these.
func (w *walk) descend(ctx context.Context, below []child) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	for i := range below {
		b := &below[i]
		select {
		case w.c.slots <- struct{}{}:
			wg.Go(func() {
				defer func() { <-w.c.slots }()
				_ = w.array(ctx, b.pl, &b.ref, b.refs, b.whole) // the caller looks at ctx too
			})
		default:
			if err := w.array(ctx, b.pl, &b.ref, b.refs, b.whole); err != nil {
				return err
			}
		}
	}
	return nil
}

// runOf is how many of blocks, sorted by address, one request reads.
func runOf(blocks []ondisk.Blockref) int {
	beg := blocks[0].Off()
	end := beg + uint64(blocks[0].Size())
	for n := 1; n < len(blocks); n++ {
		off, next := blocks[n].Off(), blocks[n].Off()+uint64(blocks[n].Size())
		if off > end+runGap || next-beg > maxRun || off/ondisk.ZoneSize != beg/ondisk.ZoneSize {
			return n
		}
		end = max(end, next)
	}
	return len(blocks)
}

// run reads the blocks of one request, judges them, and returns the arrays
// in them.
func (w *walk) run(ctx context.Context, pl place, blocks []ondisk.Blockref) (below []child) {
	pool := runPool.Get().(*[]byte)
	defer runPool.Put(pool)
	last := &blocks[len(blocks)-1]
	beg := blocks[0].Off()
	end := last.Off() + uint64(last.Size())
	for i := range blocks {
		end = max(end, blocks[i].Off()+uint64(blocks[i].Size()))
	}
	buf := (*pool)[:end-beg]
	together := w.c.set.ReadAt(buf, beg) == nil
	for i := range blocks {
		if ctx.Err() != nil {
			return nil
		}
		r := &blocks[i]
		block := buf[r.Off()-beg:][:r.Size()]
		var err error
		if !together {
			err = w.c.set.ReadAt(block, r.Off())
		}
		if err == nil {
			err = r.VerifyCheck(block)
		}
		if c, ok := w.block(ctx, pl, r, block, err); ok {
			below = append(below, c)
		}
	}
	return below
}

// found reports something about the block of r, or about the element if it
// has none.
func (w *walk) found(pl place, r *ondisk.Blockref, s Severity, what, remedy string) {
	f := Finding{Severity: s, Inum: pl.inum, Key: r.Key, Off: r.Off(), What: what, Remedy: remedy, resolve: true}
	if pl.p != nil {
		f.PFS = pl.p.label
	}
	if pl.tree == rootTree && r.Type == ondisk.TypeInode {
		f.Inum = r.Key
	}
	w.c.add(f)
}

// elements decodes an array and judges the order of its elements.
func (w *walk) elements(pl place, parent *ondisk.Blockref, raw []byte) (refs []ondisk.Blockref, whole bool) {
	whole = true
	media.Elements(raw, func(i int, r ondisk.Blockref, err error) {
		if err != nil {
			whole = false
			if !pl.again {
				w.found(pl, parent, Error, fmt.Sprintf("element %d of the array in %v: %v", i, parent, err), remedyTree)
			}
			return
		}
		if n := len(refs); n > 0 && r.Key <= refs[n-1].LastKey() {
			if !pl.again {
				w.found(pl, &r, Error, fmt.Sprintf("%v is not above %v before it", &r, &refs[n-1]), remedyTree)
			}
			whole = false // and not entered: see media.Fits
			return
		}
		refs = append(refs, r)
	})
	if !whole && pl.p != nil {
		pl.p.lose()
	}
	return refs, whole
}
