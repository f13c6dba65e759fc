package fsck

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/anvilfs/anvilfs/ondisk"
)

const remedyNames = "anvilfs fsck --repair with a majority of the members puts it right"

// A census compares the inodes of a PFS with the entries that name them.
type census struct {
	c      *checker
	p      *pfsState
	inodes []inodeNote // sorted by number
	names  []nameNote  // sorted by the number named
}

// names judges the names of p, which was walked.
func (c *checker) names(p *pfsState) {
	slices.SortFunc(p.inodes, func(a, b inodeNote) int { return cmp.Compare(a.inum, b.inum) })
	slices.SortFunc(p.names, func(a, b nameNote) int {
		return cmp.Or(cmp.Compare(a.inum, b.inum), cmp.Compare(a.dir, b.dir))
	})
	s := &census{c: c, p: p, inodes: p.inodes, names: p.names}
	if unfinished(p.label) {
		return // partly old, partly new: names fit inodes when it is complete
	}
	if p.lost > 0 {
		// What is missing there would look like damage everywhere else.
		s.found(Warning, 0, fmt.Sprintf("%d tables or inodes cannot be read: names were not compared with inodes", p.lost), "")
		return
	}
	s.highest()
	s.merge()
	s.attached()
	s.unnamedThen()
}

// unnamedThen tells of the orphans of a snapshot together: in each there is what
// programs had open, as temporary files of databases.
func (s *census) unnamedThen() {
	if n := s.p.orphans; n > 0 && s.p.snapshot() {
		what := "a file had been deleted and was open still when it was made"
		if n > 1 {
			what = fmt.Sprintf("%d files had been deleted and were open still when it was made", n)
		}
		s.found(Info, 0, what, remedySnapshot)
	}
}

func (s *census) found(sev Severity, inum uint64, what, remedy string) {
	s.c.add(Finding{Severity: sev, PFS: s.p.label, Inum: inum, What: what, Remedy: s.p.remedy(remedy), resolve: inum != 0})
}

// merge goes through inodes and entries side by side.
func (s *census) merge() {
	names := s.names
	for i := range s.inodes {
		in := &s.inodes[i]
		for len(names) > 0 && names[0].inum < in.inum {
			names = s.dangling(names)
		}
		n := 0
		for n < len(names) && names[n].inum == in.inum {
			n++
		}
		s.inode(in, names[:n])
		names = names[n:]
	}
	for len(names) > 0 {
		names = s.dangling(names)
	}
}

// dangling reports the entries of the first number, which has no inode, and
// returns the others.
func (s *census) dangling(names []nameNote) []nameNote {
	inum := names[0].inum
	n := 0
	for n < len(names) && names[n].inum == inum {
		n++
	}
	what := fmt.Sprintf("an entry of directory %d names an inode that does not exist", names[0].dir)
	if inum == ondisk.InumRoot || unnamed(inum) {
		what = fmt.Sprintf("an entry of directory %d names an inode that must have no name", names[0].dir)
	}
	s.found(Error, inum, what, remedyNames)
	s.unname(inum, names[:n])
	return names[n:]
}

// unname has the names of an inode removed that must have none.
func (s *census) unname(inum uint64, names []nameNote) {
	for i := range names {
		if i == 0 || names[i].dir != names[i-1].dir {
			s.fix(Fix{Kind: FixName, Inum: inum, Dir: names[i].dir})
		}
	}
}

// unnamed reports whether anvilfs keeps an inode that no entry names under
// that number.
func unnamed(inum uint64) bool {
	return ondisk.Unnamed(inum)
}

// inode judges one inode by the entries that name it.
func (s *census) inode(in *inodeNote, names []nameNote) {
	switch {
	case in.inum&ondisk.AttrBit != 0:
		s.attribute(in, names)
		return
	case unnamed(in.inum):
		if len(names) > 0 {
			s.found(Error, in.inum, "an inode of the filesystem's own has a name", remedyNames)
			s.unname(in.inum, names)
		}
		return
	case len(names) == 0 && in.links == 0:
		if s.p.orphans++; s.p.snapshot() {
			return // nothing stopped there: see unnamedThen
		}
		s.found(Info, in.inum, "an orphan: open when it was deleted and the system stopped", "the next read-write mount removes it")
		s.fix(Fix{Kind: FixDelete, Inum: in.inum})
		return
	case len(names) == 0:
		s.found(Error, in.inum, fmt.Sprintf("a %v with link count %d that no entry names", in.typ, in.links), remedyNames)
		s.fix(Fix{Kind: FixAttach, Inum: in.inum, Type: in.typ})
		return
	}
	for i := range names {
		if names[i].typ != in.typ {
			s.found(Error, in.inum, fmt.Sprintf("the entry in directory %d says %v, the inode %v", names[i].dir, names[i].typ, in.typ), remedyNames)
			s.fix(Fix{Kind: FixType, Inum: in.inum, Dir: names[i].dir, Type: in.typ})
		}
	}
	if in.typ == ondisk.ObjDir {
		if len(names) > 1 {
			s.found(Error, in.inum, fmt.Sprintf("%d entries name this directory", len(names)), "remove all but one of the names")
		}
		if in.parent != names[0].dir {
			s.found(Warning, in.inum, fmt.Sprintf("says its parent is directory %d, but is in %d", in.parent, names[0].dir), remedyNames)
			if len(names) == 1 {
				s.fix(Fix{Kind: FixParent, Inum: in.inum, Dir: names[0].dir})
			}
		}
		return
	}
	if uint64(in.links) != uint64(len(names)) && in.links != 1<<32-1 {
		s.found(Error, in.inum, fmt.Sprintf("link count %d, but %d entries name it", in.links, len(names)), remedyNames)
		s.fix(Fix{Kind: FixLinks, Inum: in.inum, Links: uint64(len(names))})
	}
}

// attribute judges an inode that holds the attributes of another.
func (s *census) attribute(in *inodeNote, names []nameNote) {
	s.p.attrs++
	of := in.inum &^ ondisk.AttrBit
	_, exists := slices.BinarySearchFunc(s.inodes, of, func(n inodeNote, k uint64) int { return cmp.Compare(n.inum, k) })
	switch {
	case len(names) > 0:
		s.found(Error, in.inum, "holds attributes, but has a name", remedyNames)
		s.unname(in.inum, names)
	case !exists && of != ondisk.InumRoot, in.parent != of:
		s.found(Warning, in.inum, fmt.Sprintf("holds the attributes of inode %d, which is gone", of), "the next read-write mount removes it")
		s.fix(Fix{Kind: FixDelete, Inum: in.inum})
	case in.links != 1:
		s.found(Warning, in.inum, fmt.Sprintf("holds attributes, and has link count %d", in.links), remedyNames)
		s.fix(Fix{Kind: FixLinks, Inum: in.inum, Links: 1})
	}
}

// highest compares the numbers with the highest one that was handed out.
func (s *census) highest() {
	i, _ := slices.BinarySearchFunc(s.inodes, uint64(ondisk.AttrBit), func(n inodeNote, k uint64) int { return cmp.Compare(n.inum, k) })
	if i == 0 {
		return
	}
	if top := s.inodes[i-1].inum; top > s.p.meta.PFSInum && top >= ondisk.InumFirst {
		s.found(Error, top, fmt.Sprintf("the PFS says that %d is the highest number in use: this one can be given out again", s.p.meta.PFSInum), remedyNames)
		s.fix(Fix{Kind: FixHighest, Inum: top})
	}
}

// attached looks for directories that the root does not lead to.
func (s *census) attached() {
	const unknown, onPath, fine = 0, 1, 2
	state := make([]uint8, len(s.inodes))
	var path []int
	for i := range s.inodes {
		path = path[:0]
		at, ok := i, s.inodes[i].typ == ondisk.ObjDir
		for ok && state[at] == unknown {
			state[at] = onPath
			path = append(path, at)
			at, ok = s.parentOf(at)
		}
		if ok && state[at] == onPath {
			s.found(Error, s.inodes[at].inum, "a directory that is inside of itself: the root does not lead to it", remedyNames)
			s.fix(Fix{Kind: FixAttach, Inum: s.inodes[at].inum, Type: ondisk.ObjDir, Dir: s.dirOf(s.inodes[at].inum)})
		}
		for _, k := range path {
			state[k] = fine
		}
	}
}

// dirOf is the directory that an entry of directory inum is in, 0 if none.
func (s *census) dirOf(inum uint64) uint64 {
	n, ok := slices.BinarySearchFunc(s.names, inum, func(n nameNote, k uint64) int { return cmp.Compare(n.inum, k) })
	if !ok {
		return 0
	}
	return s.names[n].dir
}

// parentOf is the index of the directory that has the entry of directory i;
// ok is false at the root, or if there is none.
func (s *census) parentOf(i int) (int, bool) {
	dir := s.dirOf(s.inodes[i].inum)
	if dir == 0 {
		return 0, false
	}
	return slices.BinarySearchFunc(s.inodes, dir, func(n inodeNote, k uint64) int { return cmp.Compare(n.inum, k) })
}
