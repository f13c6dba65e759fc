package chain

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/anvilfs/anvilfs/chain/media"
	"github.com/anvilfs/anvilfs/ondisk"
)

// A treeScan visits every blockref below some roots, whatever the tree:
// super-root, PFSs and snapshots. Tables that several roots share are entered
// once. Reading goes around the cache of decoded tables, which others need.
type treeScan struct {
	v     *Volume
	above ondisk.Tid             // only blockrefs with a higher mirror_tid
	visit func(*ondisk.Blockref) // every blockref with a block
	pause func() error           // called after each table, if set
	seen  media.Seen             // metadata blocks entered
	errs  int                    // blocks that could not be read
	first error                  // the first of these
	depth int
}

// maxScanDepth bounds the nesting of super-root, PFS, inode and their tables.
const maxScanDepth = 3 * maxDepth

// damage is what the scan could not read, nil if it read all.
func (s *treeScan) damage() error {
	if s.errs == 0 {
		return nil
	}
	return fmt.Errorf("%d blocks unreadable, the first: %w", s.errs, s.first)
}

// run visits root and all below. Damage is counted; other errors end it.
func (s *treeScan) run(ctx context.Context, root ondisk.Blockref) error {
	return s.array(ctx, []ondisk.Blockref{root})
}

// array visits the elements of one array, then what is below them. Children
// are read in order of their address, neighbours together.
func (s *treeScan) array(ctx context.Context, refs []ondisk.Blockref) error {
	var inner []ondisk.Blockref
	for i := range refs {
		r := &refs[i]
		if r.DataOff == 0 || s.above != 0 && r.MirrorTid <= s.above {
			continue
		}
		s.visit(r)
		if (r.Type == ondisk.TypeInode || r.Type == ondisk.TypeIndirect) && !s.seen.Has(r) {
			inner = append(inner, *r)
		}
	}
	if len(inner) == 0 {
		return nil
	}
	if s.depth == maxScanDepth {
		return s.lose(errTooDeep)
	}
	s.depth++
	defer func() { s.depth-- }()
	slices.SortFunc(inner, func(a, b ondisk.Blockref) int { return cmp.Compare(a.Off(), b.Off()) })
	arrays, err := s.read(ctx, inner)
	if err != nil {
		return err
	}
	for i, a := range arrays {
		// Only what was read counts as seen: a reference with a wrong code
		// must not hide the right one.
		if a == nil || !s.seen.Add(&inner[i]) {
			continue
		}
		if err := s.array(ctx, a); err != nil {
			return err
		}
	}
	if s.pause != nil {
		return s.pause()
	}
	return ctx.Err()
}

// read returns the arrays behind refs, nil for one that is damaged.
func (s *treeScan) read(ctx context.Context, refs []ondisk.Blockref) ([][]ondisk.Blockref, error) {
	arrays := make([][]ondisk.Blockref, len(refs))
	err := s.v.readMany(ctx, refs, func(i int, stored []byte) (err error) {
		arrays[i], err = arrayOf(&refs[i], stored)
		return err
	})
	if err == nil || ctx.Err() != nil {
		return arrays, ctx.Err()
	}
	// Again one by one, to find out which it is.
	clear(arrays)
	for i := range refs {
		stored, err := s.v.readRaw(ctx, &refs[i])
		var a []ondisk.Blockref
		if err == nil {
			a, err = arrayOf(&refs[i], stored)
		}
		if err == nil {
			arrays[i] = a
		} else if err := s.lose(fmt.Errorf("%v: %w", &refs[i], err)); err != nil {
			return nil, err
		}
	}
	return arrays, nil
}

func (s *treeScan) lose(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if s.errs++; s.first == nil {
		s.first = err
	}
	return nil
}

// arrayOf decodes the array of an inode or indirect block, not nil without an
// error.
func arrayOf(ref *ondisk.Blockref, stored []byte) ([]ondisk.Blockref, error) {
	var refs []ondisk.Blockref
	var err error
	if ref.Type == ondisk.TypeIndirect {
		refs, err = ondisk.DecodeBlockrefs(stored)
	} else {
		var ino ondisk.Inode
		ino, err = ondisk.DecodeInode(stored)
		refs = ino.Blockset
	}
	if err == nil && refs == nil {
		refs = []ondisk.Blockref{}
	}
	return refs, err
}
