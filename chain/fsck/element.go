package fsck

import (
	"fmt"

	"github.com/anvilfs/anvilfs/ondisk"
)

const (
	remedyTree = "in a cluster, resync this node from another; else restore from a backup"
	remedyFile = "in a cluster, it is healed by reading the file; else delete or restore it"
	remedyMark = "anvilfs fsck --repair makes the freemap up from the tree"
)

// element judges one blockref where it stands, and reports whether it makes
// sense to go on with what it points at.
func (w *walk) element(pl place, parent, r *ondisk.Blockref) bool {
	if !belongs(pl, r) {
		w.found(pl, r, Error, fmt.Sprintf("%v has no place in %s", r, treeNames[pl.tree]), remedyTree)
		return false
	}
	if parent.Type == ondisk.TypeIndirect && (r.Key < parent.Key || r.LastKey() > parent.LastKey()) {
		w.found(pl, r, Error, fmt.Sprintf("%v is outside the range of %v that holds it", r, parent), remedyTree)
		return false
	}
	if r.MirrorTid > parent.MirrorTid {
		w.found(pl, r, Error, fmt.Sprintf("%v has mirror_tid %#x, above %#x of %v that holds it", r, uint64(r.MirrorTid), uint64(parent.MirrorTid), parent),
			"what changed since a tid is not found by walking this tree: resync the node from the start")
	}
	if r.MirrorTid > w.c.hdr.FreemapTid && w.newest {
		w.c.lag.Add(1)
	}
	if r.DataOff == 0 {
		if r.Type != ondisk.TypeDirent {
			w.found(pl, r, Error, fmt.Sprintf("%v has no block", r), remedyTree)
		} else if _, err := ondisk.DecodeDirent(r, nil); err != nil {
			w.found(pl, r, Error, err.Error(), remedyTree)
		}
		return true
	}
	if err := w.c.address(r); err != nil {
		w.found(pl, r, Error, fmt.Sprintf("%v lies %v", r, err), remedyTree)
		return false
	}
	if w.newest {
		w.c.reach.mark(r.Off(), r.Size())
	}
	return true
}

// belongs reports whether an element of that type and key may be in a tree.
func belongs(pl place, r *ondisk.Blockref) bool {
	index := r.Key < ondisk.DirBit
	switch pl.tree {
	case superTree:
		return r.Type == ondisk.TypeInode || r.Type == ondisk.TypeIndirect
	case rootTree:
		switch r.Type {
		case ondisk.TypeIndirect:
			return r.KeyBits < 64 // not both halves
		case ondisk.TypeInode:
			return index
		}
		return r.Type == ondisk.TypeDirent
	case dirTree:
		return r.Type == ondisk.TypeDirent || r.Type == ondisk.TypeIndirect
	case fileTree:
		return r.Type == ondisk.TypeData || r.Type == ondisk.TypeIndirect
	}
	return false
}

// address judges where a block of the tree lies.
func (c *checker) address(r *ondisk.Blockref) error {
	off, end := r.Off(), r.Off()+uint64(r.Size())
	switch {
	case end > c.hdr.Size():
		return fmt.Errorf("beyond the end of the volume at %#x", c.hdr.Size())
	case off%ondisk.ZoneSize < ondisk.ReservedSize:
		return fmt.Errorf("in a reserved segment")
	case off < c.hdr.AuxEnd:
		return fmt.Errorf("in the boot or aux area, which ends at %#x", c.hdr.AuxEnd)
	case off < c.hdr.AllocatorBeg && end > c.hdr.AllocatorBeg:
		return fmt.Errorf("across the beginning of allocated space at %#x", c.hdr.AllocatorBeg)
	}
	return nil
}

// sums compares the counts in a blockref with the array behind it.
func (w *walk) sums(pl place, parent *ondisk.Blockref, refs []ondisk.Blockref) {
	var data, inodes, leaves uint64
	for i := range refs {
		r := &refs[i]
		data += uint64(r.Size())
		switch r.Type {
		case ondisk.TypeInode:
			data, inodes, leaves = data+r.DataCount(), inodes+r.InodeCount()+1, leaves+1
		case ondisk.TypeIndirect:
			data, inodes, leaves = data+r.DataCount(), inodes+r.InodeCount(), leaves+uint64(r.LeafCount)
		default:
			leaves++
		}
	}
	leaves = min(leaves, 0xFFFF)
	if parent.DataCount() != data || parent.InodeCount() != inodes {
		w.found(pl, parent, Warning, fmt.Sprintf("%v counts %d bytes and %d inodes below it, there are %d and %d",
			parent, parent.DataCount(), parent.InodeCount(), data, inodes), "used space is reported wrongly until the files there change")
	}
	// The root of a fresh snapshot made by others has no leaf count.
	if n := uint64(parent.LeafCount); n != leaves && !(n == 0 && pl.tree == rootTree && parent.Type == ondisk.TypeInode) {
		w.found(pl, parent, Warning, fmt.Sprintf("%v counts %d leaves below it, there are %d", parent, n, leaves), "")
	}
}

// doubles looks for two entries of one name. Entries that share a hash are
// neighbours.
func (w *walk) doubles(pl place, refs []ondisk.Blockref) {
	for i := 0; i < len(refs); i++ {
		end := i + 1
		for end < len(refs) && refs[end].Key>>15 == refs[i].Key>>15 {
			end++
		}
		if end == i+1 || refs[i].Type != ondisk.TypeDirent {
			continue
		}
		names := map[string]bool{}
		for k := i; k < end; k++ {
			if refs[k].Type != ondisk.TypeDirent {
				continue
			}
			if d, err := w.c.set.Dirent(&refs[k]); err == nil {
				if names[d.Name] {
					w.found(pl, &refs[k], Error, fmt.Sprintf("the name %q is there twice", d.Name), "remove it, which removes one of the two")
				}
				names[d.Name] = true
			}
		}
		i = end - 1
	}
}
