package media

import (
	"context"
	"errors"
	"fmt"

	"github.com/anvilfs/anvilfs/ondisk"
)

// MaxDepth bounds the nesting of tables below one inode. Key ranges shrink on
// the way down, so that no sound tree is deeper than 64.
const MaxDepth = 64

// ErrTooDeep: tables are nested deeper than any key range allows.
var ErrTooDeep = fmt.Errorf("tables nested too deep: %w", ondisk.ErrCorrupt)

// ErrNotFound: there is no leaf of that key.
var ErrNotFound = errors.New("not found")

// Elements decodes a block array element by element. fn gets the index and
// either a valid blockref or what is wrong with the element; order is for the
// caller to judge. EMPTY elements are left out.
func Elements(b []byte, fn func(i int, ref ondisk.Blockref, err error)) {
	for i := 0; (i+1)*ondisk.BlockrefSize <= len(b); i++ {
		ref, err := ondisk.DecodeBlockref(b[i*ondisk.BlockrefSize:])
		if err == nil && ref.Type == ondisk.TypeEmpty {
			continue
		}
		if err == nil && ref.Type == ondisk.TypeInvalid {
			err = fmt.Errorf("invalid blockref in use: %w", ondisk.ErrCorrupt)
		}
		fn(i, ref, err)
	}
}

// Fits says why an element cannot be where it is: in an array that parent, if
// it is a table, refers to, and behind prev, if that is not nil. What does not
// fit must not be entered: ranges that shrink and lie apart are what keeps a
// walk from meeting the same keys for ever.
func Fits(parent, prev, r *ondisk.Blockref) error {
	if parent.Type == ondisk.TypeIndirect && (r.Key < parent.Key || r.LastKey() > parent.LastKey()) {
		return fmt.Errorf("%v is outside the range of %v that holds it: %w", r, parent, ondisk.ErrCorrupt)
	}
	if prev != nil && r.Key <= prev.LastKey() {
		return fmt.Errorf("%v is not above %v before it: %w", r, prev, ondisk.ErrCorrupt)
	}
	return nil
}

// Array decodes the array of an INODE or INDIRECT block as far as it is valid:
// elements that do not fit are left out, and in the error.
func Array(ref *ondisk.Blockref, block []byte) (refs []ondisk.Blockref, err error) {
	if ref.Type == ondisk.TypeInode {
		meta, merr := ondisk.DecodeInodeMeta(block)
		if merr != nil || meta.DirectData() {
			return nil, merr
		}
		block = block[ondisk.InodeMetaSize:]
	}
	Elements(block, func(i int, r ondisk.Blockref, eerr error) {
		if eerr == nil {
			var prev *ondisk.Blockref
			if n := len(refs); n > 0 {
				prev = &refs[n-1]
			}
			eerr = Fits(ref, prev, &r)
		}
		if eerr != nil {
			err = errors.Join(err, fmt.Errorf("element %d: %w", i, eerr))
			return
		}
		refs = append(refs, r)
	})
	return refs, err
}

// Children reads the block of an INODE or INDIRECT blockref and returns its
// array. With an error too: what could be read of it.
func (s *Set) Children(ref *ondisk.Blockref) ([]ondisk.Blockref, error) {
	block, err := s.Read(ref)
	if err != nil {
		return nil, err
	}
	return Array(ref, block)
}

// Scan calls fn for the leaves below refs with keys in [from, to], in order,
// until it returns false. A table that cannot be read, wholly or in part, is
// passed to fn with the error before what can be read of it.
func (s *Set) Scan(ctx context.Context, refs []ondisk.Blockref, from, to uint64, fn func(ref *ondisk.Blockref, err error) bool) error {
	_, err := s.scan(ctx, refs, from, to, 0, fn)
	return err
}

func (s *Set) scan(ctx context.Context, refs []ondisk.Blockref, from, to uint64, depth int, fn func(*ondisk.Blockref, error) bool) (more bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	for i := range refs {
		r := &refs[i]
		if r.LastKey() < from || r.Key > to {
			continue
		}
		if r.Type != ondisk.TypeIndirect {
			if !fn(r, nil) {
				return false, nil
			}
			continue
		}
		below, err := s.Children(r)
		if depth == MaxDepth { // also where the table is damaged: it may be its own
			below, err = nil, errors.Join(err, ErrTooDeep)
		}
		if err != nil && !fn(r, err) {
			return false, nil
		}
		if more, err := s.scan(ctx, below, from, to, depth+1, fn); !more {
			return false, err
		}
	}
	return true, nil
}

// Find returns the leaf of that key. ErrNotFound means that it is surely not
// there; another error, that a table on the way cannot be read.
func (s *Set) Find(ctx context.Context, refs []ondisk.Blockref, key uint64) (ondisk.Blockref, error) {
	found, damage := ondisk.Blockref{}, error(nil)
	err := s.Scan(ctx, refs, key, key, func(r *ondisk.Blockref, err error) bool {
		damage = errors.Join(damage, err)
		if err == nil {
			found = *r
		}
		return err != nil
	})
	switch {
	case err != nil:
		return found, err
	case found.Type != ondisk.TypeEmpty:
		return found, nil
	case damage != nil:
		return found, damage
	}
	return found, ErrNotFound
}

// Inode reads the inode of ref and its array.
func (s *Set) Inode(ref *ondisk.Blockref) (meta ondisk.InodeMeta, block []byte, refs []ondisk.Blockref, err error) {
	if block, err = s.Read(ref); err != nil {
		return meta, block, nil, err
	}
	if meta, err = ondisk.DecodeInodeMeta(block); err != nil {
		return meta, block, nil, err
	}
	refs, err = Array(ref, block)
	return meta, block, refs, err
}

// Dirent decodes an entry, reading its block if it has one.
func (s *Set) Dirent(ref *ondisk.Blockref) (ondisk.Dirent, error) {
	var block []byte
	if ref.DataOff != 0 {
		var err error
		if block, err = s.Read(ref); err != nil {
			return ondisk.Dirent{}, err
		}
	}
	return ondisk.DecodeDirent(ref, block)
}

// SuperRoot is the blockref of the super-root inode in h, of type EMPTY if
// there is none.
func SuperRoot(h *ondisk.VolumeHeader) ondisk.Blockref {
	for i := range h.Sroot {
		if r := h.Sroot[i]; r.Type == ondisk.TypeInode && r.Key == 0 {
			return r
		}
	}
	return ondisk.Blockref{}
}

// A PFS is the root inode of one PFS.
type PFS struct {
	Ref  ondisk.Blockref
	Meta ondisk.InodeMeta
	Set  []ondisk.Blockref // its block array
	Err  error             // what is wrong with it; Meta may be zero then
}

// Label is the name of the PFS, or its key if the root cannot be read.
func (p *PFS) Label() string {
	if p.Meta.NameLen == 0 {
		return fmt.Sprintf("(key %016x)", p.Ref.Key)
	}
	return p.Meta.Name()
}

// PFSs lists the PFSs of a header in order of their keys, damaged ones
// included. The error is about the super-root.
func (s *Set) PFSs(ctx context.Context, h *ondisk.VolumeHeader) (list []PFS, err error) {
	super := SuperRoot(h)
	if super.Type == ondisk.TypeEmpty {
		return nil, fmt.Errorf("the volume header has no super-root: %w", ondisk.ErrCorrupt)
	}
	refs, err := s.Children(&super)
	var damage error
	serr := s.Scan(ctx, refs, 0, ^uint64(0), func(r *ondisk.Blockref, err error) bool {
		if err != nil {
			damage = errors.Join(damage, fmt.Errorf("super-root: %v: %w", r, err))
			return true
		}
		if r.Type != ondisk.TypeInode {
			damage = errors.Join(damage, fmt.Errorf("super-root: %v does not belong there", r))
			return true
		}
		p := PFS{Ref: *r}
		p.Meta, _, p.Set, p.Err = s.Inode(r)
		list = append(list, p)
		return true
	})
	return list, errors.Join(err, damage, serr)
}
