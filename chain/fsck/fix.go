package fsck

import (
	"fmt"

	"github.com/anvilfs/anvilfs/ondisk"
)

// A FixKind is a change that puts one thing between inodes and names right.
type FixKind uint8

// The kinds of fix. None takes content away that a name leads to.
const (
	// FixName removes the names that stand for Inum from Dir: there is no such
	// inode, or it must not have a name.
	FixName FixKind = iota + 1
	// FixType makes the names of Inum in Dir say Type.
	FixType
	// FixLinks sets the link count to Links.
	FixLinks
	// FixParent says in directory Inum that it is in Dir.
	FixParent
	// FixAttach gives Inum, which no name leads to, one in lost+found. If Dir
	// is not 0, its name there goes: the root does not lead to Dir.
	FixAttach
	// FixDelete removes an inode that nobody can want: an orphan, or attributes
	// of what is gone.
	FixDelete
	// FixHighest lets the PFS know that Inum was handed out.
	FixHighest
)

// A Fix is one certain change to the names and inodes of a PFS. It is the
// same for all members of a cluster, and is to be made on all at once.
type Fix struct {
	PFS   string // label
	Kind  FixKind
	Inum  uint64
	Dir   uint64
	Type  ondisk.ObjType
	Links uint64
}

// String says what the fix does, for people.
func (f Fix) String() string {
	switch f.Kind {
	case FixName:
		return fmt.Sprintf("remove the name of inode %d from directory %d", f.Inum, f.Dir)
	case FixType:
		return fmt.Sprintf("let the name of inode %d in directory %d say %v", f.Inum, f.Dir, f.Type)
	case FixLinks:
		return fmt.Sprintf("set the link count of inode %d to %d", f.Inum, f.Links)
	case FixParent:
		return fmt.Sprintf("set the parent of directory %d to %d", f.Inum, f.Dir)
	case FixAttach:
		return fmt.Sprintf("name inode %d in lost+found", f.Inum)
	case FixDelete:
		return fmt.Sprintf("remove inode %d, which nothing refers to", f.Inum)
	case FixHighest:
		return fmt.Sprintf("note that number %d is in use", f.Inum)
	}
	return fmt.Sprintf("fix %d", f.Kind)
}

// fix puts a fix on the list of the report.
func (s *census) fix(f Fix) {
	if s.p.snapshot() {
		return // it is what was
	}
	f.PFS = s.p.label
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if len(s.c.rep.Fixes) < s.c.max {
		s.c.rep.Fixes = append(s.c.rep.Fixes, f)
	}
}
